"""The edge Lambda as a component: what it is told, where it listens, and how it goes back to an earlier bundle."""

from __future__ import annotations

import base64

from isthmus.config import DeployEdgeSettings
from isthmus.errors import Conflict
from isthmus.model import layout
from isthmus.ports import EdgeComponent, Records, Signer
from isthmus.workflows.edge_papers import EDGE, key_chain, release_paper
from isthmus.workflows.edge_target import EdgeTarget, RevertibleFleet


def environment_of(
    bundle: EdgeComponent, root: str, port: int, signer: Signer, records: Records
) -> dict[str, str]:
    """Return the edge Lambda's environment.

    A Lambda component's environment knows no recipe variables: the paths are the nucleus's own layout
    below its root folder.
    """
    return {
        "ISTHMUS_EDGE_PORT": str(port),
        "ISTHMUS_MODEL_ARTIFACT": f"{root}/packages/artifacts/{bundle.name}/{bundle.version}/bundle.zip",
        # A model that does not prove itself ends the process, so that Greengrass sees BROKEN and rolls back.
        "ISTHMUS_EDGE_ON_REFUSAL": "fail",
        "ISTHMUS_EDGE_STORE": f"{root}/work/{bundle.name}/store",
        "ISTHMUS_PUBLIC_KEY": base64.b64encode(signer.public_key()).decode(),
        **({"ISTHMUS_EDGE_KEYS": chain} if (chain := key_chain(records)) else {}),
    }


def port_of(model: str, base_port: int, records: Records) -> int:
    """Return the model's loopback port on every core device: given once, kept for ever."""
    item = records.get(layout.model_pk(model), EDGE) or {}
    if item.get("port_number"):
        return base_port + int(item["port_number"]) - 1
    number = records.next_number(EDGE, "PORTS")
    try:
        records.update(layout.model_pk(model), EDGE, {"port_number": number}, expect={"port_number": None})
    except Conflict:
        return port_of(model, base_port, records)
    return base_port + number - 1


def number_for(
    model: str, release: int, run: str, bundle: EdgeComponent, records: Records, signer: Signer
) -> tuple[int, dict[str, str]]:
    """Return the number under which a release goes to devices, and what the Lambda's environment says of it.

    It is the release's own, unless a way back has taken a higher one meanwhile, below which devices take nothing: then
    it is another, one for each ``run``, and a signed document says that the bundle is that release.
    """
    known = records.get(layout.model_pk(model), EDGE) or {}
    if release > int(known.get("back_as") or 0):
        return release, {}
    number = int(known.get("anew_as") or 0)
    if known.get("anew") != run:
        number = records.next_number(layout.model_pk(model), "RELEASES")
        records.update(layout.model_pk(model), EDGE, {"anew": run, "anew_as": number})
    paper = release_paper(model, bundle.version, number, records, signer)
    return (number, {"ISTHMUS_EDGE_RELEASE": paper}) if paper else (release, {})


def renew_before(
    model: str,
    target: EdgeTarget,
    *,
    settings: DeployEdgeSettings,
    fleet: RevertibleFleet,
    records: Records,
    signer: Signer,
) -> tuple[EdgeComponent, ...]:
    """Return what the target had before; its bundle, where there was one, as a new release.

    A device that has had the later release takes the earlier one for a replay otherwise (``edge/trust.py``). The
    bundle's component stays as it is; the Lambda's is made anew of the same code, with the signed document.
    """
    item = target.item
    previous = {name: EdgeComponent(name, version) for name, version in item["previous"].items()}
    bundle, infer = (
        previous.get(layout.component_name(settings.stack, model, kind)) for kind in ("model", "infer")
    )
    if bundle is None or infer is None or not item.get("function"):
        return tuple(previous.values())
    number = _back_as(model, f"{item['current'][infer.name]} to {bundle.version}", records)
    paper = release_paper(model, bundle.version, number, records, signer)
    if not paper:
        return tuple(previous.values())
    code = infer.version.split(".")[1]
    renewed = EdgeComponent(infer.name, f"{number}.{code}.0")
    port = port_of(model, settings.edge_port, records)
    environment = environment_of(bundle, settings.edge_root, port, signer, records)
    version_arn = f"{item['function'].rsplit(':', 1)[0]}:{code}"
    fleet.import_function(
        renewed, version_arn, {**environment, "ISTHMUS_EDGE_RELEASE": paper}, {bundle.name: bundle.version}
    )
    fleet.await_deployable(target.target, (renewed,))
    return tuple({**previous, infer.name: renewed}.values())


def _back_as(model: str, step: str, records: Records) -> int:
    """Return the number of a way back: one for both groups, since a device may be in both."""
    known = records.get(layout.model_pk(model), EDGE) or {}
    if known.get("back") == step:
        return int(known["back_as"])
    number = records.next_number(layout.model_pk(model), "RELEASES")
    records.update(layout.model_pk(model), EDGE, {"back": step, "back_as": number})
    return number
