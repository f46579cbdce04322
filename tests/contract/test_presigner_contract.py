from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from isthmus.adapters.aws.presign import S3Presigner
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.presign import MemoryPresigner
from isthmus.errors import PolicyViolation
from isthmus.ports import Presigner

BODY = b"x" * 100
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(params=["memory", "s3"])
def presigner(request: pytest.FixtureRequest, tmp_path: Path) -> Presigner:
    if request.param == "memory":
        return MemoryPresigner(DirectoryBlobStore(tmp_path))
    request.getfixturevalue("aws")
    return S3Presigner("data")


def test_an_address_names_the_object_and_the_headers_that_it_takes(presigner: Presigner) -> None:
    grant = presigner.to_put("handover/in/m/1", size_bytes=100, sha256=DIGEST, seconds=60)
    assert urlsplit(grant.url).path == "/handover/in/m/1"
    assert set(grant.headers) == {"content-length", "x-amz-checksum-sha256"}
    assert grant.headers["content-length"] == "100"
    for url in (presigner.to_get("out/1", seconds=60), presigner.to_put_any("out/1", seconds=60)):
        assert urlsplit(url).path == "/out/1"


@pytest.mark.usefixtures("aws")
def test_s3_is_made_to_check_size_and_digest_and_the_time() -> None:
    """Version 4: S3 takes no other for what KMS encrypts. What is signed cannot be left out, or changed."""
    url = urlsplit(S3Presigner("data").to_put("k", size_bytes=100, sha256=DIGEST, seconds=60).url)
    query = parse_qs(url.query)
    assert url.hostname == "data.s3.eu-west-1.amazonaws.com"
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["60"]
    assert query["X-Amz-SignedHeaders"] == ["content-length;host;x-amz-checksum-sha256"]


@pytest.mark.parametrize(
    ("body", "changed"), [(BODY[1:], {}), (b"y" * 100, {}), (BODY, {"x-amz-checksum-sha256": "other"})]
)
def test_the_fake_refuses_what_s3_refuses(tmp_path: Path, body: bytes, changed: dict[str, Any]) -> None:
    blobs = DirectoryBlobStore(tmp_path)
    fake = MemoryPresigner(blobs)
    grant = fake.to_put("k", size_bytes=100, sha256=DIGEST, seconds=60)
    with pytest.raises(PolicyViolation):
        fake.put(grant.url, body, {**grant.headers, **changed})
    fake.put(grant.url, BODY, grant.headers)
    assert fake.get(fake.to_get("k", seconds=60)) == BODY
    fake.put(fake.to_put_any("other", seconds=60), b"anything")
    assert fake.get(fake.to_get("other", seconds=60)) == b"anything"
