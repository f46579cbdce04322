"""Recipe variables and the environment of components on a device.

Source: developer guide, "Recipe variables" and "Component environment variable reference".
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .identity import Identity
from .resolver import Item
from .store import DeviceFolder

PATTERN = re.compile(r"\{(?:([a-zA-Z0-9-_.]+):)?(artifacts|work|configuration|kernel|iot):([^{}\s]*)\}")


class UnknownVariable(Exception):
    """A recipe variable has no value; the text names it."""


@dataclass(frozen=True)
class Device:
    """What every component of a device may know.

    ``credentials``: variables with its role's own, or its certificate's; a device without either works with
    the operator's.
    """

    name: str
    folder: DeviceFolder
    account: str
    region: str
    link_port: int
    role: str | None = None
    identity: Identity | None = None
    credentials: dict[str, str] = field(default_factory=dict)

    @property
    def has_credentials(self) -> bool:
        """Whether it has any of its own."""
        return bool(self.role or self.identity)


def pointer(configuration: Any, path: str) -> str:
    """The value at a JSON pointer, as text. Raises UnknownVariable."""
    value = configuration
    for part in [piece for piece in path.split("/") if piece]:
        part = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(value, dict) or part not in value:
            raise UnknownVariable(f"there is no configuration at {path}")
        value = value[part]
    return value if isinstance(value, str) else json.dumps(value)


def interpolate(text: str, item: Item, plan: Mapping[str, Item], device: Device) -> str:
    """Replace recipe variables; another component's need a dependency on it. Raises UnknownVariable."""

    def value(match: re.Match[str]) -> str:
        owner, kind, key = match.groups()
        if owner is not None and owner != item.name and owner not in item.depends:
            raise UnknownVariable(f"{match.group(0)}: {item.name} has no dependency on {owner}")
        target = item if owner is None else plan[owner]
        return variable(target, kind, key, device)

    return PATTERN.sub(value, text)


def variable(item: Item, kind: str, key: str, device: Device) -> str:
    folder = device.folder
    match (kind, key):
        case ("artifacts", "path"):
            return str(folder.artifacts(item.name, item.version))
        case ("artifacts", "decompressedPath"):
            return str(folder.unarchived(item.name, item.version))
        case ("work", "path"):
            return str(folder.work(item.name))
        case ("kernel", "rootPath"):
            return str(folder.root)
        case ("iot", "thingName"):
            return device.name
        case ("configuration", _):
            return pointer(item.configuration, key)
    raise UnknownVariable(f"{{{kind}:{key}}} is not a recipe variable")


def environment(device: Device) -> dict[str, str]:
    """What a component sees: the documented variables, and credentials that work through the link only."""
    tmp = str(device.folder.root / "tmp")
    operator = {"AWS_ACCESS_KEY_ID": device.account, "AWS_SECRET_ACCESS_KEY": "local"}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": tmp,
        "TMPDIR": tmp,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_IOT_THING_NAME": device.name,
        "AWS_REGION": device.region,
        "AWS_DEFAULT_REGION": device.region,
        "GGC_VERSION": "2.14.0",
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(device.folder.root / "ipc.socket"),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{device.link_port}",
        **(device.credentials if device.has_credentials else operator),
    }
