"""What each identity may do is what its code does: a missing right and an unused one both fail.

``NEEDS`` was read off the code: handler → workflow → port → adapter. The end-to-end tests compare the
same policies with the calls that were made (``tests/e2e/test_permissions.py``). Resources are written
short: a key of the bucket, a leading key of the table, a logical id, or an ARN from its resource part on.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from calls import actions_in
from cloudformation import ROOT, Template, functions, listed, resources, statements

STACK = "${AWS::StackName}"
MODEL_FUNCTIONS = f"function:{STACK}-model-*"
RIG_QUEUES = f"{STACK}-rig-*"
NESTED_RULE = "rule/StepFunctionsGetEventsForStepFunctionsExecutionRule"
TRAINING_RULE = "rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule"
TRAINING_JOBS = f"training-job/{STACK}-*"
IN_CLOUD, CLOUD_CHECKPOINTS = "jobs/*/attempts/*/sagemaker/*", "checkpoints/*/sagemaker/*"
TRAINING_LOG = "log-group:/aws/sagemaker/TrainingJobs:*"
TRAINING_STREAMS = "log-group:/aws/sagemaker/TrainingJobs:log-stream:*"
Needs = dict[str, list[str]]
"""Action to the resources that it is needed on."""
Grants = list[tuple[list[str], list[str]]]
"""Each statement's actions and resources."""

READS: Needs = {"kms:Decrypt": ["DataKey"]}
"""Bucket and table are encrypted with DataKey: who reads either, or writes to the table, decrypts.

A table's own key stays with DynamoDB, which opens it in the caller's name at each access.
"""
WRITES: Needs = {**READS, "kms:GenerateDataKey": ["DataKey"]}
"""Also who puts objects, or whose failed events Lambda puts into the encrypted DeadLetters in its role."""

LAMBDA_IMPORT: Needs = {
    # CreateComponentVersion from a Lambda function reads, tags and shows it with the caller's rights:
    # Greengrass V2 developer guide, "Import a Lambda function as a component", requirements.
    "lambda:GetFunction": ["EdgeInferFunction:*"],
    "greengrass:TagResource": ["*"],
    "greengrass:ListTagsForResource": ["*"],
    # The artifact of the model's component is read with them too.
    "s3:GetObject": ["bundles/*"],
}
DEPLOYMENT_JOB: Needs = {
    # A deployment is an IoT job, made and looked at with the caller's rights: Service Authorization
    # Reference, AWS IoT Greengrass V2, dependent actions of CreateDeployment and of the List and Get
    # operations (DescribeJobExecution: ListEffectiveDeployments).
    f"iot:{action}": ["*"]
    for action in (
        "CancelJob",
        "CreateJob",
        "DeleteThingShadow",
        "DescribeJob",
        "DescribeJobExecution",
        "DescribeThing",
        "DescribeThingGroup",
        "GetThingShadow",
        "UpdateJob",
        "UpdateThingShadow",
    )
}


def rig_needs(*, resource: str, key: str) -> Needs:
    """Return what a rig's agent does; its own name ends a resource, and a leading key of the table."""
    queue, waiting, own, probe = f"{STACK}-rig-{resource}", f"QUEUE#{key}", f"RIG#{key}", f"probes/{resource}"
    return {
        **WRITES,  # also to receive from its encrypted queue
        "cloudformation:DescribeStacks": ["AWS::StackId"],
        "cloudwatch:PutMetricData": ["*"],  # in the stack's namespace: test_a_rig_may_send_metrics_…
        "sqs:ReceiveMessage": [queue],
        "sqs:DeleteMessage": [queue],
        # The lease, its own descriptor, the data policy of what it trains on, the model in service.
        "dynamodb:GetItem": ["JOB#", "RIGS", "DATASET#", "MODELS"],
        "dynamodb:PutItem": ["RIGS", waiting, own],
        "dynamodb:UpdateItem": ["JOB#", waiting],
        "dynamodb:Query": [waiting, own],  # its waiting list, its results that came too late
        "dynamodb:DeleteItem": [waiting, own],
        # bundles: the model in service, beside which it judges another on data that stay with it.
        "s3:GetObject": ["datasets/*", "code/*", "jobs/*", "bundles/*", probe, "checkpoints/*"],
        "s3:DeleteObject": ["checkpoints/*"],  # of a job that is over
        "s3:PutObject": ["jobs/*/attempts/*", "checkpoints/*", probe],  # the probe: the link's speed
        # What failed is said by FinishAttempt, on the strength of the committed outcome alone.
        "states:SendTaskSuccess": ["TrainAndDeployMachine"],
        "states:SendTaskHeartbeat": ["TrainAndDeployMachine"],
        "lambda:InvokeFunction": ["FinishAttemptFunction"],
    }


