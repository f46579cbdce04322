"""Training jobs run under SageMaker's contract; the model registry keeps what isthmus puts in it."""

import io
import json
import tarfile
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import ROLE, Cloud, cli, make_role, task, wait_for

BUCKET = "training"


@pytest.fixture(scope="module")
def data(cloud: Cloud) -> str:
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket=BUCKET, Key="data/a/x.txt", Body=b"hello")
    return f"s3://{BUCKET}/data"


def request(name: str, data: str, **hyperparameters: str) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": "000000000000.dkr.ecr.eu-west-1.amazonaws.com/group/train:1.0",
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "loss", "Regex": r"loss=([0-9.]+);"}],
        },
        "HyperParameters": {"learning-rate": "0.1", **hyperparameters},
        "InputDataConfig": [
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data}},
            }
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out/"},
        "CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/checkpoints/{name}"},
        "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 5},
        "RoleArn": ROLE,
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }


def ended(cloud: Cloud, name: str) -> dict[str, Any]:
    def probe() -> dict[str, Any] | None:
        found = cloud.client("sagemaker").describe_training_job(TrainingJobName=name)
        return found if found["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") else None

    return wait_for(probe)


def members(cloud: Cloud, uri: str) -> dict[str, str]:
    body = (
        cloud.client("s3").get_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))["Body"].read()
    )
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {m.name: tar.extractfile(m).read().decode() for m in tar.getmembers() if m.isfile()}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("wrapper", "expected"),
    [
        ("None", b"hello" + b"head\x0a\x23\xd7\xcetail"),
        (
            "RecordIO",
            bytes.fromhex("0a23d7ce 05000000")
            + b"hello\0\0\0"
            # The magic number in the second object cuts it in two: flags 1 and 3.
            + bytes.fromhex("0a23d7ce 04000020")
            + b"head"
            + bytes.fromhex("0a23d7ce 04000060")
            + b"tail",
        ),
    ],
)
def test_a_channel_in_pipe_mode_is_a_pipe_for_each_pass(
    cloud: Cloud, data: str, wrapper: str, expected: bytes
) -> None:
    s3 = cloud.client("s3")
    s3.put_object(Bucket=BUCKET, Key="piped/a", Body=b"hello")
    s3.put_object(Bucket=BUCKET, Key="piped/b", Body=b"head\x0a\x23\xd7\xcetail")
    name = f"piped-{wrapper}"
    asked = request(name, f"s3://{BUCKET}/piped/", pipe="yes")
    asked["InputDataConfig"][0] |= {"InputMode": "Pipe", "RecordWrapperType": wrapper}
    cloud.client("sagemaker").create_training_job(**asked)
    found = ended(cloud, name)
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    seen = json.loads(members(cloud, found["ModelArtifacts"]["S3ModelArtifacts"])["seen.json"])
    assert [bytes.fromhex(one) for one in seen["passes"]] == [expected, expected]
    assert (seen["config"]["TrainingInputMode"], seen["config"]["RecordWrapperType"]) == ("Pipe", wrapper)


def test_a_job_sees_the_contract_and_leaves_its_model(cloud: Cloud, data: str) -> None:
    cloud.client("s3").put_object(Bucket=BUCKET, Key="checkpoints/good/step-7.txt", Body=b"seven")
    arn = cloud.client("sagemaker").create_training_job(**request("good", data))["TrainingJobArn"]
    found = ended(cloud, "good")
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    assert found["TrainingJobArn"] == arn and found["SecondaryStatus"] == "Completed"
    steps = [step["Status"] for step in found["SecondaryStatusTransitions"]]
    assert steps == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert [(m["MetricName"], m["Value"]) for m in found["FinalMetricDataList"]] == [("loss", 0.5)]
    seen = json.loads(members(cloud, found["ModelArtifacts"]["S3ModelArtifacts"])["seen.json"])
    assert seen == {
        "config": {"learning-rate": "0.1"},
        "hosts": ["algo-1"],
        "rate": "0.1",
        "model_dir": "/opt/ml/model",
        "resumed_from": ["step-7.txt"],
        "train": "hello",
    }
    assert members(cloud, f"s3://{BUCKET}/out/good/output/output.tar.gz") == {"report.txt": "fine"}
    events = cloud.client("logs").filter_log_events(logGroupName="/aws/sagemaker/TrainingJobs")["events"]
    assert any("loss=0.5" in event["message"] for event in events)
    assert "loss=0.5" in cloud.cli("logs", "good")["text"]


def test_a_name_is_taken_once(cloud: Cloud, data: str) -> None:
    cloud.client("sagemaker").create_training_job(**request("once", data))
    with pytest.raises(ClientError, match="ResourceInUse"):
        cloud.client("sagemaker").create_training_job(**request("once", data))
    ended(cloud, "once")


