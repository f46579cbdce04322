"""Every limit that is enforced here, with its unit and its source.

Lambda's and API Gateway's pages say MB and KB where they mean 1,024² and 1,024 bytes ("Lambda quotas").
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """The largest value that AWS accepts."""

    value: int
    unit: str
    source: str


LAMBDA_QUOTAS = "Lambda developer guide, 'Lambda quotas' (gettingstarted-limits)"
STATES_QUOTAS = "Step Functions developer guide, 'Step Functions service quotas'"
ONE_MEBIBYTE = "AWS Compute Blog, 29 January 2026: 'serverless services now support payloads up to 1 MB'"

LAMBDA_SYNCHRONOUS_REQUEST = Limit(
    6_291_456, "bytes", f"{LAMBDA_QUOTAS}: 6 MB; Lambda's own message: 'limit 6291456 bytes'"
)
LAMBDA_SYNCHRONOUS_RESPONSE = Limit(
    6_291_556,
    "bytes",
    "Lambda's own message: 'Response payload size exceeded maximum allowed payload size (6291556 bytes).'",
)
LAMBDA_ASYNCHRONOUS_REQUEST = Limit(
    1_048_576, "bytes", f"Lambda API reference, 'Invoke': 1 MB for asynchronous invocations; {ONE_MEBIBYTE}"
)
LAMBDA_LAYERS = Limit(5, "layers per function", f"{LAMBDA_QUOTAS}: five layers")
LAMBDA_UNZIPPED = Limit(
    262_144_000, "bytes, function and layers together", f"{LAMBDA_QUOTAS}: 250 MB (unzipped, with layers)"
)
LAMBDA_ENVIRONMENT = Limit(4_096, "bytes, as one JSON object", f"{LAMBDA_QUOTAS}: 4 KB in aggregate")

API_PAYLOAD = Limit(
    10_485_760,
    "bytes",
    "API Gateway developer guide, 'Quotas for configuring and running a REST API': 10 MB; its own message: "
    "'HTTP content length exceeded 10485760 bytes.'",
)
API_INTEGRATION_TIMEOUT = Limit(
    29_000,
    "milliseconds",
    "API Gateway developer guide, 'Quotas for configuring and running a REST API': 50 ms to 29 seconds; "
    "an account can have it raised for Regional APIs",
)

STATE_DATA = Limit(
    262_144, "bytes of UTF-8", f"{STATES_QUOTAS}: input or output of a task, state or execution"
)
TASK_TOKEN = Limit(2_048, "characters", "Step Functions API reference, 'SendTaskSuccess', taskToken")
EXECUTION_NAME = Limit(
    80, "characters", f"{STATES_QUOTAS}; 'StartExecution': a name is taken for 90 days after the end"
)

SQS_MESSAGE = Limit(
    1_048_576,
    "bytes, attributes included",
    "SQS API reference, 'SendMessage': The maximum size is 1 MiB or 1,048,576 bytes",
)
EVENT_ENTRIES = Limit(
    1_048_575,
    "bytes, all entries of a request together",
    f"EventBridge user guide, 'Calculating PutEvents event entry size': less than 1 MB; {ONE_MEBIBYTE}",
)
DYNAMODB_ITEM = Limit(
    409_600,
    "bytes, names and values",
    "DynamoDB developer guide, 'Service, account, and table quotas': 400 KB",
)

TRAINING_JOB_NAME = Limit(
    63, "characters", "SageMaker API reference, 'CreateTrainingJob': [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
)
GREENGRASS_RECIPE = Limit(
    16_000, "bytes", "AWS General Reference, 'AWS IoT Greengrass V2 endpoints and quotas': recipe size"
)
