"""schemathesis against a running server: it makes requests of an OpenAPI description and checks the answers by it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONFIG = """
[parameters]
"path.MODEL_NAME" = "{model}"
"path.MODEL_VERSION" = "{version}"

[checks]
# A request that fits every schema may still not fit the model: its inputs are in no description.
positive_data_acceptance.enabled = false
"""


def check(
    description: Path | str, url: str, folder: Path, *, model: str, version: str, examples: int
) -> None:
    """Fail with schemathesis's own words where an answer is not as described; every other check of it is on.

    ``description``: a file or an address.
    """
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.format(model=model, version=version))
    command = [Path(sys.executable).parent / "schemathesis", "--config-file", config, "run", description]
    command += ["--url", url, "--max-examples", str(examples), "--phases", "coverage,fuzzing", "--no-color"]
    command += ["--generation-deterministic", "--suppress-health-check", "all"]
    ran = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={**os.environ, "COLUMNS": "200"}, check=False
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    assert "passed" in ran.stdout


def public_description() -> Path | None:
    """The protocol's own description (kserve/open-inference-protocol), where its folder is there.

    It is read from ``specs`` below the folder of published workloads that ``ISTHMUS_WORKLOADS`` names.
    """
    default = Path(__file__).parents[2] / "shared/data"
    path = Path(os.environ.get("ISTHMUS_WORKLOADS") or default) / "specs/open_inference_rest.yaml"
    return path if path.is_file() else None