def test_refusals(cloud: Cloud, data: str) -> None:
    client = cloud.client("sagemaker")
    with pytest.raises(ClientError, match="regular expression"):
        client.create_training_job(**request("not_valid", data))
    spot = {**request("spot", data), "EnableManagedSpotTraining": True}
    with pytest.raises(ClientError, match="MaxWaitTimeInSeconds"):
        client.create_training_job(**spot)


def test_a_failure_file_becomes_the_reason(cloud: Cloud, data: str) -> None:
    cloud.client("sagemaker").create_training_job(**request("bad", data, fail="1"))
    found = ended(cloud, "bad")
    assert found["TrainingJobStatus"] == "Failed"
    assert found["FailureReason"] == "AlgorithmError: no such label, exit code: 3"


def test_an_unknown_image_says_what_to_do(cloud: Cloud, data: str) -> None:
    wanted = request("noimage", data)
    wanted["AlgorithmSpecification"]["TrainingImage"] = "repo/unknown:1"
    cloud.client("sagemaker").create_training_job(**wanted)
    assert "--image unknown=COMMAND" in ended(cloud, "noimage")["FailureReason"]


def test_stop_sends_sigterm_and_keeps_checkpoints(cloud: Cloud, data: str) -> None:
    client, s3 = cloud.client("sagemaker"), cloud.client("s3")
    client.create_training_job(**request("stopped", data, wait="1"))
    wait_for(lambda: s3.list_objects_v2(Bucket=BUCKET, Prefix="checkpoints/stopped/step-1").get("Contents"))
    client.stop_training_job(TrainingJobName="stopped")
    found = ended(cloud, "stopped")
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "got SIGTERM" in cloud.cli("logs", "stopped")["text"]


def test_the_time_limit_ends_even_a_deaf_job(cloud: Cloud, data: str) -> None:
    wanted = {**request("deaf", data, wait='"deaf"'), "StoppingCondition": {"MaxRuntimeInSeconds": 1}}
    began = time.monotonic()
    cloud.client("sagemaker").create_training_job(**wanted)
    found = ended(cloud, "deaf")
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert 3 <= time.monotonic() - began < 15  # the limit and the grace that the tests set to 2 s


def test_sync_from_a_state_machine(cloud: Cloud, data: str) -> None:
    good = cloud.execute(task("sagemaker:createTrainingJob.sync", request("sync-good", data)))
    assert json.loads(good["output"])["ModelArtifacts"]["S3ModelArtifacts"].endswith(
        "/sync-good/output/model.tar.gz"
    )
    bad = cloud.execute(task("sagemaker:createTrainingJob.sync", request("sync-bad", data, fail="1")))
    assert bad["error"] == "States.TaskFailed"
    assert json.loads(bad["cause"])["FailureReason"].startswith("AlgorithmError")
    taken = cloud.execute(task("sagemaker:createTrainingJob.sync", request("sync-good", data)))
    assert taken["error"] == "SageMaker.ResourceInUseException"


def test_a_manifest_lists_the_files_of_a_channel(cloud: Cloud, data: str) -> None:
    wanted = request("listed", data)
    listed = [{"prefix": f"s3://{BUCKET}/data/"}, "a/x.txt"]
    cloud.client("s3").put_object(Bucket=BUCKET, Key="lists/train", Body=json.dumps(listed))
    source = {"S3DataType": "ManifestFile", "S3Uri": f"s3://{BUCKET}/lists/train"}
    wanted["InputDataConfig"][0]["DataSource"]["S3DataSource"] = source
    cloud.client("sagemaker").create_training_job(**wanted)
    found = ended(cloud, "listed")
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    seen = json.loads(members(cloud, found["ModelArtifacts"]["S3ModelArtifacts"])["seen.json"])
    assert seen["train"] == "hello"


def test_an_entry_point_of_the_jobs_own_starts_the_images_program(cloud: Cloud, data: str) -> None:
    script = b'echo "entered by $0"; exec train'
    cloud.client("s3").put_object(Bucket=BUCKET, Key="scripts/begin.sh", Body=script)
    wanted = request("entered", data)
    wanted["AlgorithmSpecification"]["ContainerEntrypoint"] = ["/bin/sh", "/opt/ml/input/data/code/begin.sh"]
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/scripts/"}
    wanted["InputDataConfig"].append({"ChannelName": "code", "DataSource": {"S3DataSource": source}})
    cloud.client("sagemaker").create_training_job(**wanted)
    found = ended(cloud, "entered")
    assert found["TrainingJobStatus"] == "Completed", cloud.cli("logs", "entered")["text"]
    assert "entered by /opt/ml/input/data/code/begin.sh" in cloud.cli("logs", "entered")["text"]


def spot(name: str, data: str, **hyperparameters: str) -> dict[str, Any]:
    wanted = request(name, data, **hyperparameters)
    wanted["EnableManagedSpotTraining"] = True
    wanted["StoppingCondition"] = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}
    return wanted


