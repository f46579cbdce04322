from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from workflow_world import CLOUD, NOW, World, onnx_model, pattern

from isthmus.adapters.local.call_figures import MemoryCallFigures
from isthmus.adapters.local.events import MemoryEvents
from isthmus.adapters.local.functions import MemoryFunctions, PublishedVersion
from isthmus.errors import (
    InvalidInput,
    LimitExceeded,
    ProofFailed,
    RolloutBusy,
    RolloutUnhealthy,
    Unavailable,
)
from isthmus.inference.archive import unpack_bundle
from isthmus.inference.lambda_handler import answer
from isthmus.inference.service import service_for_folder
from isthmus.model import layout
from isthmus.ports import Alias
from isthmus.workflows.deploy_cloud import act, after_the_end
from isthmus.workflows.package_model import Packaged, package_model
from isthmus.workflows.prove_model import Proof, prove_model
from isthmus.workflows.shift_traffic import check_health, commit_champion, revert_traffic, shift_traffic
from isthmus.workflows.stage_model import Staged, stage_model

FUNCTION = "shop-model-digits"
WEIGHTS = (0.1, 0.5, 1.0)
READY = {"statusCode": 200, "body": "{}"}


def ready(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    return READY


UNPROBED = {"since": "1970-01-01T00:15:00.000Z", "before": {"probed": 0, "probed_previous": 0}}
"""What the machine sends of a roll-out that began 100 s ago, with its first check."""


def functions_with(handler: Callable[..., Any] = ready, versions: int = 2) -> MemoryFunctions:
    """A model's function with that many published versions."""
    functions = MemoryFunctions(handler)
    for number in range(1, versions + 1):
        functions.stage(FUNCTION, pattern(), (f"layer:{number}",), f"marker {number}")
    return functions


def packaged(world: World) -> Packaged:
    key = world.registered()
    world.attempt_left(key, 1, onnx_model())
    return package_model(
        key,
        1,
        blobs=world.blobs,
        records=world.records,
        signer=world.signer,
        open_engine=world.engine,
        installed=dict,
        workdir=world.workdir(),
    )


def run(
    world: World,
    functions: MemoryFunctions,
    action: str,
    bundle: str,
    *,
    figures: MemoryCallFigures | None = None,
    clock: float = 1000.0,
    **event: Any,
) -> Any:
    values = {
        "action": action,
        "model": "digits",
        "bundle": bundle,
        "function": FUNCTION,
        "rollout": "run-1",
        **event,
    }
    return act(
        values,
        CLOUD,
        blobs=world.blobs,
        records=world.records,
        functions=functions,
        figures=figures or MemoryCallFigures(),
        signer=world.signer,
        workdir=world.workdir(),
        now=NOW,
        clock=clock,
    )


def stage(world: World, functions: MemoryFunctions, bundle: str) -> Staged:
    return stage_model("digits", bundle, CLOUD, functions=functions, signer=world.signer)


def test_staging_the_same_again_finds_the_same_version(world: World) -> None:
    functions = MemoryFunctions()
    functions.install("serve", pattern())
    first = stage(world, functions, "b1")
    assert first == stage(world, functions, "b1") == Staged(FUNCTION, "1", "", 60, 180)
    assert functions.layers["shop-model-digits"] == {"bundle b1": "bundles/digits/b1/layer.zip"}
    version = functions.published(FUNCTION)[0]
    assert version.layers[:2] == ("core:1", "onnx:1"), "the stack's layers come first"
    assert version.layers[2].endswith("layer:shop-model-digits:1")
    assert version.code.settings["Environment"]["Variables"]["ISTHMUS_PUBLIC_KEY"]


@pytest.mark.parametrize(
    "changed",
    [
        pattern("code-2"),
        pattern(layers=("core:2", "onnx:1")),
        replace(pattern(), settings={"Environment": {"Variables": {"A": "b"}}}),
    ],
    ids=["code", "layer", "settings"],
)
def test_new_code_layers_or_settings_make_a_new_version(world: World, changed: Any) -> None:
    functions = MemoryFunctions()
    functions.install("serve", pattern())
    assert stage(world, functions, "b1").version == "1"
    functions.install("serve", changed)
    assert stage(world, functions, "b1").version == "2"
    assert stage(world, functions, "b2").version == "3"
    functions.point(FUNCTION, Alias("2"))
    assert stage(world, functions, "b2").previous == "2"


def test_a_presigned_address_does_not_make_a_new_version(world: World) -> None:
    functions = MemoryFunctions()
    functions.install("serve", pattern())
    first = stage(world, functions, "b1")
    functions.install("serve", replace(pattern(), zip_url="https://another-signature"))
    assert stage(world, functions, "b1") == first


def test_a_version_knows_its_bundle_by_digest(world: World) -> None:
    functions = MemoryFunctions()
    functions.install("serve", pattern())
    stage(world, functions, "b1")
    (version,) = functions.published(FUNCTION)
    assert version.code.settings["Environment"]["Variables"]["ISTHMUS_BUNDLE_SHA256"] == "b1"
    assert "SnapStart" not in version.code.settings, "a snapshot costs while nothing happens"


def test_versions_are_published_with_a_snapshot_where_the_stack_says_so(world: World) -> None:
    functions = MemoryFunctions()
    functions.install("serve", pattern())
    cold = stage(world, functions, "b1")
    settings = replace(CLOUD, serving_start="snapstart")
    warm = stage_model("digits", "b1", settings, functions=functions, signer=world.signer)
    assert warm.version != cold.version
    version = functions.published(FUNCTION)[-1]
    assert version.code.settings["SnapStart"] == {"ApplyOn": "PublishedVersions"}


def test_a_name_over_lambdas_limit_is_refused(world: World) -> None:
    functions = MemoryFunctions()
    functions.install("serve", pattern())
    settings = replace(CLOUD, stack="s" * 40)
    with pytest.raises(LimitExceeded, match="at most 64"):
        stage_model("digits-of-many-houses", "b", settings, functions=functions, signer=world.signer)


def serving(world: World, bundle: str) -> Callable[..., Any]:
    """The real serving code on a bundle's layer."""
    archive = world.folder / f"layer-{bundle[:8]}.zip"
    world.blobs.download(layout.bundle_folder("digits", bundle) + "layer.zip", archive)
    folder = unpack_bundle(archive, world.folder / f"opt-{bundle[:8]}", prefix="isthmus/model/")
    service = service_for_folder(folder, world.signer.public_key(), threads=1)
    return lambda version, event: answer(event, service)


def test_the_real_serving_code_proves_its_bundle(world: World) -> None:
    bundle = packaged(world).bundle
    functions = functions_with(serving(world, bundle), versions=1)
    assert run(world, functions, "prove", bundle, version="1")["largest_difference"] < 1e-6


def crash(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    raise MemoryError("out of memory")


def never_ready(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    return {"statusCode": 503, "body": '{"error":"loading"}'}


def wrong(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    tensor = {"name": "logits", "shape": [4, 3], "datatype": "FP32", "data": [9.0] * 12}
    body = {"model_name": "digits", "model_version": "1", "outputs": [tensor]}
    return {"statusCode": 200, "body": json.dumps(body)}


def unreadable(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    return {"statusCode": 200, "body": "<html>"}


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (crash, "failed with MemoryError"),
        (never_ready, "is not ready"),
        (wrong, "differs by"),
        (unreadable, "cannot be read"),
    ],
)
def test_a_version_that_answers_wrongly_is_not_proven(world: World, handler: Any, said: str) -> None:
    bundle = packaged(world).bundle
    with pytest.raises(ProofFailed, match=said):
        run(world, functions_with(handler, versions=1), "prove", bundle, version="1")


def test_traffic_shifts_by_steps_and_a_step_repeated_is_the_same() -> None:
    functions = functions_with()
    functions.point(FUNCTION, Alias("1"))
    seen = []
    for step in (0, 0, 1, 2):
        shifted = shift_traffic(FUNCTION, "2", "1", step, weights=WEIGHTS, functions=functions)
        seen.append((shifted.step, shifted.weight, shifted.done, functions.alias(FUNCTION)))
    assert seen == [
        (1, 0.1, False, Alias("1", "2", 0.1)),
        (1, 0.1, False, Alias("1", "2", 0.1)),
        (2, 0.5, False, Alias("1", "2", 0.5)),
        (3, 1.0, True, Alias("2")),
    ]


@pytest.mark.parametrize("previous", ["", "2"])
def test_without_another_version_all_traffic_goes_at_once(previous: str) -> None:
    functions = functions_with()
    shifted = shift_traffic(FUNCTION, "2", previous, 0, weights=WEIGHTS, functions=functions)
    assert (shifted.done, functions.alias(FUNCTION)) == (True, Alias("2"))


def test_a_version_that_answers_is_healthy_and_probes_are_counted() -> None:
    functions = functions_with()
    functions.point(FUNCTION, Alias("1", "2", 0.1))
    assert check_health(FUNCTION, "2", "digits", functions=functions) == 30


def test_a_version_that_nobody_reached_is_never_healthy() -> None:
    functions = functions_with()
    functions.point(FUNCTION, Alias("1"))
    with pytest.raises(RolloutUnhealthy, match="answered 0 of 200 probes"):
        check_health(FUNCTION, "2", "digits", functions=functions)


@pytest.mark.parametrize("handler", [crash, never_ready])
def test_one_failed_probe_is_unhealthy(handler: Any) -> None:
    functions = functions_with(
        lambda version, event: handler(version, event) if version.version == "2" else READY
    )
    functions.point(FUNCTION, Alias("1", "2", 0.5))
    with pytest.raises(RolloutUnhealthy, match="version 2 failed a probe"):
        check_health(FUNCTION, "2", "digits", functions=functions)


def test_a_failure_of_the_old_version_is_not_the_new_ones() -> None:
    functions = functions_with(
        lambda version, event: crash(version, event) if version.version == "1" else READY
    )
    functions.point(FUNCTION, Alias("1", "2", 0.5))
    assert check_health(FUNCTION, "2", "digits", functions=functions) == 6


def test_reverting_goes_back_to_the_version_in_service_and_may_be_repeated() -> None:
    functions = functions_with()
    functions.point(FUNCTION, Alias("1", "2", 0.5))
    assert revert_traffic(FUNCTION, "2", "1", functions=functions)
    assert functions.alias(FUNCTION) == Alias("1")
    assert not revert_traffic(FUNCTION, "2", "1", functions=functions)


def test_there_is_nothing_to_go_back_to_before_the_first_model() -> None:
    functions = functions_with()
    assert not revert_traffic(FUNCTION, "1", "", functions=functions)
    assert functions.alias(FUNCTION) is None


def test_the_whole_way_into_service(world: World) -> None:
    bundle = packaged(world).bundle
    functions = MemoryFunctions(serving(world, bundle))
    functions.install("serve", pattern())
    staged = run(world, functions, "stage", bundle, release=1, against=0)
    assert functions.alias(FUNCTION) is None, "staging routes nobody"
    run(world, functions, "prove", bundle, version=staged["version"])
    shifted = run(world, functions, "shift", bundle, step=0, **staged)
    assert shifted["done"]
    health = run(world, functions, "check", bundle, **UNPROBED, **staged)
    assert (health["probes"], health["calls"]["verdict"]) == (3, "none")
    run(world, functions, "commit", bundle, release=1, job_key="k", health=health, **staged)
    champion = world.records.get(layout.CHAMPIONS, "digits")
    assert champion is not None
    assert {name: champion[name] for name in ("bundle", "release", "version", "since")} == {
        "bundle": bundle,
        "release": 1,
        "version": "1",
        "since": NOW,
    }
    assert champion["calls"]["verdict"] == "none", "that real calls said nothing is on record"


def watched(world: World) -> tuple[MemoryFunctions, MemoryCallFigures]:
    """Half of the calls go to version 2; version 1 is in service."""
    functions = functions_with()
    functions.point(FUNCTION, Alias("1", "2", 0.5))
    return functions, MemoryCallFigures()


CHECKED = {"version": "2", "previous": "1"}


def test_a_version_whose_real_calls_fail_is_unhealthy_though_it_answers_every_probe(world: World) -> None:
    functions, figures = watched(world)
    figures.count(FUNCTION, "2", 990, 40, 20)
    with pytest.raises(RolloutUnhealthy, match="version 2 failed 20 of 40 calls"):
        run(world, functions, "check", "b", figures=figures, **UNPROBED, **CHECKED)


def test_each_check_hands_its_probes_on_to_the_next(world: World) -> None:
    functions, figures = watched(world)
    figures.count(FUNCTION, "2", 990, 39)
    first = run(world, functions, "check", "b", figures=figures, **UNPROBED, **CHECKED)
    assert (first["probed"], first["probed_previous"], first["calls"]["requests"]) == (3, 3, 39)
    again = {**UNPROBED, "before": first}
    second = run(world, functions, "check", "b", figures=figures, clock=1300.0, **again, **CHECKED)
    assert (second["probed"], second["calls"]["requests"], second["calls"]["verdict"]) == (6, 36, "healthy")


def test_a_check_of_an_earlier_versions_machine_goes_by_probes_alone(world: World) -> None:
    functions, figures = watched(world)
    figures.count(FUNCTION, "2", 990, 40, 40)
    assert run(world, functions, "check", "b", figures=figures, **CHECKED) == {"probes": 6}


def staged_world(world: World) -> tuple[str, MemoryFunctions, dict[str, Any]]:
    bundle = packaged(world).bundle
    functions = MemoryFunctions(serving(world, bundle))
    functions.install("serve", pattern())
    functions.point(FUNCTION, Alias("7"))
    world.records.put({"pk": layout.CHAMPIONS, "sk": "digits", "release": 4})
    return bundle, functions, run(world, functions, "stage", bundle, release=5, against=4)


def test_what_was_scored_against_another_champion_is_scored_again(world: World) -> None:
    bundle, functions, _ = staged_world(world)
    run(world, functions, "release", bundle)
    world.records.put({"pk": layout.CHAMPIONS, "sk": "digits", "release": 6})
    staged = run(world, functions, "stage", bundle, release=5, against=4)
    assert staged["superseded"]
    again = run(world, functions, "stage", bundle, release=5, against=6)
    assert not again["superseded"]


def test_a_second_rollout_waits_for_the_first(world: World) -> None:
    bundle, functions, _ = staged_world(world)
    with pytest.raises(RolloutBusy, match="run-1"):
        run(world, functions, "stage", bundle, release=5, against=4, rollout="run-2")


def test_a_stopped_rollout_is_undone_by_its_event(world: World) -> None:
    bundle, functions, staged = staged_world(world)
    run(world, functions, "shift", bundle, step=0, **staged)
    assert functions.alias(FUNCTION) == Alias("7", staged["version"], 0.1)
    asked = {"model": "digits", "release": 5, "bundle": bundle, "job_key": "k"}
    detail = {"name": "run-1", "status": "ABORTED", "input": json.dumps(asked)}
    events = MemoryEvents()
    ended = after_the_end(detail, records=world.records, functions=functions, events=events)
    assert ended == {"reverted": True}
    assert functions.alias(FUNCTION) == Alias("7")
    assert [kind for kind, _ in events.published] == ["isthmus roll-out aborted"]
    run(world, functions, "stage", bundle, release=5, against=4, rollout="run-2")


def ended(bundle: str, status: str = "FAILED", **more: str) -> dict[str, Any]:
    asked = {"model": "digits", "release": 5, "bundle": bundle, "job_key": "k"}
    return {"name": "run-1", "status": status, "input": json.dumps(asked), **more}


def half_shifted(world: World) -> tuple[str, MemoryFunctions, dict[str, Any]]:
    bundle, functions, staged = staged_world(world)
    run(world, functions, "shift", bundle, step=0, **staged)
    return bundle, functions, staged


@pytest.mark.parametrize("error", ["States.Runtime", "States.DataLimitExceeded", "RolloutUnhealthy"])
def test_a_rollout_that_could_not_take_its_traffic_back_is_undone_by_its_event(
    world: World, error: str
) -> None:
    """Its RevertTraffic failed with the lock kept, or it met what no state can catch."""
    bundle, functions, _ = half_shifted(world)
    detail, events = ended(bundle, error=error), MemoryEvents()
    assert after_the_end(detail, records=world.records, functions=functions, events=events)["reverted"]
    assert functions.alias(FUNCTION) == Alias("7")
    assert events.published[0][1]["error"] == error
    run(world, functions, "stage", bundle, release=5, against=4, rollout="run-2")


class Deaf(MemoryFunctions):
    """Lambda does not answer to changes of aliases."""

    def point(self, function: str, alias: Alias) -> None:
        raise Unavailable("Lambda did not answer")


def test_an_event_that_could_not_undo_keeps_the_lock_for_its_next_try(world: World) -> None:
    bundle, functions, _ = half_shifted(world)
    deaf = Deaf()
    deaf.__dict__.update(functions.__dict__)
    with pytest.raises(Unavailable):
        after_the_end(ended(bundle), records=world.records, functions=deaf, events=MemoryEvents())
    again = after_the_end(ended(bundle), records=world.records, functions=functions, events=MemoryEvents())
    assert again["reverted"]
    assert functions.alias(FUNCTION) == Alias("7")


def in_service(world: World) -> tuple[str, MemoryFunctions, dict[str, Any]]:
    """A roll-out whose commit was written, and whose answer was lost."""
    bundle, functions, staged = half_shifted(world)
    functions.point(FUNCTION, Alias(staged["version"]))
    run(world, functions, "commit", bundle, release=5, job_key="k", keep_lock=True, **staged)
    return bundle, functions, staged


def test_traffic_of_a_recorded_champion_is_not_taken_away(world: World) -> None:
    bundle, functions, staged = in_service(world)
    assert run(world, functions, "revert", bundle, **staged) == {"reverted": False}
    detail = ended(bundle, "ABORTED")
    told = after_the_end(detail, records=world.records, functions=functions, events=MemoryEvents())
    assert told == {"reverted": False}
    champion = world.records.get(layout.CHAMPIONS, "digits")
    assert champion is not None
    assert functions.alias(FUNCTION) == Alias(champion["version"])
    run(world, functions, "stage", bundle, release=6, against=5, rollout="run-2")


def test_what_another_rollout_recorded_does_not_keep_traffic_on_a_failing_version(world: World) -> None:
    bundle, functions, staged = in_service(world)
    run(world, functions, "release", bundle)
    functions.point(FUNCTION, Alias("7", staged["version"], 0.5))
    again = {**staged, "previous": "7"}
    assert run(world, functions, "revert", bundle, rollout="run-2", **again) == {"reverted": True}
    assert functions.alias(FUNCTION) == Alias("7")


@pytest.mark.parametrize("keeps", [True, False], ids=["now", "earlier version"])
def test_a_commit_leaves_the_lock_to_the_state_after_it(world: World, keeps: bool) -> None:
    """The machine of an earlier version has no such state: there the commit gives it back."""
    bundle, functions, staged = half_shifted(world)
    more = {"keep_lock": True} if keeps else {}
    run(world, functions, "commit", bundle, release=5, job_key="k", **more, **staged)
    lock = world.records.get(layout.model_pk("digits"), "ROLLOUT") or {}
    assert lock["holder"] == ("run-1" if keeps else None)


def test_another_rollouts_event_undoes_nothing(world: World) -> None:
    bundle, functions, staged = staged_world(world)
    run(world, functions, "shift", bundle, step=0, **staged)
    asked = {"model": "digits", "release": 3, "bundle": bundle, "job_key": "k"}
    detail = {"name": "run-0", "status": "FAILED", "input": json.dumps(asked)}
    ended = after_the_end(detail, records=world.records, functions=functions, events=MemoryEvents())
    assert ended == {"reverted": False}
    assert functions.alias(FUNCTION) == Alias("7", staged["version"], 0.1)


def test_an_unknown_action_is_refused(world: World) -> None:
    with pytest.raises(InvalidInput, match="'destroy'"):
        run(world, MemoryFunctions(), "destroy", "b")


def test_the_last_commit_is_the_champion(world: World) -> None:
    for release in (1, 2):
        commit_champion("digits", f"b{release}", release, "k", "1", records=world.records, now=NOW)
    assert [item["release"] for item in world.records.query(layout.CHAMPIONS)] == [2]


def put_in_service(world: World, functions: MemoryFunctions, bundle: str, version: str) -> None:
    commit_champion("digits", bundle, 4, "k", version, records=world.records, now=NOW)
    functions.point(FUNCTION, Alias(version))


def test_a_proven_release_can_be_asked_for_by_number(world: World) -> None:
    bundle = packaged(world).bundle
    functions = functions_with(serving(world, bundle))
    put_in_service(world, functions, bundle, "1")
    run(world, functions, "prove", bundle, version="2", release=5)
    assert functions.invoke(FUNCTION, "release-5", {"ping": True}).version == "2"
    assert functions.alias(FUNCTION) == Alias("1")


def test_a_reverted_roll_out_of_newer_code_leaves_the_releases_number_where_it_was(world: World) -> None:
    """The same release, staged again: its number named the new version since the proof."""
    functions = functions_with()
    put_in_service(world, functions, "b", "1")
    functions.name_release(FUNCTION, 4, "2")
    functions.point(FUNCTION, Alias("1", "2", 0.5))
    run(world, functions, "revert", "b", version="2", previous="1")
    assert functions.invoke(FUNCTION, "release-4", {}).version == "1"
    assert functions.alias(FUNCTION) == Alias("1")


class Watch:
    """A clock that the versions move: each takes its own time to answer."""

    def __init__(self, answer_of: Callable[..., Any], seconds: dict[str, float]) -> None:
        self.now, self._answer, self._seconds = 0.0, answer_of, seconds

    def handler(self, version: PublishedVersion, event: Mapping[str, Any]) -> Any:
        self.now += self._seconds[version.version]
        return self._answer(version, event)

    def prove(self, world: World, bundle: str, slowdown: float = 2.0) -> Proof:
        return prove_model(
            FUNCTION,
            "2",
            "digits",
            bundle,
            blobs=world.blobs,
            functions=functions_with(self.handler),
            signer=world.signer,
            workdir=world.workdir(),
            previous="1",
            max_slowdown=slowdown,
            timer=lambda: self.now,
        )


def test_a_version_that_is_too_slow_gets_no_traffic(world: World) -> None:
    bundle = packaged(world).bundle
    watch = Watch(serving(world, bundle), {"1": 0.1, "2": 0.21})
    with pytest.raises(ProofFailed, match=r"takes 210 ms .* takes 100 ms, and at most 2 times"):
        watch.prove(world, bundle)
    assert watch.prove(world, bundle, slowdown=3.0).previous_milliseconds == pytest.approx(100)
    assert watch.prove(world, bundle, slowdown=0.0).milliseconds is None, "nobody asked"


def test_a_few_milliseconds_more_are_no_reason(world: World) -> None:
    bundle = packaged(world).bundle
    proof = Watch(serving(world, bundle), {"1": 0.005, "2": 0.05}).prove(world, bundle)
    assert (proof.milliseconds, proof.previous_milliseconds) == pytest.approx((50, 5))


def test_a_version_in_service_that_takes_other_inputs_is_not_compared(world: World) -> None:
    bundle = packaged(world).bundle
    real = serving(world, bundle)
    watch = Watch(
        lambda version, event: real(version, event) if version.version == "2" else {"statusCode": 400},
        {"1": 0.01, "2": 9.0},
    )
    assert watch.prove(world, bundle).milliseconds is None
