"""What a request to S3 takes.

Source: Service Authorization Reference, Amazon S3; S3 user guide, "Required permissions for Amazon S3 API
operations", and "Using server-side encryption with AWS KMS keys", permissions.
"""

from collections.abc import Iterator

from localemu.services.iam_enforcement.service_action_map import map_action

from . import attached
from .calls import MISSING_OBJECT, Call, Check

ACTIONS = {
    "AbortMultipartUpload": "AbortMultipartUpload",
    "CompleteMultipartUpload": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "HeadObject": "GetObject",
    "UploadPart": "PutObject",
}
MULTIPART = ("CompleteMultipartUpload", "CreateMultipartUpload", "UploadPart")
READS_OF_ONE = ("GetObject", "HeadObject")


def checks(call: Call) -> Iterator[Check]:
    bucket = f"arn:aws:s3:::{call.text('Bucket')}"
    key = call.text("Key")
    match call.operation:
        case "ListBuckets":
            yield Check("s3:ListAllMyBuckets", "*")
        case "DeleteObjects":
            for entry in call.params.get("Delete", {}).get("Objects", []):
                yield Check(_versioned("DeleteObject", entry.get("VersionId")), f"{bucket}/{entry['Key']}")
        case "CopyObject" | "UploadPartCopy":
            yield from _copy(call, f"{bucket}/{key}")
        case "ListObjects" | "ListObjectsV2":
            yield Check("s3:ListBucket", bucket, {"s3:prefix": call.text("Prefix")})
        case _ if key:
            yield from _object(call, bucket, key)
        case _:
            yield from (Check(action, bucket) for action in map_action("s3", call.operation))


def _object(call: Call, bucket: str, key: str) -> Iterator[Check]:
    action = ACTIONS.get(call.operation, call.operation)
    version = call.text("VersionId") or None
    yield Check(_versioned(action, version), f"{bucket}/{key}")
    if action == "PutObject":
        if call.params.get("Tagging"):
            yield Check("s3:PutObjectTagging", f"{bucket}/{key}", implied="the request sets tags")
        yield from _to_write(call)
    elif call.operation in READS_OF_ONE:
        yield from to_read(call, call.text("Bucket"), key, version)


def to_read(call: Call, bucket: str, key: str, version: str | None = None) -> Iterator[Check]:
    """What reading takes beyond s3:GetObject; the object itself decides."""
    found = attached.object_of(call.account, bucket, key, version)
    if found is None:
        yield Check("s3:ListBucket", f"arn:aws:s3:::{bucket}", {"s3:prefix": key}, implied=MISSING_OBJECT)
        return
    if arn := attached.customer_key(call.account, call.region, found.kms_key_id):
        yield through(call, "s3", "kms:Decrypt", arn, "the object is encrypted with this key")


def _to_write(call: Call) -> Iterator[Check]:
    named = call.text("SSEKMSKeyId")
    arn = attached.customer_key(call.account, call.region, named) if named else None
    if arn is None and call.params.get("ServerSideEncryption") != "AES256":
        arn = attached.bucket_key(call.account, call.region, call.text("Bucket"))
    if arn is not None:
        reason = "the bucket's objects are encrypted with this key"
        yield through(call, "s3", "kms:GenerateDataKey", arn, reason)
        if call.operation in MULTIPART:
            yield through(call, "s3", "kms:Decrypt", arn, "S3 reads the parts that it encrypted")


def _copy(call: Call, target: str) -> Iterator[Check]:
    source = call.params["CopySource"]
    if isinstance(source, str):
        bucket, _, key = source.lstrip("/").partition("?")[0].partition("/")
    else:
        bucket, key = source["Bucket"], source["Key"]
    yield Check("s3:GetObject", f"arn:aws:s3:::{bucket}/{key}")
    yield from to_read(call, bucket, key)
    yield Check("s3:PutObject", target)
    yield from _to_write(call)


def _versioned(action: str, version: str | None) -> str:
    return f"s3:{action}Version" if version and action in ("GetObject", "DeleteObject") else f"s3:{action}"


def through(call: Call, service: str, action: str, key_arn: str, reason: str) -> Check:
    """A use of a key that a service makes in the caller's name."""
    keys = {
        "kms:ViaService": f"{service}.{call.region}.amazonaws.com",
        "kms:CallerAccount": call.account,
    }
    return Check(action, key_arn, keys, implied=reason)
