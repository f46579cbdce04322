"""What a person needs to be allowed who deploys a stack and runs its commands, by resource.

Each action stands with a resource of a type that it takes (Service Authorization Reference): the simulator
refuses an action on any other, and holds it against ``*`` where none is given, which a policy of this
stack's names does not allow. Tests compare ``CALLED`` with the calls in the code, and ``MADE`` with the
types in the template.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

ANYTHING = "*"
STACK = "cloudformation:{region}:{account}:stack/{stack}/x"
SAM_STACK = "cloudformation:{region}:{account}:stack/aws-sam-cli-managed-default/x"
TRANSFORM = "cloudformation:{region}:aws:transform/Serverless-2016-10-31"
ROLE = "iam::{account}:role/{stack}-x"
POLICY = "iam::{account}:policy/{stack}-x"
BUCKET = "s3:::{stack}-{account}-{region}"
OBJECT = "s3:::{stack}-{account}-{region}/x"
TABLE = "dynamodb:{region}:{account}:table/{stack}-x"
FUNCTION = "lambda:{region}:{account}:function:{stack}-x"
LAYER = "lambda:{region}:{account}:layer:{stack}-x"
LAYER_VERSION = "lambda:{region}:{account}:layer:{stack}-x:1"
MACHINE = "states:{region}:{account}:stateMachine:{stack}-train-and-deploy"
EXECUTION = "states:{region}:{account}:execution:{stack}-train-and-deploy:x"
RULE = "events:{region}:{account}:rule/{stack}-x"
BUS = "events:{region}:{account}:event-bus/{stack}"
QUEUE = "sqs:{region}:{account}:{stack}-x"
TOPIC = "sns:{region}:{account}:{stack}-x"
LOGS = "logs:{region}:{account}:log-group:/isthmus/{stack}"
ALARM = "cloudwatch:{region}:{account}:alarm:{stack}-x"
DASHBOARD = "cloudwatch::{account}:dashboard/{stack}-{region}"
KEY = "kms:{region}:{account}:key/x"
MODELS = "sagemaker:{region}:{account}:model-package-group/{stack}-models"
MODEL = "sagemaker:{region}:{account}:model-package/{stack}-models/1"
CORES = "iot:{region}:{account}:thinggroup/{stack}-cores"
THING = "iot:{region}:{account}:thing/x"
CERTIFICATE = "iot:{region}:{account}:cert/x"
IOT_POLICY = "iot:{region}:{account}:policy/{stack}-rig"
CORE_POLICY = "iot:{region}:{account}:policy/{stack}.core.x"
ALIAS = "iot:{region}:{account}:rolealias/{stack}-rig"
JOB = "iot:{region}:{account}:job/x"
COMPONENT = "greengrass:{region}:{account}:components:{stack}.x.model"
COMPONENT_VERSION = "greengrass:{region}:{account}:components:{stack}.x.model:versions:1.0.0"
DEPLOYMENT = "greengrass:{region}:{account}:deployments:x"
CORE = "greengrass:{region}:{account}:coreDevices:x"
APIS = "apigateway:{region}::/restapis"
API = "apigateway:{region}::/restapis/x"
USAGE_PLANS = "apigateway:{region}::/usageplans"
USAGE_PLAN = "apigateway:{region}::/usageplans/x"
REQUEST = "execute-api:{region}:{account}:x/v/POST/v2/models/x/infer"

Actions = dict[str, str]
"""Resource to the actions on it, less the service, parted by spaces."""

CALLED: Actions = {
    STACK: "DeleteStack DescribeStacks ListStackResources",
    POLICY: "ListEntitiesForPolicy",
    "iam::{account}:user/x": "DetachUserPolicy",
    "iam::{account}:group/x": "DetachGroupPolicy",
    "iam::{account}:role/x": "DetachRolePolicy",
    BUCKET: "DeleteBucket GetBucketTagging GetEncryptionConfiguration ListBucket ListBucketVersions",
    OBJECT: "DeleteObject DeleteObjectVersion GetObject PutObject",
    TABLE: "DeleteItem DeleteTable DescribeTable GetItem ListTagsOfResource PutItem Query UpdateItem",
    FUNCTION: "DeleteAlias DeleteFunction DeleteFunctionConcurrency GetFunctionConcurrency "
    "GetFunctionConfiguration InvokeFunction ListAliases ListTags PutFunctionConcurrency",
    LAYER_VERSION: "DeleteLayerVersion GetLayerVersion",
    MACHINE: "ListExecutions StartExecution",
    EXECUTION: "DescribeExecution GetExecutionHistory RedriveExecution StopExecution",
    QUEUE: "CreateQueue DeleteQueue ListQueueTags TagQueue",
    LOGS: "DeleteLogGroup",
    KEY: "DescribeKey GetPublicKey ScheduleKeyDeletion Sign",
    MODELS: "DeleteModelPackageGroup DescribeModelPackageGroup",
    MODEL: "DeleteModelPackage ListModelPackages",
    COMPONENT: "ListComponentVersions",
    COMPONENT_VERSION: "DeleteComponent ListTagsForResource",
    DEPLOYMENT: "CancelDeployment DeleteDeployment GetDeployment",
    CORE: "DeleteCoreDevice GetCoreDevice ListEffectiveDeployments ListInstalledComponents",
    CORES: "AddThingToThingGroup ListThingsInThingGroup RemoveThingFromThingGroup",
    THING: "AddThingToThingGroup CreateThing DeleteThing DescribeThing ListThingPrincipals RemoveThingFromThingGroup",
    CERTIFICATE: (
        "AttachPolicy AttachThingPrincipal DeleteCertificate DescribeCertificate DetachPolicy "
        "DetachThingPrincipal ListPrincipalThings UpdateCertificate"
    ),
    IOT_POLICY: "ListTargetsForPolicy",
    CORE_POLICY: "CreatePolicy CreatePolicyVersion DeletePolicy DeletePolicyVersion GetPolicy ListPolicyVersions",
    ANYTHING: (
        "dynamodb:ListTables greengrass:ListComponents greengrass:ListCoreDevices greengrass:ListDeployments "
        "iot:CreateCertificateFromCsr iot:DescribeEndpoint kms:ListKeys "
        "lambda:GetAccountSettings lambda:ListFunctions lambda:ListLayerVersions "
        "logs:DescribeLogGroups servicequotas:ListServiceQuotas sqs:ListQueues"
    ),
}
"""What the commands call by themselves."""

ON_BEHALF: Actions = {
    # The bucket's and the table's key, in the name of whoever reads and writes them.
    KEY: "Decrypt GenerateDataKey",
    REQUEST: "Invoke",
    # A deployment is an IoT job: Service Authorization Reference, AWS IoT Greengrass V2, dependent
    # actions of CancelDeployment, DeleteDeployment, GetDeployment and ListDeployments.
    JOB: "CancelJob DeleteJob DescribeJob UpdateJob",
    THING: "DeleteThingShadow DescribeThing GetThingShadow UpdateThingShadow",
    CORES: "DescribeThingGroup",
    # `sam deploy`: samcli/lib/deploy/deployer.py, and managed_cloudformation_stack.py for the bucket that it
    # keeps packages in. The transform is a resource of its own (CloudFormation user guide, "Control access
    # with IAM").
    STACK: "CreateChangeSet DescribeChangeSet DescribeStackEvents ExecuteChangeSet GetTemplateSummary",
    SAM_STACK: "CreateChangeSet DescribeStacks ExecuteChangeSet",
    TRANSFORM: "CreateChangeSet",
    "s3:::aws-sam-cli-managed-default-x": "CreateBucket PutBucketPolicy PutBucketVersioning",
    "s3:::aws-sam-cli-managed-default-x/x": "GetObject PutObject",
}
"""What is called for them: by services in the caller's name, by SAM, and over plain HTTPS."""