CORE: Needs = {
    **READS,
    "s3:GetObject": ["bundles/*"],  # the nucleus fetches the artifact
    "execute-api:Invoke": ["${Api}/v/POST/results/${!credentials-iot:ThingName}"],  # its results
}

NEEDS: dict[str, Needs] = {
    "StartPipelineFunction": {
        **WRITES,  # its dead-letter queue
        "s3:GetObject": ["datasets/*"],
        "states:StartExecution": ["TrainAndDeployMachine"],
    },
    "RegisterDatasetFunction": {
        **WRITES,
        "s3:GetObject": ["datasets/*", "code/*"],
        # Without it S3 answers 403 for a file that is not there yet, which must be MissingFile.
        "s3:ListBucket": ["Bucket"],
        "s3:PutObject": ["jobs/*", "datasets/*/blobs/*"],
        # The policy: may its files lie where they do. Of an import, what it will cost.
        "dynamodb:GetItem": ["DATASET#", "SETTINGS", "MODEL#"],
        "dynamodb:PutItem": ["DATASET#"],
        "dynamodb:UpdateItem": ["JOB#", "COST#"],
    },
    "PlanTrainingFunction": {
        **WRITES,
        "s3:GetObject": ["jobs/*"],
        "s3:PutObject": ["jobs/*"],
        # The policy, the lease, how long the model's trainings took, what SageMaker may train.
        "dynamodb:GetItem": ["DATASET#", "JOB#", "MODEL#", "SETTINGS", "PLANNED"],
        "dynamodb:Query": ["RIGS", "PLANNED", "BUDGETS", "COST#"],
        # The lease, a result that came too late, what it will cost.
        "dynamodb:UpdateItem": ["JOB#", "RIG#", "PLANNED", "COST#"],
    },
    "PrepareSagemakerFunction": {
        **WRITES,
        "s3:GetObject": ["jobs/*", "code/*", "checkpoints/*"],
        "s3:ListBucket": ["Bucket"],  # plain files of checkpoints
        # Plain files, and the checkpoint that an attempt before left uncommitted.
        "s3:PutObject": [IN_CLOUD, "checkpoints/*"],
        "s3:DeleteObject": ["checkpoints/*"],  # of a checkpoint that is not the newest any more
        "dynamodb:GetItem": ["JOB#", "DATASET#", "SETTINGS", "SAGEMAKER#"],
        "dynamodb:UpdateItem": ["JOB#", "PLANNED", "SAGEMAKER#"],
        # An attempt before that nobody waits for any more.
        "sagemaker:DescribeTrainingJob": [TRAINING_JOBS],
        "sagemaker:StopTrainingJob": [TRAINING_JOBS],
    },
    "SageMakerRole": {
        **WRITES,
        "s3:GetObject": ["datasets/*", IN_CLOUD, CLOUD_CHECKPOINTS],
        "s3:PutObject": [IN_CLOUD, CLOUD_CHECKPOINTS],
        "s3:ListBucket": ["Bucket"],
        "ecr:GetAuthorizationToken": ["*"],
        "ecr:BatchCheckLayerAvailability": ["arn:${AWS::Partition}:ecr:*:*:repository/*"],
        "ecr:BatchGetImage": ["arn:${AWS::Partition}:ecr:*:*:repository/*"],
        "ecr:GetDownloadUrlForLayer": ["arn:${AWS::Partition}:ecr:*:*:repository/*"],
        "logs:CreateLogGroup": [TRAINING_LOG],
        "logs:CreateLogStream": [TRAINING_STREAMS],
        "logs:DescribeLogStreams": [TRAINING_LOG],
        "logs:PutLogEvents": [TRAINING_STREAMS],
        "cloudwatch:PutMetricData": ["*"],
    },
    "CollectModelFunction": {
        **WRITES,
        "s3:GetObject": [IN_CLOUD, "checkpoints/*"],
        # Without it S3 answers 403 for an archive of other output, which there need not be.
        "s3:ListBucket": ["Bucket"],
        "s3:PutObject": ["jobs/*/attempts/*/output/*", "checkpoints/*"],
        "s3:DeleteObject": ["checkpoints/*"],  # of a job that is over
        "dynamodb:GetItem": ["JOB#", "PLANNED", "MODEL#", "COST#"],
        "dynamodb:UpdateItem": ["JOB#", "MODEL#", "COST#"],
        "dynamodb:DeleteItem": ["PLANNED"],
        "sagemaker:DescribeTrainingJob": [TRAINING_JOBS],
        "sagemaker:StopTrainingJob": [TRAINING_JOBS],  # one that runs though nobody waits for it
    },
    "StopInterruptedFunction": {
        **WRITES,  # its dead-letter queue
        "s3:GetObject": ["jobs/*"],
        "dynamodb:GetItem": ["SAGEMAKER#", "JOB#", "DATASET#", "MODEL#", "SETTINGS"],
        "dynamodb:Query": ["RIGS", "PLANNED"],
        "sagemaker:DescribeTrainingJob": [TRAINING_JOBS],
        "sagemaker:StopTrainingJob": [TRAINING_JOBS],
    },
    "TrainOnRigFunction": {
        **READS,
        "dynamodb:GetItem": ["JOB#"],  # the outcome of a rig that ended while nobody waited
        "dynamodb:UpdateItem": ["JOB#", "PLANNED"],
        "states:SendTaskSuccess": [f"stateMachine:{STACK}-train-and-deploy"],
    },
    "FinishAttemptFunction": {
        **READS,
        "dynamodb:GetItem": ["JOB#", "PLANNED", "MODEL#"],
        "dynamodb:UpdateItem": ["MODEL#", "COST#"],  # how long a training took
        "dynamodb:DeleteItem": ["PLANNED"],
        "states:SendTaskSuccess": [f"stateMachine:{STACK}-train-and-deploy"],
        "states:SendTaskFailure": [f"stateMachine:{STACK}-train-and-deploy"],
    },
    "EvaluateModelFunction": {
        **READS,
        # The job, what it imports, its held-out split, and the champion.
        "s3:GetObject": ["jobs/*", "code/*", "datasets/*", "bundles/*"],
        "dynamodb:GetItem": ["MODELS"],
        "dynamodb:UpdateItem": ["JOB#"],
    },
    "PackageModelFunction": {
        **WRITES,
        "s3:GetObject": [
            "jobs/*",
            "code/*",
            "datasets/*",
        ],  # an 8-bit variant is measured on the held-out split
        "s3:PutObject": ["bundles/*"],
        "dynamodb:GetItem": ["JOB#", "MODEL#"],
        "dynamodb:PutItem": ["MODEL#"],
        "dynamodb:UpdateItem": ["JOB#", "MODEL#"],
        "kms:Sign": ["SigningKey"],
        "kms:GetPublicKey": ["SigningKey"],  # it opens what it sealed before anybody else has to
    },
    "RegisterModelFunction": {
        **READS,
        "dynamodb:GetItem": ["JOB#"],
        "dynamodb:UpdateItem": ["MODEL#"],
        # Listing is of the group; a new version is checked against the group and against itself.
        "sagemaker:ListModelPackages": [f"model-package-group/{STACK}-models"],
        "sagemaker:CreateModelPackage": [
            f"model-package-group/{STACK}-models",
            f"model-package/{STACK}-models/*",
        ],
    },
    "ApproveModelFunction": {
        **READS,
        "dynamodb:GetItem": ["JOB#"],
        "dynamodb:UpdateItem": ["JOB#", "APPROVALS"],
        "sagemaker:UpdateModelPackage": [f"model-package/{STACK}-models/*"],
    },
    "DeployCloudFunction": {
        **WRITES,  # its dead-letter queue
        "s3:GetObject": ["bundles/*"],  # also for PublishLayerVersion, which reads in the caller's name
        "dynamodb:GetItem": ["MODELS", "MODEL#"],
        "dynamodb:PutItem": ["MODELS"],
        "dynamodb:UpdateItem": ["MODEL#"],
        "events:PutEvents": ["EventBus"],
        "kms:GetPublicKey": ["SigningKey"],
        # The pattern's code; the waiters function_active_v2 and function_updated_v2 also call GetFunction.
        "lambda:GetFunction": ["ServeModelFunction", "ServeWeightsFunction", MODEL_FUNCTIONS],
        "lambda:CreateAlias": [MODEL_FUNCTIONS],
        "lambda:CreateFunction": [MODEL_FUNCTIONS],
        "lambda:DeleteAlias": [MODEL_FUNCTIONS],
        "lambda:GetAlias": [MODEL_FUNCTIONS],
        "lambda:InvokeFunction": [MODEL_FUNCTIONS],
        "lambda:ListTags": [MODEL_FUNCTIONS],
        "lambda:ListVersionsByFunction": [MODEL_FUNCTIONS],
        "lambda:PublishVersion": [MODEL_FUNCTIONS],
        "lambda:TagResource": [MODEL_FUNCTIONS],
        "lambda:UpdateAlias": [MODEL_FUNCTIONS],
        "lambda:UpdateFunctionCode": [MODEL_FUNCTIONS],
        "lambda:UpdateFunctionConfiguration": [MODEL_FUNCTIONS],
        "lambda:ListLayerVersions": [f"layer:{STACK}-*"],
        "lambda:PublishLayerVersion": [f"layer:{STACK}-*"],
        # Giving a function layers takes the right to read them: the model's, and the stack's own two.
        "lambda:GetLayerVersion": [f"layer:{STACK}-*:*"],
        "cloudwatch:GetMetricData": ["*"],  # how a version's calls end: what Lambda counts of them
        "iam:PassRole": ["ServeModelFunctionRole", "ServeWeightsFunctionRole"],
    },
    "RefreshModelsFunction": {
        **WRITES,  # its dead-letter queue
        "dynamodb:Query": ["MODELS"],
        "states:StartExecution": ["DeployCloudMachine"],
    },
    "DeployEdgeFunction": {
        **READS,
        **LAMBDA_IMPORT,
        **DEPLOYMENT_JOB,
        "dynamodb:GetItem": ["MODEL#", "EDGE"],  # the model's port and versions, the lock
        "dynamodb:Query": ["RESULTS"],  # how canaries answer
        "dynamodb:UpdateItem": ["MODEL#", "EDGE"],
        "kms:GetPublicKey": ["SigningKey"],
        "kms:Sign": ["SigningKey"],  # that an old bundle is a new release, where one is taken back
        "lambda:PublishVersion": ["EdgeInferFunction"],
        "greengrass:CreateComponentVersion": ["*"],
        "greengrass:CreateDeployment": ["*"],
        "greengrass:DescribeComponent": ["*"],
        "greengrass:GetDeployment": ["*"],
        "greengrass:ListCoreDevices": ["*"],
        "greengrass:ListDeployments": ["*"],
        "greengrass:ListEffectiveDeployments": ["*"],
    },
    "RouteInferenceFunction": {
        **WRITES,  # in whose name an object is put at an address that it has signed
        "dynamodb:Query": ["MODELS", "SERVING"],
        "lambda:InvokeFunction": [MODEL_FUNCTIONS, "ShadowInferenceFunction"],
        # By the addresses that it signs: a request's body and an answer, put and fetched by others.
        "s3:GetObject": ["handover/*"],
        "s3:PutObject": ["handover/*"],
    },
    "ShadowInferenceFunction": {
        **READS,
        "dynamodb:PutItem": ["SHADOW#"],
        "lambda:InvokeFunction": [MODEL_FUNCTIONS],
    },
    "IngestResultsFunction": {
        **WRITES,
        "s3:GetObject": ["results/*"],  # what another call, or a try that died, has put there already
        "s3:PutObject": ["results/*"],
        # The outbox's mark; how the model answered where it was judged.
        "dynamodb:GetItem": ["RESULTS", "MODEL#"],
        "dynamodb:UpdateItem": ["RESULTS"],
    },
    "AuthorizeRequestFunction": {},
    "RecordOutcomeFunction": {
        **WRITES,  # its dead-letter queue
        "dynamodb:GetItem": ["JOB#", "PLANNED", "COST#", "SETTINGS", "MODEL#"],
        "dynamodb:UpdateItem": ["JOB#", "COST#", "MODEL#"],  # what it cost
        "dynamodb:DeleteItem": ["PLANNED"],
        "events:PutEvents": ["EventBus"],
        # Where it broke off, and what it and its roll-out used.
        "states:GetExecutionHistory": [
            f"execution:{STACK}-train-and-deploy:*",
            f"execution:{STACK}-deploy-cloud:*",
        ],
        "lambda:GetFunctionConfiguration": [f"function:{STACK}-*"],
    },
    "RigPolicy": rig_needs(resource="*", key=""),
    # The thing's name is the rig's: the credentials provider puts it into the session that it gives out (IoT Core
    # developer guide, "Authorizing direct calls to AWS services"). ``!`` keeps CloudFormation from filling it in.
    "RigRole": rig_needs(resource="${!credentials-iot:ThingName}", key="${credentials-iot:ThingName}"),
    "CoreRole": CORE,
    "CoreDevicePolicy": CORE,
    "ApproverPolicy": {  # isthmus pipeline approve
        **READS,
        "cloudformation:DescribeStacks": ["AWS::StackId"],
        "dynamodb:GetItem": ["APPROVALS"],
        "states:SendTaskSuccess": ["TrainAndDeployMachine"],
    },
    "ServeModelFunction": {},
    "ServeWeightsFunction": {**READS, "s3:GetObject": ["bundles/*"]},
    "EdgeInferFunction": {},
}

