"""Datasets that stay where they are: where that is, and whether their policy lets them be there, or in the bucket."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from isthmus import documents
from isthmus.errors import InvalidDocument, InvalidInput, PolicyViolation, Refused
from isthmus.model import layout
from isthmus.model.dataset import InPlace, Manifest
from isthmus.model.device import DeviceDescriptor
from isthmus.model.policy import DataPolicy


def locate(where: str, zone: str | None, devices: Iterable[DeviceDescriptor]) -> InPlace:
    """Return where a dataset lies that is read in place.

    ``where`` is a data root's name, with a folder below it or not: ``scans/2026``. ``zone``: None is that of the
    devices that have the root.

    Raises:
        InvalidInput: ``where`` is no such name.
        Refused: no device has that root, or devices of several zones do and none was named.
    """
    root, _, folder = where.strip("/").partition("/")
    known = list(devices)
    having = [device for device in known if root in device.data_roots]
    zones = sorted({device.zone for device in having if zone in (None, device.zone)})
    if not zones:
        raise Refused(_nobody(root, zone, known))
    if len(zones) > 1:
        raise Refused(
            f"needs the zone of the data root {root}, which devices in {' and '.join(zones)} have: name it with --zone"
        )
    try:
        return documents.convert(
            InPlace, {"zone": zones[0], "root": root, "folder": folder or None}, "where the files lie"
        )
    except InvalidDocument as error:
        raise InvalidInput(
            f"needs a data root, and a folder below it or none, not {where!r}: {error}"
        ) from error


def _nobody(root: str, zone: str | None, devices: Iterable[DeviceDescriptor]) -> str:
    there = [f"{d.id} in {d.zone} has {', '.join(d.data_roots)}" for d in devices if d.data_roots]
    has = "; ".join(there) or "no device has any"
    return (
        f"needs a device{f' in {zone}' if zone else ''} with the data root {root}; {has}: name the folder in "
        "[data_roots] of the rig's rig.toml, and start its agent again"
    )


def check_upload(dataset: str, policy: DataPolicy, bucket_zone: str) -> None:
    """Ask whether a dataset's raw data may lie in the bucket.

    Raises:
        PolicyViolation: they may not; the message has need, have and do.
    """
    if dataset.startswith(layout.PINNED):
        raise PolicyViolation(
            f"needs files that stay where they are, for the name {dataset} begins with {layout.PINNED}, and the bucket "
            "takes no files under such a name, whatever a policy says: push with --in-place, or under another name"
        )
    if not policy.allows_zone(bucket_zone):
        raise PolicyViolation(
            f"needs a data policy of {dataset} that lets raw data lie in {bucket_zone}, where the bucket is; it lets "
            f"them lie in {', '.join(policy.zones) or 'no zone'} alone: leave them there, and push with --in-place"
        )


def check_location(
    dataset: str, in_place: InPlace, policy: DataPolicy | None, bucket_zone: str
) -> DataPolicy:
    """Ask whether raw data may lie where they do, and whether what is learnt from them may come to the bucket.

    ``policy``: the dataset's own. Without one (None) nothing is read in place, for whoever pushes chooses the name.
    Returned is the policy that lets them.

    Raises:
        PolicyViolation: the message has need, have and do.
    """
    if policy is None:
        raise PolicyViolation(
            f"needs a data policy of {dataset} itself, for its files are read in {in_place}; it has none: have an "
            f"administrator set one (isthmus policy set {dataset} --zones {in_place.zone}), or push under "
            "a name with one"
        )
    if not policy.allows_zone(in_place.zone):
        raise PolicyViolation(
            f"needs a data policy of {dataset} that lets raw data lie in {in_place.zone}, where {in_place} is; it lets "
            f"them lie in {', '.join(policy.zones) or 'no zone'} alone: move them, or have the policy changed"
        )
    if not policy.lets_models_lie_in(bucket_zone):
        raise PolicyViolation(
            f"needs a data policy of {dataset} that lets results leave {in_place.zone}, for the trained model comes to "
            f"{bucket_zone}; it lets nothing leave: have it changed to --may-leave results"
        )
    return policy


def check_policy(manifest: Manifest, policy: DataPolicy | None, bucket_zone: str) -> None:
    """Ask either of a manifest. ``policy``: the dataset's own, or None. Raises PolicyViolation."""
    if manifest.in_place is not msgspec.UNSET:
        check_location(manifest.dataset, manifest.in_place, policy, bucket_zone)
    elif manifest.files:
        check_upload(manifest.dataset, policy or DataPolicy(), bucket_zone)
