"""Settings of every entry point: frozen, typed, read once from the environment.

A missing variable fails at once, with its name. A test compares the fields with ``template.yaml``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self, get_type_hints

from isthmus.errors import EnvironmentProblem

PREFIX = "ISTHMUS_"


def _weights(text: str) -> tuple[float, ...]:
    weights = tuple(float(part) for part in text.split(",") if part.strip())
    if not all(0 < weight <= 1 for weight in weights) or list(weights) != sorted(weights):
        raise ValueError("weights rise from above 0 to at most 1")
    return weights


PARSERS: dict[Any, Any] = {str: str, int: int, float: float, tuple[float, ...]: _weights}


@dataclasses.dataclass(frozen=True)
class FromEnvironment:
    """Fields are read from ``ISTHMUS_<FIELD>``; a default makes one optional."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the settings.

        Raises:
            EnvironmentProblem: a variable is missing or malformed; the message names it.
        """
        values, hints = {}, get_type_hints(cls)
        for field in dataclasses.fields(cls):
            name = PREFIX + field.name.upper()
            if name not in env:
                if field.default is dataclasses.MISSING:
                    raise EnvironmentProblem(f"the environment variable {name} is not set")
                continue
            try:
                values[field.name] = PARSERS[hints[field.name]](env[name])
            except ValueError as error:
                raise EnvironmentProblem(
                    f"the environment variable {name} is {env[name]!r}: {error}"
                ) from error
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class StateSettings(FromEnvironment):
    """Of a function that reads and writes the stack's bucket and table."""

    bucket: str
    table: str


@dataclasses.dataclass(frozen=True)
class RegisterDatasetSettings(StateSettings):
    """Of ``register_dataset``. ``bucket_zone``: where the bucket lies, as data policies name it."""

    stack: str
    bucket_zone: str


@dataclasses.dataclass(frozen=True)
class PlanTrainingSettings(StateSettings):
    """Of ``plan_training``. ``bucket_zone``: where the bucket lies, and SageMaker would train."""

    bucket_zone: str


@dataclasses.dataclass(frozen=True)
class PrepareSageMakerSettings(StateSettings):
    """Of ``prepare_sagemaker``. ``bucket_zone``: where the bucket lies, and SageMaker trains."""

    stack: str
    bucket_zone: str


@dataclasses.dataclass(frozen=True)
class StartPipelineSettings(StateSettings):
    """Of ``start_pipeline``."""

    train_and_deploy: str


@dataclasses.dataclass(frozen=True)
class PackageModelSettings(StateSettings):
    """Of ``package_model``. ``signing_key``: id of the KMS key."""

    signing_key: str


@dataclasses.dataclass(frozen=True)
class RegisterModelSettings(StateSettings):
    """Of ``register_model``. ``model_group``: the model package group's name. ``manual_approval``: ``required``, or
    empty, or left out, as a variable without a value may be; ``approval_days``: how long an answer is waited for."""

    model_group: str
    approval_days: float
    manual_approval: str = ""


@dataclasses.dataclass(frozen=True)
class ApproveModelSettings(StateSettings):
    """Of ``approve_model``. ``model_group``: the model package group's name."""

    model_group: str


@dataclasses.dataclass(frozen=True)
class DeployCloudSettings(StateSettings):
    """Of ``deploy_cloud``. Models are served after the pattern ``serving_function``, or after ``weights_function``,
    which may fetch their bundle. ``serving_start``: ``cold``, or ``snapstart``: versions are published with a
    snapshot of their memory. ``rollout_weights``: share of calls on the new version, step by step, each of which lasts
    ``rollout_step_seconds``; ``rollout_max_slowdown``: how many times as long a version may take as the one in
    service; ``rollout_max_error_rate``: the share of its calls (0..1) that may fail beside the version in service;
    ``rollout_bake_seconds``: how long it is watched with all calls on it."""

    signing_key: str
    stack: str
    serving_function: str
    weights_function: str
    serving_start: str
    rollout_weights: tuple[float, ...]
    rollout_step_seconds: int
    rollout_max_slowdown: float
    rollout_max_error_rate: float
    rollout_bake_seconds: int
    event_bus: str


@dataclasses.dataclass(frozen=True)
class DeployEdgeSettings(StateSettings):
    """Of ``deploy_edge``. ``edge_target``, ``edge_canaries``: ARNs of the thing groups; ``edge_bake_seconds``: how long
    canaries run a release before the others get it; ``edge_port``: the first model's; ``edge_root``: the nucleus's
    root folder on the devices."""

    signing_key: str
    stack: str
    edge_function: str
    edge_target: str
    edge_canaries: str
    edge_bake_seconds: int
    edge_port: int
    edge_root: str


@dataclasses.dataclass(frozen=True)
class RecordOutcomeSettings(StateSettings):
    """Of ``record_outcome``."""

    event_bus: str


@dataclasses.dataclass(frozen=True)
class RefreshModelsSettings(StateSettings):
    """Of ``refresh_models``."""

    deploy_cloud: str


@dataclasses.dataclass(frozen=True)
class RouteInferenceSettings(FromEnvironment):
    """Of ``route_inference``. ``shadow_function``: who compares a candidate with what is in service."""

    stack: str
    bucket: str
    table: str
    shadow_function: str


@dataclasses.dataclass(frozen=True)
class ShadowInferenceSettings(StateSettings):
    """Of ``shadow_inference``."""

    stack: str


@dataclasses.dataclass(frozen=True)
class AuthorizeRequestSettings(FromEnvironment):
    """Of ``authorize_request``. ``jwt_keys``: the address of the issuer's key set, or the set itself as
    JSON in base64. Empty, as where the stack takes no tokens, they let nobody in."""

    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_scope: str = ""
    jwt_keys: str = ""
