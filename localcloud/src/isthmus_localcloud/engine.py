"""LocalEmu's own process: the settings that keep it on loopback, offline and inside the state folder."""

import os
import sys
from collections.abc import Mapping

from .preflight import HOST
from .state import STATE_VARIABLE, StateFolder

REGION_VARIABLE = "ISTHMUS_LOCALCLOUD_REGION"
PASSED_ON = ("PATH", "LANG", "LC_ALL", "ISTHMUS_LOCALCLOUD_DEBUG", "ISTHMUS_LOCALCLOUD_STOP_GRACE_SECONDS")


def engine_environment(state: StateFolder, port: int, region: str, host: Mapping[str, str]) -> dict[str, str]:
    """Everything LocalEmu reads. The user's own AWS settings and proxies do not reach it."""
    home = str(state.path / "home")
    return {
        **{name: host[name] for name in PASSED_ON if name in host},
        STATE_VARIABLE: str(state.path),
        REGION_VARIABLE: region,
        "HOME": home,
        "XDG_CACHE_HOME": f"{home}/.cache",
        "TMPDIR": str(state.tmp_dir),
        "CONFIG_DIR": f"{home}/.localemu",
        # Else a container would make it write to /var/lib, whoever started it.
        "OVERRIDE_IN_DOCKER": "0",
        "FILESYSTEM_ROOT": str(state.path / "localemu"),
        "LOCALEMU_VOLUME_DIR": str(state.path / "localemu" / "volume"),
        "GATEWAY_SERVER": "hypercorn",  # the default server listens on every interface
        "GATEWAY_LISTEN": f"{HOST}:{port}",
        "LOCALEMU_HOST": f"localhost:{port}",  # the default is a public name, which would need a resolver
        "SQS_ENDPOINT_STRATEGY": "path",
        "DNS_ADDRESS": "0",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DOCKER_SOCK": "/nonexistent/docker.sock",
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "LAMBDA_RUNTIME_EXECUTOR": "process",
        "LAMBDA_RUNTIME_ENVIRONMENT_TIMEOUT": "60",
        "PROVIDER_OVERRIDE_SAGEMAKER": "isthmus",
        "CFN_IGNORE_UNSUPPORTED_RESOURCE_TYPES": "0",
        "DEBUG": "1" if host.get("ISTHMUS_LOCALCLOUD_DEBUG") else "0",
        "PYTHONUNBUFFERED": "1",
    }


def engine_command() -> list[str]:
    return [sys.executable, "-m", "localemu.runtime.main"]


def free_environment() -> dict[str, str]:
    """For our own helper processes: the same restraint without LocalEmu's settings."""
    return {name: os.environ[name] for name in (*PASSED_ON, STATE_VARIABLE, "TMPDIR") if name in os.environ}
