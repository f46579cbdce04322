from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from isthmus import documents
from isthmus.cli import planfiles
from isthmus.errors import InvalidInput
from isthmus.model.device import DATA_SHEET, DeviceDescriptor
from isthmus.planning.cloud_devices import catalogue, cloud_device, is_cloud_device
from isthmus.planning.cost import price_list

GIB, MIB = 2**30, 2**20
NAMES = [f"sagemaker:{kind}" for kind in catalogue().sagemaker] + [
    f"lambda:{size}" for size in (128, 512, 1769, 3008, 10240)
]


@pytest.mark.parametrize("name", NAMES)
def test_each_device_of_the_list_has_a_whole_descriptor(name: str) -> None:
    found = cloud_device(name)
    assert found.zone == "aws:us-west-2"
    assert found.price_per_hour_usd > 0
    assert found.rates["*"].flops_per_second > 0
    assert found.rates["*"].measured_at == DATA_SHEET
    assert set(found.not_measured) == {"rates", "links", "memory_bandwidth"}, "nothing of it was measured"
    assert found.seen_at == catalogue().read_at
    assert documents.decode(DeviceDescriptor, documents.encode(found), name) == found


def test_every_figure_has_a_source_that_is_named_and_a_date() -> None:
    listed = catalogue()
    assert datetime.date.fromisoformat(listed.read_at)
    used = {name for entry in listed.sagemaker.values() for name in entry.sources}
    used |= {*listed.lambda_.sources, listed.relay.source}
    assert used == set(listed.sources), "each source is used, and each that is used is there"
    assert all(len(entry.sources) >= 2 for entry in listed.sagemaker.values()), "its hardware and its price"
    assert all(entry.source for entry in (*listed.gpus.values(), *listed.processors.values()))
    for kind, entry in listed.sagemaker.items():
        assert bool(entry.gpu) == bool(entry.gpus), kind
        assert bool(entry.gpu) != bool(entry.processor), kind


def test_an_instance_has_its_gpus_and_computes_on_one_of_them() -> None:
    found = cloud_device("sagemaker:ml.g5.12xlarge")
    assert (found.id, found.cores, found.memory_bytes) == ("sagemaker-ml-g5-12xlarge", 48, 192 * GIB)
    assert [(gpu.model, gpu.memory_bytes) for gpu in found.accelerators] == [("NVIDIA A10G", 24 * GIB)] * 4
    assert found.rates == cloud_device("sagemaker:ml.g5.xlarge").rates
    assert "fp16" in found.features


def test_a_functions_processors_and_price_follow_its_memory() -> None:
    whole, half, most = (cloud_device(f"lambda:{size}") for size in (1769, 884, 10240))
    assert (whole.cores, half.cores, most.cores) == (1, 1, 6)
    rates = [device.rates["*"].flops_per_second for device in (whole, half, most)]
    assert rates[1] / rates[0] == pytest.approx(884 / 1769)
    assert rates[2] == rates[0], "a thread has no more than one processor"
    gb_second = price_list().prices["lambda_gb_second"].usd
    assert most.price_per_hour_usd == pytest.approx(10 * gb_second * 3600)
    assert (whole.memory_bytes, whole.disk_free_bytes) == (1769 * MIB, 512 * MIB)


def test_a_region_may_be_named() -> None:
    assert cloud_device("lambda:1769@eu-west-1").zone == "aws:eu-west-1"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lambda:127", "a function has 128 to 10240 MB, by 1 MB; it is '127'"),
        ("lambda:10241", "128 to 10240 MB"),
        ("lambda:1.5", "128 to 10240 MB"),
        ("sagemaker:ml.z9.huge", r"ml\.z9\.huge is not listed; there are: ml\.m5\.large, "),
        ("sagemaker:", "needs sagemaker:TYPE or lambda:MB, such as "),
    ],
)
def test_what_is_not_listed_is_refused_with_what_there_is(name: str, sentence: str) -> None:
    assert is_cloud_device(name)
    with pytest.raises(InvalidInput, match=sentence):
        cloud_device(name)


def test_a_plan_takes_them_by_name() -> None:
    found = planfiles.read_devices([Path("sagemaker:ml.g5.xlarge"), Path("lambda:1769")])
    assert [device.id for device in found] == ["sagemaker-ml-g5-xlarge", "lambda-1769"]
