"""The probe stack, deployed by the real ``sam``, updated, and used. Needs ``sam`` (SAM_CLI or on PATH)."""

import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from conftest import REGION, Cloud, wait_for

SAM = os.environ.get("SAM_CLI") or shutil.which("sam")
PROBE = Path(__file__).parent / "probe"
if not SAM:
    pytest.fail("needs aws-sam-cli: set SAM_CLI to its path", pytrace=False)


def sam(cloud: Cloud, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION, "SAM_CLI_TELEMETRY": "0", "HOME": str(folder),
    }  # fmt: skip
    return subprocess.run(
        [str(SAM), *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=150
    )


def deploy(cloud: Cloud, folder: Path, greeting: str) -> str:
    """Build and deploy; what sam printed. A stack that needs nothing is no failure."""
    built = sam(cloud, folder, "build")
    assert built.returncode == 0, built.stderr
    common = ["--stack-name", "probe", "--resolve-s3", "--capabilities", "CAPABILITY_IAM", "--no-progressbar"]
    more = [
        "--no-fail-on-empty-changeset",
        "--no-confirm-changeset",
        "--parameter-overrides",
        f"Greeting={greeting}",
    ]
    done = sam(cloud, folder, "deploy", *common, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def outputs(cloud: Cloud) -> dict[str, str]:
    stack = cloud.client("cloudformation").describe_stacks(StackName="probe")["Stacks"][0]
    return {entry["OutputKey"]: entry["OutputValue"] for entry in stack["Outputs"]}


def call_api(cloud: Cloud, api: str, path: str, body: bytes) -> dict[str, Any]:
    request = AWSRequest("POST", f"{cloud.url}/_aws/execute-api/{api}/v2/{path}", data=body)
    request.headers["Content-Type"] = "application/octet-stream"
    SigV4Auth(Credentials("test", "test"), "execute-api", REGION).add_auth(request)
    sent = urllib.request.Request(request.url, body, dict(request.headers.items()))
    with urllib.request.urlopen(sent, timeout=20) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def last_output(cloud: Cloud, machine: str, count: int) -> dict[str, Any]:
    sfn = cloud.client("stepfunctions")

    def probe() -> Any:
        found = sfn.list_executions(stateMachineArn=machine, statusFilter="SUCCEEDED")["executions"]
        return found if len(found) == count else None

    newest = max(wait_for(probe), key=lambda entry: entry["startDate"])
    found: dict[str, Any] = json.loads(sfn.describe_execution(executionArn=newest["executionArn"])["output"])
    return found


def test_deploy_use_update_and_nothing_to_do(cloud: Cloud, tmp_path: Path) -> None:
    folder = tmp_path / "probe"
    shutil.copytree(PROBE, folder)
    deploy(cloud, folder, "first")
    out, s3 = outputs(cloud), cloud.client("s3")
    assert out["Made"] == "FIRST"

    s3.put_object(Bucket=out["Bucket"], Key="datasets/a/part-0", Body=b"no rule wants this")
    s3.put_object(Bucket=out["Bucket"], Key="datasets/a/manifest.json", Body=b"{}")
    first = last_output(cloud, out["Pipeline"], 1)
    assert first == {"greeting": "first", "step": 1, "word": "one", "key": "datasets/a/manifest.json"}
    seen = call_api(cloud, out["Api"], "models/x/infer", bytes(range(256)))
    assert seen == {"path": "models/x/infer", "bytes": 256, "method": "POST"}

    encryption = s3.get_bucket_encryption(Bucket=out["Bucket"])["ServerSideEncryptionConfiguration"]["Rules"][
        0
    ]
    assert encryption["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert s3.get_public_access_block(Bucket=out["Bucket"])["PublicAccessBlockConfiguration"][
        "BlockPublicPolicy"
    ]
    assert s3.get_bucket_lifecycle_configuration(Bucket=out["Bucket"])["Rules"][0]["Expiration"]["Days"] == 30
    kms = cloud.client("kms")
    signed = kms.sign(KeyId=out["SigningKey"], Message=b"x", SigningAlgorithm="ECDSA_SHA_256")["Signature"]
    assert kms.verify(
        KeyId=out["SigningKey"], Message=b"x", Signature=signed, SigningAlgorithm="ECDSA_SHA_256"
    )
    assert kms.get_public_key(KeyId=out["SigningKey"])["KeySpec"] == "ECC_NIST_P256"
    ttl = cloud.client("dynamodb").describe_time_to_live(TableName=out["Table"])["TimeToLiveDescription"]
    assert ttl["AttributeName"] == "expires_at"

    assert "up to date" in deploy(cloud, folder, "first")

    app, word = folder / "src/app.py", folder / "layer/python/shared_words.py"
    app.write_text(app.read_text().replace("STEP = 1", "STEP = 2"))
    word.write_text('WORD = "two"\n')
    deploy(cloud, folder, "second")
    assert outputs(cloud)["Made"] == "SECOND"
    s3.put_object(Bucket=out["Bucket"], Key="datasets/b/manifest.json", Body=b"{}")
    second = last_output(cloud, out["Pipeline"], 2)
    assert second == {"greeting": "second", "step": 2, "word": "two", "key": "datasets/b/manifest.json"}
    assert call_api(cloud, out["Api"], "a/b", b"x")["path"] == "a/b"
