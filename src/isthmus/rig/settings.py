"""What a person says of a device beside what is discovered: ``rig.toml``.

What discovery cannot know (zone, price) is given there. What it does find and a person replaces is an override,
and the descriptor shows it with what was found.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from isthmus import documents
from isthmus.errors import InvalidDocument, InvalidInput
from isthmus.model.device import Accelerator, DeviceDescriptor, Link, Usage
from isthmus.model.own_cost import OwnCost
from isthmus.planning.rig_rate import rig_rate

FILE = "rig.toml"
PRICE = "price_per_hour_usd"
DATA_ROOT = "data root "
"""Before a root's name, the key of ``not_measured`` that ``apply`` writes."""
Count = Annotated[int, msgspec.Meta(ge=1)]
Size = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
ROOT_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
"""As ``model.blob.Name``: it stands in manifests."""


class RigFile(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Fields of the descriptor, by their names; None: left to discovery.

    ``measure_rates``: false leaves out the minute of micro-benchmarks. ``cache_folder``: where datasets are kept,
    also for several agents; ``cache_bytes``: how much of them (docs/adr/0024). ``data_roots``: by name, folders whose
    datasets are read in place; the descriptor has the names alone (docs/adr/0030). ``cost``: what the price per hour is
    reckoned from, unless that is given.
    """

    measure_rates: bool | None = None
    cache_folder: Text | None = None
    cache_bytes: Count | None = None
    data_roots: dict[str, str] | None = None

    kind: Literal["rig", "edge"] | None = None
    zone: Text | None = None
    usage: tuple[Usage, ...] | None = None
    price_per_hour_usd: Amount | None = None
    cost: OwnCost | None = None
    power_watts: Amount | None = None
    arch: Text | None = None
    cores: Count | None = None
    memory_bytes: Size | None = None
    disk_free_bytes: Size | None = None
    accelerators: tuple[Accelerator, ...] | None = None
    frameworks: dict[str, tuple[str, ...]] | None = None
    features: tuple[str, ...] | None = None
    unsupported: tuple[str, ...] | None = None
    memory_bandwidth_bytes_per_second: Amount | None = None
    links: tuple[Link, ...] | None = None

    def __post_init__(self) -> None:
        for name, folder in (self.data_roots or {}).items():
            if not ROOT_NAME.fullmatch(name):
                raise ValueError(
                    "data_roots needs names of at most 40 small letters, digits and hyphens, such as scans; one is "
                    f"{name}"
                )
            if not folder.startswith("/") or not folder.strip("/."):
                raise ValueError(
                    f"data_roots.{name} needs an absolute path, such as /srv/{name}; it is {folder!r}"
                )

    def given(self) -> dict[str, Any]:
        """Return the fields that have a value."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}


NOTHING = RigFile()
GIVEN = frozenset({"kind", "zone", "usage", "price_per_hour_usd", "cost", "power_watts", "unsupported"})
"""Nobody discovers these: they are given, and override nothing."""
AGENTS_OWN = frozenset({"measure_rates", "cache_folder", "cache_bytes", "data_roots"})
"""What the agent does here; no part of the descriptor."""


def read(path: Path) -> RigFile:
    """Return what a file says.

    Raises:
        InvalidDocument: it cannot be read or used; the message names the key, and what was expected.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidDocument(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidDocument(f"{path} is not TOML: {error}") from error
    known = RigFile.__struct_fields__
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are: {', '.join(known)}"
            raise InvalidDocument(f"{path}: there is no key {key}{hint}")
    try:
        return msgspec.convert(found, RigFile)
    except msgspec.ValidationError as error:
        raise InvalidDocument(f"{path}: {_sentence(str(error))}") from error


def read_if_there(folder: Path) -> RigFile:
    """Return what a device's own file says; nothing where it has none."""
    path = folder / FILE
    return read(path) if path.is_file() else NOTHING


def keep(path: Path, folder: Path) -> None:
    """Copy a file to where the agent finds it when it looks at the machine again."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{FILE}.{os.getpid()}"
    temporary.write_bytes(path.read_bytes())
    os.replace(temporary, folder / FILE)


def merge(file: RigFile, given: RigFile) -> RigFile:
    """Add what the command line gave.

    Raises:
        InvalidInput: both give a field, and differ. At the next look the file alone would count.
    """
    there = file.given()
    for name, value in given.given().items():
        if there.get(name, value) != value:
            raise InvalidInput(
                f"{name} is {there[name]} in {FILE} and {value} on the command line; say it in one place"
            )
    return msgspec.structs.replace(file, **given.given())


def apply(device: DeviceDescriptor, settings: RigFile) -> DeviceDescriptor:
    """Return the descriptor with what was given and overridden; ``overrides`` keeps what had been discovered."""
    values = {name: value for name, value in settings.given().items() if name not in AGENTS_OWN}
    replaced = {
        name: msgspec.to_builtins(getattr(device, name))
        for name, value in values.items()
        if name not in GIVEN and getattr(device, name) != value
    }
    if settings.cost is not None:
        watts = values.get("power_watts", device.power_watts)
        rate = rig_rate(settings.cost, power_watts=watts, measured_watts=device.measured_watts)
        reckoned = {PRICE: round(rate.usd, 6)}
        if settings.price_per_hour_usd is None:
            values |= reckoned
        else:
            replaced |= reckoned
    found = msgspec.structs.replace(device, **values, overrides=replaced)
    return _with_data_roots(found, settings.data_roots) if settings.data_roots is not None else found


def _with_data_roots(device: DeviceDescriptor, folders: Mapping[str, str]) -> DeviceDescriptor:
    """Name the roots whose folders are there; of another, such as a disk that is not mounted, say that it is not."""
    there = tuple(sorted(name for name, folder in folders.items() if Path(folder).is_dir()))
    gone = {f"{DATA_ROOT}{name}": "its folder is not there" for name in sorted({*folders} - {*there})}
    return msgspec.structs.replace(device, data_roots=there, not_measured=device.not_measured | gone)


def undo(device: DeviceDescriptor) -> DeviceDescriptor:
    """Return a descriptor as it was discovered."""
    found = msgspec.to_builtins(device) | device.overrides | {"overrides": {}}
    return documents.convert(DeviceDescriptor, found, f"what was discovered of {device.id}")


def _sentence(told: str) -> str:
    """Turn msgspec's ``Expected `int | null`, got `str` - at `$.cores` `` around: key first."""
    match = re.fullmatch(r"(?s)(.*?)(?: - at `\$\.?(.*)`)?", told)
    what, where = (match.group(1), match.group(2)) if match else (told, "")
    what = re.sub(r" ?\| ?null", "", what)
    return f"{where}: {what[:1].lower()}{what[1:]}" if where else what
