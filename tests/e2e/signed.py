"""Requests to a deployed API as they are, signed with SigV4: any method, path and body, whatever is answered."""

from __future__ import annotations

import urllib3

from isthmus.adapters.aws.signing import RequestSigner
from isthmus.errors import Unavailable
from isthmus.inference.http import HttpResponse

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
        self._signer = RequestSigner()
        self._pool = urllib3.PoolManager(retries=AGAIN, timeout=35)

    def call(self, method: str, path: str, body: bytes = b"") -> HttpResponse:
        """Send one request.

        Raises:
            EnvironmentProblem: there are no credentials to sign with.
            Unavailable: no answer.
        """
        signed = {"Content-Type": "application/json"}
        url, headers = self._signer.sign(method, self._base_url + path, signed, body)
        try:
            answer = self._pool.request(method, url, body=body or None, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"the API did not answer: {error}") from error
        return HttpResponse(answer.status, answer.data, dict(answer.headers))
