"""Which tensors may cross to where raw data may not lie, by the policy and by what was measured of them."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.errors import InvalidCase
from isthmus.model.leakage import LeakageReport
from isthmus.model.network import NetworkProfile
from isthmus.model.policy import DataPolicy

FIT_SAMPLES = 1_000
"""A decoder that was fitted on fewer says too little."""


def leaky(
    profile: NetworkProfile, policy: DataPolicy, report: LeakageReport | None, *, cast: str = ""
) -> frozenset[str]:
    """Return the tensors that only devices in the policy's zones may read: ``Request.leaky``.

    Where everything may leave, none. Else the raw inputs, and: where activations may leave, those whose R² is
    at or above the policy's limit, or that were not measured (without a limit: none); where results or nothing
    may leave, all activations. The network's outputs are activations where nothing may leave, else results.

    Raises:
        InvalidCase: the report is of another model, or its decoders were fitted on fewer than 1,000 samples.
    """
    if policy.may_leave == "everything":
        return frozenset()
    made = {tensor for operator in profile.operators for tensor in operator.outputs}
    activations = made if policy.may_leave == "nothing" else made - set(profile.outputs)
    if policy.may_leave == "activations":
        activations = {t for t in activations if refusal(profile, (t,), policy, report, cast=cast)}
    return frozenset(profile.inputs) | activations


def seen(profile: NetworkProfile, zones: Sequence[str], policy: DataPolicy) -> tuple[str, ...]:
    """Return the tensors that cross from where raw data may lie to elsewhere, when operator k runs in
    ``zones[k]``: raw inputs, and what is made inside and read outside. Together they are one cut, whoever
    reads them: those outside may compare notes."""
    inside = [policy.allows_zone(zone) for zone in zones]
    made = set(profile.inputs)
    for operator, within in zip(profile.operators, inside, strict=True):
        made.update(operator.outputs if within else ())
    read = [t for op, within in zip(profile.operators, inside, strict=True) if not within for t in op.inputs]
    return tuple(dict.fromkeys(tensor for tensor in read if tensor in made))


def refusal(
    profile: NetworkProfile,
    tensors: Sequence[str],
    policy: DataPolicy,
    report: LeakageReport | None,
    *,
    cast: str = "",
) -> str | None:
    """Return why these tensors may not cross together where activations may leave, in a sentence, or None.

    Raises:
        InvalidCase: as ``leaky``.
    """
    limit = policy.max_leakage_r2
    if not tensors or limit is None or policy.may_leave != "activations":
        return None
    if report is not None:
        _check(profile, report)
    names, zones = " and ".join(tensors), ", ".join(policy.zones) or "no zone"
    them = "it was" if len(tensors) == 1 else "together they were"
    found = report.of(tensors, cast) if report is not None else None
    if found is None:
        return (
            f"{names} may not leave {zones}: the policy asks for a leakage below R² {limit:g}, and {them} not "
            f"measured: measure, or cut elsewhere"
        )
    if found.r2 < limit:
        return None
    return (
        f"{names} may not leave {zones}: a decoder ({found.decoder}) rebuilds held-out inputs with "
        f"R² {found.r2:.3f}, and the policy asks for less than {limit:g}: cut elsewhere, later as a rule"
    )


def _check(profile: NetworkProfile, report: LeakageReport) -> None:
    if profile.digest != report.model_digest:
        raise InvalidCase(
            f"the leakage of {report.model} ({report.model_digest[:12]}) was measured, and the plan is for "
            f"{profile.name} ({profile.digest[:12] or 'without a digest'}): measure that"
        )
    if report.fit_samples < FIT_SAMPLES:
        raise InvalidCase(
            f"needs leakage of decoders that were fitted on {FIT_SAMPLES} samples or more; those of "
            f"{report.model} were fitted on {report.fit_samples}: measure with more"
        )
