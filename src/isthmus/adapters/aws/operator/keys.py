"""The stack's keys, on AWS KMS."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import DENIED_CODES, code_of, passing_trouble
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.adapters.aws.session import client
from isthmus.model import layout
from isthmus.model.inventory import Thing

WAITING_DAYS = 7
"""KMS deletes no key at once: 7 to 30 days, in which CancelKeyDeletion brings it back (API reference,
ScheduleKeyDeletion). The waiting costs nothing."""
KEPT_BY = {"DataKey": ("data", "models", "records"), "SigningKey": ("data", "models")}
"""Bytes outlive their key as noise: the bucket and the table are readable as long as DataKey exists,
and kept bundles can be released again as long as SigningKey does."""


class Keys:
    """By their description, which is exact: CloudFormation gives keys no names."""

    kind = "KMS key"

    def __init__(self, home: Home) -> None:
        self._descriptions = {text: name for name, text in layout.key_descriptions(home.stack).items()}

    @passing_trouble("KMS")
    def find(self) -> list[Thing]:
        found = []
        for key in _described():
            name = self._descriptions.get(key.get("Description", ""))
            if name and key["KeyManager"] == "CUSTOMER" and key["KeyState"] in ("Enabled", "Disabled"):
                note = f"a removed key is gone after {WAITING_DAYS} days, as KMS wants it"
                thing = Thing(
                    id=key["KeyId"],
                    name=f"{name} {key['KeyId']}",
                    kept_by=KEPT_BY[name],
                    price="kms_key_month",
                    note=note,
                )
                found.append(thing)
        return found

    @passing_trouble("KMS")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        kms = client("kms")
        # A stack of a version before keys outlived it has scheduled its own already.
        with suppress(kms.exceptions.KMSInvalidStateException):
            kms.schedule_key_deletion(KeyId=thing.id, PendingWindowInDays=WAITING_DAYS)


def _described() -> list[dict[str, Any]]:
    """Return what KMS tells of every key of the region that the caller may look at.

    A key's own policy decides who may describe it ("no one else has any permissions ... unless they are
    explicitly allowed": KMS developer guide, key policies), so one that refuses is somebody else's:
    the template's keys let the account's policies decide. Where every key refuses, it is the caller
    who lacks the right, and that is raised.
    """
    found, refused = [], []
    for entry in listed("kms", "list_keys", "Keys"):
        try:
            found.append(call("kms", "describe_key", KeyId=entry["KeyId"]).get("KeyMetadata", {}))
        except ClientError as error:
            if code_of(error) not in DENIED_CODES:
                raise
            refused.append(error)
    if refused and not found:
        raise refused[-1]
    return found
