from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from isthmus.errors import EnvironmentProblem, InvalidDocument, InvalidJob
from isthmus.model.device import Accelerator, DeviceDescriptor
from isthmus.rig.definitions import definitions, frameworks, matched
from isthmus.rig.environments import Environments
from isthmus.rig.fitness import Needs, unmet

A100 = Accelerator(
    model="NVIDIA A100", memory_bytes=40 << 30, driver="580.95.05", compute_capability="8.0", cuda="13.0"
)
RIG = DeviceDescriptor(
    id="rig-1",
    kind="rig",
    zone="onprem",
    arch="x86_64",
    cores=16,
    memory_bytes=64 << 30,
    disk_free_bytes=1 << 40,
    accelerators=(A100,),
    software={"glibc": "2.36"},
)
TORCH = Needs(arch=("x86_64",), glibc="2.28", driver="580", compute_capability="7.5")


def with_gpu(**changes: str) -> DeviceDescriptor:
    return msgspec.structs.replace(RIG, accelerators=(A100, msgspec.structs.replace(A100, **changes)))


@pytest.mark.parametrize(
    ("device", "said"),
    [
        (RIG, None),
        (msgspec.structs.replace(RIG, accelerators=()), None),
        (
            msgspec.structs.replace(RIG, arch="aarch64"),
            "needs a processor of x86_64; the device has aarch64",
        ),
        (
            msgspec.structs.replace(RIG, software={"glibc": "2.17"}),
            "needs glibc 2.28 or newer; the device has glibc 2.17",
        ),
        (
            msgspec.structs.replace(RIG, software={}),
            "needs glibc 2.28 or newer; the device has another C library",
        ),
        (with_gpu(driver="550.127.05"), "needs an NVIDIA driver 580 or newer; the device has 550.127.05"),
        (
            with_gpu(model="Tesla V100", compute_capability="7.0"),
            "needs GPUs of compute capability 7.5 or newer; the device has Tesla V100 of 7.0",
        ),
        (with_gpu(compute_capability="10.0"), None),
        (with_gpu(driver="", compute_capability=""), None),
    ],
    ids=["fits", "no GPU", "arch", "glibc", "musl", "driver", "capability", "newer", "not told"],
)
def test_what_is_needed_is_matched_with_what_there_is(device: DeviceDescriptor, said: str | None) -> None:
    assert unmet(TORCH, device) == said


def test_an_environment_without_code_for_gpus_asks_nothing_of_them() -> None:
    assert unmet(msgspec.structs.replace(TORCH, processor_only=True), with_gpu(driver="470.1")) is None


def test_the_shipped_definitions_are_pinned_by_version_and_digest() -> None:
    found = {entry.folder.name: entry for entry in definitions()}
    assert set(found) == {"mxnet-1.9.1", "torch-2.13.0"}
    assert found["mxnet-1.9.1"].needs().processor_only
    assert found["torch-2.13.0"].needs() == TORCH
    assert frameworks() == {"mxnet": ("1.9.1",), "torch": ("2.13.0",)}
    lock = (found["torch-2.13.0"].folder / "uv.lock").read_text()
    assert 'name = "torch"\nversion = "2.13.0"' in lock
    assert "torch-2.13.0-cp313-cp313-manylinux_2_28_x86_64.whl" in lock


def test_a_descriptor_lists_what_fits_and_why_the_rest_does_not() -> None:
    assert matched(RIG) == ({"mxnet": ("1.9.1",), "torch": ("2.13.0",)}, {})
    fit, unfit = matched(with_gpu(driver="550.127.05"))
    assert fit == {"mxnet": ("1.9.1",)}
    assert unfit == {
        "torch 2.13.0": "torch 2.13.0 needs an NVIDIA driver 580 or newer; the device has 550.127.05"
    }


def test_it_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    nobody = str(tmp_path / "no-such-uv")
    environments = Environments(tmp_path / "envs", uv=nobody, device=with_gpu(driver="550.127.05"))
    with pytest.raises(EnvironmentProblem, match=r"torch 2\.13\.0 needs an NVIDIA driver 580 .* has 550\."):
        environments.check("torch", "2.13.0")
    with pytest.raises(EnvironmentProblem, match=r"torch 2\.13\.0 needs an NVIDIA driver 580"):
        environments.ensure("torch", "2.13.0")
    environments.check("mxnet", "1.9.1")
    with pytest.raises(InvalidJob, match=r"needs 1 GPUs; the environment of mxnet 1\.9\.1 computes on the"):
        environments.check("mxnet", "1.9.1", accelerators=1)
    assert not (tmp_path / "envs").exists()


def test_a_need_that_nobody_can_match_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "x-1.0"
    folder.mkdir()
    (folder / "uv.lock").write_text("")
    (folder / "pyproject.toml").write_text('[tool.isthmus.needs]\nrocm = "6"\n')
    with pytest.raises(InvalidDocument, match=r"the environment x-1\.0 needs .*rocm"):
        definitions(tmp_path)[0].needs()