MACHINE_NEEDS: dict[str, Needs] = {
    # What their definitions name is added by ``named_in``.
    "TrainAndDeployMachine": {
        "sqs:SendMessage": [RIG_QUEUES],
        # SendMessage to a queue with its own key takes both.
        **WRITES,
        # startExecution.sync:2 waits by a rule that Step Functions manages, and stops what it started:
        # Step Functions developer guide, "Nested executions, IAM policies".
        "states:DescribeExecution": [f"execution:{STACK}-deploy-cloud:*"],
        "states:StopExecution": [f"execution:{STACK}-deploy-cloud:*"],
        "events:PutTargets": [NESTED_RULE, TRAINING_RULE],
        "events:PutRule": [NESTED_RULE, TRAINING_RULE],
        "events:DescribeRule": [NESTED_RULE, TRAINING_RULE],
        # createTrainingJob.sync waits by such a rule too, asks, and stops the job of a stopped execution:
        # Step Functions developer guide, "IAM policies for Amazon SageMaker". Tags take AddTags.
        "sagemaker:CreateTrainingJob": [TRAINING_JOBS],
        "sagemaker:DescribeTrainingJob": [TRAINING_JOBS],
        "sagemaker:StopTrainingJob": [TRAINING_JOBS],
        "sagemaker:AddTags": [TRAINING_JOBS],
        "iam:PassRole": ["SageMakerRole"],
    },
    "DeployCloudMachine": {},
}

