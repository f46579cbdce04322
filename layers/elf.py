"""Takes out of a shared library what is never loaded, or never called: symbols, sections, kernels of other processors.

The loader maps segments (``PT_LOAD``) and asks nothing of the rest (System V ABI, "Program Loading"). `strip`
would drop the rest too, but each version of it writes other bytes, and it may break what patchelf has laid out, as it
has in every repaired wheel. Here segments are copied as they are, one after the other.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, replace

MAGIC = b"\x7fELF\x02\x01"
"""64 bits, little-endian: x86_64 and aarch64."""
PHDR, SHDR, SYMBOL = struct.Struct("<IIQQQQQQ"), struct.Struct("<IIQQQQIIQQ"), struct.Struct("<IBBHQQ")
PHDRS_AT, SECTIONS_AT, PHDR_COUNT_AT, SECTION_COUNT_AT = 32, 40, 56, 60
NULL, LOAD, EH_FRAME, READ = 0, 1, 0x6474E550, 4
SYMTAB, FUNCTION = 2, 2


@dataclass(frozen=True)
class Segment:
    """A program header, in the order of its fields (``Elf64_Phdr``)."""

    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    size: int
    memory: int
    align: int

    @property
    def end(self) -> int:
        """The first byte of the file after it."""
        return self.offset + self.size


def slim(data: bytes) -> bytes:
    """Return a library with nothing but its segments; ``data`` itself when it is no library of 64 bits."""
    return _written(data, segments(data)) if data[:6] == MAGIC else data


def slim_openblas(data: bytes, cores: Iterable[str]) -> bytes:
    """Return OpenBLAS without the kernels of ``cores``, and without tables for unwinding the stack.

    Its C and Fortran throw nothing. A kernel's name ends in the core that it is for (OpenBLAS, ``DYNAMIC_ARCH``); the
    choice is made by CPUID, or on Arm by MIDR, so what is for processors that are never met is never called.
    """
    parts = _without_unwinding(segments(data))
    wanted = re.compile(rf"_({'|'.join(cores)})(\.\w+)*$".encode())
    kernels = {(start, end) for name, start, end in _functions(data) if wanted.search(name)}
    others = {(start, end) for name, start, end in _functions(data) if not wanted.search(name)}
    return _written(data, _with_holes(parts, _runs(kernels, others)))


def segments(data: bytes) -> list[Segment]:
    """Return the program headers, in their order."""
    at, count = struct.unpack_from("<Q", data, PHDRS_AT)[0], struct.unpack_from("<H", data, PHDR_COUNT_AT)[0]
    return [Segment(*PHDR.unpack_from(data, at + number * PHDR.size)) for number in range(count)]


def _functions(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield each function's name and its half-open range of addresses; none when symbols are gone already."""
    at, count = (
        struct.unpack_from("<Q", data, SECTIONS_AT)[0],
        struct.unpack_from("<H", data, SECTION_COUNT_AT)[0],
    )
    sections = [SHDR.unpack_from(data, at + number * SHDR.size) for number in range(count)]
    for _, kind, _, _, offset, size, link, *_ in sections:
        if kind != SYMTAB:
            continue
        names = sections[link][4]
        for name, info, _, _, address, length in SYMBOL.iter_unpack(data[offset : offset + size]):
            if info & 15 == FUNCTION and address:
                yield data[names + name : data.index(b"\0", names + name)], address, address + length


def _runs(kernels: set[tuple[int, int]], others: set[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of addresses in which there is nothing but kernels, as long as possible."""
    run: list[tuple[int, int]] = []
    for found in sorted(kernels | others):
        if found in kernels and found not in others:
            run.append(found)
        elif run:
            yield run[0][0], min(max(end for _, end in run), found[0])
            run = []
    if run:
        yield run[0][0], max(end for _, end in run)


def _without_unwinding(segments: list[Segment]) -> list[Segment]:
    """Cut the index of frames and the frames from the segment that ends with them."""
    index = next((segment for segment in segments if segment.kind == EH_FRAME), None)
    if index is None:
        return segments
    kept = []
    for segment in segments:
        if segment.kind == LOAD and segment.flags == READ and segment.offset < index.offset < segment.end:
            size = index.offset - segment.offset
            segment = replace(segment, size=size, memory=size)
        kept.append(replace(segment, kind=NULL, size=0) if segment is index else segment)
    return kept


def _with_holes(segments: list[Segment], holes: Iterable[tuple[int, int]]) -> list[Segment]:
    """Split segments so that no whole page of a hole is left."""
    for start, end in holes:
        segments = [part for segment in segments for part in _split(segment, start, end)]
    return segments


def _split(segment: Segment, start: int, end: int) -> list[Segment]:
    first, last = -(-start // segment.align) * segment.align, end // segment.align * segment.align
    inside = segment.address < first < last < segment.address + segment.size
    if segment.kind != LOAD or not inside:
        return [segment]
    before, after = first - segment.address, last - segment.address
    return [
        replace(segment, size=before, memory=before),
        replace(
            segment,
            offset=segment.offset + after,
            address=segment.address + after,
            physical=segment.physical + after,
            size=segment.size - after,
            memory=segment.memory - after,
        ),
    ]


def _written(data: bytes, segments: list[Segment]) -> bytes:
    """Return the file of these segments: each at an offset congruent to its address, program headers last."""
    loads = [segment for segment in segments if segment.kind == LOAD]
    moved: dict[int, int] = {}
    slimmer = bytearray()
    for load in loads:
        slimmer += bytes((load.address - len(slimmer)) % load.align)
        moved[load.offset] = len(slimmer)
        slimmer += data[load.offset : load.end]
    slimmer += bytes(-len(slimmer) % 8)
    struct.pack_into("<QQ", slimmer, PHDRS_AT, len(slimmer), 0)
    struct.pack_into("<H", slimmer, PHDR_COUNT_AT, len(segments))
    struct.pack_into("<HH", slimmer, SECTION_COUNT_AT, 0, 0)
    for segment in segments:
        inside = (load for load in loads if load.offset <= segment.offset and segment.end <= load.end)
        load = next(inside, segment)
        at = moved.get(load.offset, 0) + segment.offset - load.offset
        slimmer += PHDR.pack(*astuple(replace(segment, offset=at)))
    return bytes(slimmer)
