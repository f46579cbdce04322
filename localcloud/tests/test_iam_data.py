"""Who may reach data: buckets, tables and queues, and the customer's keys that encrypt them."""

import json
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import REGION, Cloud, wait_for
from iam_world import ACCOUNT, User, client_with, customer_key, grant, record

TABLE_ARN = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/guarded"
QUEUE_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:guarded"


@pytest.fixture(scope="module")
def key(cloud: Cloud) -> str:
    return customer_key(cloud)


@pytest.fixture(scope="module")
def bucket(cloud: Cloud, key: str) -> str:
    """A bucket with a customer's key, and a policy that wants TLS."""
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="guarded", CreateBucketConfiguration={"LocationConstraint": REGION})
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}
    s3.put_bucket_encryption(Bucket="guarded", ServerSideEncryptionConfiguration=rules)
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::guarded", "arn:aws:s3:::guarded/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    s3.put_bucket_policy(Bucket="guarded", Policy=policy)
    s3.put_object(Bucket="guarded", Key="a/there", Body=b"x")
    return "guarded"


@pytest.fixture(scope="module")
def table(cloud: Cloud, key: str) -> str:
    cloud.client("dynamodb").create_table(
        TableName="guarded",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk")],
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key},
    )
    return "guarded"


@pytest.fixture(scope="module")
def queue(cloud: Cloud, key: str) -> str:
    url = cloud.client("sqs").create_queue(QueueName="guarded", Attributes={"KmsMasterKeyId": key})
    return str(url["QueueUrl"])


def test_objects_take_the_right_on_their_key_and_a_tls_policy_lets_the_endpoint_pass(
    cloud: Cloud, bucket: str, key: str
) -> None:
    user = User(cloud, grant(["s3:PutObject", "s3:GetObject"], "arn:aws:s3:::guarded/a/*"))
    s3 = user.client("s3")
    user.refused("s3:PutObject", s3.put_object, Bucket=bucket, Key="b/new", Body=b"x")
    message = user.refused("kms:GenerateDataKey", s3.put_object, Bucket=bucket, Key="a/new", Body=b"x")
    assert message.endswith(
        f"on resource: {key} because no identity-based policy allows the kms:GenerateDataKey action"
    )
    user.refused("kms:Decrypt", s3.get_object, Bucket=bucket, Key="a/there")
    user.may(
        grant(["s3:PutObject", "s3:GetObject"], "arn:aws:s3:::guarded/a/*"),
        grant(["kms:Decrypt", "kms:GenerateDataKey"], key),
    )
    s3.put_object(Bucket=bucket, Key="a/new", Body=b"new")
    assert s3.get_object(Bucket=bucket, Key="a/new")["Body"].read() == b"new"


def test_a_missing_object_is_404_only_to_those_who_may_list(cloud: Cloud, bucket: str) -> None:
    user = User(cloud, grant("s3:GetObject", "arn:aws:s3:::guarded/*"))
    with pytest.raises(ClientError, match="403"):
        user.client("s3").head_object(Bucket=bucket, Key="a/missing")
    user.refused("s3:ListBucket", user.client("s3").get_object, Bucket=bucket, Key="a/missing")
    user.may(grant(["s3:GetObject", "s3:ListBucket"]))
    with pytest.raises(ClientError, match="404"):
        user.client("s3").head_object(Bucket=bucket, Key="a/missing")


def test_an_explicit_deny_is_said_to_be_one(cloud: Cloud, bucket: str) -> None:
    user = User(cloud, grant("s3:*"), {"Effect": "Deny", "Action": "s3:ListBucket", "Resource": "*"})
    message = user.refused("s3:ListBucket", user.client("s3").list_objects_v2, Bucket=bucket)
    assert message.endswith("with an explicit deny")
    assert user.client("s3").list_buckets()["Buckets"]


