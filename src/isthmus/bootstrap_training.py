"""The composition root of trainings in slices: one worker, by the direct stream or through a relay.

``python -P -m isthmus.bootstrap_training train JOB.json``, in the environment of a training framework that has
msgspec and xxhash as well.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from isthmus import documents
from isthmus.errors import AttemptLost, EnvironmentProblem, InvalidJob, IsthmusError, Unavailable

if TYPE_CHECKING:
    from isthmus.frameworks.trainable import Division
    from isthmus.transport.ports import Listener, Objects, Transport
    from isthmus.transport.wires import Tls
    from isthmus.workflows.slice_meeting import Meeting
    from isthmus.workflows.train_slices import SliceTrainer

Say = Callable[[str], None]
Positive = Annotated[int, msgspec.Meta(ge=1)]
BUCKET = r"s3://[a-z0-9.-]{3,63}/[^\s/]\S*[^\s/]"
FOLDER = r"file:///\S*[^\s/]"
Address = Annotated[str, msgspec.Meta(pattern=rf"^([^\s/]+:\d{{1,5}}|{BUCKET}|{FOLDER})$")]
"""HOST:PORT of the direct stream; or a relay: a prefix of a bucket, or a folder, that both sides may write to."""
LOST_CODE = 75
"""Of a worker that others left alone, or that could not reach its relay: it may be started again (EX_TEMPFAIL of
sysexits.h)."""


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Paths of this worker's certificate and key and of the authority, in PEM; names that peers' certificates may
    have."""

    certificate: str
    key: str
    authority: str
    peers: tuple[str, ...]


