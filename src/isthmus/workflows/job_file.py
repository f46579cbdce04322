"""Reading a job as people write it: YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isthmus.errors import InvalidJob
from isthmus.model.units import MIB, format_bytes

MAX_JOB_BYTES = MIB


def read_job(path: Path) -> dict[str, Any]:
    """Return the YAML mapping in ``path``.

    Raises:
        InvalidJob: no such file, too large, not YAML, or not a mapping.
    """
    import yaml

    try:
        if path.stat().st_size > MAX_JOB_BYTES:
            raise InvalidJob(f"{path} is larger than {format_bytes(MAX_JOB_BYTES)}")
        job = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InvalidJob(f"the job {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidJob(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(job, dict):
        raise InvalidJob(f"{path} must hold a mapping, not {type(job).__name__}")
    return job
