"""The actions of the state machine ``deploy_cloud``, by the name that each state passes."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from isthmus.config import DeployCloudSettings
from isthmus.errors import InvalidInput
from isthmus.inference.limits import Serving
from isthmus.model import layout
from isthmus.ports import BlobStore, CallFigures, Events, Functions, Records, Signer
from isthmus.workflows.prove_model import prove_model
from isthmus.workflows.rollout_lock import ROLLOUT, acquire, give_back
from isthmus.workflows.shift_traffic import (
    MIN_SEEN,
    Shifted,
    check_health,
    commit_champion,
    is_committed,
    revert_traffic,
    shift_traffic,
)
from isthmus.workflows.stage_model import Staged, stage_model
from isthmus.workflows.watch_calls import Probes, watch_calls

LOCK_SECONDS = 1800
"""How long a roll-out may take besides its steps, before its lock lapses."""


def act(
    event: dict[str, Any],
    settings: DeployCloudSettings,
    *,
    blobs: BlobStore,
    records: Records,
    functions: Functions,
    figures: CallFigures,
    signer: Signer,
    workdir: Path,
    now: str,
    clock: float,
) -> Any:
    """Carry out ``event["action"]``: stage, prove, shift, check, commit, revert or release.

    ``event["rollout"]`` names the execution, which holds the model's lock from staging to its end.
    ``now`` is for the record, ``clock`` (UTC seconds) for the lock.
    """
    match event["action"]:
        case "stage":
            return msgspec.to_builtins(_stage(event, settings, records, functions, signer, clock))
        case "prove":
            return _prove(event, settings, blobs, functions, signer, workdir)
        case "shift":
            return msgspec.to_builtins(_shift(event, settings.rollout_weights, functions))
        case "check":
            return _check(event, settings.rollout_max_error_rate, functions, figures, clock)
        case "commit":
            return _commit(event, records, now)
        case "revert":
            return {"reverted": _take_back(event["model"], event["rollout"], event, records, functions)}
        case "release":
            give_back(layout.model_pk(event["model"]), event["rollout"], records=records)
            return {"released": event["rollout"]}
        case other:
            raise InvalidInput(f"deploy_cloud knows no action {other!r}")


def _stage(
    event: dict[str, Any],
    settings: DeployCloudSettings,
    records: Records,
    functions: Functions,
    signer: Signer,
    clock: float,
) -> Staged:
    """Stage under the model's lock, if what is in service is still what the model was scored against."""
    model, rollout, pk = event["model"], event["rollout"], layout.model_pk(event["model"])
    steps = settings.rollout_step_seconds * len(settings.rollout_weights)
    seconds = LOCK_SECONDS + steps + settings.rollout_bake_seconds
    acquire(pk, rollout, records=records, now=clock, seconds=seconds)
    champion = records.get(layout.CHAMPIONS, model)
    in_service = champion["release"] if champion else 0
    if in_service not in (event["against"], event["release"]):
        give_back(pk, rollout, records=records)
        return Staged("", "", "", 0, 0, superseded=True)
    record = records.get(pk, layout.release_sk(event["release"])) or {}
    # A release from before there was a choice came in a layer.
    serving = msgspec.convert(record["serving"], Serving) if record.get("serving") else None
    staged = stage_model(
        model,
        event["bundle"],
        settings,
        serving=serving,
        baseline=record.get("baseline"),
        functions=functions,
        signer=signer,
    )
    # For whoever has to take the traffic back after this execution was stopped.
    undo = {"function": staged.function, "version": staged.version, "previous": staged.previous}
    records.update(pk, ROLLOUT, undo, expect={"holder": rollout})
    return staged


def _prove(
    event: dict[str, Any],
    settings: DeployCloudSettings,
    blobs: BlobStore,
    functions: Functions,
    signer: Signer,
    workdir: Path,
) -> Any:
    proof = prove_model(
        event["function"],
        event["version"],
        event["model"],
        event["bundle"],
        blobs=blobs,
        functions=functions,
        signer=signer,
        workdir=workdir,
        previous=event.get("previous", ""),
        max_slowdown=settings.rollout_max_slowdown,
    )
    if "release" in event:  # an execution that began under an earlier version does not say it
        # Proven, it can be asked for by number, also by whoever compares it with what is in service.
        functions.name_release(event["function"], event["release"], event["version"])
    return msgspec.to_builtins(proof)


