"""What every test of an adapter needs: no settings of whoever runs it, and no client of an earlier test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from isthmus.adapters.aws.session import client


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    client.cache_clear()
    yield
    client.cache_clear()
