"""Which tensors may cross to where raw data may not lie, by the policy and by what was measured of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

from isthmus.errors import InvalidCase
from isthmus.model.leakage import Leakage, LeakageReport
from isthmus.model.network import NetworkProfile
from isthmus.model.policy import DataPolicy

FIT_SAMPLES = 1_000
"""A decoder that was fitted on fewer says too little."""
CASTABLE = "float32"
MEASURED = frozenset({"float16", "float32", "float64", "int8", "uint8"})
WITH_SUBGRAPHS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""Kinds of operators whose bodies may read what their inputs do not name."""
MEASURE = "measure with `isthmus leakage MODEL --samples FILE -o leakage.json`, then plan with `--leakage leakage.json`"


def measure_them(tensors: Iterable[str]) -> str:
    """Return what measures tensors that cross together, in addition to what was measured."""
    return (
        f"measure them with `isthmus leakage MODEL --samples FILE --cut {','.join(tensors)} -o more.json`, and name "
        f"more.json after `--leakage` too"
    )


def check(profile: NetworkProfile, report: LeakageReport) -> None:
    """Check that figures say something of this network.

    Raises:
        InvalidCase: the report is of another model, or its decoders were fitted on fewer than 1,000 samples.
    """
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


def limited(policy: DataPolicy) -> bool:
    """Whether the policy asks what activations give away before they leave."""
    return policy.may_leave == "activations" and policy.max_leakage_r2 is not None


def judge(cut: Leakage, policy: DataPolicy) -> bool:
    """Whether a measured cut is below the policy's limit; true where there is none."""
    return policy.max_leakage_r2 is None or cut.r2 < policy.max_leakage_r2


def derived(profile: NetworkProfile) -> frozenset[str]:
    """Return the raw inputs, and the tensors that depend on them; the others tell nothing of them."""
    found = set(profile.inputs)
    for operator in profile.operators:
        if operator.kind in WITH_SUBGRAPHS or found.intersection(operator.inputs):
            found.update(operator.outputs)
    return frozenset(found)


def leaky(
    profile: NetworkProfile, policy: DataPolicy, report: LeakageReport | None, *, cast: str = ""
) -> frozenset[str]:
    """Return the tensors that only devices in the policy's zones may read: ``Request.leaky``.

    Where everything may leave, none. Else the raw inputs, and: where activations may leave, those whose R² is
    at or above the policy's limit, or that were not measured (without a limit: none); where results or nothing
    may leave, all activations. The network's outputs are activations where nothing may leave, else results.
    What does not depend on the raw inputs may always leave.

    Raises:
        InvalidCase: as ``check``.
    """
    if policy.may_leave == "everything":
        return frozenset()
    activations = derived(profile) - frozenset(profile.inputs)
    if policy.may_leave != "nothing":
        activations -= frozenset(profile.outputs)
    if policy.may_leave == "activations":
        activations = frozenset(t for t in activations if refusal(profile, (t,), policy, report, cast=cast))
    return frozenset(profile.inputs) | activations


def seen(
    profile: NetworkProfile,
    zones: Sequence[Set[str]],
    policy: DataPolicy,
    slices: Sequence[int] | None = None,
) -> tuple[str, ...]:
    """Return the tensors that cross from where raw data may lie to elsewhere, when operator k runs in each of
    ``zones[k]``: raw inputs, and what is made inside and read outside. Together they are one cut, whoever reads
    them: those outside may compare notes.

    ``slices``: each operator's slice; None: each its own. A slice on several devices works through a sample on
    one of them, so that nothing crosses within it.
    """
    inside = [any(policy.allows_zone(zone) for zone in place) for place in zones]
    outside = [not all(policy.allows_zone(zone) for zone in place) for place in zones]
    slices = range(len(zones)) if slices is None else slices
    maker: dict[str, int | None] = dict.fromkeys(profile.inputs)
    for k, operator in enumerate(profile.operators):
        maker |= dict.fromkeys(operator.outputs, k)
    telling = derived(profile)
    found: dict[str, None] = {}
    for k, operator in enumerate(profile.operators):
        for tensor in operator.inputs if outside[k] else ():
            made = maker.get(tensor)
            if tensor in telling and (made is None or (inside[made] and slices[made] != slices[k])):
                found[tensor] = None
    return tuple(found)


def cuts(profile: NetworkProfile) -> tuple[tuple[str, ...], ...]:
    """Return what is worth measuring: each tensor that may cross by itself, and what crosses together when
    operators before one stay inside and the others leave. Raw inputs never cross, and of numbers that are no
    quantities (indices, shapes) nothing is measured."""
    telling, kinds = derived(profile), {tensor.name: tensor.dtype for tensor in profile.tensors}
    last = {name: k for k, operator in enumerate(profile.operators) for name in operator.inputs}
    made = list(profile.inputs)
    found: dict[frozenset[str], tuple[str, ...]] = {}
    for k, operator in enumerate(profile.operators):
        crossing = tuple(name for name in made if last.get(name, -1) >= k and name in telling)
        measurable = [kinds.get(name) in MEASURED and name not in profile.inputs for name in crossing]
        for name, possible in zip(crossing, measurable, strict=True):
            if possible:
                found.setdefault(frozenset((name,)), (name,))
        if crossing and all(measurable):
            found.setdefault(frozenset(crossing), crossing)
        made += operator.outputs
    return tuple(found.values())


def figure(
    profile: NetworkProfile, tensors: Iterable[str], report: LeakageReport | None, *, cast: str = ""
) -> Leakage | None:
    """Return what was measured of just these tensors together; None: nothing.

    The figure of a cast counts where all of them are cast, which 32-bit floating point alone is.
    """
    if report is None:
        return None
    dtypes = {tensor.name: tensor.dtype for tensor in profile.tensors}
    names = tuple(tensors)
    return report.of(names, cast if all(dtypes.get(name) == CASTABLE for name in names) else "")


def refusal(
    profile: NetworkProfile,
    tensors: Sequence[str],
    policy: DataPolicy,
    report: LeakageReport | None,
    *,
    cast: str = "",
) -> str | None:
    """Return why these tensors may not cross together where activations may leave, in a sentence, or None.

    The network's outputs are results, which may: among other tensors they count where they were measured
    together with them.

    Raises:
        InvalidCase: as ``check``.
    """
    limit = policy.max_leakage_r2
    if limit is None or not limited(policy):
        return None
    if report is not None:
        check(profile, report)
    activations = tuple(tensor for tensor in tensors if tensor not in profile.outputs)
    found = figure(profile, tensors, report, cast=cast)
    if found is None:
        tensors, found = activations, figure(profile, activations, report, cast=cast)
    if not activations or (found is not None and judge(found, policy)):
        return None
    names, zones = " and ".join(tensors), ", ".join(policy.zones) or "no zone"
    if found is None:
        them = "it was" if len(tensors) == 1 else "together they were"
        return (
            f"{names} may not leave {zones}: the policy asks for a leakage below R² {limit:g}, and {them} not "
            f"measured: measure, or cut elsewhere"
        )
    return (
        f"{names} may not leave {zones}: a decoder ({found.decoder}) rebuilds held-out inputs with "
        f"R² {found.r2:.3f}, and the policy asks for less than {limit:g}: cut elsewhere, later as a rule"
    )
