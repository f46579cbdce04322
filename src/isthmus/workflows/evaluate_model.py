"""Score the candidate and the champion on the held-out split, in the data's zone, and gate."""

from __future__ import annotations

from pathlib import Path

import msgspec

from isthmus import documents
from isthmus.errors import DigestMismatch, InvalidModel, RolloutBusy
from isthmus.inference.drift import describe
from isthmus.inference.processing import preprocess
from isthmus.model import layout
from isthmus.model.bundle import MODEL_FILE, BundleManifest
from isthmus.model.job import Evaluation, Import, Job
from isthmus.model.judgement import JUDGEMENT_FILE, Judgement, Scores
from isthmus.ports import BlobStore, Item, Records
from isthmus.workflows.loading import load_job, load_manifest
from isthmus.workflows.scoring import OpenEngine, answers_of, load_held_out, score_both

BASELINE_SAMPLES = 512
MAX_ROUNDS = 10
"""How often a candidate is scored while others go into service; so many more after each redrive."""


class Verdict(msgspec.Struct, frozen=True):
    """The gate's decision. ``candidate`` and ``champion`` are accuracies (0..1), None: not scored."""

    accepted: bool
    reason: str
    candidate: float | None
    champion: float | None
    champion_release: int = 0
    """The release that the candidate was compared with; 0: none was in service."""


def check_rounds(round_: int, redrives: int) -> None:
    """Refuse to score a candidate for ever. ``round_`` counts from 0.

    Raises:
        RolloutBusy: each time another model went into service meanwhile.
    """
    if round_ >= MAX_ROUNDS * (1 + redrives):
        raise RolloutBusy(
            f"{round_} times in a row another model went into service while this one was scored"
        )


def evaluate_model(
    job_key: str,
    fencing: int,
    *,
    blobs: BlobStore,
    records: Records,
    open_engine: OpenEngine,
    workdir: Path,
) -> Verdict:
    """Decide whether the candidate of an attempt may replace the model in service.

    Both are scored here, or were where the data lie: of held-out files that are not in the bucket the rig left a
    judgement beside the model.
    """
    job, manifest = load_job(blobs, job_key), load_manifest(blobs, job_key)
    champion, baseline, answers = records.get(layout.CHAMPIONS, job.model), None, None
    if job.evaluation is None:
        fetch_candidate(job, job_key, fencing, blobs, workdir)
        verdict = Verdict(True, "imported without an evaluation: not scored", None, None)
    elif manifest.in_place is not msgspec.UNSET:
        verdict = _by_judgement(job.evaluation, job_key, fencing, champion, blobs)
    else:
        candidate = fetch_candidate(job, job_key, fencing, blobs, workdir), job.preprocessing
        inputs, labels = load_held_out(manifest, job.evaluation, blobs)
        best = None
        if champion is not None:
            path, served = fetch_champion(champion, blobs, workdir)
            best = path, served.preprocessing
        verdict = verdict_of(job.evaluation, score_both(inputs, labels, candidate, best, open_engine))
        # What its requests and answers are held against. Of data that stay in their zone nothing is told, this neither.
        sample = inputs[:BASELINE_SAMPLES]
        baseline = describe(preprocess(sample, job.preprocessing))
        answers = answers_of(candidate[0], sample, job.preprocessing, job.postprocessing, open_engine)
    if champion is not None:
        verdict = msgspec.structs.replace(verdict, champion_release=champion["release"])
    scores = {"accepted": verdict.accepted, "candidate": verdict.candidate, "champion": verdict.champion}
    found = {"evaluation": {**scores, "reason": verdict.reason}}
    found |= {"baseline": msgspec.to_builtins(baseline), "answers": msgspec.to_builtins(answers)}
    records.update(layout.job_pk(job_key), layout.STATE, found)
    return verdict


