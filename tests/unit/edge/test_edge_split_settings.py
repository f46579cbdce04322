from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.client.part import CloudPart, cloud_part
from isthmus.edge.split_settings import SplitSettings
from isthmus.errors import EnvironmentProblem, InvalidDocument

ROOT = Path(__file__).resolve().parents[3]
NEEDED = {
    "ISTHMUS_EDGE_SLICES": "/slices",
    "ISTHMUS_EDGE_CLOUD": "https://api.example.com/v",
    "ISTHMUS_EDGE_POLICY": '{"zones":["edge-*"],"may_leave":"activations","max_leakage_r2":0.8}',
}


def test_without_a_folder_there_are_no_slices() -> None:
    assert SplitSettings.from_env({"ISTHMUS_EDGE_CLOUD": "https://api.example.com"}) is None


def test_what_is_not_said_has_a_default() -> None:
    found = SplitSettings.from_env(NEEDED)
    assert found is not None
    assert (found.folder, found.cloud, found.zone) == (Path("/slices"), "https://api.example.com/v", "")
    assert (found.policy.zones, found.policy.max_leakage_r2) == (("edge-*",), 0.8)
    assert (found.bytes_per_second, found.latency_seconds) == (1.25e6, 0.05)
    assert (found.habits.usd_per_second, found.prices.usd_per_second) == (None, 0.0)


def test_everything_can_be_said_and_a_token_is_not_shown() -> None:
    more = {
        "ISTHMUS_EDGE_CLOUD_ZONE": "aws:eu-west-1",
        "ISTHMUS_EDGE_CLOUD_TOKEN": "secret",
        "ISTHMUS_EDGE_USD_PER_REQUEST": "0.0000035",
        "ISTHMUS_EDGE_USD_PER_CLOUD_SECOND": "3e-5",
        "ISTHMUS_EDGE_SECOND_IS_WORTH_USD": "0.01",
        "ISTHMUS_EDGE_LINK_MBPS": "2",
        "ISTHMUS_EDGE_LINK_MS": "100",
    }
    found = SplitSettings.from_env({**NEEDED, **more})
    assert found is not None
    assert (found.zone, found.token, found.habits.usd_per_second) == ("aws:eu-west-1", "secret", 0.01)
    assert (found.prices.usd_per_request, found.prices.usd_per_second) == (3.5e-6, 3e-5)
    assert (found.bytes_per_second, found.latency_seconds) == (250_000, 0.1)
    assert "secret" not in repr(found)


def test_without_a_cloud_nothing_may_leave() -> None:
    found = SplitSettings.from_env({"ISTHMUS_EDGE_SLICES": "/slices"})
    assert found is not None
    assert (found.cloud, found.policy.may_leave) == ("", "nothing")


@pytest.mark.parametrize(
    ("name", "value", "kind", "why"),
    [
        ("ISTHMUS_EDGE_POLICY", "", EnvironmentProblem, "must say what may leave this device"),
        ("ISTHMUS_EDGE_POLICY", '{"may_leave":"all"}', InvalidDocument, "ISTHMUS_EDGE_POLICY cannot be used"),
        (
            "ISTHMUS_EDGE_CLOUD_AUTH",
            "token",
            EnvironmentProblem,
            "token with ISTHMUS_EDGE_CLOUD_TOKEN, not 'token'",
        ),
        ("ISTHMUS_EDGE_CLOUD_AUTH", "basic", EnvironmentProblem, "must be none, aws, or token"),
        ("ISTHMUS_EDGE_LINK_MS", "fast", EnvironmentProblem, "must be a number above 0, not 'fast'"),
        ("ISTHMUS_EDGE_LINK_MBPS", "0", EnvironmentProblem, "must be a number above 0, not '0'"),
        ("ISTHMUS_EDGE_USD_PER_REQUEST", "-1", EnvironmentProblem, "must be a number from 0 on, not '-1'"),
        ("ISTHMUS_EDGE_SECOND_IS_WORTH_USD", "nan", EnvironmentProblem, "must be a number above 0"),
    ],
)
def test_what_cannot_be_used_is_said(name: str, value: str, kind: type[Exception], why: str) -> None:
    with pytest.raises(kind, match=why):
        SplitSettings.from_env({**NEEDED, name: value})


def test_a_core_device_needs_no_library_for_http() -> None:
    """The edge function's package has neither urllib3 nor boto3."""
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('urllib3', 'boto3', 'botocore', 'aiohttp', 'yaml', 'xxhash'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import isthmus.edge.core, isthmus.client.part, isthmus.transport.casts\n"
        "isthmus.client.part.CloudPart('http://127.0.0.1:9')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    ("more", "auth"),
    [
        ({}, "aws"),
        ({"ISTHMUS_EDGE_CLOUD": "http://127.0.0.1:8771"}, "none"),
        ({"ISTHMUS_EDGE_CLOUD_TOKEN": "t"}, "token"),
        ({"ISTHMUS_EDGE_CLOUD_TOKEN": "t", "ISTHMUS_EDGE_CLOUD_AUTH": "aws"}, "aws"),
        ({"ISTHMUS_EDGE_CLOUD_AUTH": "none"}, "none"),
    ],
)
def test_how_requests_are_authorized(more: dict[str, str], auth: str) -> None:
    found = SplitSettings.from_env({**NEEDED, **more})
    assert found is not None
    assert found.auth == auth


def test_the_edge_function_is_imported_where_there_is_nothing_to_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ISTHMUS_EDGE_PORT", raising=False)
    spec = importlib.util.spec_from_file_location("edge_app_split", ROOT / "edge_lambda/app.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_there_is_a_way_to_the_cloud_only_where_one_is_named() -> None:
    assert cloud_part(None) is None
    assert cloud_part(SplitSettings.from_env({"ISTHMUS_EDGE_SLICES": "/slices"})) is None
    assert isinstance(cloud_part(SplitSettings.from_env(NEEDED)), CloudPart)
