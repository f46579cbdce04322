"""Every failure that isthmus names, in one tree.

::

    IsthmusError
    ├── InvalidInput                 the caller's data; repeating it cannot help
    │   ├── InvalidDocument          a JSON or YAML document does not fit its schema
    │   ├── InvalidManifest          a dataset manifest is malformed
    │   ├── InvalidJob               a job is malformed, or asks for what does not exist
    │   ├── MissingFile              a manifest names a file that the bucket does not have
    │   ├── DigestMismatch           bytes differ from the digest that was promised
    │   ├── InvalidModel             a model cannot be read, or does not fit its job
    │   ├── InvalidCase              a network, its devices or their links cannot be planned with
    │   └── InvalidRequest           an inference request; carries its HTTP status
    │       ├── UnknownModel
    │       ├── UnknownPath
    │       ├── WrongMethod
    │       ├── PayloadTooLarge
    │       └── UnsupportedMediaType
    ├── Refused                      understood, and not allowed or not possible here
    │   ├── NoPlacement              no device may and can run the job
    │   ├── BudgetExceeded           it would cost, or costs, more than a budget or its job lets it
    │   ├── NoPlan                   no slicing meets every constraint: which, by how much, what would
    │   ├── PolicyViolation          the data policy forbids a move
    │   ├── PermissionMissing        IAM refuses a call; who lacks which right, on what
    │   ├── NotRedrivable            an execution cannot go on from where it failed
    │   ├── LimitExceeded            an AWS limit, with the sum and the largest parts
    │   ├── StillRunning             executions of a stack that is to be removed; the message names them
    │   ├── OtherStack               the name belongs to another stack of the account
    │   ├── ForeignStack             the stack of that name is another application's
    │   ├── Unauthorized             a token does not let its bearer in; API Gateway knows the name
    │   ├── SlicesDiffer             slices of a model do not answer what the whole answers
    │   ├── SignatureInvalid         a bundle is not what its signer signed
    │   ├── ReleaseOutdated          a device has had a later release of the model in service
    │   └── PeerUntrusted            a certificate of the other side's is not accepted, or ours is not by it
    ├── TrainingFailed               the script's fault: exit code and its last lines
    │   └── ParityFailed             the exported ONNX differs from the framework's model
    ├── AttemptLost                  the rig's fault; Step Functions runs the job again
    ├── ProofFailed                  a staged version answers its golden inputs wrongly
    ├── RolloutUnhealthy             a version failed, or was not seen working, while shifting
    ├── RolloutBusy                  another roll-out of the model is under way; wait for it
    ├── EdgeDeploymentFailed         a core device or deployment did not take the model
    ├── StackNotDeleted              CloudFormation could not delete a stack, and why
    ├── PlanUnsound                  a method's plan did not pass the verifier: a fault of isthmus
    ├── Conflict                     somebody else committed first
    ├── Unavailable                  a service did not answer; repeating it may help
    │   ├── Throttled                it takes no more calls at present
    │   ├── DeadlineExceeded         the caller's time is up
    │   ├── InvalidAnswer            it answered what the protocol does not allow
    │   │   └── InvalidFrame         bytes on a stream are no frame, or not the one that was sent
    │   ├── ChannelClosed            the other side ended the exchange, or it is closed here
    │   └── SessionLost              the other side has started anew and knows nothing of what it was sent
    ├── NotChecked                   a check of `isthmus doctor` could not be made, and why
    └── EnvironmentProblem           this machine lacks something: what, and how to get it

The class names are the ``ErrorEquals`` names of the state machines: a Lambda function that raises
one reports it as its ``errorType``. A test asserts that every custom name in ``statemachines/``
stands here.
"""

from __future__ import annotations

from typing import ClassVar


class IsthmusError(Exception):
    """Base of all failures with a name; ``str()`` is one clear sentence for a person."""

    exit_code: ClassVar[int] = 1


class InvalidInput(IsthmusError):
    """The caller's data is wrong; the same data will fail again."""

    exit_code = 2


class InvalidDocument(InvalidInput):
    """A document does not parse, is too large, or does not fit its schema."""


class InvalidManifest(InvalidInput):
    """A dataset manifest is malformed."""


class InvalidJob(InvalidInput):
    """A job is malformed, or asks for something that does not exist."""


class MissingFile(InvalidInput):
    """A manifest names a file that is not in the bucket after the grace period."""


class DigestMismatch(InvalidInput):
    """Bytes do not have the SHA-256 that was promised for them."""


class InvalidModel(InvalidInput):
    """A model file cannot be read, or does not fit what its job says of it."""


class InvalidCase(InvalidInput):
    """A network, its devices or their links cannot be planned with: a cycle, a negative cost, nothing there."""


