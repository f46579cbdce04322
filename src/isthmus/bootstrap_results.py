"""The composition root of a device's results: where they wait, how they are sent, and who the device is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.errors import EnvironmentProblem

if TYPE_CHECKING:
    from isthmus.adapters.aws.signing import RequestSigner
    from isthmus.client.place import Authorize, Outgoing
    from isthmus.edge.result_settings import ResultSettings
    from isthmus.edge.results import Results
    from isthmus.model.rig_identity import Proof


def device_results(settings: ResultSettings | None, identity: Path | None = None) -> Results | None:
    """Return what keeps and sends a core's results, or None. ``identity``: the folder in which `isthmus edge join` put
    the device's certificate; without it requests are signed by the credentials that boto3 finds.

    Raises:
        InvalidInput: the API's address is none, or its key no header's value.
    """
    from isthmus.adapters.system import SystemThreads
    from isthmus.client.results import ApiResults
    from isthmus.client.settings import keyed
    from isthmus.edge.results import open_results

    sink = None
    if settings is not None and settings.api:
        proof = signed_as(identity)
        sink = ApiResults(settings.api, keyed(settings.api_key, proof) if settings.api_key else proof)
    return open_results(settings, sink, SystemThreads())


def device_name(folder: Path) -> str:
    """Return whose certificate a folder holds.

    Raises:
        EnvironmentProblem: it holds none.
    """
    return _proof(folder).identity.rig


def signed_as(identity: Path | None) -> Authorize:
    """Sign requests as the device whose certificate is in ``identity``; None: by the credentials that boto3 finds."""
    import functools
    from dataclasses import replace

    @functools.cache  # with the first request: whoever is offline, or has no boto3, serves all the same
    def signer() -> RequestSigner:
        from isthmus import bootstrap

        if identity is None:
            return bootstrap.api_signer()
        from isthmus.adapters.aws.rig_credentials import session_of
        from isthmus.adapters.aws.signing import RequestSigner

        region = _proof(identity).identity.region
        return RequestSigner(session_of(lambda: _proof(identity), region, "isthmus edge join"))

    def authorize(request: Outgoing) -> Outgoing:
        try:
            signing = signer()
        except ModuleNotFoundError as error:
            raise EnvironmentProblem(
                f"sending results needs {error.name}: results wait until it is installed"
            ) from error
        url, headers = signing.sign(request.method, request.url, request.headers, request.body)
        return replace(request, url=url, headers=headers)

    return authorize


def _proof(folder: Path) -> Proof:
    """Return what `isthmus edge join` wrote, as the credentials provider is asked with it."""
    from isthmus.edge.provisioning import CONFIG, read
    from isthmus.model.rig_identity import Proof, RigIdentity

    found = read(folder)
    if found is None:
        raise EnvironmentProblem(
            f"{folder} holds no {CONFIG}: make this machine a core device with `isthmus edge join`, or name its folder"
        )
    try:
        system = found["system"]
        (nucleus,) = found["services"].values()
        told = nucleus["configuration"]
        certificate = Path(system["certificateFilePath"])
        identity = RigIdentity(
            rig=system["thingName"],
            stack="",
            region=told["awsRegion"],
            endpoint=told["iotCredEndpoint"],
            alias=told["iotRoleAlias"],
            certificate_id=certificate.parent.name,
        )
        return Proof(identity, certificate, Path(system["privateKeyPath"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EnvironmentProblem(
            f"{folder / CONFIG} lacks {error}: write it anew with `isthmus edge join`"
        ) from error
