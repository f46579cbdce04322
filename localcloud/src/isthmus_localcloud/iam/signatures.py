"""Verifying Signature Version 4 of a request, with botocore's own arithmetic.

Source: IAM user guide, "Create a signed AWS API request". The sentences about a wrong scope are AWS's, as
quoted in Kong/insomnia#713 and aws/aws-sdk-php#2469.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

MAX_SKEW = timedelta(minutes=5)
HEADER = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/"
    r"aws4_request,\s*SignedHeaders=(?P<headers>[^,]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True)
class Signature:
    """What an Authorization header says."""

    access_key: str
    region: str
    service: str
    headers: tuple[str, ...]
    digest: str


def parse(header: str) -> Signature | None:
    """None for anything but a complete SigV4 header."""
    found = HEADER.fullmatch(header.strip())
    if found is None:
        return None
    names = tuple(found["headers"].split(";"))
    return Signature(found["key"], found["region"], found["service"], names, found["signature"])


def out_of_scope(signature: Signature, service: str, region: str) -> str:
    """What AWS says of a signature for another service or region, or without the host; empty if right.

    Else one that was made for another API, or another service, would be taken here too.
    """
    said = []
    if signature.region != region:
        said.append(f"Credential should be scoped to a valid region, not '{signature.region}'. ")
    if signature.service != service:
        said.append(f"Credential should be scoped to correct service: '{service}'. ")
    if "host" not in signature.headers:
        said.append("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization. ")
    return "".join(said)


def is_right(
    signature: Signature, secret: str, method: str, url: str, headers: Mapping[str, str], body: bytes
) -> bool:
    """``url`` as it was signed: with the host that the request names."""
    signed = {name: headers.get(name, "") for name in signature.headers}
    request = AWSRequest(method, url, data=body, headers=signed)
    request.context["timestamp"] = signed.get("x-amz-date", "")
    auth = SigV4Auth(Credentials(signature.access_key, secret), signature.service, signature.region)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    return hmac.compare_digest(auth.signature(text, request), signature.digest)


def is_fresh(stamp: str, now: datetime) -> bool:
    """Within five minutes of ``now``, as AWS wants it."""
    try:
        made = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(now - made) <= MAX_SKEW
