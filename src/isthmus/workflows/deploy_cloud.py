"""The actions of the state machine ``deploy_cloud``, by the name that each state passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from isthmus.config import DeployCloudSettings
from isthmus.errors import InvalidInput
from isthmus.ports import BlobStore, Functions, Records, Signer
from isthmus.workflows.prove_model import prove_model
from isthmus.workflows.shift_traffic import check_health, commit_champion, revert_traffic, shift_traffic
from isthmus.workflows.stage_model import stage_model


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
) -> Any:
    """Carry out ``event["action"]``: stage, prove, shift, check, commit or revert."""
    model, bundle = event["model"], event["bundle"]
    function, version, previous = (event.get(name, "") for name in ("function", "version", "previous"))
    match event["action"]:
        case "stage":
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
            return {"committed": version}
        case "revert":
            return {"reverted": revert_traffic(function, version, previous, functions=functions)}
        case other:
            raise InvalidInput(f"deploy_cloud knows no action {other!r}")
