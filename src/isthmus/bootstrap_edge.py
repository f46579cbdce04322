"""The composition root of an edge core that a person runs, where no Greengrass does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.edge.core import EdgeCore
    from isthmus.edge.results import Results
    from isthmus.edge.split_settings import SplitSettings
    from isthmus.model.policy import DataPolicy


def edge_core(
    folder: Path,
    artifact: Path,
    public_key_der: bytes,
    port: int,
    threads: int,
    split: SplitSettings | None,
    results: Results | None = None,
) -> tuple[EdgeCore, int]:
    """Bring what lies at ``artifact`` into service if it proves itself, else what was in service before, and serve it;
    return the core, and the port that it listens on.

    Raises:
        As ``EdgeCore``.
        EnvironmentProblem: the port cannot be listened on.
    """
    from isthmus.client.part import cloud_part
    from isthmus.edge.core import EdgeCore, EdgeSettings
    from isthmus.errors import EnvironmentProblem

    settings = EdgeSettings(
        artifact=artifact,
        store=folder,
        public_key_der=public_key_der,
        port=port,
        threads=threads,
        split=split,
    )
    core = EdgeCore(settings, cloud_part(split), results)
    try:
        core.start()
    except (OSError, OverflowError) as error:
        raise EnvironmentProblem(
            f"port {port} of this machine cannot be listened on: {error}; name another by --port"
        ) from error
    assert core.server is not None
    return core, core.server.port


def split_settings(slices: Path, policy: DataPolicy, cloud: str, zone: str, token: str) -> SplitSettings:
    """``zone``: where the cloud lies. Requests to it carry the token, or, without one, are signed by the credentials
    that boto3 finds."""
    from isthmus.edge.split_settings import SplitSettings

    return SplitSettings(
        slices, policy, cloud=cloud, zone=zone, token=token, auth="token" if token else "aws"
    )
