"""The actions of the state machine ``deploy_cloud``, by the name that each state passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from isthmus.config import DeployCloudSettings
from isthmus.errors import InvalidInput
from isthmus.model import layout
from isthmus.ports import BlobStore, Functions, Records, Signer
from isthmus.workflows.prove_model import prove_model
from isthmus.workflows.rollout_lock import acquire, give_back, refuse_older
from isthmus.workflows.shift_traffic import check_health, commit_champion, revert_traffic, shift_traffic
from isthmus.workflows.stage_model import stage_model

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
            seconds = LOCK_SECONDS + settings.rollout_step_seconds * len(settings.rollout_weights)
            acquire(layout.model_pk(model), rollout, records=records, now=clock, seconds=seconds)
            refuse_older(model, event["release"], records=records)
            return msgspec.to_builtins(
                stage_model(model, bundle, settings, functions=functions, signer=signer)
            )
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