def _by_judgement(
    evaluation: Evaluation, job_key: str, fencing: int, champion: Item | None, blobs: BlobStore
) -> Verdict:
    """Decide by what the rig found; it holds for the model that it left, against the champion that it had."""
    key = layout.attempt_output(job_key, fencing) + JUDGEMENT_FILE
    raw = blobs.get(key, max_bytes=documents.MAX_DOCUMENT_BYTES)
    judgement = documents.decode(Judgement, raw, key)
    if documents.sha256(raw) != _promised(job_key, fencing, blobs, JUDGEMENT_FILE):
        raise DigestMismatch(f"{key} is not what attempt {fencing} left")
    if judgement.model != _promised(job_key, fencing, blobs):
        raise DigestMismatch(f"{key} is of another model than attempt {fencing} left")
    verdict = verdict_of(evaluation, judgement.scores)
    if champion is None or champion["bundle"] == judgement.champion_bundle or not verdict.accepted:
        return verdict
    reason = (
        f"needs a comparison with release {champion['release']}, which went into service after the candidate "
        f"({evaluation.metric} {judgement.scores.candidate:.4f}) was judged where its data lie, and cannot be judged "
        f"elsewhere: run the job again (isthmus job retry {job_key})"
    )
    return Verdict(False, reason, judgement.scores.candidate, None)


def verdict_of(evaluation: Evaluation, scores: Scores) -> Verdict:
    """Decide by scores."""
    verdict = gate(evaluation, scores.candidate, scores.champion)
    if not scores.incomparable:
        return verdict
    reason = f"{verdict.reason} that takes this data: the champion does not ({scores.incomparable})"
    return msgspec.structs.replace(verdict, reason=reason)


def gate(evaluation: Evaluation, candidate: float, champion: float | None) -> Verdict:
    """Compare scores: at least the minimum, and not worse than the champion by more than the tolerance."""
    if candidate < evaluation.minimum:
        reason = f"{evaluation.metric} {candidate:.4f} is below the minimum {evaluation.minimum:.4f}"
        return Verdict(False, reason, candidate, champion)
    if champion is None:
        return Verdict(
            True, f"{evaluation.metric} {candidate:.4f}; no model is in service yet", candidate, None
        )
    if candidate < champion - evaluation.tolerance:
        reason = (
            f"{evaluation.metric} {candidate:.4f} is worse than the champion's {champion:.4f} "
            f"by more than {evaluation.tolerance:.4f}"
        )
        return Verdict(False, reason, candidate, champion)
    return Verdict(
        True,
        f"{evaluation.metric} {candidate:.4f} against the champion's {champion:.4f}",
        candidate,
        champion,
    )


def fetch_candidate(job: Job, job_key: str, fencing: int, blobs: BlobStore, workdir: Path) -> Path:
    """Download the candidate's ONNX file: what the attempt exported, or what was imported.

    Raises:
        DigestMismatch: it is not what the attempt or the job promised.
    """
    if isinstance(job.source, Import):
        key, wanted = job.source.artifact.key, job.source.artifact.sha256
    else:
        key = layout.attempt_output(job_key, fencing) + MODEL_FILE
        wanted = _promised(job_key, fencing, blobs)
    path = workdir / "candidate.onnx"
    found = blobs.download(key, path)
    if found != wanted:
        raise DigestMismatch(f"{key} has the SHA-256 {found}; {wanted} was promised")
    return path


class _OutputFile(msgspec.Struct):
    path: str
    sha256: str


class _Output(msgspec.Struct):
    files: list[_OutputFile]


def _promised(job_key: str, fencing: int, blobs: BlobStore, name: str = MODEL_FILE) -> str:
    key = layout.attempt_output(job_key, fencing) + "output.json"
    output = documents.decode(_Output, blobs.get(key, max_bytes=documents.MAX_DOCUMENT_BYTES), key)
    for file in output.files:
        if file.path == name:
            return file.sha256
    raise InvalidModel(f"attempt {fencing} left no {name}")


def fetch_champion(champion: Item, blobs: BlobStore, workdir: Path) -> tuple[Path, BundleManifest]:
    """Download the ONNX file of the model in service, and its bundle's manifest.

    Raises:
        DigestMismatch: they are not those of the bundle on record.
    """
    folder = layout.bundle_folder(champion["model"], champion["bundle"])
    raw = blobs.get(folder + "manifest.json", max_bytes=documents.MAX_DOCUMENT_BYTES)
    if documents.sha256(raw) != champion["bundle"]:
        raise DigestMismatch(f"{folder}manifest.json is not the manifest of the bundle in service")
    manifest = documents.decode(BundleManifest, raw, folder + "manifest.json")
    path = workdir / "champion.onnx"
    found = blobs.download(folder + MODEL_FILE, path)
    if found not in [file.sha256 for file in manifest.files if file.path == MODEL_FILE]:
        raise DigestMismatch(f"{folder}{MODEL_FILE} has the SHA-256 {found}, not its manifest's")
    return path, manifest
