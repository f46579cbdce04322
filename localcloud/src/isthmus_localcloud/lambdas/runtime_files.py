"""What AWS's managed Python runtime brings along, taken from our locked environment and nothing else of
it."""

import compileall
import importlib.metadata
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

BOOTSTRAP = Path(__file__).parent / "bootstrap.py"
# A Greengrass device brings the runtime client only.
EDGE_DISTRIBUTIONS = ("awslambdaric", "snapshot-restore-py", "simplejson")
DISTRIBUTIONS = (
    *EDGE_DISTRIBUTIONS,
    "boto3",
    "botocore",
    "s3transfer",
    "jmespath",
    "python-dateutil",
    "urllib3",
    "six",
)
MARKER = "complete"


def prepare_runtime(folder: Path, distributions: Sequence[str] = DISTRIBUTIONS) -> Path:
    """Fill ``folder`` with the runtime's packages and return it; quick when it has been done before."""
    wanted = "\n".join(f"{name}=={importlib.metadata.version(name)}" for name in distributions)
    marker = folder / MARKER
    if marker.exists() and marker.read_text() == wanted and same_bootstrap(folder):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in distributions:
        copy_distribution(name, folder)
    shutil.copy2(BOOTSTRAP, folder / BOOTSTRAP.name)
    # In this process: workers meet at a socket below TMPDIR, whose path is too long in a deep state folder.
    compileall.compile_dir(folder, quiet=2)
    marker.write_text(wanted)
    return folder


def same_bootstrap(folder: Path) -> bool:
    copy = folder / BOOTSTRAP.name
    return copy.exists() and copy.read_bytes() == BOOTSTRAP.read_bytes()


def copy_distribution(name: str, folder: Path) -> None:
    """Hard links where the file system allows it: the packages weigh 30 MB."""
    for file in importlib.metadata.files(name) or []:
        if ".." in file.parts or file.suffix == ".pyc":
            continue
        source, target = Path(str(file.locate())), folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copy2(source, target)
