"""Reading what ``isthmus plan`` is given: networks, devices and policies, as JSON or YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from isthmus import documents
from isthmus.errors import EnvironmentProblem, InvalidDocument, InvalidInput, InvalidModel
from isthmus.frameworks import networks
from isthmus.model.device import DeviceDescriptor
from isthmus.model.network import NetworkProfile
from isthmus.model.policy import DataPolicy
from isthmus.model.units import format_bytes
from isthmus.planning.cloud_devices import cloud_device, is_cloud_device

T = TypeVar("T")


def read_bytes(path: Path, what: str) -> bytes:
    """Return a file's content.

    Raises:
        InvalidDocument: it cannot be read, or is larger than any document.
    """
    try:
        if path.stat().st_size > documents.MAX_DOCUMENT_BYTES:
            raise InvalidDocument(f"{path} is larger than {format_bytes(documents.MAX_DOCUMENT_BYTES)}")
        return path.read_bytes()
    except OSError as error:
        raise InvalidDocument(f"{what} {path} cannot be read: {error.strerror}") from error


def read_network(path: Path, dimensions: Mapping[str, int]) -> NetworkProfile:
    """Return the profile in a ``.json`` file, or that of a model of any kind that can be read.

    Raises:
        InvalidDocument: the profile cannot be used.
        InvalidModel: the model cannot.
        EnvironmentProblem: what reads it is not installed.
    """
    if path.suffix == ".json":
        return documents.decode(NetworkProfile, read_bytes(path, "the profile"), f"the profile {path}")
    if not path.exists():
        raise InvalidModel(f"there is no {path}; needed is a model, or its profile in JSON")
    return networks.profile(path, dimensions)


def read_dimensions(texts: Sequence[str]) -> dict[str, int]:
    """Return the sizes in ``NAME=N`` texts.

    Raises:
        InvalidInput: a text is none.
    """
    found = {}
    for text in texts:
        name, _, size = text.partition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise InvalidInput(f"--dimension needs NAME=N, such as sequence=128; it is {text!r}")
        found[name] = int(size)
    return found


def read_devices(paths: Sequence[Path]) -> list[DeviceDescriptor]:
    """Return the descriptors of all files in order; a file holds one, or a list.

    What is named like ``sagemaker:ml.g5.xlarge`` or ``lambda:1769`` is no file, but a device of the cloud.

    Raises:
        InvalidDocument: a file cannot be read, or does not hold descriptors.
        InvalidInput: there is no such device of the cloud.
    """
    found = []
    for path in paths:
        if is_cloud_device(str(path)):
            found.append(cloud_device(str(path)))
            continue
        value = _parsed(path, "the devices")
        entries = value if isinstance(value, list) else [value]
        for k, entry in enumerate(entries):
            where = f"device {k} of {path}" if isinstance(value, list) else f"the device {path}"
            found.append(documents.convert(DeviceDescriptor, entry, where))
    return found


def read_policy(path: Path | None) -> DataPolicy:
    """Return the policy in a file; without one, the policy of a dataset that has none.

    Raises:
        InvalidDocument: it cannot be read, or is none.
    """
    if path is None:
        return DataPolicy()
    return documents.convert(DataPolicy, _parsed(path, "the policy"), f"the policy {path}")


def _parsed(path: Path, what: str) -> Any:
    import yaml

    raw = read_bytes(path, what)
    if path.suffix == ".json":
        return documents.decode(object, raw, f"{what} {path}")
    try:
        return yaml.safe_load(raw)
    except RecursionError as error:
        raise InvalidDocument(f"{path} is nested too deep to be read") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidDocument(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def check_writable(paths: Sequence[Path | None]) -> None:
    """Find out before a long search that its result would have no place.

    Raises:
        EnvironmentProblem: a file's folder is not there.
    """
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise EnvironmentProblem(f"{path} cannot be written: there is no folder {path.absolute().parent}")


def write(path: Path, content: bytes) -> None:
    """Write a file.

    Raises:
        EnvironmentProblem: it cannot be written.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise EnvironmentProblem(f"{path} cannot be written: {error.strerror}") from error
