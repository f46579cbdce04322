from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from recorded import Nvml, machine

from isthmus.errors import InvalidDocument, InvalidInput
from isthmus.model.device import Accelerator, DeviceDescriptor, Link
from isthmus.rig import settings
from isthmus.rig.discover import Machine, describe
from isthmus.rig.settings import RigFile

EXAMPLE = """
zone = "onprem-milan"
usage = ["training", "inference"]
price_per_hour_usd = 1
cores = 4
features = ["avx2"]

[[accelerators]]
model = "RTX 4090"
memory_bytes = 25757220864

[[links]]
to = "rig-2"
bytes_per_second = 1.25e9
"""


@pytest.fixture
def device(tmp_path: Path) -> DeviceDescriptor:
    found = Machine(machine(tmp_path / "machine", {}), affinity=8, nvml=Nvml())
    return describe("rig-1", zone="z", folder=tmp_path / "rig", now=0.0, machine=found)


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_what_a_file_overrides_is_shown_with_what_was_discovered(
    device: DeviceDescriptor, tmp_path: Path
) -> None:
    found = settings.apply(device, settings.read(written(tmp_path, EXAMPLE)))
    assert (found.zone, found.price_per_hour_usd, found.cores) == ("onprem-milan", 1.0, 4)
    assert found.usage == ("training", "inference")
    assert found.accelerators == (Accelerator(model="RTX 4090", memory_bytes=25757220864),)
    assert found.links == (Link(to="rig-2", bytes_per_second=1.25e9),)
    assert found.overrides == {
        "cores": 8,
        "features": ("avx2", "avx512", "bf16", "vnni"),
        "accelerators": (),
        "links": (),
    }
    undone = settings.undo(found)
    given = {"zone": "z", "usage": ("training",), "price_per_hour_usd": 0.0}
    assert msgspec.structs.replace(undone, **given) == device


def test_a_value_that_was_discovered_anyway_overrides_nothing(device: DeviceDescriptor) -> None:
    assert settings.apply(device, RigFile(cores=8, arch=device.arch)).overrides == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("corse = 4", r"there is no key corse; did you mean cores\?"),
        (
            "xyz = 4",
            r"there is no key xyz; known are: measure_rates, cache_folder, cache_bytes, data_roots, kind, zone, ",
        ),
        ('cores = "four"', r"cores: expected `int`, got `str`"),
        ("cores = 0", r"cores: expected `int` >= 1"),
        ("price_per_hour_usd = -1", r"price_per_hour_usd: expected `float` >= 0"),
        ('kind = "lambda"', r"kind: invalid enum value 'lambda'"),
        ('zone = ""', r"zone: expected `str` of length >= 1"),
        (
            'data_roots = {clinic = "scans"}',
            r"data_roots\.clinic needs an absolute path, such as /srv/clinic; it is 'scans'",
        ),
        (
            'data_roots = {clinic = "//"}',
            r"data_roots\.clinic needs an absolute path, such as /srv/clinic; it is",
        ),
        ('data_roots = {Clinic = "/srv"}', r"data_roots needs names of at most 40 small .*; one is Clinic"),
        ('usage = ["training", "mining"]', r"usage\[1\]: invalid enum value 'mining'"),
        ("[[accelerators]]\nmodel = 1", r"accelerators\[0\]\.model: expected `str`, got `int`"),
        ("cores = ", "is not TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_key_and_what_was_expected(
    text: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidDocument, match=rf"mine\.toml:? .*{sentence}"):
        settings.read(written(tmp_path, text))


def test_a_file_that_is_not_there_is_said_if_it_was_named(tmp_path: Path) -> None:
    assert settings.read_if_there(tmp_path) == RigFile()
    with pytest.raises(InvalidDocument, match=r"none\.toml cannot be read: No such file"):
        settings.read(tmp_path / "none.toml")


def test_a_named_file_is_kept_where_the_agent_looks(tmp_path: Path) -> None:
    settings.keep(written(tmp_path, EXAMPLE), tmp_path / "rig")
    assert settings.read_if_there(tmp_path / "rig") == settings.read(tmp_path / "mine.toml")
    settings.keep(tmp_path / "rig" / settings.FILE, tmp_path / "rig")
    assert settings.read_if_there(tmp_path / "rig").cores == 4


def test_file_and_command_line_are_one_and_must_not_differ() -> None:
    merged = settings.merge(RigFile(zone="a", cores=4), RigFile(zone="a", power_watts=300.0))
    assert merged == RigFile(zone="a", cores=4, power_watts=300.0)
    with pytest.raises(InvalidInput, match=r"zone is a in rig\.toml and b on the command line"):
        settings.merge(RigFile(zone="a"), RigFile(zone="b"))
