"""What a core device is told of slices, and how it puts them to work; without it nothing leaves the device."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from isthmus import documents
from isthmus.edge.balancer import Balancer, Habits
from isthmus.edge.cloud import Cloud
from isthmus.edge.guard import Guard
from isthmus.edge.link import LinkEstimate
from isthmus.edge.slices import open_slices, prove_here
from isthmus.edge.splitting import SplitEngine
from isthmus.edge.ways import Prices, Ways
from isthmus.errors import EnvironmentProblem
from isthmus.model.bundle import MODEL_FILE
from isthmus.model.policy import DataPolicy

if TYPE_CHECKING:
    from isthmus.inference.bundle import Bundle
    from isthmus.inference.served import LoadableEngine
    from isthmus.model.sliced import SlicedModel

FIRST_BYTES_PER_SECOND, FIRST_LATENCY_SECONDS = 1.25e6, 0.05
"""Of a link of which nothing is known yet: 10 Mbit/s, and a round trip within a continent."""

CLOUD_ZONES = "aws:"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitSettings:
    """``folder``: holds ``sliced.json`` and the slices' bundles. ``cloud``: address of the API; empty: there is none,
    and all runs here. ``zone``: where that lies; empty: as the slices say
    (``zone_of_cloud``). ``auth``: how requests to it are
    authorized; ``token``: the bearer token."""

    folder: Path
    policy: DataPolicy
    cloud: str = ""
    zone: str = ""
    token: str = field(default="", repr=False)
    auth: Literal["none", "aws", "token"] = "none"
    prices: Prices = field(default_factory=Prices)
    habits: Habits = field(default_factory=Habits)
    bytes_per_second: float = FIRST_BYTES_PER_SECOND
    latency_seconds: float = FIRST_LATENCY_SECONDS

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> SplitSettings | None:
        """Read ``ISTHMUS_EDGE_SLICES`` (the folder; without it None is returned) and, with it,
        ``ISTHMUS_EDGE_POLICY`` (a data policy as JSON), ``ISTHMUS_EDGE_CLOUD``, ``ISTHMUS_EDGE_CLOUD_ZONE``,
        ``ISTHMUS_EDGE_CLOUD_TOKEN``, ``ISTHMUS_EDGE_CLOUD_AUTH`` (``token``, ``aws`` for SigV4, or ``none``; default: a
        token if there is one, else SigV4 over https), ``ISTHMUS_EDGE_USD_PER_REQUEST`` and
        ``ISTHMUS_EDGE_USD_PER_CLOUD_SECOND`` (its prices), ``ISTHMUS_EDGE_SECOND_IS_WORTH_USD`` (of a request that ends
        so much earlier; default: prices do not matter), ``ISTHMUS_EDGE_LINK_MBPS`` and ``ISTHMUS_EDGE_LINK_MS`` (what
        is first expected of the link).

        Raises:
            EnvironmentProblem: one cannot be read, or a cloud is named and no policy.
            InvalidDocument: the policy is none.
        """
        folder = environment.get("ISTHMUS_EDGE_SLICES", "")
        if not folder:
            return None
        said, cloud = environment.get("ISTHMUS_EDGE_POLICY", ""), environment.get("ISTHMUS_EDGE_CLOUD", "")
        if cloud and not said:
            raise EnvironmentProblem(
                "ISTHMUS_EDGE_POLICY must say what may leave this device, since ISTHMUS_EDGE_CLOUD names a cloud: "
                'for example {"zones":["edge-*"],"may_leave":"activations"}'
            )
        mbps = _positive(environment, "ISTHMUS_EDGE_LINK_MBPS")
        latency = _positive(environment, "ISTHMUS_EDGE_LINK_MS")
        return cls(
            folder=Path(folder),
            policy=documents.decode(DataPolicy, said or '{"may_leave":"nothing"}', "ISTHMUS_EDGE_POLICY"),
            cloud=cloud,
            zone=environment.get("ISTHMUS_EDGE_CLOUD_ZONE", ""),
            token=environment.get("ISTHMUS_EDGE_CLOUD_TOKEN", ""),
            auth=_auth(environment, cloud),
            prices=Prices(
                _number(environment, "ISTHMUS_EDGE_USD_PER_REQUEST", 0.0),
                _number(environment, "ISTHMUS_EDGE_USD_PER_CLOUD_SECOND", 0.0),
            ),
            habits=Habits(usd_per_second=_positive(environment, "ISTHMUS_EDGE_SECOND_IS_WORTH_USD")),
            bytes_per_second=FIRST_BYTES_PER_SECOND if mbps is None else mbps * 125e3,
            latency_seconds=FIRST_LATENCY_SECONDS if latency is None else latency / 1e3,
        )


def split_engine(
    settings: SplitSettings, bundle: Bundle, whole: LoadableEngine, key: bytes, cloud: Cloud, *, threads: int
) -> SplitEngine:
    """Open a bundle's slices, prove them against the whole on this device, and return the engine that uses them.

    Raises:
        As ``slices.open_slices`` and ``slices.prove_here``.
    """
    digest = next(file.sha256 for file in bundle.manifest.files if file.path == MODEL_FILE)
    slices = open_slices(settings.folder, key, digest, threads=threads)
    prove_here(slices, whole, time.perf_counter)
    zone = settings.zone or zone_of_cloud(slices.document)
    ways = Ways(
        slices,
        Guard(settings.policy, slices.document, zone),
        (bundle.manifest.model, str(bundle.manifest.release)),
        settings.prices,
        whole_seconds=sum(slices.seconds) if slices.whole_here else 0.0,
    )
    link = LinkEstimate(1 / settings.bytes_per_second, settings.latency_seconds)
    return SplitEngine(whole, ways, cloud, Balancer(link, settings.habits), time.monotonic)


def zone_of_cloud(document: SlicedModel) -> str:
    """Return where the slices that were planned for elsewhere lie, if that is one region of AWS; else nothing, which
    stands for an unknown zone: whatever a policy keeps in a zone is kept from it."""
    here = document.slices[0]
    zones = {entry.zone for entry in document.slices if entry.device != here.device}
    (zone,) = zones if len(zones) == 1 else ("",)
    return zone if zone.startswith(CLOUD_ZONES) and zone != here.zone else ""


def _auth(environment: Mapping[str, str], cloud: str) -> Literal["none", "aws", "token"]:
    token, said = environment.get("ISTHMUS_EDGE_CLOUD_TOKEN"), environment.get("ISTHMUS_EDGE_CLOUD_AUTH", "")
    if said in ("none", "aws") or (said == "token" and token):
        return said  # type: ignore[return-value]
    if said:
        raise EnvironmentProblem(
            f"ISTHMUS_EDGE_CLOUD_AUTH must be none, aws, or token with ISTHMUS_EDGE_CLOUD_TOKEN, not {said!r}"
        )
    if token:
        return "token"
    return "aws" if cloud.startswith("https:") else "none"


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    """Return a variable that is a number from 0 on."""
    text = environment.get(name, "")
    if not text:
        return default
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise EnvironmentProblem(f"{name} must be a number from 0 on, not {text!r}")
    return found


def _positive(environment: Mapping[str, str], name: str) -> float | None:
    """Return a variable that is a number above 0; None without it."""
    text = environment.get(name, "")
    try:
        found = float(text) if text else 1.0
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise EnvironmentProblem(f"{name} must be a number above 0, not {text!r}")
    return found if text else None
