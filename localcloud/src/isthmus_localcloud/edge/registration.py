"""Making a core device known to IoT: what an operator does once, with the operator's own access."""

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from ..errors import EdgeError


def register(endpoint_url: str, region: str, name: str, group: str | None) -> None:
    """Idempotent. Raises EdgeError when the thing group does not exist."""
    iot = boto3.client(
        "iot",
        endpoint_url=endpoint_url,
        region_name=region,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 2}, connect_timeout=5, read_timeout=20),
    )
    try:
        iot.create_thing(thingName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
            raise EdgeError(f"the thing {name} cannot be created: {error}") from error
    if group is None:
        return
    try:
        iot.add_thing_to_thing_group(thingName=name, thingGroupName=group)
    except ClientError as error:
        raise EdgeError(
            f"the core device {name} shall join the thing group {group}, which does not exist: "
            f"deploy the stack that has it first, or leave out --group"
        ) from error