def item(pk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": "x"}}


def held_to(*keys: str) -> dict[str, Any]:
    actions = [
        "GetItem", "PutItem", "UpdateItem", "Query", "BatchWriteItem", "BatchGetItem", "ConditionCheckItem",
    ]  # fmt: skip
    named = [f"dynamodb:{action}" for action in actions]
    condition = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": list(keys)}}
    return grant(named, TABLE_ARN, **condition)


def test_leading_keys_hold_for_items_queries_batches_and_transactions(
    cloud: Cloud, table: str, key: str
) -> None:
    user = User(cloud, held_to("JOB#*", "RIGS"), grant("kms:Decrypt", key))
    dynamodb = user.client("dynamodb")
    put, where = "dynamodb:PutItem", {"TableName": table}
    dynamodb.put_item(**where, Item=item("JOB#1"))
    user.refused(put, dynamodb.put_item, **where, Item=item("MODELS"))
    user.refused("dynamodb:GetItem", dynamodb.get_item, **where, Key=item("JOBLESS"))
    asked = {"KeyConditionExpression": "#p = :p", "ExpressionAttributeNames": {"#p": "pk"}, **where}
    assert dynamodb.query(**asked, ExpressionAttributeValues={":p": {"S": "JOB#1"}})["Count"] == 1
    user.refused("dynamodb:Query", dynamodb.query, **asked, ExpressionAttributeValues={":p": {"S": "MODELS"}})
    mixed = {table: [{"PutRequest": {"Item": item(pk)}} for pk in ("JOB#1", "MODELS")]}
    user.refused("dynamodb:BatchWriteItem", dynamodb.batch_write_item, RequestItems=mixed)
    keys = {table: {"Keys": [item("JOB#1"), item("RIGS")]}}
    assert len(dynamodb.batch_get_item(RequestItems=keys)["Responses"][table]) == 1
    wanted = [{"Put": {"Item": item("RIGS"), **where}}]
    dynamodb.transact_write_items(TransactItems=wanted)
    wanted = [{"ConditionCheck": {"Key": item("X"), "ConditionExpression": "attribute_exists(pk)", **where}}]
    user.refused("dynamodb:ConditionCheckItem", dynamodb.transact_write_items, TransactItems=wanted)


def test_a_table_with_a_customers_key_takes_decrypt(cloud: Cloud, table: str) -> None:
    user = User(cloud, held_to("JOB#*"))
    user.refused("kms:Decrypt", user.client("dynamodb").put_item, TableName=table, Item=item("JOB#1"))


def test_a_queue_with_a_customers_key_takes_two_rights_to_send_and_one_to_receive(
    cloud: Cloud, queue: str, key: str
) -> None:
    kms = ("KMS.AccessDeniedException", "AccessDenied")
    user = User(cloud, grant(["sqs:SendMessage", "sqs:ReceiveMessage"], QUEUE_ARN))
    sqs, where = user.client("sqs"), {"QueueUrl": queue}
    user.refused("kms:GenerateDataKey", sqs.send_message, *kms, **where, MessageBody="m")
    user.refused("kms:Decrypt", sqs.receive_message, *kms, **where)
    user.refused("sqs:DeleteMessage", sqs.delete_message, **where, ReceiptHandle="r")
    user.may(grant("sqs:*", QUEUE_ARN), grant("kms:GenerateDataKey", key))
    user.refused("kms:Decrypt", sqs.send_message, *kms, **where, MessageBody="m")
    user.may(grant("sqs:*", QUEUE_ARN), grant(["kms:GenerateDataKey", "kms:Decrypt"], key))
    sqs.send_message(**where, MessageBody="m")
    assert sqs.receive_message(**where)["Messages"]


def test_a_key_is_meant_by_its_arn_also_where_an_alias_names_it(cloud: Cloud, key: str) -> None:
    cloud.client("kms").create_alias(AliasName="alias/guarded", TargetKeyId=key)
    user = User(cloud, grant("kms:DescribeKey", key))
    kms = user.client("kms")
    assert kms.describe_key(KeyId="alias/guarded")["KeyMetadata"]["Arn"] == key
    # The key's policy names the account, which grants nothing to a user whom no policy allows it.
    user.refused("kms:Encrypt", kms.encrypt, KeyId="alias/guarded", Plaintext=b"x")


def test_what_concerns_no_key_is_allowed_by_the_identitys_policy_alone(cloud: Cloud, key: str) -> None:
    user = User(cloud, grant(["kms:ListKeys", "kms:ListAliases", "kms:CreateKey"]))
    kms = user.client("kms")
    assert key in [entry["KeyArn"] for entry in kms.list_keys()["Keys"]]
    assert kms.list_aliases()["Aliases"]
    assert kms.create_key()["KeyMetadata"]["Arn"]


def test_unsigned_requests_and_unknown_keys_are_refused(cloud: Cloud, bucket: str) -> None:
    stranger = client_with(cloud, "sqs", "AKIAIOSFODNN7NOBODY1", "secret")
    with pytest.raises(ClientError, match="security token included in the request is invalid"):
        stranger.list_queues()
    unsigned = Config(signature_version=UNSIGNED, retries={"max_attempts": 0})
    anonymous = boto3.client("s3", endpoint_url=cloud.url, region_name=REGION, config=unsigned)
    with pytest.raises(ClientError, match="Access Denied"):
        anonymous.get_object(Bucket=bucket, Key="a/there")
    assert cloud.client("s3").head_object(Bucket=bucket, Key="a/there"), "the operator may"


def test_a_bucket_s_explicit_deny_holds_for_the_operator_too(cloud: Cloud, bucket: str) -> None:
    s3 = cloud.client("s3")
    before = s3.get_bucket_policy(Bucket=bucket)["Policy"]
    out = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{bucket}/pinned-*/blobs/*",
    }
    statements = [*json.loads(before)["Statement"], out]
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    with pytest.raises(ClientError, match=r"s3:PutObject .* with an explicit deny"):
        s3.put_object(Bucket=bucket, Key="pinned-a/blobs/x", Body=b"x")
    s3.put_object(Bucket=bucket, Key="pinned-a/manifests/x", Body=b"x")
    s3.put_bucket_policy(Bucket=bucket, Policy=before)
    s3.put_object(Bucket=bucket, Key="pinned-a/blobs/x", Body=b"x")


def test_every_decision_is_on_record(cloud: Cloud, bucket: str) -> None:
    user = User(cloud, grant("s3:ListBucket"))
    user.client("s3").list_objects_v2(Bucket=bucket)
    user.refused("s3:GetBucketPolicy", user.client("s3").get_bucket_policy, Bucket=bucket)
    own = wait_for(
        lambda: (found := [line for line in record(cloud) if line["identity"] == user.name])[1:] and found
    )
    assert [(line["action"], line["decision"], line["kind"]) for line in own] == [
        ("s3:ListBucket", "allowed", "user"),
        ("s3:GetBucketPolicy", "not allowed", "user"),
    ]
