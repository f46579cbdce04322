"""Components, deployments, and a core device whose link can be cut."""

import json
import socket
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import Cloud, cli, wait_for, zipped

SOURCE = """
import os
ROOT = os.path.dirname(os.environ["AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"])
CALLS = []
def handler(event, context):
    CALLS.append(event)
    if event.get("fail"): raise ValueError(event["fail"])
    with open(ROOT + "/work/weights/model.zip", "rb") as f: size = len(f.read())
    try:
        import boto3
        has_boto3 = True
    except ImportError:
        has_boto3 = False
    return {"size": size, "mine": os.environ["MINE"], "event": event, "boto3": has_boto3,
            "artifacts": sorted(os.listdir(ROOT + "/packages/artifacts/weights/1.0.0")), "calls": len(CALLS)}
"""
GROUP = "arn:aws:iot:eu-west-1:000000000000:thinggroup/sites"
THING = "arn:aws:iot:eu-west-1:000000000000:thing/site-1"


def recipe(name: str, version: str = "1.0.0", **manifest: Any) -> bytes:
    found = {"RecipeFormatVersion": "2020-01-25", "ComponentName": name, "ComponentVersion": version}
    return json.dumps({**found, "Manifests": [{"Platform": {"os": "linux"}, **manifest}]}).encode()


def make(cloud: Cloud, **request: Any) -> str:
    """Create a component version and wait until it can be deployed; return its ARN."""
    gg = cloud.client("greengrassv2")
    arn: str = gg.create_component_version(**request)["arn"]
    wait_for(lambda: gg.describe_component(arn=arn)["status"]["componentState"] == "DEPLOYABLE")
    return arn


@pytest.fixture(scope="module")
def function(cloud: Cloud) -> str:
    return cloud.function("edgefn", SOURCE, Publish=True)


@pytest.fixture(scope="module")
def serve(cloud: Cloud, function: str) -> str:
    """A model component, a Lambda component that depends on it, a thing group and a device in it."""
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="bundles", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="bundles", Key="v1/model.zip", Body=zipped(weights="x"))
    artifacts = [{"Uri": "s3://bundles/v1/model.zip", "Unarchive": "NONE"}]
    script = {"Install": "cp {artifacts:path}/model.zip {work:path}/model.zip"}
    make(cloud, inlineRecipe=recipe("weights", Artifacts=artifacts, Lifecycle=script))
    arn = make(
        cloud,
        lambdaFunction={
            "lambdaArn": f"{function}:1",
            "componentName": "serve",
            "componentDependencies": {"weights": {"versionRequirement": "^1.0.0", "dependencyType": "HARD"}},
            "componentLambdaParameters": {
                "pinned": True,
                "environmentVariables": {"MINE": "yes"},
                "linuxProcessParams": {"isolationMode": "NoContainer"},
                "eventSources": [{"topic": "frames/+", "type": "PUB_SUB"}],
            },
        },
    )
    cloud.client("iot").create_thing_group(thingGroupName="sites")
    cloud.cli("edge", "start", "site-1", "--group", "sites")
    return arn


def deploy(cloud: Cloud, target: str, **components: str) -> dict[str, Any]:
    """Deploy and wait until the device has ended with it."""
    gg = cloud.client("greengrassv2")
    wanted = {name: {"componentVersion": version} for name, version in components.items()}
    identity = gg.create_deployment(targetArn=target, components=wanted)["deploymentId"]

    def ended() -> dict[str, Any] | None:
        for entry in gg.list_effective_deployments(coreDeviceThingName="site-1")["effectiveDeployments"]:
            if entry["deploymentId"] == identity and entry["coreDeviceExecutionStatus"] in (
                "COMPLETED",
                "FAILED",
            ):
                return dict(entry)
        return None

    return wait_for(ended)


def states(cloud: Cloud) -> dict[str, str]:
    found = cloud.client("greengrassv2").list_installed_components(
        coreDeviceThingName="site-1", topologyFilter="ALL"
    )
    return {entry["componentName"]: entry["lifecycleState"] for entry in found["installedComponents"]}


def invoke(cloud: Cloud, **event: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        cloud.cli("edge", "invoke", "site-1", "serve", "--payload", json.dumps(event))["payload"]
    )
    return found


