"""The credentials provider: who gets a role's credentials for a certificate, and what IAM knows of them."""

import http.client
import json
import ssl
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import Cloud, allow, make_role, wait_for
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from iam_world import client_with, grant

from isthmus_localcloud.iot.authority import Authority

SERVICE = "credentials.iot.amazonaws.com"


def key_and_request() -> tuple[bytes, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "rig")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, request.public_bytes(Encoding.PEM).decode()


@dataclass
class Rig:
    """A thing with an active certificate and a policy that lets it take the role of its alias."""

    cloud: Cloud
    folder: Path
    name: str = field(default_factory=lambda: f"rig-{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        own = "arn:aws:sqs:eu-west-1:000000000000:${credentials-iot:ThingName}"
        role = make_role(self.cloud, self.name, [SERVICE], grant("sqs:*", own))
        alias = self.iot.create_role_alias(roleAlias=self.name, roleArn=role, credentialDurationSeconds=900)
        statement = grant("iot:AssumeRoleWithCertificate", alias["roleAliasArn"])
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.iot.create_policy(policyName=self.name, policyDocument=document)
        self.iot.create_thing(thingName=self.name)
        self.key, request = key_and_request()
        made = self.iot.create_certificate_from_csr(certificateSigningRequest=request, setAsActive=True)
        self.id, self.arn, self.pem = made["certificateId"], made["certificateArn"], made["certificatePem"]
        self.iot.attach_policy(policyName=self.name, target=self.arn)
        self.iot.attach_thing_principal(thingName=self.name, principal=self.arn)

    @property
    def iot(self) -> Any:
        return self.cloud.client("iot")

    def ask(self, thing: str | None = None, pem: str | None = "", path: str = "") -> tuple[int, Any]:
        """Status and answer. ``thing`` None: its own; "": none is named. ``pem`` None: no certificate."""
        context = ssl.create_default_context(cafile=self.cloud.endpoint["ca_bundle"])
        if pem is not None:
            file = self.folder / f"{uuid.uuid4().hex}.pem"
            file.write_bytes(self.key + (pem or self.pem).encode())
            context.load_cert_chain(file)
        address = self.iot.describe_endpoint(endpointType="iot:CredentialProvider")["endpointAddress"]
        named = self.name if thing is None else thing
        connection = http.client.HTTPSConnection(address, context=context, timeout=20)
        connection.request(
            "GET",
            path or f"/role-aliases/{self.name}/credentials",
            headers={"x-amzn-iot-thingname": named} if named else {},
        )
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        return answer.status, body

    def client(self, service: str, thing: str | None = None) -> Any:
        status, answer = self.ask(thing)
        assert status == 200, answer
        given = answer["credentials"]
        return client_with(
            self.cloud, service, given["accessKeyId"], given["secretAccessKey"], given["sessionToken"]
        )


@pytest.fixture
def rig(cloud: Cloud, tmp_path: Path) -> Rig:
    return Rig(cloud, tmp_path)


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


def test_a_certificate_is_worth_credentials_of_the_role(rig: Rig) -> None:
    status, answer = rig.ask()
    assert status == 200
    assert set(answer["credentials"]) == {"accessKeyId", "secretAccessKey", "sessionToken", "expiration"}
    who = rig.client("sts").get_caller_identity()["Arn"]
    assert who == f"arn:aws:sts::000000000000:assumed-role/{rig.name}/{rig.id}"


def test_the_things_name_is_a_variable_of_the_roles_policy(rig: Rig) -> None:
    mine = rig.cloud.client("sqs").create_queue(QueueName=rig.name)["QueueUrl"]
    others = rig.cloud.client("sqs").create_queue(QueueName=f"{rig.name}-b")["QueueUrl"]
    rig.client("sqs").send_message(QueueUrl=mine, MessageBody="x")
    assert refused(rig.client("sqs").send_message, QueueUrl=others, MessageBody="x") == "AccessDenied"
    assert refused(rig.client("sqs", thing="").send_message, QueueUrl=mine, MessageBody="x") == "AccessDenied"


def test_the_record_has_what_the_decision_was_made_on(rig: Rig) -> None:
    mine = rig.cloud.client("sqs").create_queue(QueueName=rig.name)["QueueUrl"]
    rig.client("sqs").purge_queue(QueueUrl=mine)
    record = rig.cloud.state / "logs/iam.jsonl"

    def line() -> dict[str, Any] | None:
        lines = [json.loads(text) for text in record.read_text().splitlines()] if record.exists() else []
        return next((e for e in lines if e["identity"] == rig.name and e["action"] == "sqs:PurgeQueue"), None)

    keys = {"credentials-iot:ThingName": rig.name, "credentials-iot:AwsCertificateId": rig.id}
    assert wait_for(line)["keys"] == keys


def test_a_revoked_certificate_gets_nothing_until_it_is_active_again(rig: Rig) -> None:
    rig.iot.update_certificate(certificateId=rig.id, newStatus="INACTIVE")
    assert rig.ask() == (403, {"message": "Access Denied"})
    rig.iot.update_certificate(certificateId=rig.id, newStatus="ACTIVE")
    assert rig.ask()[0] == 200


def test_a_certificate_that_was_deleted_gets_nothing(rig: Rig) -> None:
    rig.iot.detach_thing_principal(thingName=rig.name, principal=rig.arn)
    rig.iot.detach_policy(policyName=rig.name, target=rig.arn)
    rig.iot.update_certificate(certificateId=rig.id, newStatus="INACTIVE")
    rig.iot.delete_certificate(certificateId=rig.id)
    assert rig.ask() == (403, {"message": "Access Denied"})


def test_without_the_policy_there_is_nothing(rig: Rig) -> None:
    rig.iot.detach_policy(policyName=rig.name, target=rig.arn)
    assert rig.ask() == (403, {"message": "Access Denied"})


def test_the_policy_is_for_its_own_alias_alone(rig: Rig, tmp_path: Path) -> None:
    other = Rig(rig.cloud, tmp_path)
    assert rig.ask(path=f"/role-aliases/{other.name}/credentials") == (403, {"message": "Access Denied"})
    rig.iot.delete_role_alias(roleAlias=rig.name)
    assert rig.ask()[0] == 404
    assert rig.ask(path="/")[0] == 404


def test_a_thing_that_is_anothers_is_not_believed(rig: Rig, tmp_path: Path) -> None:
    other = Rig(rig.cloud, tmp_path)
    assert rig.ask(thing=other.name) == (403, {"message": "Invalid thing name passed"})


def test_without_a_certificate_there_is_nothing(rig: Rig) -> None:
    assert rig.ask(pem=None) == (403, {"message": "Access Denied"})


def test_a_certificate_of_another_authority_is_not_even_heard(rig: Rig) -> None:
    rig.key, request = key_and_request()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        rig.ask(pem=Authority().of_device(request))


def test_a_certificate_is_of_the_key_that_asked_for_it(rig: Rig) -> None:
    rig.key, _ = key_and_request()
    with pytest.raises(ssl.SSLError, match=r"KEY_VALUES_MISMATCH|mismatch"):
        rig.ask()


def test_a_role_that_does_not_trust_the_service_gives_nothing(rig: Rig) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    rig.cloud.client("iam").update_assume_role_policy(
        RoleName=rig.name, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    assert rig.ask() == (403, {"message": "Access Denied"})


def test_a_request_that_is_none_is_refused(cloud: Cloud) -> None:
    create = cloud.client("iot").create_certificate_from_csr
    assert refused(create, certificateSigningRequest="no request") == "InvalidRequestException"


def test_a_template_makes_an_alias_and_its_policy(cloud: Cloud) -> None:
    name = f"s{uuid.uuid4().hex[:8]}"
    named = "arn:aws:sqs:${AWS::Region}:${AWS::AccountId}:${AWS::StackName}-${!credentials-iot:ThingName}"

    def template(seconds: int) -> str:
        statement = grant("iot:AssumeRoleWithCertificate", {"Fn::GetAtt": ["Alias", "RoleAliasArn"]})  # type: ignore[arg-type]
        return json.dumps(
            {
                "Resources": {
                    "Role": {
                        "Type": "AWS::IAM::Role",
                        "Properties": {
                            "Policies": [
                                {
                                    "PolicyName": "p",
                                    "PolicyDocument": {
                                        "Version": "2012-10-17",
                                        "Statement": [grant("sqs:*", {"Fn::Sub": named})],  # type: ignore[arg-type]
                                    },
                                }
                            ],
                            "AssumeRolePolicyDocument": {
                                "Version": "2012-10-17",
                                "Statement": [
                                    {
                                        "Effect": "Allow",
                                        "Principal": {"Service": SERVICE},
                                        "Action": "sts:AssumeRole",
                                    }
                                ],
                            },
                        },
                    },
                    "Alias": {
                        "Type": "AWS::IoT::RoleAlias",
                        "Properties": {
                            "RoleAlias": f"{name}-rig",
                            "RoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
                            "CredentialDurationSeconds": seconds,
                        },
                    },
                    "Policy": {
                        "Type": "AWS::IoT::Policy",
                        "Properties": {
                            "PolicyName": f"{name}-rig",
                            "PolicyDocument": {"Version": "2012-10-17", "Statement": [statement]},
                        },
                    },
                },
                "Outputs": {"Alias": {"Value": {"Ref": "Alias"}}},
            }
        )

    stacks, iot = cloud.client("cloudformation"), cloud.client("iot")
    stacks.create_stack(StackName=name, TemplateBody=template(3600), Capabilities=["CAPABILITY_IAM"])
    stacks.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 0.2})
    outputs = stacks.describe_stacks(StackName=name)["Stacks"][0]["Outputs"]
    assert [entry["OutputValue"] for entry in outputs] == [f"{name}-rig"]
    alias = iot.describe_role_alias(roleAlias=f"{name}-rig")["roleAliasDescription"]
    document = json.loads(iot.get_policy(policyName=f"{name}-rig")["policyDocument"])
    assert document["Statement"][0]["Resource"] == alias["roleAliasArn"]
    role = alias["roleArn"].rpartition("/")[2]
    policy = cloud.client("iam").get_role_policy(RoleName=role, PolicyName="p")["PolicyDocument"]
    own = f"arn:aws:sqs:eu-west-1:000000000000:{name}-${{credentials-iot:ThingName}}"
    assert policy["Statement"][0]["Resource"] == own
    stacks.update_stack(StackName=name, TemplateBody=template(900), Capabilities=["CAPABILITY_IAM"])
    stacks.get_waiter("stack_update_complete").wait(StackName=name, WaiterConfig={"Delay": 0.2})
    changed = iot.describe_role_alias(roleAlias=f"{name}-rig")["roleAliasDescription"]
    assert changed["credentialDurationSeconds"] == 900
    stacks.delete_stack(StackName=name)
    stacks.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 0.2})
    assert refused(iot.describe_role_alias, roleAlias=f"{name}-rig") == "ResourceNotFoundException"


def test_metrics_may_be_sent_to_the_namespace_that_a_policy_names(rig: Rig) -> None:
    condition = {"StringEquals": {"cloudwatch:namespace": "shop"}}
    allow(rig.cloud, rig.name, grant("cloudwatch:PutMetricData", **condition))
    put, data = rig.client("cloudwatch").put_metric_data, [{"MetricName": "JobsRunning", "Value": 1.0}]
    put(Namespace="shop", MetricData=data)
    assert "AccessDenied" in refused(put, Namespace="other", MetricData=data)
