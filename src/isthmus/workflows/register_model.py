"""Enter a release in the model registry."""

from __future__ import annotations

from isthmus.model import layout
from isthmus.ports import Records, Registry


def register_model(
    model: str,
    bundle: str,
    release: int,
    job_key: str,
    *,
    bucket: str,
    records: Records,
    registry: Registry,
    approved: bool = True,
) -> str:
    """Register the release with its lineage and return the registry's id for it.

    ``approved``: it may go into service as it is; else people are asked first.
    """
    state = records.get(layout.job_pk(job_key), layout.STATE) or {}
    evaluation = state.get("evaluation", {})
    metadata = {"model": model, "release": str(release), "bundle": bundle, "job_key": job_key}
    if evaluation.get("candidate") is not None:
        metadata["accuracy"] = f"{evaluation['candidate']:.6f}"
    source = f"s3://{bucket}/{layout.bundle_folder(model, bundle)}bundle.zip"
    package = registry.register(model, release, source, metadata, approved=approved)
    records.update(layout.model_pk(model), layout.release_sk(release), {"package": package})
    return package
