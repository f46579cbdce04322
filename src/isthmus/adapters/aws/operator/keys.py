"""The stack's keys, on AWS KMS."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from isthmus.adapters.aws.errors import passing_trouble
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
        for entry in listed("kms", "list_keys", "Keys"):
            key = call("kms", "describe_key", KeyId=entry["KeyId"]).get("KeyMetadata", {})
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
