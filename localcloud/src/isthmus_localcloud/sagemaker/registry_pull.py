"""May a job's role pull its image? SageMaker does it in the role's name; here nothing is pulled.

Source: SageMaker developer guide, "CreateTrainingJob API: Execution role permissions".
"""

import contextlib
import re
from typing import Any

from botocore.exceptions import ClientError

ADDRESS = re.compile(r"([0-9]{12})\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/([^:@]+)[:@](.+)")
DENIED = ("AccessDenied", "AccessDeniedException")
LAYER = "sha256:" + "0" * 64


def pull(ecr: Any, image: str) -> None:
    """Raises ClientError when the role may not. Other images' registries ask for no rights of AWS."""
    found = ADDRESS.fullmatch(image)
    if found is None:
        return
    account, repository, tag = found.groups()
    where = {"registryId": account, "repositoryName": repository}
    ecr.get_authorization_token()
    with unless_denied():
        ecr.batch_get_image(**where, imageIds=[{"imageTag": tag}])
    with unless_denied():
        ecr.batch_check_layer_availability(**where, layerDigests=[LAYER])
    with unless_denied():
        ecr.get_download_url_for_layer(**where, layerDigest=LAYER)


@contextlib.contextmanager
def unless_denied() -> Any:
    """There is no such image, and need not be: the command of ``--image`` runs in its place."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] in DENIED:
            raise