OPERATORS: dict[str, str] = {
    "s3:ListBucket": "isthmus dataset: what is uploaded already",
    "states:DescribeExecution": "isthmus job",
    "states:ListExecutions": "isthmus pipeline list",
    "states:GetExecutionHistory": "isthmus job",
    "states:StopExecution": "isthmus job stop",
    "states:RedriveExecution": "isthmus pipeline redrive",
    "lambda:GetFunctionConfiguration": "isthmus job: what it cost",
    "sqs:CreateQueue": "isthmus rig join",
    "sqs:TagQueue": "isthmus rig join",
}
"""What adapters call for a person at the command line, with that person's own rights."""

# ------------------------------------------------------------------------------- what is granted

ARN = re.compile(r"^arn:\$\{AWS::Partition\}:[a-z-]+:\$\{AWS::Region\}:\$\{AWS::AccountId\}:")
TABLE = "Table"
TABLE_ACTIONS = {
    f"dynamodb:{action}" for action in ("GetItem", "Query", "PutItem", "UpdateItem", "DeleteItem")
}


def short(resource: Any) -> str:
    """Return a statement's resource as ``NEEDS`` writes it."""
    if isinstance(resource, str):
        return resource
    if "Ref" in resource:
        return str(resource["Ref"])
    if "Fn::GetAtt" in resource:
        return str(resource["Fn::GetAtt"][0])
    text = str(resource["Fn::Sub"])
    text = text.removeprefix("${Bucket.Arn}/")
    text = re.sub(r"^\$\{(\w+)\.Arn\}", r"\1", text)
    return ARN.sub("", text)


