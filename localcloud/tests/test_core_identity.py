"""A core device that is what its certificate says: it reads the bucket by its alias' role, or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Cloud, cli, wait_for
from iam_world import grant
from test_greengrass import make, recipe
from test_rig_credentials import Rig


@pytest.fixture
def core(cloud: Cloud, tmp_path: Path) -> Rig:
    return Rig(cloud, tmp_path)


def configured(core: Rig, **changed: str) -> Path:
    """A nucleus' configuration for the core device."""
    (core.folder / "key.pem").write_bytes(core.key)
    (core.folder / "certificate.pem").write_text(core.pem)
    endpoint = core.iot.describe_endpoint(endpointType="iot:CredentialProvider")["endpointAddress"]
    system = {
        "thingName": core.name,
        "certificateFilePath": str(core.folder / "certificate.pem"),
        "privateKeyPath": str(core.folder / "key.pem"),
        "rootCaPath": core.cloud.endpoint["ca_bundle"],
    }
    told = {"iotCredEndpoint": endpoint, "iotRoleAlias": core.name}
    service = {"aws.greengrass.NucleusLite": {"configuration": told}}
    file = core.folder / "config.yaml"
    file.write_text(yaml.safe_dump({"system": {**system, **changed}, "services": service}))
    return file


def ended(core: Rig, version: str) -> dict[str, Any]:
    gg = core.cloud.client("greengrassv2")
    target = f"arn:aws:iot:eu-west-1:000000000000:thing/{core.name}"
    wanted = {f"part-{core.name}": {"componentVersion": version}}
    identity = gg.create_deployment(targetArn=target, components=wanted)["deploymentId"]

    def found() -> dict[str, Any] | None:
        for entry in gg.list_effective_deployments(coreDeviceThingName=core.name)["effectiveDeployments"]:
            done = entry["coreDeviceExecutionStatus"] in ("COMPLETED", "FAILED")
            if entry["deploymentId"] == identity and done:
                return dict(entry)
        return None

    return wait_for(found)


def component(core: Rig, version: str) -> None:
    s3 = core.cloud.client("s3")
    s3.put_object(Bucket=core.name, Key=f"{version}/part.bin", Body=version.encode())
    artifacts = [{"Uri": f"s3://{core.name}/{version}/part.bin"}]
    script = {"Install": 'test -n "$AWS_SESSION_TOKEN" && cp {artifacts:path}/part.bin {work:path}/'}
    make(core.cloud, inlineRecipe=recipe(f"part-{core.name}", version, Artifacts=artifacts, Lifecycle=script))


def test_a_device_reads_what_its_alias_role_may_and_nothing_else(core: Rig) -> None:
    place = {"LocationConstraint": "eu-west-1"}
    core.cloud.client("s3").create_bucket(Bucket=core.name, CreateBucketConfiguration=place)
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        component(core, version)
    core.cloud.cli("edge", "start", core.name, "--config", str(configured(core)))
    found = ended(core, "1.0.0")
    assert found["coreDeviceExecutionStatus"] == "FAILED"
    assert "AccessDenied" in found["reason"] or "not authorized" in found["reason"], found["reason"]

    statement = grant("s3:GetObject", f"arn:aws:s3:::{core.name}/*")
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    core.cloud.client("iam").put_role_policy(RoleName=core.name, PolicyName="read", PolicyDocument=document)
    assert ended(core, "1.1.0")["coreDeviceExecutionStatus"] == "COMPLETED"
    work = core.cloud.state / "edge" / core.name / "work" / f"part-{core.name}"
    assert (work / "part.bin").read_text() == "1.1.0"

    core.iot.update_certificate(certificateId=core.id, newStatus="INACTIVE")
    refused = ended(core, "1.2.0")
    assert refused["coreDeviceExecutionStatus"] == "FAILED"
    assert "the credentials provider answered 403" in refused["reason"]
    core.cloud.cli("edge", "stop", core.name)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"thingName": "another"}, "is of the core device another, not of"),
        ({"privateKeyPath": "/nowhere/key.pem"}, "names /nowhere/key.pem, which is not there"),
    ],
)
def test_a_configuration_that_no_nucleus_would_start_with_is_refused(
    core: Rig, changed: dict[str, str], said: str
) -> None:
    code, _, error = cli(
        core.cloud.state, "edge", "start", core.name, "--config", str(configured(core, **changed))
    )
    assert code == 1
    assert said in error