def begun(cloud: Cloud, name: str) -> None:
    s3 = cloud.client("s3")
    prefix = f"checkpoints/{name}/step-1"
    wait_for(lambda: s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents"))


def test_an_interrupted_spot_job_starts_again_from_its_checkpoints(cloud: Cloud, data: str) -> None:
    cloud.client("sagemaker").create_training_job(**spot("again", data, wait='"once"'))
    begun(cloud, "again")
    cloud.cli("interrupt", "again", "--seconds", "0")
    found = ended(cloud, "again")
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    steps = [step["Status"] for step in found["SecondaryStatusTransitions"]]
    assert steps == [
        *("Starting", "Downloading", "Training", "Interrupted"),
        *("Starting", "Downloading", "Training", "Uploading", "Completed"),
    ]
    seen = json.loads(members(cloud, found["ModelArtifacts"]["S3ModelArtifacts"])["seen.json"])
    assert seen["resumed_from"] == ["step-1.txt"]


def test_an_interruption_is_an_event_and_a_stop_ends_it(cloud: Cloud, data: str) -> None:
    sqs, events = cloud.client("sqs"), cloud.client("events")
    url = sqs.create_queue(QueueName="interruptions")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    detail = {"SecondaryStatus": ["Interrupted"], "TrainingJobName": [{"prefix": "gone"}]}
    pattern = {
        "source": ["aws.sagemaker"],
        "detail-type": ["SageMaker Training Job State Change"],
        "detail": detail,
    }
    events.put_rule(Name="interruptions", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="interruptions", Targets=[{"Id": "1", "Arn": arn}])
    client = cloud.client("sagemaker")
    client.create_training_job(**spot("gone", data, wait="1"))
    begun(cloud, "gone")
    cloud.cli("interrupt", "gone")
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
    told = json.loads(message["Body"])["detail"]
    assert (told["TrainingJobName"], told["TrainingJobStatus"]) == ("gone", "InProgress")
    client.stop_training_job(TrainingJobName="gone")
    found = ended(cloud, "gone")
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "ModelArtifacts" not in found
    code, _, errors = cli(cloud.state, "interrupt", "gone")
    assert (code, "no training job gone runs here" in errors) == (1, True)


def test_a_stopped_execution_stops_its_job(cloud: Cloud, data: str) -> None:
    def stop(arn: str) -> None:
        begun(cloud, "sync-stop")
        cloud.client("stepfunctions").stop_execution(executionArn=arn)

    wanted = request("sync-stop", data, wait="1")
    cloud.execute(task("sagemaker:createTrainingJob.sync", wanted), while_running=stop)
    assert ended(cloud, "sync-stop")["TrainingJobStatus"] == "Stopped"


def test_a_role_that_may_not_pull_the_image_ends_the_job(cloud: Cloud, data: str) -> None:
    everything = {"Effect": "Allow", "Action": ["s3:*", "logs:*"], "Resource": "*"}
    role = make_role(cloud, "no-pull", ["sagemaker.amazonaws.com"], everything)
    cloud.client("sagemaker").create_training_job(**{**request("no-pull", data), "RoleArn": role})
    found = ended(cloud, "no-pull")
    assert found["TrainingJobStatus"] == "Failed"
    assert "ecr:GetAuthorizationToken" in found["FailureReason"]


def test_the_model_registry(cloud: Cloud) -> None:
    client = cloud.client("sagemaker")
    client.create_model_package_group(ModelPackageGroupName="models", ModelPackageGroupDescription="x")
    for number in (1, 2):
        arn = client.create_model_package(
            ModelPackageGroupName="models",
            SourceUri=f"s3://{BUCKET}/bundle-{number}",
            ModelApprovalStatus="PendingManualApproval",
            CustomerMetadataProperties={"job": f"j{number}"},
        )["ModelPackageArn"]
        assert arn.endswith(f":model-package/models/{number}")
    client.update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus="Approved", CustomerMetadataProperties={"by": "me"}
    )
    found = client.describe_model_package(ModelPackageName=arn)
    assert found["CustomerMetadataProperties"] == {"job": "j2", "by": "me"}
    assert (found["ModelPackageVersion"], found["SourceUri"]) == (2, f"s3://{BUCKET}/bundle-2")
    listed = client.list_model_packages(ModelPackageGroupName="models")["ModelPackageSummaryList"]
    assert [p["ModelPackageVersion"] for p in listed] == [2, 1]
    approved = client.list_model_packages(ModelPackageGroupName="models", ModelApprovalStatus="Approved")
    assert [p["ModelPackageVersion"] for p in approved["ModelPackageSummaryList"]] == [2]
    with pytest.raises(ClientError, match="still contains"):
        client.delete_model_package_group(ModelPackageGroupName="models")
