"""Score the candidate and the champion on the held-out split, in the data's zone, and gate."""

from __future__ import annotations

from pathlib import Path

import msgspec

from isthmus import documents
from isthmus.errors import DigestMismatch, InvalidInput, InvalidModel, RolloutBusy
from isthmus.model import layout
from isthmus.model.bundle import MODEL_FILE, BundleManifest
from isthmus.model.job import Evaluation, Import, Job
from isthmus.ports import BlobStore, Item, Records
from isthmus.workflows.loading import load_job, load_manifest
from isthmus.workflows.scoring import OpenEngine, load_held_out, score_file

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
    """Decide whether the candidate of an attempt may replace the model in service."""
    job, manifest = load_job(blobs, job_key), load_manifest(blobs, job_key)
    candidate_path = fetch_candidate(job, job_key, fencing, blobs, workdir)
    champion = records.get(layout.CHAMPIONS, job.model)
    if job.evaluation is None:
        verdict = Verdict(True, "imported without an evaluation: not scored", None, None)
    else:
        inputs, labels = load_held_out(manifest, job.evaluation, blobs)
        candidate = score_file(candidate_path, inputs, labels, job.preprocessing, open_engine)
        verdict = gate(job.evaluation, candidate, None)
        if champion is not None:
            path, served = _fetch_champion(champion, blobs, workdir)
            try:
                best = score_file(path, inputs, labels, served.preprocessing, open_engine)
                verdict = gate(job.evaluation, candidate, best)
            except InvalidInput as error:
                # The data changed its form: only the minimum can be asked of the first model for it.
                reason = f"{verdict.reason} that takes this data: the champion does not ({error})"
                verdict = msgspec.structs.replace(verdict, reason=reason)
    if champion is not None:
        verdict = msgspec.structs.replace(verdict, champion_release=champion["release"])
    scores = {"accepted": verdict.accepted, "candidate": verdict.candidate, "champion": verdict.champion}
    records.update(layout.job_pk(job_key), layout.STATE, {"evaluation": {**scores, "reason": verdict.reason}})
    return verdict


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


def _promised(job_key: str, fencing: int, blobs: BlobStore) -> str:
    key = layout.attempt_output(job_key, fencing) + "output.json"
    output = documents.decode(_Output, blobs.get(key, max_bytes=documents.MAX_DOCUMENT_BYTES), key)
    for file in output.files:
        if file.path == MODEL_FILE:
            return file.sha256
    raise InvalidModel(f"attempt {fencing} left no {MODEL_FILE}")


def _fetch_champion(champion: Item, blobs: BlobStore, workdir: Path) -> tuple[Path, BundleManifest]:
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
