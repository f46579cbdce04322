"""The demo's last step: one model in two slices, its first layers on this device and the rest in the cloud."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from demo.stamp import ROOT
from demo.system import CommandFailed, System, wait_until

EXAMPLE = ROOT / "examples/split"
ROLL_OUT_SECONDS = 180
START_SECONDS = 60


@contextlib.contextmanager
def split_serving(system: System, model: str) -> Iterator[str]:
    """Cut what is in service as examples/split has it, put the cloud's slice into service, and serve the other one
    here; yield its address.

    Raises:
        CommandFailed: one of that fails.
    """
    folder = system.folder / "split"
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier demo, whose stack had another key
    folder.mkdir()
    bundle, plan, slices = _bundle(system, model, folder), folder / "plan.json", folder / "slices"
    devices = ("--devices", EXAMPLE / "camera.yaml", EXAMPLE / "lambda.yaml")
    policy = ("--policy", EXAMPLE / "policy.yaml")
    system.isthmus("plan", bundle / "model.onnx", *devices, *policy, "-o", plan, "--json")
    cut = ("--name", model, "-o", slices, "--publish", "--deploy")
    system.isthmus("slice", bundle, "--plan", plan, *cut, *devices, "--json")
    theirs = f"{model}-slice-1"
    wait_until(lambda: theirs in _in_service(system), f"{theirs} to be in service", ROLL_OUT_SECONDS)
    words = ("edge", "serve", model, "--folder", folder / "device", "--port", "0", "--slices", slices)
    process = subprocess.Popen(
        [system.bin / "isthmus", *words, *policy, "--json"],
        env=system.env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=(system.folder / "logs/split.log").open("ab"),
    )
    try:
        yield _address(process)
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _bundle(system: System, model: str, folder: Path) -> Path:
    """Fetch the bundle in service, and unpack it."""
    from isthmus.adapters.aws.blobs import S3BlobStore
    from isthmus.adapters.aws.stack import outputs
    from isthmus.inference.archive import unpack_bundle
    from isthmus.model import layout

    os.environ.update({name: value for name, value in system.env.items() if name.startswith("AWS_")})
    store = S3BlobStore(outputs(system.stack)["Bucket"])
    key = layout.bundle_folder(model, _in_service(system)[model]) + "bundle.zip"
    store.download(key, folder / "bundle.zip")
    # `isthmus slice --publish` verifies what it is given: its files' digests, and the stack's signature.
    return unpack_bundle(folder / "bundle.zip", folder / "bundle")


def _in_service(system: System) -> dict[str, str]:
    """Return the models in service, with their bundles' digests."""
    found = json.loads(system.isthmus("model", "list", "--json"))
    return {entry["model"]: entry["bundle"] for entry in found}


def _address(process: subprocess.Popen[bytes]) -> str:
    """Return where it listens; it says so once the model has proven itself."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line.decode()
        with contextlib.suppress(json.JSONDecodeError):
            told = json.loads(said)
            if told.get("split", {}).get("refused"):
                raise CommandFailed(f"the slices are not used: {told['split']['refused']}")
            return str(told["url"])
    raise CommandFailed(f"the device did not begin to serve: {said}; its log is split.log")
