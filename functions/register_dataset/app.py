"""State RegisterDataset: check a manifest, its job and every file, and record them."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from isthmus import bootstrap
from isthmus.config import RegisterDatasetSettings
from isthmus.observe import observed
from isthmus.workflows.register_dataset import register_dataset


@observed
def handler(event: dict[str, Any], context: object) -> Any:
    settings = RegisterDatasetSettings.from_env(os.environ)
    registered = register_dataset(
        event["manifest_key"],
        event["job_key"],
        stack=settings.stack,
        bucket_zone=settings.bucket_zone,
        blobs=bootstrap.blobs(settings.bucket),
        records=bootstrap.records(settings.table),
        now=bootstrap.now(),
    )
    return msgspec.to_builtins(registered)
