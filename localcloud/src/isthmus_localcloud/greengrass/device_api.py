"""What core devices call, on the same port as everything else.

A real nucleus gets its deployments as IoT jobs and fetches artifacts with its role's credentials. The
stand-in device does the same work over three plain routes below ``/_isthmus/greengrass``.
"""

import json
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from localemu.aws.connect import connect_to
from localemu.http import Response, route

from .recipes import artifacts_of
from .store import LOCK, Core, Document, Region, now, region_of

IOT_CREDENTIALS = "credentials.iot.amazonaws.com"
BASE = "/_isthmus/greengrass/<account>/<region>"


def targets_of(account: str, region: str, thing: str) -> list[str]:
    """The thing itself first, then its groups."""
    client = connect_to(aws_access_key_id=account, region_name=region).iot
    groups = client.list_thing_groups_for_thing(thingName=thing)["thingGroups"]
    return [f"arn:aws:iot:{region}:{account}:thing/{thing}", *(group["groupArn"] for group in groups)]


def take_report(region: Region, name: str, report: Document) -> None:
    """Keep what the device says, and end the deployments to this thing alone that it has ended."""
    with LOCK:
        core = region.cores.setdefault(name, Core(name))
        core.reported, core.status = now(), report["status"]
        core.installed = [
            {
                **entry,
                "lastReportedTimestamp": core.reported,
                "lastReportSource": "DEPLOYMENT",
                "lastStatusChangeTimestamp": core.reported,
            }
            for entry in report["components"]
        ]
        for identity, state in report["deployments"].items():
            core.effective[identity] = {**state, "modified": now()}
            deployment = region.deployments.get(identity)
            if deployment and deployment.status == "ACTIVE" and ":thing/" in deployment.target:
                deployment.status = {"SUCCEEDED": "COMPLETED", "FAILED": "FAILED"}.get(
                    state["status"], "ACTIVE"
                )


def wishes(region: Region, name: str, targets: list[str]) -> list[Document]:
    """The latest deployment of each target, and QUEUED for those that the device has not seen yet."""
    found = []
    with LOCK:
        for target in targets:
            deployment = region.latest_for(target)
            if deployment is None:
                continue
            core = region.cores[name]
            core.effective.setdefault(deployment.id, {"status": "QUEUED", "modified": now()})
            found.append({"id": deployment.id, "target": target, "components": deployment.components})
    return found


def clients_of(role: str | None, account: str, region: str) -> Any:
    """Clients of a device's token exchange role; of the operator for a device that has none."""
    if not role:
        return connect_to(aws_access_key_id=account, region_name=region)
    return connect_to.with_assumed_role(
        role_arn=role, service_principal=IOT_CREDENTIALS, session_name="core-device", region_name=region
    )


def answer(body: Document, status: int = 200) -> Any:
    return Response(json.dumps(body), status=status, mimetype="application/json")


class DeviceApi:
    """Routes for LocalEmu's router."""

    @route(f"{BASE}/cores/<name>/poll", methods=["POST"])  # type: ignore[untyped-decorator]
    def poll(self, request: Any, account: str, region: str, name: str) -> Any:
        store = region_of(account, region)
        take_report(store, name, json.loads(request.get_data()))
        return answer({"deployments": wishes(store, name, targets_of(account, region, name))})

    @route(f"{BASE}/credentials", methods=["GET"])  # type: ignore[untyped-decorator]
    def credentials(self, request: Any, account: str, region: str) -> Any:
        """What the token exchange service gives to components."""
        sts = connect_to(region_name=region).sts.request_metadata(service_principal=IOT_CREDENTIALS)
        try:
            given = sts.assume_role(RoleArn=request.args["role"], RoleSessionName="core-device")
        except ClientError as error:
            return answer({"message": error.response["Error"]["Message"]}, 403)
        found = given["Credentials"]
        names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
        variables = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        return answer({variable: found[name] for variable, name in zip(variables, names, strict=True)})

    @route(f"{BASE}/components/<name>", methods=["GET"])  # type: ignore[untyped-decorator]
    def versions(self, request: Any, account: str, region: str, name: str) -> Any:
        found = [c for c in region_of(account, region).components.values() if c.name == name]
        return answer({"versions": [{"recipe": c.recipe, "function": c.function} for c in found]})

    @route(f"{BASE}/components/<name>/<version>/artifacts/<int:index>", methods=["GET"])  # type: ignore[untyped-decorator]
    def artifact(self, request: Any, account: str, region: str, name: str, version: str, index: int) -> Any:
        store = region_of(account, region)
        component = next(
            (c for c in store.components.values() if (c.name, c.version) == (name, version)), None
        )
        if component is None:
            return answer({"message": f"there is no component {name} {version}"}, 404)
        if component.function:
            return Response(Path(component.function["file"]).read_bytes(), mimetype="application/zip")
        uri = artifacts_of(component.recipe)[index]["Uri"]
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        try:
            s3 = clients_of(request.args.get("role"), account, region).s3
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            return answer({"message": f"{uri}: {error.response['Error']['Message']}"}, 404)
        return Response(body, mimetype="application/octet-stream")