MADE: dict[str, Actions] = {
    "AWS::ApiGateway::Deployment": {API: "DELETE GET PATCH POST"},
    "AWS::ApiGateway::RestApi": {APIS: "POST", API: "DELETE GET PATCH PUT"},
    "AWS::ApiGateway::Stage": {API: "DELETE GET PATCH POST PUT"},
    "AWS::ApiGateway::UsagePlan": {USAGE_PLANS: "POST", USAGE_PLAN: "DELETE GET PATCH"},
    "AWS::CloudWatch::Alarm": {ALARM: "DeleteAlarms DescribeAlarms PutMetricAlarm"},
    "AWS::CloudWatch::Dashboard": {DASHBOARD: "DeleteDashboards GetDashboard PutDashboard"},
    "AWS::DynamoDB::Table": {
        TABLE: "CreateTable DeleteTable DescribeContinuousBackups DescribeTable DescribeTimeToLive "
        "ListTagsOfResource TagResource UntagResource UpdateContinuousBackups UpdateTable UpdateTimeToLive",
        KEY: "CreateGrant DescribeKey",
    },
    "AWS::Events::EventBus": {BUS: "CreateEventBus DeleteEventBus DescribeEventBus"},
    "AWS::Events::Rule": {RULE: "DeleteRule DescribeRule ListTargetsByRule PutRule PutTargets RemoveTargets"},
    "AWS::IAM::ManagedPolicy": {
        POLICY: "CreatePolicy CreatePolicyVersion DeletePolicy DeletePolicyVersion GetPolicy GetPolicyVersion "
        "ListEntitiesForPolicy ListPolicyVersions"
    },
    "AWS::IAM::Role": {
        ROLE: "AttachRolePolicy CreateRole DeleteRole DeleteRolePolicy DetachRolePolicy GetRole GetRolePolicy "
        "ListAttachedRolePolicies ListRolePolicies PutRolePolicy TagRole UntagRole UpdateAssumeRolePolicy"
    },
    "AWS::IoT::Policy": {
        IOT_POLICY: "CreatePolicy CreatePolicyVersion DeletePolicy DeletePolicyVersion GetPolicy "
        "ListPolicyVersions",
    },
    "AWS::IoT::RoleAlias": {
        ALIAS: "CreateRoleAlias DeleteRoleAlias DescribeRoleAlias UpdateRoleAlias",
        ROLE: "GetRole PassRole",
    },
    "AWS::IoT::ThingGroup": {
        CORES: "CreateThingGroup DeleteThingGroup DescribeThingGroup ListTagsForResource TagResource"
    },
    "AWS::KMS::Key": {
        ANYTHING: "kms:CreateKey",
        KEY: "DescribeKey EnableKeyRotation GetKeyPolicy GetKeyRotationStatus ListResourceTags PutKeyPolicy "
        "ScheduleKeyDeletion TagResource UntagResource UpdateKeyDescription",
    },
    "AWS::Lambda::Alias": {FUNCTION: "CreateAlias DeleteAlias GetAlias UpdateAlias"},
    "AWS::Lambda::EventInvokeConfig": {
        FUNCTION: "DeleteFunctionEventInvokeConfig GetFunctionEventInvokeConfig PutFunctionEventInvokeConfig "
        "UpdateFunctionEventInvokeConfig"
    },
    "AWS::Lambda::Function": {
        FUNCTION: "CreateFunction DeleteFunction GetFunction TagResource UntagResource UpdateFunctionCode "
        "UpdateFunctionConfiguration",
        LAYER_VERSION: "GetLayerVersion",
        ROLE: "PassRole",
    },
    "AWS::Lambda::LayerVersion": {LAYER: "PublishLayerVersion", LAYER_VERSION: "GetLayerVersion"},
    "AWS::Lambda::Permission": {FUNCTION: "AddPermission GetPolicy RemovePermission"},
    "AWS::Lambda::Version": {FUNCTION: "GetFunctionConfiguration ListVersionsByFunction PublishVersion"},
    "AWS::Logs::LogGroup": {
        LOGS: "CreateLogGroup DeleteLogGroup ListTagsForResource PutRetentionPolicy TagResource UntagResource"
    },
    "AWS::Logs::MetricFilter": {LOGS: "DeleteMetricFilter DescribeMetricFilters PutMetricFilter"},
    "AWS::S3::Bucket": {
        BUCKET: "CreateBucket DeleteBucket GetBucketPublicAccessBlock GetBucketTagging GetBucketVersioning "
        "GetEncryptionConfiguration GetLifecycleConfiguration PutBucketNotification "
        "PutBucketPublicAccessBlock PutBucketTagging PutBucketVersioning PutEncryptionConfiguration "
        "PutLifecycleConfiguration"
    },
    "AWS::S3::BucketPolicy": {BUCKET: "DeleteBucketPolicy GetBucketPolicy PutBucketPolicy"},
    "AWS::SNS::Topic": {
        TOPIC: "CreateTopic DeleteTopic GetTopicAttributes ListSubscriptionsByTopic SetTopicAttributes Subscribe"
    },
    "AWS::SQS::Queue": {
        QUEUE: "CreateQueue DeleteQueue GetQueueAttributes ListQueueTags SetQueueAttributes TagQueue UntagQueue"
    },
    "AWS::SQS::QueuePolicy": {QUEUE: "SetQueueAttributes"},
    "AWS::SageMaker::ModelPackageGroup": {
        MODELS: "AddTags CreateModelPackageGroup DeleteModelPackageGroup DescribeModelPackageGroup ListTags"
    },
    "AWS::StepFunctions::StateMachine": {
        MACHINE: "CreateStateMachine DeleteStateMachine DescribeStateMachine ListTagsForResource TagResource "
        "UntagResource UpdateStateMachine",
        ROLE: "PassRole",
    },
    "Custom::ServingCode": {FUNCTION: "InvokeFunction"},
}
"""What CloudFormation calls in the caller's name for each type of resource, to make, change, read and
delete it: the ``handlers`` of the type's schema in the CloudFormation registry, less what is for
properties that the template does not set."""


def named(tables: Iterable[Actions]) -> dict[str, tuple[str, ...]]:
    """Return all actions with their service, sorted, by resource."""
    found: dict[str, set[str]] = defaultdict(set)
    for table in tables:
        for place, actions in table.items():
            service = "" if place == ANYTHING else place.split(":")[0] + ":"
            found[place] |= {service + action for action in actions.split()}
    return {place: tuple(sorted(actions)) for place, actions in found.items()}


ACTIONS = named([CALLED, ON_BEHALF, *MADE.values()])
"""Everything, by the resource that it is called on, less ``arn:aws:``."""