@pytest.mark.parametrize(
    ("suffix", "error"),
    [
        ("", "name a version"),
        (":live", "not live"),
        (":$LATEST", "not \\$LATEST"),
        (":77", "ResourceNotFound"),
    ],
)
def test_only_a_published_version_is_imported(cloud: Cloud, function: str, suffix: str, error: str) -> None:
    with pytest.raises(ClientError, match=error):
        cloud.client("greengrassv2").create_component_version(lambdaFunction={"lambdaArn": function + suffix})


def test_recipes_are_checked(cloud: Cloud) -> None:
    create = cloud.client("greengrassv2").create_component_version
    with pytest.raises(ClientError, match="at most 16,000"):
        create(inlineRecipe=recipe("big", Lifecycle={"Run": "x" * 16000}))
    with pytest.raises(ClientError, match="semantic version"):
        create(inlineRecipe=recipe("bad", "one"))
    with pytest.raises(ClientError, match="cannot be read"):
        create(inlineRecipe=recipe("lost", Artifacts=[{"Uri": "s3://bundles/nothing.zip"}]))
    with pytest.raises(ClientError, match="already exists"):
        create(inlineRecipe=recipe("twice"))
        create(inlineRecipe=recipe("twice"))


def test_a_component_is_made_after_the_answer_and_deployed_only_then(cloud: Cloud) -> None:
    gg = cloud.client("greengrassv2")
    target = cloud.client("iot").create_thing(thingName="early")["thingArn"]

    def wanted(version: str) -> dict[str, Any]:
        return {"targetArn": target, "components": {"fresh": {"componentVersion": version}}}

    # A busy machine may take longer between the two calls than a component takes to be made.
    for attempt in range(20):
        version = f"1.0.{attempt}"
        made = gg.create_component_version(inlineRecipe=recipe("fresh", version))
        assert made["status"]["componentState"] == "REQUESTED"
        try:
            gg.create_deployment(**wanted(version))
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ValidationException"
            assert f"fresh version {version} is REQUESTED" in str(error)
            break
    else:
        raise AssertionError("a deployment of what is being made was never refused")
    wait_for(lambda: gg.describe_component(arn=made["arn"])["status"]["componentState"] == "DEPLOYABLE")
    assert gg.create_deployment(**wanted(version))["deploymentId"]


def test_a_component_can_be_read_back(cloud: Cloud, serve: str) -> None:
    gg = cloud.client("greengrassv2")
    assert gg.describe_component(arn=serve)["status"]["componentState"] == "DEPLOYABLE"
    text = json.loads(gg.get_component(arn=serve)["recipe"])
    assert text["ComponentType"] == "aws.greengrass.lambda" and text["ComponentVersion"] == "1.0.0"
    assert [c["componentName"] for c in gg.list_components()["components"] if c["componentName"] == "serve"]
    versions = gg.list_component_versions(arn=serve.rpartition(":versions:")[0])["componentVersions"]
    assert [v["componentVersion"] for v in versions] == ["1.0.0"]
    weights = serve.replace(":serve:", ":weights:")
    url = gg.get_component_version_artifact(arn=weights, artifactName="model.zip")["preSignedUrl"]
    assert "/v1/model.zip" in url


def test_a_deployment_runs_on_the_device_and_survives_the_cloud(cloud: Cloud, serve: str) -> None:
    found = deploy(cloud, GROUP, serve="1.0.0")
    assert found["coreDeviceExecutionStatus"] == "COMPLETED", found
    wait_for(lambda: states(cloud) == {"weights": "FINISHED", "serve": "RUNNING"})
    seen = invoke(cloud, x=1)
    assert seen["mine"] == "yes" and seen["artifacts"] == ["model.zip"] and seen["size"] > 0
    assert seen["event"] == {"x": 1} and not seen["boto3"]
    delivered = cloud.cli("edge", "publish", "site-1", "frames/7", "--payload", '{"y": 2}')["delivered"]
    assert json.loads(delivered["serve"]["payload"])["event"] == {"y": 2}
    assert cloud.client("greengrassv2").get_core_device(coreDeviceThingName="site-1")["status"] == "HEALTHY"

    port = json.loads((cloud.state / "edge/site-1/device.json").read_text())["link_port"]
    cloud.cli("edge", "cut", "site-1")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=2)
    assert invoke(cloud, x=2)["event"] == {"x": 2}
    wait_for(lambda: not cloud.cli("edge", "status", "site-1")["connected"])

    cloud.cli("edge", "stop", "site-1")
    assert cloud.cli("edge", "status", "site-1")["running"] is False
    cloud.cli("edge", "start", "site-1")
    assert invoke(cloud, x=3) == {**seen, "event": {"x": 3}, "calls": 1}
    cloud.cli("edge", "mend", "site-1")
    wait_for(lambda: cloud.cli("edge", "status", "site-1")["connected"])


