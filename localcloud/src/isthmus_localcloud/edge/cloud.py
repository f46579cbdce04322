"""The device's view of the cloud: plain HTTP through its link."""

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from .identity import Identity, NoCredentials

TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 1024 * 1024


class Unreachable(Exception):
    """The link is cut or the cloud is down: try again later."""


class Refused(Exception):
    """The cloud answered with an error; the text says which."""


class Cloud:
    """Calls below ``/_isthmus/greengrass`` for one device.

    ``role``: its token exchange role, with which artifacts are read; without one, the operator's rights.
    ``identity``: instead of both, its certificate: by it the device gets credentials, and reads the bucket.
    """

    def __init__(
        self,
        link_port: int,
        account: str,
        region: str,
        name: str,
        role: str | None = None,
        identity: Identity | None = None,
    ) -> None:
        self._role, self._identity, self._region = role, identity, region
        self._keys: dict[str, str] = {}
        self._endpoint = f"http://127.0.0.1:{link_port}"
        self._base = f"http://127.0.0.1:{link_port}/_isthmus/greengrass/{account}/{region}"
        self._name = name

    def _open(self, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(f"{self._base}/{path}", data=body)
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            raise Refused(error.read().decode(errors="replace")[:500]) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(str(error)) from error

    def _json(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        try:
            with self._open(path, data) as answer:
                return json.loads(answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(str(error)) from error

    def poll(self, report: dict[str, Any]) -> list[dict[str, Any]]:
        """Send the device's report; what its targets' latest deployments ask for comes back."""
        found: list[dict[str, Any]] = self._json(f"cores/{self._name}/poll", report)["deployments"]
        return found

    def versions(self, component: str) -> list[dict[str, Any]]:
        """Every version: ``recipe`` and, for an imported Lambda, ``function``."""
        found: list[dict[str, Any]] = self._json(f"components/{component}")["versions"]
        return found

    def credentials(self) -> dict[str, str]:
        """The variables that let a component call AWS with the device's role, good for an hour."""
        if self._identity is None:
            found: dict[str, str] = self._json(f"credentials?role={urllib.parse.quote(self._role or '')}")
            return found
        try:
            self._keys = self._identity.credentials()
        except NoCredentials as error:
            raise Refused(str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(str(error)) from error
        return self._keys

    def download(self, component: str, version: str, index: int, target: Path, uri: str = "") -> None:
        if self._identity is not None and uri.startswith("s3://"):
            self._read_bucket(uri, target)
            return
        as_role = f"?role={urllib.parse.quote(self._role)}" if self._role else ""
        path = f"components/{component}/{version}/artifacts/{index}{as_role}"
        try:
            with (
                self._open(path) as answer,
                target.open("wb") as file,
            ):
                while data := answer.read(CHUNK_BYTES):
                    file.write(data)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(str(error)) from error

    def _read_bucket(self, uri: str, target: Path) -> None:
        """As a nucleus does, which downloads private artifacts with its token exchange role."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, _, key = uri.removeprefix("s3://").partition("/")
        s3 = boto3.client(
            "s3",
            endpoint_url=self._endpoint,
            region_name=self._region,
            aws_access_key_id=self._keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self._keys["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=self._keys["AWS_SESSION_TOKEN"],
            config=Config(
                retries={"max_attempts": 2}, read_timeout=TIMEOUT_SECONDS, s3={"addressing_style": "path"}
            ),
        )
        try:
            with target.open("wb") as file:
                for data in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(CHUNK_BYTES):
                    file.write(data)
        except ClientError as error:
            raise Refused(f"{uri}: {error.response['Error']['Message']}") from error
        except BotoCoreError as error:
            raise Unreachable(str(error)) from error
