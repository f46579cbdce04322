"""The actions of the state machine ``deploy_cloud``, by the name that each state passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from isthmus.config import DeployCloudSettings
from isthmus.errors import InvalidInput
from isthmus.model import layout
from isthmus.ports import BlobStore, Events, Functions, Records, Signer
from isthmus.workflows.prove_model import prove_model
from isthmus.workflows.rollout_lock import ROLLOUT, acquire, give_back
from isthmus.workflows.shift_traffic import check_health, commit_champion, revert_traffic, shift_traffic
from isthmus.workflows.stage_model import Staged, stage_model

LOCK_SECONDS = 1800
"""How long a roll-out may take besides its steps, before its lock lapses."""


def act(
    event: dict[str, Any],
    settings: DeployCloudSettings,
    *,
    blobs: BlobStore,
    records: Records,
    functions: Functions,
    signer: Signer,
    workdir: Path,
    now: str,
    clock: float,
) -> Any:
    """Carry out ``event["action"]``: stage, prove, shift, check, commit, revert or release.

    ``event["rollout"]`` names the execution, which holds the model's lock from staging to its end.
    ``now`` is for the record, ``clock`` (UTC seconds) for the lock.
    """
    model, bundle, rollout = event["model"], event["bundle"], event["rollout"]
    function, version, previous = (event.get(name, "") for name in ("function", "version", "previous"))
    match event["action"]:
        case "stage":
            staged = _stage(event, settings, records, functions, signer, clock)
            return msgspec.to_builtins(staged)
        case "prove":
            difference = prove_model(
                function,
                version,
                model,
                bundle,
                blobs=blobs,
                functions=functions,
                signer=signer,
                workdir=workdir,
            )
            return {"largest_difference": difference}
        case "shift":
            weights = settings.rollout_weights
            shifted = shift_traffic(
                function, version, previous, event["step"], weights=weights, functions=functions
            )
            return msgspec.to_builtins(shifted)
        case "check":
            return {"probes": check_health(function, version, model, functions=functions)}
        case "commit":
            release, job_key = event["release"], event["job_key"]
            commit_champion(model, bundle, release, job_key, version, records=records, now=now)
            give_back(layout.model_pk(model), rollout, records=records)
            return {"committed": version}
        case "revert":
            return {"reverted": revert_traffic(function, version, previous, functions=functions)}
        case "release":
            give_back(layout.model_pk(model), rollout, records=records)
            return {"released": rollout}
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
    seconds = LOCK_SECONDS + settings.rollout_step_seconds * len(settings.rollout_weights)
    acquire(pk, rollout, records=records, now=clock, seconds=seconds)
    champion = records.get(layout.CHAMPIONS, model)
    in_service = champion["release"] if champion else 0
    if in_service not in (event["against"], event["release"]):
        give_back(pk, rollout, records=records)
        return Staged("", "", "", 0, superseded=True)
    staged = stage_model(model, event["bundle"], settings, functions=functions, signer=signer)
    # For whoever has to take the traffic back after this execution was stopped.
    undo = {"function": staged.function, "version": staged.version, "previous": staged.previous}
    records.update(pk, ROLLOUT, undo, expect={"holder": rollout})
    return staged


def after_the_end(
    detail: dict[str, Any], *, records: Records, functions: Functions, events: Events
) -> dict[str, Any]:
    """Clean up after an execution that failed or was stopped, and tell the bus.

    ``detail`` is of EventBridge's "Step Functions Execution Status Change". An execution that failed
    by itself has taken its traffic back and given its lock back; one that was stopped could not.
    """
    asked = msgspec.json.decode(detail["input"], type=dict[str, Any])
    pk, rollout = layout.model_pk(asked["model"]), detail["name"]
    item = records.get(pk, ROLLOUT) or {}
    reverted = False
    if item.get("holder") == rollout:
        if item.get("version"):
            undo = (item["function"], item["version"], item["previous"])
            reverted = revert_traffic(*undo, functions=functions)
        give_back(pk, rollout, records=records)
    told = {name: asked[name] for name in ("model", "release", "bundle", "job_key")}
    told |= {"rollout": rollout, "error": detail.get("error") or "", "cause": detail.get("cause") or ""}
    events.publish(f"isthmus roll-out {detail['status'].lower()}", {**told, "reverted": reverted})
    return {"reverted": reverted}