def test_a_function_error_at_the_edge_is_told(cloud: Cloud, serve: str) -> None:
    deploy(cloud, GROUP, serve="1.0.0")
    code, found, _ = cli(cloud.state, "edge", "invoke", "site-1", "serve", "--payload", '{"fail": "why"}')
    assert code == 1 and json.loads(found["payload"])["errorMessage"] == "why"


def test_an_artifact_that_changed_is_refused_and_the_old_plan_goes_on(cloud: Cloud, serve: str) -> None:
    gg, s3 = cloud.client("greengrassv2"), cloud.client("s3")
    assert deploy(cloud, GROUP, serve="1.0.0")["coreDeviceExecutionStatus"] == "COMPLETED"
    s3.put_object(Bucket="bundles", Key="v2/model.zip", Body=b"first")
    artifacts = [{"Uri": "s3://bundles/v2/model.zip", "Unarchive": "NONE"}]
    bad = make(cloud, inlineRecipe=recipe("weights", "1.1.0", Artifacts=artifacts))
    s3.put_object(Bucket="bundles", Key="v2/model.zip", Body=b"second")
    found = deploy(cloud, THING, weights="1.1.0")
    assert found["coreDeviceExecutionStatus"] == "FAILED" and "Integrity check" in found["reason"]
    assert "ARTIFACT_CHECKSUM_MISMATCH" in found["statusDetails"]["errorStack"]
    assert invoke(cloud, x=4)["event"] == {"x": 4}
    gg.delete_component(arn=bad)  # else ^1.0.0 would go on choosing it
    assert deploy(cloud, THING)["coreDeviceExecutionStatus"] == "COMPLETED"


def test_a_broken_component_rolls_back(cloud: Cloud, serve: str) -> None:
    assert deploy(cloud, GROUP, serve="1.0.0")["coreDeviceExecutionStatus"] == "COMPLETED"
    make(cloud, inlineRecipe=recipe("crash", Lifecycle={"Install": "exit 7"}))
    found = deploy(cloud, THING, crash="1.0.0")
    assert found["coreDeviceExecutionStatus"] == "FAILED" and "exit code 7" in found["reason"]
    wait_for(lambda: states(cloud) == {"weights": "FINISHED", "serve": "RUNNING"})
    deploy(cloud, THING)


def test_deployments_replace_each_other_and_tokens_are_idempotent(cloud: Cloud, serve: str) -> None:
    gg, iot = cloud.client("greengrassv2"), cloud.client("iot")
    target = iot.create_thing(thingName="idle")["thingArn"]
    wanted = {"targetArn": target, "components": {"serve": {"componentVersion": "1.0.0"}}}
    first = gg.create_deployment(**wanted, clientToken="t1")["deploymentId"]
    assert gg.create_deployment(**wanted, clientToken="t1")["deploymentId"] == first
    with pytest.raises(ClientError, match="Conflict"):
        gg.create_deployment(targetArn=target, components={}, clientToken="t1")
    second = gg.create_deployment(targetArn=target, components={})["deploymentId"]
    latest = gg.list_deployments(targetArn=target)["deployments"]
    assert [d["deploymentId"] for d in latest] == [second]
    everything = gg.list_deployments(targetArn=target, historyFilter="ALL")["deployments"]
    assert {d["deploymentId"]: d["deploymentStatus"] for d in everything} == {
        first: "INACTIVE",
        second: "ACTIVE",
    }
    gg.cancel_deployment(deploymentId=second)
    assert gg.get_deployment(deploymentId=second)["deploymentStatus"] == "CANCELED"
    with pytest.raises(ClientError, match="ResourceNotFound"):
        gg.create_deployment(targetArn=target, components={"nothing": {"componentVersion": "1.0.0"}})
    with pytest.raises(ClientError, match="ResourceNotFound"):
        gg.create_deployment(targetArn=target + "-missing", components={})
