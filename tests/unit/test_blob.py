"""What a name and a digest are in every document."""

from __future__ import annotations

import re

import msgspec
import pytest

from isthmus.model.blob import BlobRef, Name, Sha256


@pytest.mark.parametrize("name", ["d", "digits", "a-1", "a" * 40])
def test_a_name(name: str) -> None:
    assert msgspec.convert(name, Name) == name


@pytest.mark.parametrize("name", ["", "1", "A", "a" * 41, "digits\n", "digits\n\n", "\ndigits", "a\nb", "é"])
def test_what_is_none(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, Name)


@pytest.mark.parametrize("digest", ["a" * 63, "a" * 65, "A" * 64, "a" * 64 + "\n", "a" * 63 + "\n"])
def test_a_digest_is_64_hex_digits_and_nothing_else(digest: str) -> None:
    good = {"key": "k", "size_bytes": 0, "sha256": "0123456789abcdef" * 4}
    assert msgspec.convert(good, BlobRef).sha256 == good["sha256"]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**good, "sha256": digest}, BlobRef)


@pytest.mark.parametrize("kind", [Name, Sha256])
def test_a_schema_says_it_in_what_every_language_has(kind: object) -> None:
    schema = msgspec.json.schema(kind)
    assert re.search(r"\\[AZz]", schema["pattern"]) is None
