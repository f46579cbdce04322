"""``isthmus rig join | show | schema``: what is said before anything is made, and what is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isthmus.cli.main import main
from isthmus.cli.rig_device import shown
from isthmus.model.device import Accelerator, DeviceDescriptor, Link, Rate, device_schema


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("corse = 4", [], "there is no key corse; did you mean cores?"),
        ('cores = "four"', [], "cores: expected `int`, got `str`"),
        ('zone = "a"', ["--zone", "b"], "zone is a in rig.toml and b on the command line"),
        ("", ["--price-per-hour", "-1"], "price_per_hour_usd"),
    ],
)
def test_a_join_that_cannot_be_is_refused_before_the_stack_is_asked(
    text: str, options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rig.toml").write_text(text)
    assert main(["rig", "join", "--name", "lab-1", "--folder", str(tmp_path), *options]) == 2
    assert sentence in capsys.readouterr().err


def test_a_file_that_is_named_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.toml")
    assert main(["rig", "join", "--name", "lab-1", "--folder", str(tmp_path), "--config", missing]) == 2
    assert f"{missing} cannot be read" in capsys.readouterr().err


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rig", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(device_schema()))


def test_a_device_of_the_cloud_is_shown_with_what_nobody_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rig", "show", "sagemaker:ml.g5.xlarge"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("sagemaker-ml-g5-xlarge\n")
    assert "NVIDIA A10G, 24.0 GiB, compute 8.6" in text
    assert "rates, not measured" in text
    assert main(["rig", "show", "lambda:1769", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "lambda-1769"


def test_an_override_is_shown_with_what_was_discovered() -> None:
    device = DeviceDescriptor(
        id="lab-1",
        kind="rig",
        zone="onprem-milan",
        arch="x86_64",
        cores=4,
        memory_bytes=64 << 30,
        disk_free_bytes=1 << 40,
        accelerators=(Accelerator(model="RTX 4090", memory_bytes=24 << 30, driver="550.54"),) * 2,
        features=("avx2",),
        rates={"*": Rate(bytes_per_second=1e9)},
        links=(Link(to="relay", bytes_per_second=12.5 * 2**20, latency_seconds=0.031),),
        price_per_hour_usd=1.25,
        overrides={"cores": 16, "features": ["avx2", "avx512"]},
        not_measured={"memory_bandwidth": "it needs numpy"},
    )
    lines = {line.split("  ")[1]: line.split("  ")[-1].strip() for line in shown(device).splitlines()[1:]}
    assert lines["cores"] == "4 (overridden; discovered: 16)"
    assert lines["features"] == 'avx2 (overridden; discovered: ["avx2", "avx512"])'
    assert lines["links"] == "relay: 12.5 MiB/s, 31.0 ms"
    assert lines["rates"] == "classes of operators: 1"
    assert lines["price_per_hour_usd"] == "$1.25"
    assert lines["accelerators"] == "2 x RTX 4090, 24.0 GiB, driver 550.54"
    assert lines["memory_bandwidth, not measured"] == "it needs numpy"
