"""What a core device is by its nucleus' configuration: a certificate, and by it credentials of the alias.

Source: developer guide, "Install AWS IoT Greengrass Core software with manual resource provisioning" (the
file's fields), and IoT Core's "Authorizing direct calls to AWS services using AWS IoT Core credential
provider". A nucleus gives its own files up to nobody, so here, too, only credentials leave this module.
"""

import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import EdgeError

NUCLEI = ("aws.greengrass.Nucleus", "aws.greengrass.NucleusLite")
TIMEOUT_SECONDS = 20.0


class NoCredentials(Exception):
    """The provider refused; the text says what it said."""


@dataclass(frozen=True)
class Identity:
    """From a file that a nucleus would be started with."""

    thing: str
    certificate: Path
    key: Path
    authority: Path
    endpoint: str
    alias: str

    @classmethod
    def read(cls, file: Path) -> "Identity":
        """Raises EdgeError for a file that no nucleus would start with."""
        try:
            found: dict[str, Any] = yaml.safe_load(file.read_text())
            system = found["system"]
            nucleus = next(found["services"][name] for name in NUCLEI if name in found["services"])
            configuration = nucleus["configuration"]
            identity = cls(
                thing=str(system["thingName"]),
                certificate=Path(system["certificateFilePath"]),
                key=Path(system["privateKeyPath"]),
                authority=Path(system["rootCaPath"]),
                endpoint=str(configuration["iotCredEndpoint"]),
                alias=str(configuration["iotRoleAlias"]),
            )
        except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
            raise EdgeError(f"{file} is no configuration of a nucleus: {error!r}") from error
        for path in (identity.certificate, identity.key, identity.authority):
            if not path.is_file():
                raise EdgeError(f"{file} names {path}, which is not there")
        return identity

    def credentials(self) -> dict[str, str]:
        """The variables that let whoever has them call AWS as the device. Raises OSError, NoCredentials."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.certificate, self.key)
        connection = http.client.HTTPSConnection(self.endpoint, context=context, timeout=TIMEOUT_SECONDS)
        try:
            path = f"/role-aliases/{self.alias}/credentials"
            connection.request("GET", path, headers={"x-amzn-iot-thingname": self.thing})
            answer = connection.getresponse()
            body = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise NoCredentials(f"the credentials provider answered {answer.status}: {body.get('message')}")
        given = body["credentials"]
        return {
            "AWS_ACCESS_KEY_ID": given["accessKeyId"],
            "AWS_SECRET_ACCESS_KEY": given["secretAccessKey"],
            "AWS_SESSION_TOKEN": given["sessionToken"],
        }
