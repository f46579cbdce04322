"""A machine becomes a core device of a stack: its certificate, what that may do, and the nucleus' configuration.

The nucleus' file is the commit point: it names a certificate whose files are there already, and whatever broke off
before it is done again. Names of fields: developer guide, "Install AWS IoT Greengrass Core software with manual
resource provisioning", and the configuration that nucleus lite reads (``services.aws.greengrass.NucleusLite``).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from isthmus.device_keys import give, new_key, write_private
from isthmus.errors import EnvironmentProblem, InvalidDocument, Refused
from isthmus.model.core_device import CorePlace, Flavour
from isthmus.ports import CoreRegistry

CONFIG = "isthmus-core.yaml"
CERTIFICATES = "isthmus-certificates"
AUTHORITY = "authority.pem"
NUCLEUS: dict[Flavour, str] = {"classic": "aws.greengrass.Nucleus", "lite": "aws.greengrass.NucleusLite"}
MAX_POLICY_CHARACTERS = 2048
"""Of an IoT policy, blanks not counted (AWS IoT Core quotas)."""


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """A core device as ``join`` left it. ``new``: it has another certificate than before."""

    name: str
    certificate_id: str
    config: str
    flavour: Flavour
    new: bool


def core_policy(name: str, place: CorePlace, alias: str) -> str:
    """Return the IoT policy (JSON) of one core device: what its nucleus needs, and no other device's.

    AWS' own minimum (developer guide, "Minimal AWS IoT policy for AWS IoT Greengrass V2 core devices") ends
    each name by ``*``, by which shop-1 may be shop-12: variables of things do not work for core devices. A nucleus
    connects as its thing, and further connections add ``#`` and a number (nucleus, ``MqttClient.java``).
    """
    iot = f"arn:{place.partition}:iot:{place.region}:{place.account}"
    own = f"$aws/things/{name}"
    spoken = [f"{own}/{end}" for end in ("greengrass/health/json", "greengrassv2/health/json")]
    followed = [f"{own}/jobs/*", f"{own}/shadow/*"]
    reads = ("GetComponentVersionArtifact", "ResolveComponentCandidates", "GetDeploymentConfiguration")
    statements = [
        _allow(["iot:Connect"], [f"{iot}:client/{name}", f"{iot}:client/{name}#*"]),
        _allow(["iot:Publish", "iot:Receive"], [f"{iot}:topic/{topic}" for topic in (*spoken, *followed)]),
        _allow(["iot:Subscribe"], [f"{iot}:topicfilter/{topic}" for topic in followed]),
        _allow(["iot:AssumeRoleWithCertificate"], [f"{iot}:rolealias/{alias}"]),
        _allow([f"greengrass:{action}" for action in (*reads, "ListThingGroupsForCoreDevice")], ["*"]),
    ]
    found = json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))
    if len(found) > MAX_POLICY_CHARACTERS:
        raise Refused(
            f"the policy of {name} would have {len(found)} characters; IoT takes {MAX_POLICY_CHARACTERS}: "
            "give the device a shorter name"
        )
    return found


def _allow(actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


def join(
    folder: Path,
    name: str,
    registry: CoreRegistry,
    *,
    alias: str,
    authority: str,
    flavour: Flavour,
    root: str,
    user: str,
    canary: bool | None = None,
    owner: str = "",
) -> Joined:
    """Make this machine the core device ``name``; joining again renews what changed and keeps the certificate.

    ``authority``: PEM of who signs AWS' endpoints. ``root``: where the nucleus works. ``user``: as whom it runs
    components, ``USER:GROUP``. ``canary``: whether it gets releases before the others; None: as it is.
    ``owner``: ``USER:GROUP`` whom the folder and what is in it belong to; empty: as it is.

    Raises:
        Refused: the folder is another device's, or the name is too long.
        EnvironmentProblem: the folder cannot be written to.
    """
    place = registry.place()
    have = read(folder)
    if have is not None and have["system"]["thingName"] != name:
        raise Refused(
            f"{folder} holds the core device {have['system']['thingName']}; give {name} another folder, or "
            f"`isthmus edge leave {have['system']['thingName']}` first"
        )
    _give_folder(folder, owner)
    registry.grant(name, core_policy(name, place, alias))
    kept = _kept(have, name, registry)
    try:
        certificate = kept or _issue(folder, name, registry)
        registry.admit(name, canary=canary)
        write_private(folder / f".{AUTHORITY}", authority.encode("ascii"), folder)
        os.replace(folder / f".{AUTHORITY}", folder / AUTHORITY)
        config = _config(folder, name, certificate, place, alias, flavour=flavour, root=root, user=user)
        write_private(folder / f".{CONFIG}", config.encode(), folder)
        os.replace(folder / f".{CONFIG}", folder / CONFIG)
        for other in (folder / CERTIFICATES).iterdir():
            if other.name != certificate:
                shutil.rmtree(other)
    except PermissionError as error:
        raise EnvironmentProblem(f"{error.filename} is another user's: run this with sudo") from error
    _forget_others(name, certificate, registry)
    path = str(folder / CONFIG)
    return Joined(
        name=name, certificate_id=certificate, config=path, flavour=flavour, new=certificate != kept
    )


def leave(name: str, registry: CoreRegistry, folder: Path | None = None) -> list[str]:
    """Take a core device from the registry, and its files from ``folder``; return the ids of its certificates.

    Its components run on, without a cloud, until the nucleus is stopped.

    Raises:
        Refused: there is no such device, or the folder is another's.
    """
    have = read(folder) if folder is not None else None
    if have is not None and have["system"]["thingName"] != name:
        raise Refused(f"{folder} holds the core device {have['system']['thingName']}, not {name}")
    certificates = registry.certificates(name)
    found = certificates.of(name)
    if not found and name not in registry.members():
        raise Refused(f"there is no core device {name}; there are: {', '.join(registry.members()) or 'none'}")
    for entry in found:
        certificates.remove(entry, name)
    registry.expel(name)
    if have is not None and folder is not None:
        (folder / CONFIG).unlink()
        (folder / AUTHORITY).unlink(missing_ok=True)
        shutil.rmtree(folder / CERTIFICATES, ignore_errors=True)
    return [entry.id for entry in found]


def read(folder: Path) -> dict[str, Any] | None:
    """Return the nucleus' configuration that ``join`` wrote, or None.

    Raises:
        InvalidDocument: it is no such file.
    """
    import yaml

    try:
        found = yaml.safe_load((folder / CONFIG).read_text())
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise EnvironmentProblem(f"{folder / CONFIG} is another user's: run this with sudo") from error
    except yaml.YAMLError as error:
        raise InvalidDocument(f"{folder / CONFIG} is not YAML: {error}") from error
    system = found.get("system") if isinstance(found, dict) else None
    if not isinstance(system, dict) or not isinstance(system.get("thingName"), str):
        raise InvalidDocument(f"{folder / CONFIG} needs system.thingName, as `isthmus edge join` writes it")
    return dict(found)


def _kept(have: dict[str, Any] | None, name: str, registry: CoreRegistry) -> str:
    """Return the id of the certificate in use, if it is still of use; else nothing."""
    if have is None:
        return ""
    paths = [Path(have["system"].get(field, "")) for field in ("certificateFilePath", "privateKeyPath")]
    identity = paths[0].parent.name
    active = {entry.id for entry in registry.certificates(name).of(name) if entry.active}
    return identity if identity in active and all(path.is_file() for path in paths) else ""


def _give_folder(folder: Path, owner: str) -> None:
    """Make the folder, and let it belong to whom the nucleus runs as: files follow their folder (``write_private``).

    Raises:
        Refused: there is no such user or group.
        EnvironmentProblem: the folder cannot be made or given.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        if owner:
            user, _, group = owner.partition(":")
            shutil.chown(folder, user, group or None)
    except LookupError as error:
        raise Refused(
            f"the nucleus runs as {owner}, whom this machine does not have ({error}): install it first, or say as whom "
            "it runs by --owner USER:GROUP"
        ) from error
    except PermissionError as error:
        raise EnvironmentProblem(
            f"{folder} cannot be made or given to {owner}: run this with sudo"
        ) from error