def leading_keys(statement: dict[str, Any]) -> list[str] | None:
    """Return the leading keys of the table that a statement is held to; None: it is not."""
    condition = statement.get("Condition", {}).get("ForAllValues:StringLike", {})
    keys = condition.get("dynamodb:LeadingKeys")
    return None if keys is None else [str(key).removesuffix("*") for key in listed(keys)]


def granted(template: Template, name: str) -> Grants:
    """Return each statement's actions and resources; a table without leading keys is ``Table``."""
    found = []
    for holder, statement in statements(template):
        if holder == name:
            names = [short(entry) for entry in listed(statement["Resource"])]
            found.append((listed(statement["Action"]), leading_keys(statement) or names))
    return found


def covers(grant: str, action: str, resource: str) -> bool:
    return resource == grant or (grant == TABLE and action.startswith("dynamodb:"))


def missing(grants: Grants, needs: Needs) -> list[str]:
    """Return what is needed and not granted."""
    return [
        f"{action} on {resource}"
        for action, wanted in needs.items()
        for resource in wanted
        if not any(
            action in actions and any(covers(grant, action, resource) for grant in given)
            for actions, given in grants
        )
    ]


def unused(grants: Grants, needs: Needs) -> list[str]:
    """Return what is granted and needed by nothing.

    A statement grants each of its actions on each of its resources; that not every pair is needed is
    the price of a short policy, but an action or a resource of which no pair is needed is too much.
    """
    found = []
    for actions, given in grants:
        pairs = {
            (action, grant)
            for action in actions
            for grant in given
            if any(covers(grant, action, resource) for resource in needs.get(action, []))
        }
        used = {action for action, _ in pairs}, {grant for _, grant in pairs}
        found += [f"{action} on {', '.join(given)}" for action in actions if action not in used[0]]
        found += [f"{', '.join(actions)} on {grant}" for grant in given if grant not in used[1]]
    return list(dict.fromkeys(found))


