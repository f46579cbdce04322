"""Requests to the stack's API, signed with SigV4 as its IAM authorizer wants them."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import boto3
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from isthmus.errors import EnvironmentProblem, Unavailable
from isthmus.inference.http import HttpResponse

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_EXECUTE_API", "AWS_ENDPOINT_URL")
"""Where a request is sent instead of to its API's own address, which then goes in the Host header:
that is how a private API is called through a VPC endpoint."""

AGAIN = urllib3.Retry(
    total=None,
    connect=0,
    read=0,
    redirect=0,
    other=0,
    status=4,
    status_forcelist=(502,),
    allowed_methods=None,
    backoff_factor=0.5,
    raise_on_status=False,
)
"""Repeats what the gateway got no answer to, within eight seconds: a function may be between its new code
and its new layers while a deploy changes it. An inference may be asked twice."""


class SignedApi:
    """The REST API at ``base_url``, for example ``https://….execute-api.eu-west-1.amazonaws.com/v``."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._pool = urllib3.PoolManager(retries=AGAIN, timeout=35)

    def call(self, method: str, path: str, body: bytes = b"") -> HttpResponse:
        """Send one request.

        Raises:
            EnvironmentProblem: there are no credentials to sign with.
            Unavailable: no answer.
        """
        session = boto3.Session()
        credentials = session.get_credentials()
        if credentials is None:
            raise EnvironmentProblem("no AWS credentials were found to sign the request with")
        url = self._base_url + path
        request = AWSRequest(method, url, data=body, headers={"Content-Type": "application/json"})
        region = _region_of(url) or session.region_name or "us-east-1"
        SigV4Auth(credentials.get_frozen_credentials(), "execute-api", region).add_auth(request)
        headers = {**dict(request.headers.items()), "Host": urlsplit(url).netloc}
        try:
            answer = self._pool.request(method, _destination(url), body=body or None, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"the API did not answer: {error}") from error
        return HttpResponse(answer.status, answer.data, dict(answer.headers))


def _region_of(url: str) -> str:
    """Return the region in ``<id>.execute-api.<region>.<suffix>``: a stack may lie in another than the user's."""
    parts = (urlsplit(url).hostname or "").split(".")
    return parts[2] if len(parts) > 4 and parts[1] == "execute-api" else ""


def _destination(url: str) -> str:
    override = next((os.environ[name] for name in ENDPOINT_VARIABLES if os.environ.get(name)), None)
    if override is None:
        return url
    parts = urlsplit(url)
    return override.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")