class SlicedTraining(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's job. What is not its own is the same for all: ``model`` (read by each: the same file), ``cuts``
    (positions of operators), ``rows`` (samples in all), ``samples`` (of a step) in ``microbatches``, and so on.
    ``gradients``: as they are, or in eight bits with error feedback.

    Its own: ``worker``, ``inputs`` (``.npy`` files of the inputs that its slices read), ``checkpoints`` (a folder),
    ``listen``, ``peers`` (where workers of smaller numbers listen; both may be a relay's), ``tls``, ``kept_by`` (the
    first worker keeps the checkpoints of one whose disk does not last). ``shape``: ``u`` gives the last slice to
    worker 0.
    """

    schema: Literal["isthmus/sliced-training/1"] = "isthmus/sliced-training/1"
    framework: str
    model: str
    cuts: tuple[Positive, ...]
    rows: Positive
    samples: Positive
    microbatches: Positive
    steps: Positive
    every: Positive
    optimizer: str = "sgd"
    options: dict[str, float | bool | str] = {}
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    gradients: Literal["whole", "int8"] = "whole"
    shape: Literal["straight", "u"] = "straight"
    worker: Annotated[int, msgspec.Meta(ge=0)]
    inputs: dict[str, str] = {}
    checkpoints: str
    listen: Address | None = None
    peers: dict[str, Address] = {}
    tls: TlsFiles | None = None
    patience_seconds: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    kept_by: Literal["itself", "first"] = "itself"

    def fingerprint(self, digest: str) -> str:
        """Return the SHA-256 of what all workers must agree on; ``digest``: of the network."""
        common = msgspec.structs.replace(
            self, model=digest, worker=0, inputs={}, checkpoints="", listen=None, peers={}, tls=None
        )
        return documents.digest(msgspec.structs.replace(common, patience_seconds=1.0, kept_by="itself"))


def worker_of(job: SlicedTraining, say: Say = lambda line: None) -> tuple[SliceTrainer, Meeting]:
    """Return a worker, which is listening then, and the meeting to close when it is done.

    Raises:
        InvalidJob: a worker has no slice, or the way to another one is missing.
        InvalidCase, InvalidModel, InvalidInput, EnvironmentProblem: as the parts say.
    """
    from isthmus.frameworks.trainable import Recipe, open_network
    from isthmus.planning.slicing.passes import passes, straight, u_shaped
    from isthmus.workflows.slice_batches import Batches, open_arrays
    from isthmus.workflows.slice_checkpoints import SliceCheckpoints
    from isthmus.workflows.slice_gradients import Rounding
    from isthmus.workflows.train_slices import Course, SliceTrainer

    recipe = Recipe(job.samples, job.microbatches, job.optimizer, job.options, job.seed)
    network = open_network(job.framework, Path(job.model))
    division = network.divide(job.cuts, recipe)
    stages = len(division.forms)
    places = u_shaped(stages) if job.shape == "u" else straight(stages)
    if job.worker not in places:
        raise InvalidJob(f"the workers are 0 to {max(places)}; there is no worker {job.worker}")
    course = Course(places, passes(places, job.microbatches), job.steps, job.every)
    arrays = open_arrays({name: Path(path) for name, path in job.inputs.items()})
    batches = Batches(arrays, job.rows, recipe)
    fingerprint = job.fingerprint(network.digest)
    mine = {k: division.slice(k) for k in range(stages) if places[k] == job.worker}
    meeting = _meeting(job, fingerprint, _near(division, places, job.worker), say)
    checkpoints = SliceCheckpoints(Path(job.checkpoints), fingerprint)
    trainer = SliceTrainer(
        job.worker,
        mine,
        course,
        meeting,
        checkpoints,
        batches,
        patience_seconds=job.patience_seconds,
        is_kept_by_first=job.kept_by == "first",
        rounding=Rounding() if job.gradients == "int8" else None,
        say=say,
    )
    return trainer, meeting


def _near(division: Division, places: Sequence[int], worker: int) -> frozenset[int]:
    """Return the workers that this one shares tensors with."""
    crossing = {(places[form.number], places[target]) for form in division.forms for target in form.targets()}
    return frozenset(other for pair in crossing if worker in pair for other in pair) - {worker}


def _meeting(job: SlicedTraining, fingerprint: str, near: frozenset[int], say: Say) -> Meeting:
    from isthmus.adapters.system import SteadyClock, SystemThreads
    from isthmus.workflows.slice_meeting import Meeting

    lower = sorted(other for other in near if other < job.worker)
    higher = frozenset(other for other in near if other > job.worker)
    if missing := [other for other in lower if str(other) not in job.peers]:
        raise InvalidJob(f"worker {job.worker} needs the address of worker {missing[0]} in peers")
    if higher and job.listen is None:
        raise InvalidJob(
            f"worker {job.worker} needs an address to listen on: worker {min(higher)} connects to it"
        )
    listener = _listener(job.listen, job.tls, say) if higher and job.listen is not None else None
    ways = {other: _way(job.peers[str(other)], job.tls) for other in lower}
    return Meeting(job.worker, fingerprint, ways, higher, listener, SystemThreads(), SteadyClock(), say)


def _listener(address: str, tls: TlsFiles | None, say: Say) -> Listener:
    from isthmus.transport.direct import DirectListener
    from isthmus.transport.reach import check_secured
    from isthmus.transport.relay_stream import RelayListener

    if relay := _relay(address):
        say(f"is called at {address}")
        return RelayListener(*relay)
    check_secured(_endpoint(address)[0], _tls(tls), "listening at")
    try:
        listener = DirectListener(
            _endpoint(address), tls=_tls(tls), on_refused=lambda error: say(f"not let in: {error}")
        )
    except OSError as error:
        raise EnvironmentProblem(f"cannot listen on {address}: {error.strerror}") from error
    say("listens on {}:{}".format(*listener.address))
    return listener


def _way(address: str, tls: TlsFiles | None) -> Transport:
    from isthmus.transport.direct import DirectTransport
    from isthmus.transport.reach import check_secured
    from isthmus.transport.relay_stream import RelayCaller

    if relay := _relay(address):
        return RelayCaller(*relay)
    check_secured(_endpoint(address)[0], _tls(tls), "the peer")
    return DirectTransport(_endpoint(address), tls=_tls(tls))


def _relay(address: str) -> tuple[Objects, str] | None:
    """Return the store and the name of a relay's address.

    Raises:
        EnvironmentProblem: it is in a bucket, and this environment lacks boto3.
    """
    kind, _, rest = address.partition("://")
    if kind == "file":
        from isthmus.adapters.shared_folder import SharedFolder

        return SharedFolder(Path(rest).parent), Path(rest).name
    if kind != "s3":
        return None
    try:
        from isthmus.adapters.aws.blobs import S3BlobStore
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"a relay in a bucket needs {error.name} in the framework's environment; list it in requirements.txt"
        ) from error
    bucket, _, name = rest.partition("/")
    return S3BlobStore(bucket), name


def _endpoint(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _tls(files: TlsFiles | None) -> Tls | None:
    from isthmus.transport.wires import Tls

    if files is None:
        return None
    return Tls(Path(files.certificate), Path(files.key), Path(files.authority), frozenset(files.peers))


def put_together(
    framework: str, folders: Sequence[Path], served: Path, target: Path, prefix: str = ""
) -> int:
    """Write the served network with what the slices learned to ``target``, to be exported as any script's; return the
    step.

    Raises:
        As ``weights_together`` and ``trainable.fill``.
    """
    from isthmus.frameworks.trainable import fill
    from isthmus.workflows.slices_together import weights_together

    step, weights = weights_together(folders)
    fill(framework, served, weights, target, prefix)
    return step


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _train(path: str) -> None:
    job = documents.decode(SlicedTraining, Path(path).read_bytes(), path)
    trainer, meeting = worker_of(job, _say)
    try:
        trainer.run()
    finally:
        meeting.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="isthmus.bootstrap_training", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    train = verbs.add_parser("train", help="train one worker's slices to the end")
    train.add_argument("job", help="a JSON file, as SlicedTraining says")
    together = verbs.add_parser("put-together", help="write the whole network with what its slices learned")
    together.add_argument("--framework", required=True)
    together.add_argument(
        "--served", type=Path, required=True, help="the network without loss, as a script saves it"
    )
    together.add_argument("--target", type=Path, required=True, help="a folder")
    together.add_argument("--prefix", default="", help="of the trained names, before the served ones")
    together.add_argument("folders", type=Path, nargs="+", help="the workers' folders of checkpoints")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    given = _parser().parse_args(arguments)
    try:
        if given.verb == "train":
            _train(given.job)
        else:
            step = put_together(given.framework, given.folders, given.served, given.target, given.prefix)
            _say(f"wrote {given.target}, as it was after step {step}")
    except (AttemptLost, Unavailable) as error:
        _say(f"{type(error).__name__}: {error}")
        return LOST_CODE
    except IsthmusError as error:
        _say(f"{type(error).__name__}: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
