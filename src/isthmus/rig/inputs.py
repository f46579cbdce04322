"""An attempt's data: all there before its script starts (``File``), or streamed while it runs (``Pipe``)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from isthmus.errors import InvalidJob, Unavailable
from isthmus.model import layout
from isthmus.model.dataset import DatasetFile, Manifest
from isthmus.model.job import Training
from isthmus.model.units import format_bytes
from isthmus.ports import GoOn, Threads, TrainingRun
from isthmus.rig.cache import CachedFile, FileCache
from isthmus.rig.contract import Layout
from isthmus.rig.data_roots import Found
from isthmus.rig.in_place import InPlaceData, Persistently
from isthmus.rig.recordio import MAX_RECORD_BYTES
from isthmus.rig.services import Report
from isthmus.rig.streams import Stream, Streams


class Inputs:
    """The data of one attempt. ``here``: they are not fetched, but lie on this rig."""

    def __init__(
        self,
        training: Training,
        manifest: Manifest,
        folders: Layout,
        cache: FileCache,
        here: InPlaceData | None,
    ) -> None:
        self._training = training
        self._manifest = manifest
        self._folders = folders
        self._cache = cache
        self._here = here
        self._found: Sequence[Found] = ()
        self._streams: Streams | None = None

    @property
    def channels(self) -> dict[str, Path]:
        """Where each channel's files are; of one that is streamed, where they would be."""
        return {file.channel: self._folders.data / file.channel for file in self._manifest.files}

    @property
    def reads(self) -> Path | None:
        """Where the links in the channels lead, if they are links."""
        return self._here.home if self._here and not self._training.streams else None

    def prepare(self, persistently: Persistently, go_on: GoOn) -> None:
        """Have there what must be before the script starts. What is streamed from the bucket needs room, no more; what
        lies here is verified in either mode.

        Raises:
            InvalidJob: a file is too large for a record.
            and as ``InPlaceData.verify``, ``FileCache.stream``.
        """
        if self._training.wraps_records:
            self._check_records()
        if not self._training.streams:
            self._place(persistently, go_on)
        elif self._here is not None:
            self._found = self._here.verify(go_on)
        else:
            self._cache.make_room([self._cached(file) for file in self._manifest.files])

    def _place(self, persistently: Persistently, go_on: GoOn) -> None:
        if self._here is not None:
            self._here.place(self._folders, go_on)
            return
        files = [self._cached(file) for file in self._manifest.files]
        persistently(lambda: self._fetch(files, go_on))

    def _fetch(self, files: Sequence[CachedFile], go_on: GoOn) -> None:
        """``go_on`` raises as soon as the attempt is to end: a large dataset takes long."""
        with contextlib.closing(self._cache.stream(files, go_on)) as arrivals:
            for _ in arrivals:
                go_on()

    def _check_records(self) -> None:
        for file in self._manifest.files:
            if file.size_bytes > MAX_RECORD_BYTES:
                raise InvalidJob(
                    f"record_wrapper_type RecordIO needs files of at most {format_bytes(MAX_RECORD_BYTES)}; "
                    f"{file.path} has {format_bytes(file.size_bytes)}: split it, or leave the wrapper out"
                )

    @contextlib.contextmanager
    def feeding(self, threads: Threads, report: Report, on_failure: Callable[[], None]) -> Iterator[None]:
        """Feed the script that runs within the block, if its data are streamed. Raises as leaving ``Streams``."""
        if not self._training.streams:
            yield
            return
        self._streams = Streams(
            {name: self._stream(name) for name in self.channels},
            self._folders.data.absolute(),
            self._cache,
            threads,
            report,
            record_io=self._training.wraps_records,
            on_failure=on_failure,
        )
        with self._streams:
            yield

    def check(self, run: TrainingRun) -> None:
        """Ask whether a script that ended had its data.

        Raises:
            Unavailable: it ended badly while it waited for a file, and the bucket did not answer.
        """
        ended_badly = run.exit_code != 0 and not run.stopped
        why = self._streams.starved() if self._streams and ended_badly else ""
        if why:
            raise Unavailable(f"the script waited for its data until it ended: {why}")

    def _stream(self, channel: str) -> Stream:
        files = [file for file in self._manifest.files if file.channel == channel]
        names = [file.path for file in files]
        if self._here is None:
            return Stream(names, [self._cached(file) for file in files])
        facts = {
            found.file.path: (found.path, (was.device, was.inode, was.size_bytes, was.modified_ns))
            for found in self._found
            for was in (found.facts,)
        }
        return Stream(names, there=[facts[name] for name in names])

    def _cached(self, file: DatasetFile) -> CachedFile:
        folder = self._folders.arrived if self._training.streams else self._folders.data
        key = layout.dataset_folder(self._manifest.dataset) + (file.key or layout.blob_path(file.sha256))
        relative = file.path if "/" in file.path else f"{file.channel}/{file.path}"
        return CachedFile(key, file.sha256, file.size_bytes, folder / relative)
