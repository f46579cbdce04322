"""The files and variables that a training container finds.

Sources: SageMaker developer guide, "How Amazon SageMaker AI provides training information"; the README of the
public sagemaker-training toolkit (SM_* variables).
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HOST = "algo-1"
PREFIX = "/opt/ml"


def make_tree(root: Path, channels: list[str]) -> None:
    for folder in ("input/config", "input/data", "model", "output/data", "checkpoints", "code"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for channel in channels:
        (root / "input/data" / channel).mkdir(exist_ok=True)


def input_mode(request: Mapping[str, Any], channel: Mapping[str, Any]) -> str:
    """A channel's own, or else the job's (API reference, ``Channel``)."""
    return str(channel.get("InputMode") or request["AlgorithmSpecification"].get("TrainingInputMode", "File"))


def write_config(root: Path, request: Mapping[str, Any]) -> None:
    """hyperparameters.json, resourceconfig.json and inputdataconfig.json."""
    channels = {
        channel["ChannelName"]: {
            "TrainingInputMode": input_mode(request, channel).replace("FastFile", "File"),
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": channel.get("RecordWrapperType", "None"),
            **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
        }
        for channel in request.get("InputDataConfig", [])
    }
    files = {
        "hyperparameters": request.get("HyperParameters", {}),
        "resourceconfig": resource_config(request),
        "inputdataconfig": channels,
    }
    for name, content in files.items():
        (root / "input/config" / f"{name}.json").write_text(json.dumps(content))


def resource_config(request: Mapping[str, Any]) -> dict[str, Any]:
    kind = request["ResourceConfig"].get("InstanceType", "ml.m5.large")
    group = {"instance_group_name": "homogeneousCluster", "instance_type": kind, "hosts": [HOST]}
    return {
        "current_host": HOST,
        "current_instance_type": kind,
        "current_group_name": "homogeneousCluster",
        "hosts": [HOST],
        "instance_groups": [group],
        "network_interface_name": "lo",
    }


def decoded(value: str) -> Any:
    """The toolkit reads each hyperparameter as JSON where it is JSON."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def gpu_count() -> int:
    folder = Path("/proc/driver/nvidia/gpus")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def variables(request: Mapping[str, Any], ml: str) -> dict[str, str]:
    """SM_* as the toolkit sets them; ``ml`` is /opt/ml, or the folder itself where it cannot lie there."""
    hyperparameters = {
        name: decoded(value)
        for name, value in request.get("HyperParameters", {}).items()
        if not name.startswith("sagemaker_")
    }
    channels = [channel["ChannelName"] for channel in request.get("InputDataConfig", [])]
    arguments = [part for name, value in hyperparameters.items() for part in (f"--{name}", str(value))]
    found = {
        "SM_INPUT_DIR": f"{ml}/input",
        "SM_INPUT_CONFIG_DIR": f"{ml}/input/config",
        "SM_MODEL_DIR": f"{ml}/model",
        "SM_OUTPUT_DIR": f"{ml}/output",
        "SM_OUTPUT_DATA_DIR": f"{ml}/output/data",
        "SM_CHECKPOINT_DIR": f"{ml}/checkpoints",
        "SM_CHANNELS": json.dumps(channels),
        "SM_HPS": json.dumps(hyperparameters),
        "SM_USER_ARGS": json.dumps(arguments),
        "SM_NUM_GPUS": str(gpu_count()),
        "SM_NUM_CPUS": str(len(os.sched_getaffinity(0))),
        "SM_CURRENT_HOST": HOST,
        "SM_HOSTS": json.dumps([HOST]),
        "SM_NETWORK_INTERFACE_NAME": "lo",
        "SM_RESOURCE_CONFIG": json.dumps(resource_config(request)),
        "SM_LOG_LEVEL": "20",
    }
    found |= {f"SM_CHANNEL_{name.upper()}": f"{ml}/input/data/{name}" for name in channels}
    found |= {f"SM_HP_{name.upper()}": as_text(value) for name, value in hyperparameters.items()}
    return found


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