# ------------------------------------------------------------------------------------- the tests


@pytest.mark.parametrize("name", NEEDS)
def test_an_identity_may_do_what_its_code_does_and_nothing_else(template: Template, name: str) -> None:
    grants = granted(template, name)
    assert not missing(grants, NEEDS[name]), f"add to {name}"
    assert not unused(grants, NEEDS[name]), f"take from {name}"


@pytest.mark.parametrize("name", ["RigPolicy", "RigRole"])
def test_a_rig_may_send_metrics_in_the_stacks_namespace_alone(template: Template, name: str) -> None:
    found = [entry for holder, entry in statements(template) if holder == name and entry["Resource"] == "*"]
    condition = {"StringEquals": {"cloudwatch:namespace": {"Ref": "AWS::StackName"}}}
    assert [(entry["Action"], entry["Condition"]) for entry in found] == [
        ("cloudwatch:PutMetricData", condition)
    ]


def test_a_rig_with_a_certificate_may_do_what_one_without_may_and_only_under_its_own_name(
    template: Template,
) -> None:
    """They differ in what names the rig alone; a right that is given to one is given to the other."""

    def rights(name: str) -> list[str]:
        found = [
            json.dumps(entry, sort_keys=True) for holder, entry in statements(template) if holder == name
        ]
        return [
            re.sub(r"(-rig-|QUEUE#|RIG#|probes/)(\*|\$\{!?credentials-iot:ThingName\})", r"\1RIG", t)
            for t in found
        ]

    assert rights("RigRole") == rights("RigPolicy")
    ours = json.dumps([entry for holder, entry in statements(template) if holder == "RigRole"])
    assert not re.search(r"(-rig-|QUEUE#|RIG#|probes/)\*", ours)


def held_to_an_hour(template: Template, role: str, alias: str) -> None:
    (trust,) = resources(template, "AWS::IAM::Role")[role]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "credentials.iot.amazonaws.com"}
    found = resources(template, "AWS::IoT::RoleAlias")[alias]
    assert found["RoleArn"] == {"Fn::GetAtt": [role, "Arn"]}
    assert found["CredentialDurationSeconds"] <= 3600


def test_a_core_devices_credentials_come_by_its_certificate_and_last_an_hour_at_most(
    template: Template,
) -> None:
    held_to_an_hour(template, "CoreRole", "CoreAlias")
    assert set(resources(template, "AWS::IoT::RoleAlias")) == {"RigAlias", "CoreAlias"}