def _shift(event: dict[str, Any], weights: tuple[float, ...], functions: Functions) -> Shifted:
    function, version, previous = event["function"], event["version"], event["previous"]
    return shift_traffic(function, version, previous, event["step"], weights=weights, functions=functions)


def _check(
    event: dict[str, Any], max_error_rate: float, functions: Functions, figures: CallFigures, clock: float
) -> dict[str, Any]:
    """Look at how the version's calls ended since the roll-out began, and probe it.

    In this order: when figures cannot be had, and the state is tried again, no probes were made that nobody counts.
    """
    function, version = event["function"], event["version"]
    if "before" not in event:  # an execution that began under an earlier version
        return {"probes": check_health(function, version, event["model"], functions=functions)}
    probes = Probes(event["before"]["probed"], event["before"]["probed_previous"])
    seen = watch_calls(
        function,
        version,
        event["previous"],
        since=datetime.datetime.fromisoformat(event["since"]).timestamp(),
        now=clock,
        probes=probes,
        max_error_rate=max_error_rate,
        figures=figures,
    )
    number = check_health(function, version, event["model"], functions=functions)
    return {
        "probes": number,
        "probed": probes.version + MIN_SEEN,
        "probed_previous": probes.previous + number - MIN_SEEN,
        "calls": msgspec.to_builtins(seen),
    }


def _commit(event: dict[str, Any], records: Records, now: str) -> dict[str, str]:
    """Record the champion. The lock is given back by a state of its own, which may fail without a revert."""
    model, rollout, version = event["model"], event["rollout"], event["version"]
    release, job_key = event["release"], event["job_key"]
    calls = event.get("health", {}).get("calls")
    commit_champion(
        model,
        event["bundle"],
        release,
        job_key,
        version,
        rollout=rollout,
        calls=calls,
        records=records,
        now=now,
    )
    if not event.get("keep_lock"):
        # Of an execution that began under an earlier version: its machine has no such state.
        give_back(layout.model_pk(model), rollout, records=records)
    return {"committed": version}


def _take_back(
    model: str, rollout: str, undo: Mapping[str, Any], records: Records, functions: Functions
) -> bool:
    """Take the traffic off what this roll-out staged, unless it is on record as in service.

    A commit whose answer got lost is a commit: to move the alias back would leave a record that names
    a version which nobody is routed to.
    """
    if is_committed(model, rollout, undo["version"], records=records):
        return False
    champion = records.get(layout.CHAMPIONS, model) or {}
    if champion.get("version"):
        # This may have been the same release with newer code, which its number names since the proof.
        functions.name_release(undo["function"], champion["release"], champion["version"])
    return revert_traffic(undo["function"], undo["version"], undo["previous"], functions=functions)


def after_the_end(
    detail: dict[str, Any], *, records: Records, functions: Functions, events: Events
) -> dict[str, Any]:
    """Clean up after an execution that failed or was stopped, and tell the bus.

    ``detail`` is of EventBridge's "Step Functions Execution Status Change". An execution that failed
    by itself has taken its traffic back and given its lock back. One that still holds the lock could
    not: it was stopped, its RevertTraffic failed, or it met what no state can catch. States.ALL catches
    neither States.DataLimitExceeded nor States.Runtime (Step Functions developer guide, "Error names").
    """
    asked = msgspec.json.decode(detail["input"], type=dict[str, Any])
    pk, rollout = layout.model_pk(asked["model"]), detail["name"]
    item = records.get(pk, ROLLOUT) or {}
    reverted = False
    if item.get("holder") == rollout:
        if item.get("version"):
            reverted = _take_back(asked["model"], rollout, item, records, functions)
        give_back(pk, rollout, records=records)
    told = {name: asked[name] for name in ("model", "release", "bundle", "job_key")}
    told |= {"rollout": rollout, "error": detail.get("error") or "", "cause": detail.get("cause") or ""}
    events.publish(f"isthmus roll-out {detail['status'].lower()}", {**told, "reverted": reverted})
    return {"reverted": reverted}
