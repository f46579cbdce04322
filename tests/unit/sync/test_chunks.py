from __future__ import annotations

import random
from pathlib import Path

import pytest

from isthmus.errors import InvalidDocument
from isthmus.model.delta import Chunks
from isthmus.sync.chunks import Chunk, cut, differences, noted, read


def chunks_of(*letters: str) -> list[Chunk]:
    """A chunk for each letter, of ten bytes."""
    return [(letter.encode() * 16, 10) for letter in letters]


CASES = [
    ("abc", "abc", [(False, 0, 30)]),
    ("abc", "axc", [(False, 0, 10), (True, 10, 20), (False, 20, 30)]),
    ("abc", "xabc", [(True, 0, 10), (False, 0, 30)]),
    ("abc", "ac", [(False, 0, 10), (False, 20, 30)]),
    ("abc", "cab", [(False, 20, 30), (False, 0, 20)]),
    ("abc", "xyz", [(True, 0, 30)]),
    ("zzaz", "zzaz", [(False, 0, 40)]),
    ("abz", "zzab", [(False, 20, 30), (False, 20, 30), (False, 0, 20)]),
    ("", "a", [(True, 0, 10)]),
    ("a", "", []),
]


@pytest.mark.parametrize(("old", "new", "pieces"), CASES)
def test_pieces_are_joined(old: str, new: str, pieces: list[tuple[bool, int, int]]) -> None:
    assert differences(chunks_of(*new), chunks_of(*old)) == pieces


@pytest.mark.parametrize("seed", range(20))
def test_pieces_give_the_new_file(seed: int) -> None:
    rng = random.Random(seed)
    old, new = ("".join(rng.choices("abcdef", k=rng.randrange(1, 40))) for _ in range(2))
    before, after = ("".join(letter * 10 for letter in text) for text in (old, new))
    pieces = differences(chunks_of(*new), chunks_of(*old))
    assert "".join((after if is_new else before)[start:stop] for is_new, start, stop in pieces) == after


def test_cuts_follow_the_content(tmp_path: Path) -> None:
    data = random.Random(0).randbytes(2**20)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(b"inserted" + data)
    before, after = list(cut(tmp_path / "a")), list(cut(tmp_path / "b"))
    assert sum(size for _, size in before) == len(data)
    assert len(set(before) & set(after)) >= len(before) - 3
    assert read(noted(before)) == before


def test_notes_that_are_not_whole_are_refused() -> None:
    with pytest.raises(InvalidDocument):
        read(Chunks(digests=bytes(32), sizes=bytes(4)))
