from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from workflow_world import CLASSES, World, npy, onnx_model, weights_right_for

from isthmus.errors import DigestMismatch, InvalidModel, RolloutBusy
from isthmus.model import layout
from isthmus.model.job import Evaluation, Import
from isthmus.workflows.evaluate_model import Verdict, check_rounds, evaluate_model, gate
from isthmus.workflows.package_model import Packaged, package_model
from isthmus.workflows.shift_traffic import commit_champion


def evaluate(world: World, key: str, fencing: int = 1) -> Verdict:
    return evaluate_model(
        key,
        fencing,
        blobs=world.blobs,
        records=world.records,
        open_engine=world.engine,
        workdir=world.workdir(),
    )


def put_in_service(world: World, model: bytes) -> Packaged:
    """Package ``model`` as another job's and make it the champion."""
    key = world.registered(world.job(world.training(hyperparameters={"champion": True})))
    world.attempt_left(key, 1, model)
    packaged = package_model(
        key,
        1,
        blobs=world.blobs,
        records=world.records,
        signer=world.signer,
        open_engine=world.engine,
        installed=dict,
        workdir=world.workdir(),
    )
    commit_champion("digits", packaged.bundle, packaged.release, key, "1", records=world.records, now="now")
    return packaged


def candidate(world: World, model: bytes, **evaluation: float) -> str:
    job = world.job()
    assert job.evaluation is not None
    changed = msgspec.structs.replace(job.evaluation, **evaluation)
    key = world.registered(msgspec.structs.replace(job, evaluation=changed))
    world.attempt_left(key, 1, model)
    return key


def test_the_first_model_is_scored_and_accepted(world: World) -> None:
    key = candidate(world, onnx_model())
    verdict = evaluate(world, key)
    assert (verdict.accepted, verdict.candidate, verdict.champion) == (True, 1.0, None)
    recorded = world.state(key)["evaluation"]
    assert recorded == {"accepted": True, "candidate": 1.0, "champion": None, "reason": verdict.reason}


def test_a_model_below_the_minimum_is_rejected(world: World) -> None:
    verdict = evaluate(world, candidate(world, onnx_model(weights_right_for(2)), minimum=0.9))
    assert not verdict.accepted
    assert verdict.candidate == pytest.approx(27 / 40)
    assert "below the minimum 0.9000" in verdict.reason


def test_a_better_champion_rejects_with_both_scores(world: World) -> None:
    put_in_service(world, onnx_model())
    key = candidate(world, onnx_model(weights_right_for(2)))
    verdict = evaluate(world, key)
    assert not verdict.accepted
    assert (verdict.candidate, verdict.champion) == (pytest.approx(27 / 40), 1.0)
    assert "0.6750 is worse than the champion's 1.0000" in verdict.reason
    assert world.state(key)["evaluation"]["champion"] == 1.0


def test_a_better_candidate_replaces_the_champion(world: World) -> None:
    put_in_service(world, onnx_model(weights_right_for(2)))
    verdict = evaluate(world, candidate(world, onnx_model()))
    assert (verdict.accepted, verdict.champion) == (True, pytest.approx(27 / 40))


@pytest.mark.parametrize(
    ("candidate_score", "champion", "accepted"),
    [(0.90, 0.905, True), (0.90, 0.906, False), (0.90, 0.0, True), (0.49, None, False), (0.5, None, True)],
)
def test_the_gate(candidate_score: float, champion: float | None, accepted: bool) -> None:
    held_out: Mapping[str, Any] = {"path": "x", "decode": {"format": "npy"}}
    document = {"inputs": held_out, "labels": held_out, "minimum": 0.5, "tolerance": 0.005}
    verdict = gate(msgspec.convert(document, Evaluation), candidate_score, champion)
    assert verdict.accepted is accepted
    assert verdict.reason


def test_a_candidate_whose_bytes_changed_is_refused(world: World) -> None:
    key = candidate(world, onnx_model())
    world.blobs.put(layout.attempt_output(key, 1) + "model.onnx", onnx_model(weights_right_for(1)))
    with pytest.raises(DigestMismatch, match=r"attempts/1/output/model\.onnx"):
        evaluate(world, key)


def test_an_attempt_without_a_model_is_named(world: World) -> None:
    key = candidate(world, onnx_model())
    world.blobs.put(layout.attempt_output(key, 1) + "output.json", b'{"files":[]}')
    with pytest.raises(InvalidModel, match=r"attempt 1 left no model\.onnx"):
        evaluate(world, key)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_champion_that_was_tampered_with_is_not_scored(world: World, name: str) -> None:
    packaged = put_in_service(world, onnx_model())
    folder = layout.bundle_folder("digits", packaged.bundle)
    world.blobs.put(folder + name, onnx_model(weights_right_for(1)))
    with pytest.raises(DigestMismatch, match=name):
        evaluate(world, candidate(world, onnx_model()))


def test_an_import_without_evaluation_is_not_scored(world: World) -> None:
    artifact = world.put_blob("code/m.onnx", onnx_model())
    verdict = evaluate(world, world.registered(world.job(Import(artifact=artifact), evaluation=None)), 0)
    assert (verdict.accepted, verdict.candidate) == (True, None)


def test_a_model_with_a_batch_of_one_is_scored(world: World) -> None:
    assert evaluate(world, candidate(world, onnx_model(batch=1))).candidate == 1.0


def test_not_a_model_is_refused_by_name(world: World) -> None:
    with pytest.raises(InvalidModel, match="not an ONNX model"):
        evaluate(world, candidate(world, b"not onnx"))


def test_a_held_out_file_that_was_overwritten_is_refused(world: World) -> None:
    key = candidate(world, onnx_model())
    manifest = world.manifest()
    world.blobs.put(f"datasets/digits/blobs/{manifest.files[1].sha256}", npy(np.zeros(CLASSES, np.int64)))
    with pytest.raises(DigestMismatch, match=r"test/y\.npy was overwritten"):
        evaluate(world, key)


def test_scoring_anew_ends_where_a_redrive_can_go_on() -> None:
    check_rounds(9, 0)
    with pytest.raises(RolloutBusy, match="10 times in a row another model went into service"):
        check_rounds(10, 0)
    check_rounds(10, 1)
    with pytest.raises(RolloutBusy):
        check_rounds(20, 1)


def test_how_it_answers_is_on_record_and_comes_with_its_release(world: World) -> None:
    key = candidate(world, onnx_model())
    evaluate(world, key)
    answers = world.state(key)["answers"]
    assert sum(answers["shares"]) == pytest.approx(1, abs=1e-4)
    assert (answers["samples"], set(answers["classes"])) == (40, set(range(CLASSES)))
    packaged = package_model(
        key,
        1,
        blobs=world.blobs,
        records=world.records,
        signer=world.signer,
        open_engine=world.engine,
        installed=dict,
        workdir=world.workdir(),
    )
    item = world.records.get(layout.model_pk("digits"), layout.release_sk(packaged.release))
    assert item is not None
    assert item["answers"] == answers
