"""The rig's border: every request that its agent makes passes here, is counted, and is held back if no rule lets it go.

The checks before it (the plan, the uploader, what an attempt withholds) should leave nothing to hold back: here nobody
needs to have thought of a way out for it to be closed. The count is kept in a file of the rig's own; what was
sent for a job is told to the table, by minute.
"""

from __future__ import annotations

import datetime
import itertools
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from isthmus import documents
from isthmus.errors import PolicyViolation
from isthmus.model import layout
from isthmus.model.crossing import Crossings, Row, Sent, What, rule_for, what_is
from isthmus.model.policy import DataPolicy
from isthmus.ports import BlobStore, Clock, Records
from isthmus.rig.services import Report
from isthmus.workflows.loading import load_manifest, load_own_policy

FOLDER = "crossings"
POLICY_SECONDS = 60.0
"""For how long a policy that was read is taken to hold."""
MINUTE, HOUR = 60.0, 3600.0
KEPT_SECONDS = 400 * 86_400
"""An item of the table. The rig's own file is kept for good."""
HELD = "held back"
NOTHING = DataPolicy(zones=(), may_leave="nothing")

Place = tuple[str, float]
"""A job, or none, and when its minute or hour began."""


class Border:
    """Counts what leaves a rig in ``zone`` for ``to_zone``. ``doing``: the job that the agent has at the moment."""

    def __init__(
        self,
        rig: str,
        zone: str,
        to_zone: str,
        *,
        folder: Path,
        records: Records,
        blobs: BlobStore,
        clock: Clock,
        report: Report,
        doing: Callable[[], str] = lambda: "",
    ) -> None:
        self._rig, self._zone, self._to = rig, zone, to_zone
        self._folder, self._records, self._blobs = folder / FOLDER, records, blobs
        self._clock, self._report, self._doing = clock, report, doing
        self._life = uuid.uuid4().hex[:12]
        self._lock, self._thread = threading.Lock(), threading.local()
        self._counts: dict[Place, dict[tuple[What, str], list[int]]] = {}
        self._manifests: dict[str, tuple[str, bool]] = {}
        self._policies: dict[str, tuple[float, DataPolicy]] = {}
        self._numbers = itertools.count(1)
        self._said = ""

    def watch(self, doing: Callable[[], str]) -> None:
        """From now on, what names no job is of the one that ``doing`` returns."""
        self._doing = doing

    def passes(self, sent: Sent) -> None:
        """Count a request that is about to go out.

        Raises:
            PolicyViolation: no rule of the data policy lets it go.
            Unavailable: the policy could not be read.
        """
        # What it tells of a job is told of none: it would have to be told as well, and that again.
        telling = getattr(self._thread, "tells", False)
        what, job_key = what_is(sent), "" if telling else sent.job_key or self._doing()
        if what == "control":
            self._count(job_key, what, "every job needs it", max(0, sent.size_bytes))
            return
        dataset, policy = self._policy(job_key)
        rule = rule_for(what, policy, self._to)
        if rule is None:
            self._count(job_key, what, HELD, 0, refused=1)
            raise PolicyViolation(
                f"needs a data policy of {dataset or 'the dataset'} that lets {what} go from {self._zone} to "
                f"{self._to}; it lets raw data lie in {', '.join(policy.zones) or 'no zone'} and {policy.may_leave} "
                f"leave: {sent.operation} was held back"
            )
        self._count(job_key, what, rule, max(0, sent.size_bytes))

    def _policy(self, job_key: str) -> tuple[str, DataPolicy]:
        """Return a job's dataset and its policy; what is no job's is treated as what nothing may be told of."""
        if not job_key:
            return "", NOTHING
        found = self._manifests.get(job_key)
        if found is None:
            manifest = load_manifest(self._blobs, job_key)
            found = (manifest.dataset, manifest.in_place is not msgspec.UNSET)
            self._manifests = {job_key: found}
        (dataset, stays), now = found, self._clock.now()
        read_at, policy = self._policies.get(dataset, (float("-inf"), NOTHING))
        if not 0 <= now - read_at < POLICY_SECONDS:
            own = load_own_policy(self._records, dataset)
            # Files are left where they are under a policy of their own: without it nothing may be told of them.
            policy = own or (NOTHING if stays else DataPolicy())
            self._policies = {dataset: (now, policy)}
        return dataset, policy

    def _count(self, job_key: str, what: What, rule: str, size: int, *, refused: int = 0) -> None:
        span = MINUTE if job_key else HOUR
        now = self._clock.now()
        with self._lock:
            counts = self._counts.setdefault((job_key, now - now % span), {}).setdefault(
                (what, rule), [0, 0, 0]
            )
            counts[0] += not refused
            counts[1] += size
            counts[2] += refused

    # ------------------------------------------------------------------ told

    def tell(self, *, everything: bool = False) -> None:
        """Put on record what of a job that is over, or in minutes that are; ``everything``: the agent leaves."""
        now = self._clock.now()
        with self._lock:
            due = [place for place in self._counts if everything or self._is_over(place, now)]
            taken = [self._crossings(place, self._counts.pop(place)) for place in due]
        self._thread.tells = True
        try:
            for entry in taken:
                self._tell(entry)
        finally:
            self._thread.tells = False
            if everything:
                # To tell is to send, and so counted: of the last words there is only the file.
                with self._lock:
                    rest, self._counts = self._counts, {}
                taken += [self._crossings(place, counts) for place, counts in rest.items()]
            self._keep(taken)

    def _is_over(self, place: Place, now: float) -> bool:
        job_key, began = place
        if not job_key:
            return not 0 <= now - began < HOUR
        return job_key != self._doing() or not 0 <= now - began < MINUTE

    def _crossings(self, place: Place, counts: dict[tuple[What, str], list[int]]) -> Crossings:
        rows = [
            Row(what=what, rule=rule, requests=requests, size_bytes=size, refused=refused)
            for (what, rule), (requests, size, refused) in sorted(counts.items())
        ]
        since = datetime.datetime.fromtimestamp(place[1], datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        life = f"{self._life}.{next(self._numbers)}"
        return Crossings(
            rig=self._rig, life=life, job_key=place[0], since=since, from_zone=self._zone, to_zone=self._to,
            rows=tuple(rows),
        )  # fmt: skip

    def _tell(self, entry: Crossings) -> None:
        if not entry.job_key:
            return
        item = {
            "pk": layout.crossings_pk(entry.job_key),
            "sk": layout.crossing_sk(entry.since, entry.life),
            "crossings": msgspec.to_builtins(entry),
            "expires_at": int(self._clock.now()) + KEPT_SECONDS,
        }
        try:
            self._records.put(item)
        except Exception as error:  # whatever it is, the rig's own record must have them
            if str(error) != self._said:
                self._said = str(error)
                self._report("crossings are on record here alone", folder=str(self._folder), error=self._said)

    def _keep(self, entries: list[Crossings]) -> None:
        """Add to the rig's own record, a line of JSON for each: its owner needs to ask nobody."""
        if not entries:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / f"{entries[0].since[:7]}.jsonl").open("ab") as file:
                file.write(b"".join(documents.encode(entry).rstrip() + b"\n" for entry in entries))
        except OSError as error:
            self._report("crossings are not kept here", folder=str(self._folder), error=str(error))
