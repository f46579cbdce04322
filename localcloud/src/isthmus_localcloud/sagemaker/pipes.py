"""Channels in Pipe mode: each pass streams the channel's objects from S3 into a named pipe of its own.

Sources: SageMaker developer guide, "How Amazon SageMaker AI provides training information", Training Data
(a pipe ``<channel>_<epoch>`` for each pass, read to its end or closed early, the next made meanwhile);
``Channel`` in the API reference (``RecordWrapperType``: a RecordIO record of each object); dmlc-core,
``dmlc/recordio.h``.
"""

import contextlib
import errno
import itertools
import json
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from .s3_files import keys_below, split_uri

MAGIC = struct.pack("<I", 0xCED7230A)
MAX_RECORD_BYTES = 2**29 - 1
LOOK_SECONDS = 0.02
PIECE_BYTES = 1 << 20


class Ended(Exception):
    """The job has ended."""


def recordio(data: bytes) -> bytes:
    """One record; it is cut where the magic number stands in it at a multiple of four, which is left out."""
    if len(data) > MAX_RECORD_BYTES:
        raise ValueError(
            f"a RecordIO record has at most {MAX_RECORD_BYTES} bytes, and an object has {len(data)}"
        )
    cuts = [at for at in range(0, len(data) - 3, 4) if data[at : at + 4] == MAGIC] if MAGIC in data else []
    starts = [0, *(cut + 4 for cut in cuts)]
    pieces = [data[start:stop] for start, stop in zip(starts, [*cuts, len(data)], strict=True)]
    flags = [1, *[2] * (len(pieces) - 2), 3] if len(pieces) > 1 else [0]
    heads = [
        MAGIC + struct.pack("<I", flag << 29 | len(piece)) for flag, piece in zip(flags, pieces, strict=True)
    ]
    return b"".join(head + piece for head, piece in zip(heads, pieces, strict=True)) + bytes(-len(data) % 4)


def objects_of(s3: Any, source: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Bucket and key of each object of a channel, in the order in which they are streamed."""
    bucket, key = split_uri(source["S3Uri"])
    if source.get("S3DataType") != "ManifestFile":
        return [(bucket, found) for found in keys_below(s3, bucket, key)]
    head, *names = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    there, prefix = split_uri(head["prefix"])
    return [(there, f"{prefix}{name}") for name in names]


def make_pipe(folder: Path, channel: str, number: int = 0) -> Path:
    """The pipe of a channel's pass, which may be there already."""
    path = folder / f"{channel}_{number}"
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path)
    return path


class Pipes:
    """Feeds the channels of a job that are in Pipe mode, while its program runs within the block.

    ``on_failure`` is called when a channel cannot be read; its pipe does not end then.
    """

    def __init__(
        self, s3: Any, channels: Sequence[Mapping[str, Any]], folder: Path, on_failure: Callable[[], None]
    ) -> None:
        self._s3, self._channels, self._folder = s3, channels, folder
        self._on_failure = on_failure
        self._ended = threading.Event()
        self.failure = ""

    def __enter__(self) -> "Pipes":
        self._threads = [
            threading.Thread(target=self._feed, args=(channel,), name="job-pipe", daemon=True)
            for channel in self._channels
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _feed(self, channel: Mapping[str, Any]) -> None:
        name = channel["ChannelName"]
        try:
            for number in itertools.count():
                path = make_pipe(self._folder, name, number)
                pipe = self._open(path)
                make_pipe(self._folder, name, number + 1)
                with contextlib.suppress(BrokenPipeError):  # the script has read enough, and closed it
                    for data in self._objects(channel):
                        self._write(data, pipe)
                path.unlink(missing_ok=True)
                os.close(pipe)
        except Ended:
            return
        except Exception as error:  # a script whose input ended silently would take what it had for all
            self.failure = f"ClientError: Data download failed: {error}"
            self._on_failure()

    def _open(self, path: Path) -> int:
        """Wait for a reader."""
        while not self._ended.wait(LOOK_SECONDS):
            try:
                return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
        raise Ended

    def _objects(self, channel: Mapping[str, Any]) -> Iterator[bytes]:
        for bucket, key in objects_of(self._s3, channel["DataSource"]["S3DataSource"]):
            body = self._s3.get_object(Bucket=bucket, Key=key)["Body"]
            if channel.get("RecordWrapperType") == "RecordIO":
                yield recordio(body.read())
            else:
                yield from body.iter_chunks(PIECE_BYTES)

    def _write(self, data: bytes, pipe: int) -> None:
        left = memoryview(data)
        while left:
            if self._ended.is_set():
                raise Ended
            if select.select([], [pipe], [], LOOK_SECONDS)[1]:
                with contextlib.suppress(BlockingIOError):
                    left = left[os.write(pipe, left) :]