def _issue(folder: Path, name: str, registry: CoreRegistry) -> str:
    (folder / CERTIFICATES).mkdir(exist_ok=True, mode=0o700)
    key, request = new_key(name)
    entry, pem = registry.certificates(name).issue(name, request)
    place = folder / CERTIFICATES / entry.id
    place.mkdir(exist_ok=True, mode=0o700)
    for path in (place.parent, place):
        give(path, folder)
    write_private(place / "private.key", key, folder)
    write_private(place / "certificate.pem", pem.encode("ascii"), folder)
    return entry.id


def _forget_others(name: str, certificate: str, registry: CoreRegistry) -> None:
    """Of a join that broke off, or of the device's past: their keys are not here."""
    certificates = registry.certificates(name)
    for entry in certificates.of(name):
        if entry.id != certificate:
            certificates.remove(entry, name)


def _config(
    folder: Path,
    name: str,
    certificate: str,
    place: CorePlace,
    alias: str,
    *,
    flavour: Flavour,
    root: str,
    user: str,
) -> str:
    import yaml

    files = folder / CERTIFICATES / certificate
    # The classic nucleus spells it so; lite has a capital P.
    at = "rootpath" if flavour == "classic" else "rootPath"
    system = {
        "certificateFilePath": str(files / "certificate.pem"),
        "privateKeyPath": str(files / "private.key"),
        "rootCaPath": str(folder / AUTHORITY),
        at: root,
        "thingName": name,
    }
    configuration: dict[str, Any] = {
        "awsRegion": place.region,
        "iotRoleAlias": alias,
        "iotDataEndpoint": place.data,
        "iotCredEndpoint": place.credentials,
        "runWithDefault": {"posixUser": user},
    }
    if flavour == "lite":
        configuration["greengrassDataPlanePort"] = "8443"
    nucleus = {"componentType": "NUCLEUS", "configuration": configuration}
    return yaml.safe_dump({"system": system, "services": {NUCLEUS[flavour]: nucleus}}, sort_keys=False)