class InvalidRequest(InvalidInput):
    """An inference request that cannot be served.

    ``status`` is the HTTP status of the answer (Open Inference Protocol v2: 4xx with ``error``).
    """

    status: ClassVar[int] = 400


class UnknownModel(InvalidRequest):
    """No model of that name (or version) is in service."""

    status = 404


class UnknownPath(InvalidRequest):
    """The protocol has nothing at a path."""

    status = 404


class WrongMethod(InvalidRequest):
    """A path is asked with another method than ``allowed``, the one that it has."""

    status = 405

    def __init__(self, sentence: str, allowed: str) -> None:
        super().__init__(sentence)
        self.allowed = allowed


class PayloadTooLarge(InvalidRequest):
    """A request or response is over the transport's limit."""

    status = 413


class UnsupportedMediaType(InvalidRequest):
    """A request's body is of a kind that is not understood."""

    status = 415


class Refused(IsthmusError):
    """Understood, and not allowed or not possible here; the message names the rule."""


class NoPlacement(Refused):
    """No device may and can run the job; the message lists each device's reason."""


class BudgetExceeded(Refused):
    """An attempt would cost more than a budget leaves, or has cost what was set aside for it: what it needs, what there
    is, what to do."""


class NoPlan(Refused):
    """No slicing meets every constraint; the message says which cannot be met, by how much, and the
    smallest change that would make a plan possible."""


class NotRedrivable(Refused):
    """An execution cannot be redriven: it runs, ended well, or is too old; the message says what to do."""


class PolicyViolation(Refused):
    """The data policy forbids this move; the message names the rule."""


class PermissionMissing(Refused):
    """IAM refuses a call; the message names the identity, the action, the resource and what to do."""


class LimitExceeded(Refused):
    """An AWS limit would be passed; the message states the sum and the largest parts."""


class StillRunning(Refused):
    """Executions of a stack that is to be removed are running; the message names them."""


class OtherStack(Refused):
    """Something of this name exists and belongs to another stack of the same account and region."""


class ForeignStack(Refused):
    """The CloudFormation stack that a command shall work on was not made from isthmus's template."""


class Unauthorized(Refused):
    """Whoever calls is not let in. API Gateway turns an authorizer's error of exactly this text into a 401."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class SlicesDiffer(Refused):
    """A model's slices, one after the other, do not answer what the whole answers; they are not made."""

    exit_code = 2


class ReleaseOutdated(Refused):
    """A device has had a later release of the model in service; a rollback is a new release of an old bundle."""


class SignatureInvalid(Refused):
    """A bundle's signature does not fit its manifest."""


class PeerUntrusted(Refused):
    """Who is at the other end of a stream could not prove who it is, or did not accept our proof."""


class TrainingFailed(IsthmusError):
    """The training script failed; the message ends with its last lines."""


class ParityFailed(TrainingFailed):
    """The exported ONNX model differs from the framework's own outputs by more than allowed."""


class AttemptLost(IsthmusError):
    """The rig vanished while it held the lease; not the script's fault."""


class ProofFailed(IsthmusError):
    """A staged version gave a wrong answer to a golden input."""


class RolloutUnhealthy(IsthmusError):
    """A version failed health checks while traffic was shifted, or nothing was seen of it."""


class RolloutBusy(IsthmusError):
    """Another roll-out of the same model is under way; the call may be repeated."""


class EdgeDeploymentFailed(IsthmusError):
    """A Greengrass deployment or one of its core devices failed."""


class StackNotDeleted(IsthmusError):
    """CloudFormation could not delete a stack; the message names each resource and its reason."""


class PlanUnsound(IsthmusError):
    """A method returned a plan that the independent verifier refuses: a fault of isthmus, never acted on."""


class Conflict(IsthmusError):
    """A conditional write lost: somebody else committed first."""


class Unavailable(IsthmusError):
    """A service did not answer in time; the call may be repeated."""


class Throttled(Unavailable):
    """A function takes no more calls at present; the same call may be made later."""


class DeadlineExceeded(Unavailable):
    """No answer within the time that the caller gave."""


class InvalidAnswer(Unavailable):
    """An answer that is none by the protocol, or that belongs to another request."""


class InvalidFrame(InvalidAnswer):
    """Bytes of a stream are no frame of the protocol, or their checksum is another's."""


class ChannelClosed(Unavailable):
    """The other side ended the exchange, or this side closed its channel."""


class SessionLost(Unavailable):
    """The other side has started anew: what it had acknowledged is lost with it, and can be asked again."""


class NotChecked(IsthmusError):
    """A check of ``isthmus doctor`` could not be made; the message says why."""


class EnvironmentProblem(IsthmusError):
    """Something that this machine must have is missing; the message says how to get it."""


DEPLOYMENT_FAULTS = (PermissionMissing, EnvironmentProblem)
"""What a function, or a rig by it, meets at every further call until somebody mends the stack."""
