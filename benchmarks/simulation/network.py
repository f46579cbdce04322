"""The ports of a simulated world: the shipped fakes behind a network that is late, cut, deaf and repetitive."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.simulation.scheduler import Process, Scheduler
from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import Conflict, MissingFile, Unavailable
from isthmus.ports import BlobInfo, GoOn, Item, always

T = TypeVar("T")


@dataclass
class Weather:
    """How likely each trouble is at a call. ``clear`` ends all of it."""

    lost_requests: float = 0.0
    lost_answers: float = 0.0
    repeats: float = 0.0
    """Of a request whose answer was lost, and that the SDK sent again: its effect happens twice."""
    slow: float = 0.05
    slow_seconds: float = 2.0

    def clear(self) -> None:
        self.lost_requests = self.lost_answers = self.repeats = self.slow = 0.0


@dataclass
class Line:
    """One process's way to the services. ``is_cut`` says whether its machine is off the network now."""

    process: Process
    weather: Weather
    is_cut: Callable[[], bool] = field(default=lambda: False)

    def call(self, name: str, effect: Callable[[], T]) -> T:
        """Ask a service; in each moment of it others go on, and the process may die."""
        process, weather = self.process, self.weather
        scheduler = process.scheduler
        lot = scheduler.random.random
        scheduler.pause(self._latency(scheduler))
        process.die(f"{name}, before")
        if self.is_cut():
            scheduler.pause(lot() * 5.0)
            raise Unavailable(f"{name}: no route")
        if lot() < weather.lost_requests:
            raise Unavailable(f"{name}: the request was lost")
        failure: Exception | None = None
        try:
            result = effect()
            if lot() < weather.repeats:
                scheduler.pause(self._latency(scheduler))
                result = effect()
        except (Conflict, MissingFile) as error:
            failure = error
        if scheduler.is_traced:
            scheduler.trace(process.name, name, **({"error": failure} if failure else {}))
        process.die(f"{name}, after")
        scheduler.pause(self._latency(scheduler))
        if self.is_cut() or lot() < weather.lost_answers:
            raise Unavailable(f"{name}: the answer was lost")
        if failure is not None:
            raise failure
        return result

    def _latency(self, scheduler: Scheduler) -> float:
        lot = scheduler.random.random()
        if lot < self.weather.slow:
            return scheduler.random.expovariate(1 / self.weather.slow_seconds)
        return lot * 0.05


class Records:
    """``ports.Records`` over a line."""

    def __init__(self, table: MemoryRecords, line: Line) -> None:
        self._table, self._line = table, line

    def get(self, pk: str, sk: str) -> Item | None:
        return self._line.call(f"get {sk}", lambda: self._table.get(pk, sk))

    def query(self, pk: str, *, prefix: str = "") -> list[Item]:
        return self._line.call(f"query {pk}", lambda: self._table.query(pk, prefix=prefix))

    def put(self, item: Item) -> None:
        self._line.call(f"put {item['sk']}", lambda: self._table.put(item))

    def create(self, item: Item) -> bool:
        return self._line.call(f"create {item['sk']}", lambda: self._table.create(item))

    def update(self, pk: str, sk: str, values: Mapping[str, Any], **conditions: Any) -> None:
        self._line.call(f"update {sk}", lambda: self._table.update(pk, sk, values, **conditions))

    def delete(self, pk: str, sk: str, *, expect: Mapping[str, Any] | None = None) -> None:
        self._line.call(f"delete {sk}", lambda: self._table.delete(pk, sk, expect=expect))

    def next_number(self, pk: str, sk: str) -> int:
        return self._line.call(f"next {sk}", lambda: self._table.next_number(pk, sk))


class Bucket:
    """What every line to a bucket leads to."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.objects = dict(objects)

    def read(self, key: str) -> bytes:
        if key not in self.objects:
            raise MissingFile(f"{key} is not in the bucket")
        return self.objects[key]

    def write(self, key: str, data: bytes) -> None:
        self.objects[key] = data


class Blobs:
    """``ports.BlobStore`` over a line."""

    def __init__(self, bucket: Bucket, line: Line) -> None:
        self._bucket, self._line = bucket, line

    def info(self, key: str) -> BlobInfo | None:
        data = self._line.call(f"head {key[-20:]}", lambda: self._bucket.objects.get(key))
        return None if data is None else BlobInfo(key, len(data), version=hashlib.sha256(data).hexdigest())

    def get(self, key: str, *, max_bytes: int) -> bytes:
        return self._line.call(f"read {key[-20:]}", lambda: self._bucket.read(key))

    def put(self, key: str, data: bytes, *, sha256: str | None = None) -> None:
        self._line.call(f"write {key[-20:]}", lambda: self._bucket.write(key, data))

    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        self.put(key, path.read_bytes())

    def download(self, key: str, path: Path) -> str:
        data = self.get(key, max_bytes=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def pieces(
        self, key: str, *, start: int = 0, stop: int | None = None, version: str = ""
    ) -> Iterator[bytes]:
        yield self.get(key, max_bytes=0)[start:stop]

    def save(
        self,
        key: str,
        path: Path,
        *,
        start: int = 0,
        stop: int | None = None,
        version: str = "",
        go_on: GoOn = always,
    ) -> None:
        with path.open("r+b") as file:
            file.seek(start)
            for piece in self.pieces(key, start=start, stop=stop, version=version):
                file.write(piece)
                go_on()

    def compose(self, key: str, pieces: Iterator[bytes], *, sha256: str) -> None:
        self.put(key, b"".join(pieces))

    def sha256(self, key: str) -> str:
        return hashlib.sha256(self.get(key, max_bytes=0)).hexdigest()

    def keys(self, prefix: str) -> Iterator[BlobInfo]:
        found = self._line.call(f"list {prefix[-20:]}", lambda: sorted(self._bucket.objects.items()))
        yield from (BlobInfo(key, len(data)) for key, data in found if key.startswith(prefix))

    def delete(self, key: str) -> None:
        self._line.call(f"remove {key[-20:]}", lambda: self._bucket.objects.pop(key, None))
