from __future__ import annotations

import pytest
from recorded import Nvml

from isthmus.errors import InvalidInput
from isthmus.model.device import Accelerator
from isthmus.rig import gpus

CARDS: list[tuple[str, int | None, tuple[int, int] | None]] = [
    ("NVIDIA A100-SXM4-40GB", 42949672960, (8, 0)),
    ("Tesla K80", 11997020160, (3, 7)),
]


def test_each_gpu_is_described_with_its_driver_and_cuda() -> None:
    nvml = Nvml(CARDS)
    assert gpus.accelerators(nvml) == (
        Accelerator(
            model="NVIDIA A100-SXM4-40GB",
            memory_bytes=42949672960,
            driver="550.127.05",
            compute_capability="8.0",
            cuda="12.4",
        ),
        Accelerator(
            model="Tesla K80",
            memory_bytes=11997020160,
            driver="550.127.05",
            compute_capability="3.7",
            cuda="12.4",
        ),
    )
    assert nvml.opened == 0, "it is shut down again"


@pytest.mark.parametrize("nvml", [None, Nvml(CARDS, driver=None), Nvml([])], ids=["package", "driver", "gpu"])
def test_without_package_driver_or_gpu_there_is_none(nvml: Nvml | None) -> None:
    assert gpus.accelerators(nvml) == ()


def test_what_an_integrated_gpu_does_not_tell_is_left_out() -> None:
    (found,) = gpus.accelerators(Nvml([("Orin (nvgpu)", None, None)], cuda=None))
    assert (found.memory_bytes, found.compute_capability, found.cuda) == (0, "", "")
    assert found.driver == "550.127.05"


def test_half_precision_needs_every_gpu_to_have_it() -> None:
    assert gpus.computes_half(gpus.accelerators(Nvml(CARDS[:1])))
    assert not gpus.computes_half(gpus.accelerators(Nvml(CARDS)))
    assert not gpus.computes_half(())
    assert not gpus.computes_half(gpus.accelerators(Nvml([("Orin (nvgpu)", None, None)])))


@pytest.mark.parametrize(
    ("there", "given", "inherited", "ids"),
    [
        (2, None, None, ("0", "1")),
        (0, None, None, ()),
        (4, [2, 0], None, ("2", "0")),
        (4, [], None, ()),
        (4, [1], "0", ("1",)),
        (4, None, "2,3", ("2", "3")),
        (4, None, "1,9,2", ("1",)),
        (4, None, "-1", ()),
        (4, None, "", ()),
        (2, None, "GPU-8932f937-d72c", ("GPU-8932f937-d72c",)),
    ],
)
def test_an_agents_share(
    there: int, given: list[int] | None, inherited: str | None, ids: tuple[str, ...]
) -> None:
    assert gpus.share(there, given, inherited).ids == ids


@pytest.mark.parametrize("given", [[2], [0, 0], [-1]])
def test_a_gpu_that_is_not_there_is_refused(given: list[int]) -> None:
    with pytest.raises(InvalidInput, match="each once; the machine has GPUs 0 to 1"):
        gpus.share(2, given)
    with pytest.raises(InvalidInput, match="the machine has no GPU"):
        gpus.share(0, given)


def test_what_a_person_chose_is_all_that_a_training_sees() -> None:
    chosen = gpus.share(4, [1, 3], None)
    assert chosen.variables() == {"CUDA_VISIBLE_DEVICES": "1,3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert gpus.share(4, [], None).variables()["CUDA_VISIBLE_DEVICES"] == ""
    assert gpus.share(4, None, None).variables() == {}
