"""The SageMaker training contract: folders, configuration files, environment variables, arguments.

Sources: "How Amazon SageMaker provides training information" (SageMaker developer guide) and the
``SM_*`` variables of sagemaker-training-toolkit (ENVIRONMENT_VARIABLES.md). A channel of the input mode ``Pipe`` has no
folder; beside where it would be lie its named pipes, ``<channel>_0``, ``<channel>_1`` and so on, one for each pass.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from isthmus.model.job import Training

HOST = "algo-1"
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
"""What a script sees of the agent's own environment: nothing that can be a secret."""

Value = str | int | float | bool


@dataclass(frozen=True)
class Layout:
    """The folders of one attempt, as ``/opt/ml`` has them on SageMaker."""

    root: Path

    @property
    def code(self) -> Path:
        return self.root / "code"

    @property
    def data(self) -> Path:
        return self.root / "input" / "data"

    @property
    def arrived(self) -> Path:
        """Files that are streamed, as they arrive; a script sees their bytes, not them."""
        return self.root / "arrived"

    @property
    def config(self) -> Path:
        return self.root / "input" / "config"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def output_data(self) -> Path:
        return self.root / "output" / "data"

    @property
    def failure(self) -> Path:
        return self.root / "output" / "failure"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def log(self) -> Path:
        return self.root / "train.log"

    def make(self) -> None:
        """Make the folders."""
        for folder in (
            self.code,
            self.data,
            self.config,
            self.model,
            self.output_data,
            self.checkpoints,
            self.home,
        ):
            folder.mkdir(parents=True, exist_ok=True)


def arguments(hyperparameters: Mapping[str, Value]) -> list[str]:
    """Return hyperparameters as a script's arguments, in the order of their names.

    As in sagemaker-training-toolkit (``mapping.to_cmd_args``): ``--name value``, ``-n value``.
    """
    flat: list[str] = []
    for name in sorted(hyperparameters):
        flat += [f"-{name}" if len(name) == 1 else f"--{name}", str(hyperparameters[name])]
    return flat


def write_config(layout: Layout, training: Training, channels: Iterable[str]) -> None:
    """Write ``input/config/*.json``, which scripts without the toolkit read."""
    documents: dict[str, object] = {
        "hyperparameters.json": {name: str(value) for name, value in training.hyperparameters.items()},
        "inputdataconfig.json": _input_data_config(training, channels),
        "resourceconfig.json": _resource_config(),
    }
    for name, document in documents.items():
        (layout.config / name).write_text(json.dumps(document), encoding="utf-8")


def _input_data_config(training: Training, channels: Iterable[str]) -> dict[str, dict[str, str]]:
    mode = {
        "TrainingInputMode": "Pipe" if training.streams else "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "RecordIO" if training.wraps_records else "None",
    }
    return dict.fromkeys(sorted(channels), mode)


def _resource_config() -> dict[str, object]:
    return {"current_host": HOST, "hosts": [HOST], "network_interface_name": "lo"}


def environment(
    layout: Layout,
    training: Training,
    channels: Iterable[str],
    *,
    name: str,
    accelerators: int,
    inherited: Mapping[str, str],
) -> dict[str, str]:
    """Return the script's whole environment; nothing else of the agent's is passed on.

    ``HOME`` is a folder of the attempt's own, so that no library finds the agent's credentials there.
    """
    names = sorted(channels)
    return {
        **{key: inherited[key] for key in PASSED_ON if key in inherited},
        "HOME": str(layout.home),
        "PYTHONUNBUFFERED": "1",
        "TRAINING_JOB_NAME": name,
        # What a script or the export runs with onnxruntime stays on this machine (docs/adr/0012).
        "ORT_DISABLE_TELEMETRY": "1",
        "SM_MODULE_NAME": Path(training.entry_point).stem,
        "SM_USER_ENTRY_POINT": training.entry_point,
        "SM_NUM_GPUS": str(accelerators),
        "SM_NUM_CPUS": str(len(os.sched_getaffinity(0))),
        "SM_CURRENT_HOST": HOST,
        "SM_HOSTS": json.dumps([HOST]),
        "SM_NETWORK_INTERFACE_NAME": "lo",
        "SM_RESOURCE_CONFIG": json.dumps(_resource_config()),
        "SM_INPUT_DATA_CONFIG": json.dumps(_input_data_config(training, names)),
        "SM_CHANNELS": json.dumps(names),
        "SM_HPS": json.dumps(training.hyperparameters),
        "SM_USER_ARGS": json.dumps(arguments(training.hyperparameters)),
        **_folder_variables(layout),
        **{f"SM_CHANNEL_{channel.upper()}": str(layout.data / channel) for channel in names},
        **{f"SM_HP_{key.upper()}": _as_text(value) for key, value in training.hyperparameters.items()},
    }


def _as_text(value: Value) -> str:
    """Write a hyperparameter as the toolkit does (``mapping.to_env_vars``): JSON, but of a text."""
    return value if isinstance(value, str) else json.dumps(value)


def _folder_variables(layout: Layout) -> dict[str, str]:
    return {
        "SM_MODEL_DIR": str(layout.model),
        "SM_INPUT_DIR": str(layout.data.parent),
        "SM_INPUT_CONFIG_DIR": str(layout.config),
        "SM_OUTPUT_DIR": str(layout.output),
        "SM_OUTPUT_DATA_DIR": str(layout.output_data),
        "SM_CHECKPOINT_DIR": str(layout.checkpoints),
        "SM_MODULE_DIR": str(layout.code),
    }