def test_a_rigs_credentials_come_by_its_certificate_and_last_an_hour_at_most(template: Template) -> None:
    held_to_an_hour(template, "RigRole", "RigAlias")
    (policy,) = resources(template, "AWS::IoT::Policy").values()
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Action"] == "iot:AssumeRoleWithCertificate"
    assert statement["Resource"] == {"Fn::GetAtt": ["RigAlias", "RoleAliasArn"]}


def test_nothing_that_a_rig_has_reaches_the_tokens_of_approvals(template: Template) -> None:
    """A rig may answer tokens: it must not learn one that lets a model into service."""
    for name in ("RigPolicy", "RigRole", "FinishAttemptFunction", "SageMakerRole"):
        given = [
            place
            for actions, places in granted(template, name)
            for place in places
            if TABLE_ACTIONS & {*actions}
        ]
        assert TABLE not in given, name
        assert not [key for key in given if "APPROVALS".startswith(key)], name
    reading = {
        name
        for name in NEEDS
        for actions, given in granted(template, name)
        if {"dynamodb:GetItem", "dynamodb:Query"} & {*actions} and "APPROVALS" in given
    }
    assert reading == {"ApproverPolicy"}


@pytest.mark.parametrize("name", MACHINE_NEEDS)
def test_a_state_machine_may_call_what_its_definition_names(template: Template, name: str) -> None:
    needs = {**MACHINE_NEEDS[name], **named_in(template, name)}
    grants = granted(template, name)
    assert not missing(grants, needs), f"add to {name}"
    assert not unused(grants, needs), f"take from {name}"


def test_every_identity_of_the_template_is_known_here(template: Template) -> None:
    policies = resources(template, "AWS::IAM::ManagedPolicy")
    roles = resources(template, "AWS::IAM::Role")
    assert {*functions(template), *policies, *roles} == set(NEEDS)
    assert not any("ManagedPolicyArns" in role for role in roles.values()), "they would escape this test"
    assert set(resources(template, "AWS::Serverless::StateMachine")) == set(MACHINE_NEEDS)
    assert all(isinstance(entry, dict) for _, entry in statements(template)), "no managed policy by name"


def test_every_call_of_the_adapters_is_somebodys_right() -> None:
    """A new call in an adapter fails here until the table says who makes it."""
    known = {action for needs in [*NEEDS.values(), *MACHINE_NEEDS.values()] for action in needs}
    called = set(actions_in((ROOT / "src/isthmus/adapters/aws").glob("*.py")))
    assert called >= {"s3:GetObject", "lambda:GetFunction", "states:SendTaskHeartbeat"}, "it finds calls"
    assert not called - known - set(OPERATORS), "say in NEEDS who may do it, or in OPERATORS why nobody"
    assert set(OPERATORS) <= called, "no adapter makes this call any more"


def test_the_comparison_itself_finds_what_is_missing_and_what_is_too_much() -> None:
    needs = {"s3:GetObject": ["jobs/*"], "dynamodb:GetItem": ["JOB#"]}
    assert missing([(["s3:GetObject"], ["code/*"])], needs) == [
        "s3:GetObject on jobs/*",
        "dynamodb:GetItem on JOB#",
    ]
    grants = [(["s3:GetObject"], ["jobs/*", "code/*"]), (["dynamodb:GetItem", "dynamodb:PutItem"], [TABLE])]
    assert not missing(grants, needs)
    assert unused(grants, needs) == ["s3:GetObject on code/*", "dynamodb:PutItem on Table"]
    assert unused([(["dynamodb:GetItem"], ["JOB#", "RIGS"])], needs) == ["dynamodb:GetItem on RIGS"]


# ------------------------------------------------------------------- read off definitions and code


def named_in(template: Template, machine: str) -> Needs:
    """Return the rights for the functions and machines that a state machine's definition names."""
    properties = resources(template, "AWS::Serverless::StateMachine")[machine]
    definition = json.loads((ROOT / properties["DefinitionUri"]).read_text())
    found: Needs = {}
    for state in definition["States"].values():
        for field, action in (
            ("FunctionName", "lambda:InvokeFunction"),
            ("StateMachineArn", "states:StartExecution"),
        ):
            named = state.get("Parameters", {}).get(field)
            if named:
                target = short(properties["DefinitionSubstitutions"][named.strip("${}")])
                if target not in found.setdefault(action, []):
                    found[action].append(target)
    return found
