"""What outlives a stack, whose a thing is, and where a function's log goes: as on AWS."""

import json
from typing import Any

from conftest import Cloud, wait_for

ACCOUNT = "000000000000"
NAMES = {"Kept": "RetainExceptOnCreate", "Gone": "Delete"}


def template(*names: str) -> str:
    queues: dict[str, Any] = {
        name: {
            "Type": "AWS::SQS::Queue",
            "DeletionPolicy": NAMES[name],
            "Properties": {"QueueName": f"life-{name}"},
        }
        for name in names
    }
    return json.dumps({"Resources": {**queues, "Topic": {"Type": "AWS::SNS::Topic"}}})


def queues(cloud: Cloud) -> set[str]:
    urls = cloud.client("sqs").list_queues(QueueNamePrefix="life-").get("QueueUrls", [])
    return {url.rsplit("/", 1)[1] for url in urls}


def settled(cloud: Cloud, name: str) -> str | None:
    status = cloud.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
    return str(status) if not status.endswith("_IN_PROGRESS") else None


def test_retain_except_on_create_outlives_its_stack(cloud: Cloud) -> None:
    formation = cloud.client("cloudformation")
    stack = formation.create_stack(StackName="life", TemplateBody=template("Kept", "Gone"))["StackId"]
    assert wait_for(lambda: settled(cloud, stack)) == "CREATE_COMPLETE"
    assert queues(cloud) == {"life-Kept", "life-Gone"}
    formation.delete_stack(StackName=stack)
    assert wait_for(lambda: settled(cloud, stack)) == "DELETE_COMPLETE"
    assert queues(cloud) == {"life-Kept"}


def test_it_outlives_an_update_that_no_longer_has_it(cloud: Cloud) -> None:
    sqs = cloud.client("sqs")
    for url in sqs.list_queues(QueueNamePrefix="life-").get("QueueUrls", []):
        sqs.delete_queue(QueueUrl=url)
    formation = cloud.client("cloudformation")
    stack = formation.create_stack(StackName="life2", TemplateBody=template("Kept", "Gone"))["StackId"]
    assert wait_for(lambda: settled(cloud, stack)) == "CREATE_COMPLETE"
    formation.update_stack(StackName=stack, TemplateBody=template())
    assert wait_for(lambda: settled(cloud, stack)) == "UPDATE_COMPLETE"
    assert queues(cloud) == {"life-Kept"}


def test_a_component_keeps_its_tags(cloud: Cloud) -> None:
    recipe = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": "life.pear.model",
        "ComponentVersion": "1.0.0",
        "Manifests": [{"Platform": {"os": "linux"}, "Lifecycle": {}}],
    }
    greengrass = cloud.client("greengrassv2")
    answer = greengrass.create_component_version(
        inlineRecipe=json.dumps(recipe).encode(), tags={"isthmus:stack": "life"}
    )
    tags = greengrass.list_tags_for_resource(resourceArn=answer["arn"])["tags"]
    assert tags == {"isthmus:stack": "life"}


def test_a_function_logs_into_the_group_that_it_names(cloud: Cloud) -> None:
    logs = cloud.client("logs")
    logs.create_log_group(logGroupName="/life/all")
    logging = {"LogFormat": "JSON", "LogGroup": "/life/all"}
    cloud.function("life-talks", "def handler(event, context):\n    print('said')\n", LoggingConfig=logging)
    cloud.invoke("life-talks")

    def said() -> bool:
        events = logs.filter_log_events(logGroupName="/life/all")["events"]
        return any("said" in event["message"] for event in events)

    assert wait_for(said)
    groups = logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/life-talks")["logGroups"]
    assert groups == []


def rights(action: str) -> str:
    """A role whose inline policy names no version, as SAM writes them, and a managed policy."""
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    inline = {"PolicyName": "inline", "PolicyDocument": {"Statement": [statement]}}
    assume = {"Version": "2012-10-17", "Statement": [trust]}
    role = {"RoleName": "life-role", "AssumeRolePolicyDocument": assume, "Policies": [inline]}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    managed = {"ManagedPolicyName": "life-policy", "PolicyDocument": document}
    return json.dumps(
        {
            "Resources": {
                "Role": {"Type": "AWS::IAM::Role", "Properties": role},
                "Policy": {"Type": "AWS::IAM::ManagedPolicy", "Properties": managed},
            }
        }
    )


def granted(cloud: Cloud) -> tuple[str, str]:
    """The action of the inline policy, and that of the managed policy's default version."""
    iam, arn = cloud.client("iam"), f"arn:aws:iam::{ACCOUNT}:policy/life-policy"
    inline = iam.get_role_policy(RoleName="life-role", PolicyName="inline")["PolicyDocument"]
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    managed = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    return inline["Statement"][0]["Action"], managed["Statement"][0]["Action"]


def test_an_update_changes_the_rights_of_roles_and_managed_policies(cloud: Cloud) -> None:
    """Seven times: a managed policy has at most five versions."""
    formation = cloud.client("cloudformation")
    stack = formation.create_stack(StackName="life3", TemplateBody=rights("s3:Get0"))["StackId"]
    assert wait_for(lambda: settled(cloud, stack)) == "CREATE_COMPLETE"
    for number in range(1, 7):
        formation.update_stack(StackName=stack, TemplateBody=rights(f"s3:Get{number}"))
        assert wait_for(lambda: settled(cloud, stack)) == "UPDATE_COMPLETE"
        assert granted(cloud) == (f"s3:Get{number}",) * 2
    formation.delete_stack(StackName=stack)
    assert wait_for(lambda: settled(cloud, stack)) == "DELETE_COMPLETE"
