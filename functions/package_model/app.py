"""State PackageModel: build, sign and upload the bundle."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from isthmus import bootstrap
from isthmus.config import PackageModelSettings
from isthmus.observe import observed
from isthmus.workflows.package_model import package_model


@observed
def handler(event: dict[str, Any], context: object) -> Any:
    settings = PackageModelSettings.from_env(os.environ)
    with bootstrap.workdir() as workdir:
        packaged = package_model(
            event["job_key"],
            event["fencing"],
            blobs=bootstrap.blobs(settings.bucket),
            records=bootstrap.records(settings.table),
            signer=bootstrap.signer(settings.signing_key),
            open_engine=bootstrap.open_engine,
            installed=bootstrap.installed_parts,
            workdir=workdir,
        )
    return msgspec.to_builtins(packaged)
