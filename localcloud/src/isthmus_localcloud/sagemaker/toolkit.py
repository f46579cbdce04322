"""What a framework image has inside: the sagemaker-training toolkit's way to a script.

As an image's command: ``--image NAME="PYTHON …/toolkit.py"``. It unpacks ``sagemaker_submit_directory``
and becomes ``sagemaker_program``, with the hyperparameters as arguments (README of
aws/sagemaker-training-toolkit). Standard library only: it runs in the environment of a framework.
"""

import json
import os
import sys
import tarfile
from pathlib import Path

ML = "/opt/ml"


def main() -> None:
    root = Path(os.environ["SM_MODEL_DIR"]).parent
    given = json.loads((root / "input/config/hyperparameters.json").read_text())
    archive = Path(json.loads(given["sagemaker_submit_directory"]).replace(ML, str(root), 1))
    code = root / "code"
    with tarfile.open(archive, "r:gz") as opened:
        opened.extractall(code, filter="data")
    os.environ["SM_MODULE_DIR"] = str(archive)
    os.chdir(code)
    program = code / json.loads(given["sagemaker_program"])
    os.execv(sys.executable, [sys.executable, str(program), *json.loads(os.environ["SM_USER_ARGS"])])


if __name__ == "__main__":
    main()
