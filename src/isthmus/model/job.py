"""A job: what is to be trained (or imported), how it is judged, and where it would like to run."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

import msgspec

from isthmus.model.blob import BlobRef, Name
from isthmus.model.dataset import Path
from isthmus.model.processing import Decode, ImageForm, PostStep, PreStep
from isthmus.model.slices import Slices

Seconds = Annotated[int, msgspec.Meta(ge=1, le=30 * 86_400)]
MAX_QUEUE_SECONDS = 14 * 86_400
"""SQS keeps a message no longer (CreateQueue, ``MessageRetentionPeriod``: at most 1,209,600 seconds). Checked
when a job is registered, not here: a job of an earlier version that asks for more can still be read."""


class Framework(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A training framework and its exact version, for example ``mxnet`` ``1.9.1``."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9]{0,19}(?!\n)$")]
    version: Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+){1,3}(?!\n)$")]


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an attempt needs at the least."""

    accelerators: Annotated[int, msgspec.Meta(ge=0)] = 0
    memory_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0


IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._:/-]*@sha256:[0-9a-f]{64}")
"""A container image that cannot change: repository and digest (OCI distribution specification, "Pulling manifests")."""


class Launcher(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one of a framework's own launchers, as SageMaker's estimators take them."""

    enabled: bool = True


class Training(
    msgspec.Struct, tag="training", tag_field="kind", frozen=True, forbid_unknown_fields=True, kw_only=True
):
    """Run ``entry_point`` of the ``code`` archive (zip) under the SageMaker training contract.

    ``deadline_seconds`` bounds the training itself, ``queue_deadline_seconds`` the wait for a rig
    (at most ``MAX_QUEUE_SECONDS``).
    ``offline_tolerance_seconds`` is how long a rig may be silent before its attempt counts as lost: a job
    that a rig loses goes on elsewhere after that time, a network that is away for longer costs an attempt.

    ``image``: the container image to run it in, by digest, instead of an environment that the rig builds.
    ``distribution``: the framework's launcher for several GPUs, by SageMaker's name, for example
    ``{"torch_distributed": {"enabled": true}}``.

    ``input_mode``: ``File``, the default, has the whole dataset there before the script starts; ``Pipe`` streams it
    through named pipes while the script runs (``SM_CHANNEL_TRAIN`` + ``_0``, then ``_1``, a pipe for each pass), and
    ``record_wrapper_type`` ``RecordIO`` then makes a record of each file (SageMaker, ``AlgorithmSpecification`` and
    ``Channel``). ``slices``: how the network that the script writes is cut and trained. Not given, none of these is
    written: digests stay what they were.
    """

    framework: Framework
    entry_point: Path
    code: BlobRef
    hyperparameters: dict[str, str | int | float | bool] = {}
    resources: Resources = Resources()
    image: str | msgspec.UnsetType = msgspec.UNSET
    distribution: dict[str, Launcher] | msgspec.UnsetType = msgspec.UNSET
    input_mode: Literal["File", "Pipe"] | msgspec.UnsetType = msgspec.UNSET
    record_wrapper_type: Literal["None", "RecordIO"] | msgspec.UnsetType = msgspec.UNSET
    slices: Slices | msgspec.UnsetType = msgspec.UNSET
    deadline_seconds: Seconds = 3600
    queue_deadline_seconds: Seconds = 86_400
    offline_tolerance_seconds: Annotated[int, msgspec.Meta(ge=3)] = 30
    parity_tolerance: Annotated[float, msgspec.Meta(gt=0)] = 1e-4

    def __post_init__(self) -> None:
        if self.image is not msgspec.UNSET and not IMAGE.fullmatch(self.image):
            raise ValueError(
                f"image needs a digest, repository@sha256:…, and is {self.image}: a tag names another image tomorrow"
            )
        if len(self.launchers) > 1:
            raise ValueError(f"distribution needs one launcher, and enables {', '.join(self.launchers)}")
        if self.wraps_records and not self.streams:
            raise ValueError(
                "record_wrapper_type RecordIO needs input_mode Pipe: files that lie there are wrapped in nothing"
            )
        if self.slices is not msgspec.UNSET and (self.launchers or self.streams):
            raise ValueError(
                "slices have processes of their own, which read whole arrays: leave out "
                + ("distribution" if self.launchers else "input_mode Pipe")
            )

    @property
    def streams(self) -> bool:
        """Whether its data come through pipes while the script runs."""
        return self.input_mode == "Pipe"

    @property
    def wraps_records(self) -> bool:
        """Whether each file comes as a RecordIO record."""
        return self.record_wrapper_type == "RecordIO"

    @property
    def launchers(self) -> tuple[str, ...]:
        """The launchers that are enabled: one or none."""
        given = {} if self.distribution is msgspec.UNSET else self.distribution
        return tuple(name for name, launcher in given.items() if launcher.enabled)


class Import(
    msgspec.Struct, tag="import", tag_field="kind", frozen=True, forbid_unknown_fields=True, kw_only=True
):
    """Take an ONNX model that was trained elsewhere."""

    artifact: BlobRef


class HeldOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One array of the held-out split: the dataset's file ``path``, decoded."""

    path: Path
    decode: Decode


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a candidate is scored and gated.

    The gate opens when ``accuracy >= minimum`` and ``accuracy >= champion's - tolerance``, both
    scored on the same held-out split.
    """

    inputs: HeldOut
    labels: HeldOut
    metric: Literal["accuracy"] = "accuracy"
    minimum: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    tolerance: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.005


class Wishes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the user would like the job to run; a wish never overrides the data policy.

    Not called ``on``, which YAML 1.1 reads as true. ``within_seconds``: when the training shall be over, counted
    from the job's submission, and after a redrive from then; not given, it is not written, so that digests stay
    what they were.
    """

    run_on: Literal["rig", "sagemaker"] | None = None
    within_seconds: Seconds | msgspec.UnsetType = msgspec.UNSET
    max_cost_usd: Annotated[float, msgspec.Meta(ge=0)] | None = None


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model to be made. ``raw_shape`` is one decoded sample's shape, before pre-processing; ``image`` says
    how a picture becomes such a sample, where the shape and ``uint8`` do not say it themselves.

    ``quantization``: the model is served in 8-bit integers where that loses at most half a point of accuracy on the
    held-out split; else it is served as it is, and the bundle says why.

    ``team`` is who waits for it: teams take turns on a rig (docs/adr/0016). ``priority`` orders a team's own
    work, the highest first. Not given, neither is written: the digest of a job that names none stays what it was.
    """

    schema: Literal["isthmus/job/1"] = "isthmus/job/1"
    model: Name
    team: Name | msgspec.UnsetType = msgspec.UNSET
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] | msgspec.UnsetType = msgspec.UNSET
    source: Training | Import
    raw_shape: tuple[Annotated[int, msgspec.Meta(ge=1)], ...] | None = None
    raw_dtype: Literal["uint8", "int16", "int32", "int64", "float32"] = "float32"
    image: ImageForm | msgspec.UnsetType = msgspec.UNSET
    preprocessing: tuple[PreStep, ...] = ()
    postprocessing: tuple[PostStep, ...] = ()
    evaluation: Evaluation | None = None
    allow_nan: bool = False
    quantization: Literal["int8"] | msgspec.UnsetType = msgspec.UNSET
    wishes: Wishes = Wishes()
    signature: str | None = None

    def __post_init__(self) -> None:
        if self.quantization is not msgspec.UNSET and self.evaluation is None:
            raise ValueError("quantization needs an evaluation: it tells whether the accuracy holds")
        if isinstance(self.image, ImageForm):
            made = self.image.height * self.image.width * self.image.channels
            if self.raw_shape is None or math.prod(self.raw_shape) != made:
                had = "not given" if self.raw_shape is None else f"{list(self.raw_shape)}"
                raise ValueError(
                    f"image makes {made} values of a picture; raw_shape needs as many, and is {had}"
                )
