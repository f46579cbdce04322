"""Starting, finding and ending; refusals; nothing is left, nothing listens elsewhere."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from conftest import REGION, Cloud, cli, wait_for

from isthmus_localcloud.state import StateFolder
from isthmus_localcloud.supervisor import Supervisor


def processes_of(state: Path) -> list[int]:
    """Every process that has the state folder in its command line, environment or working directory."""
    marker, found = str(state).encode(), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            text += os.readlink(entry / "cwd").encode()
        except OSError:
            continue
        if marker in text:
            found.append(int(entry.name))
    return found


def open_files(pid: int) -> list[str]:
    """What a process has open; less what it closes meanwhile, and nothing once it has ended."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(link))
    return found


def listeners(pids: list[int]) -> set[str]:
    """Hexadecimal local addresses of the listening TCP sockets of these processes."""
    links = [link for pid in pids for link in open_files(pid)]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].split(":")[0])
    return found


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A second local cloud, with a warm function, a job and a device, to be killed."""
    state = tmp_path_factory.mktemp("own") / "state"
    yield state
    cli(state, "down")


def populate(state: Path) -> Cloud:
    sleeper = f"{sys.executable} -c 'import time; time.sleep(600)'"
    code, answer, errors = cli(state, "up", "--port", "0", "--image", f"sleep={sleeper}")
    assert code == 0, errors
    cloud = Cloud(state, answer)
    cloud.function("warm", "def handler(e, c): return 1\n")
    assert cloud.invoke("warm")[1] == 1
    cloud.client("sagemaker").create_training_job(
        TrainingJobName="long",
        RoleArn="arn:aws:iam::000000000000:role/test",
        AlgorithmSpecification={"TrainingImage": "sleep", "TrainingInputMode": "File"},
        OutputDataConfig={"S3OutputPath": "s3://b/o"},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        ResourceConfig={"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1},
    )
    cloud.cli("edge", "start", "dev")
    found = wait_for(lambda: (s := cloud.cli("status"))["running_jobs"] == 1 and s)
    assert (found["health"], found["functions"], found["running_environments"]) == ("ok", 1, 1)
    assert found["core_devices"] == ["dev"]
    wait_for(lambda: len(processes_of(state)) >= 8)
    return cloud


def test_only_loopback_is_bound_and_all_is_in_the_state_folder(cloud: Cloud) -> None:
    assert listeners(processes_of(cloud.state)) == {"0100007F"}
    assert (cloud.state / "endpoint.json").exists() and (cloud.state / "logs/localcloud.log").exists()


def test_up_twice_says_so(cloud: Cloud) -> None:
    code, answer, _ = cli(cloud.state, "up", "--port", "0")
    assert code == 0 and answer["already_up"] and answer["endpoint_url"] == cloud.url


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, answer, errors = cli(tmp_path / "s", "up", "--port", port)
    assert code == 1 and f"needs port {port}" in answer["error"] and "--port" in answer["error"]
    assert "Traceback" not in errors


def test_a_full_disk_is_refused(tmp_path: Path) -> None:
    code, answer, _ = cli(tmp_path / "s", "up", "--port", "0", ISTHMUS_LOCALCLOUD_MIN_FREE_BYTES=str(10**18))
    assert code == 1 and "bytes free" in answer["error"] and "--state" in answer["error"]


def test_a_missing_interpreter_is_refused(tmp_path: Path) -> None:
    code, answer, _ = cli(tmp_path / "s", "up", "--port", "0", "--runtime", "python3.12=/nowhere/python")
    assert code == 1 and "python3.12" in answer["error"] and "/nowhere/python" in answer["error"]


def test_commands_without_a_cloud_say_so(tmp_path: Path) -> None:
    for command in (["status"], ["logs"], ["edge", "status", "x"]):
        code, answer, errors = cli(tmp_path, *command)
        assert code == 1 and answer["error"] and "Traceback" not in errors
    assert cli(tmp_path, "down")[1]["stopped"] is False


def test_wrong_usage_exits_with_two() -> None:
    done = subprocess.run([sys.executable, "-m", "isthmus_localcloud", "sideways"], capture_output=True)
    assert done.returncode == 2


SILENT = "import time; time.sleep(600)"
ANSWERS = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_an_engine_that_never_answers_is_started_once_more(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    engines: list[subprocess.Popen[bytes]] = []

    class Stubborn(Supervisor):
        def _start_engine(self) -> None:
            code = ANSWERS if engines else SILENT
            command = [sys.executable, "-c", code, str(port)]
            self.engine = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
            engines.append(self.engine)

    supervisor = Stubborn(StateFolder(tmp_path), port, "eu-west-1", (0.5, 30.0))
    supervisor._start_engine()
    try:
        supervisor._await_ready()
        assert [engine.poll() for engine in engines] == [-signal.SIGKILL, None]
    finally:
        for engine in engines:
            engine.kill()
            engine.wait()


@pytest.mark.parametrize("victim", ["supervisor", "engine"])
def test_sigkill_leaves_no_process(own: Path, victim: str) -> None:
    cloud = populate(own)
    supervisor = int(cloud.endpoint["pid"])
    target = supervisor
    if victim == "engine":
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        everything = [*children, *processes_of(own)]
        target = next(
            int(p) for p in everything if b"localemu.runtime.main" in Path(f"/proc/{p}/cmdline").read_bytes()
        )
    os.kill(target, signal.SIGKILL)
    began = time.monotonic()
    wait_for(lambda: not processes_of(own), 15)
    assert time.monotonic() - began < 15
    assert cli(own, "status")[0] == 1


def test_down_leaves_no_process_and_up_works_again(own: Path) -> None:
    populate(own)
    assert cli(own, "down")[1] == {"stopped": True}
    assert processes_of(own) == []


def test_a_new_cloud_finds_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    """The same layer ARN must not bring an earlier cloud's content."""
    found = []
    for word in ("first", "second"):
        code, answer, errors = cli(tmp_path, "up", "--port", "0")
        assert code == 0, errors
        found.append(layer_says(answer["endpoint_url"], word))
        assert cli(tmp_path, "down")[0] == 0
    assert found == ["first", "second"]


def layer_says(url: str, word: str) -> str:
    """Publish a layer that holds ``word``, and return what a function finds in it."""
    operator = boto3.Session("test", "test", region_name=REGION)
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    operator.client("iam", endpoint_url=url).create_role(RoleName="r", AssumeRolePolicyDocument=document)
    functions = operator.client("lambda", endpoint_url=url)
    layer = functions.publish_layer_version(
        LayerName="word", Content={"ZipFile": zipped("python/word.py", f"W = {word!r}")}
    )
    functions.create_function(
        FunctionName="says",
        Runtime="python3.13",
        Role="arn:aws:iam::000000000000:role/r",
        Handler="app.handler",
        Layers=[layer["LayerVersionArn"]],
        Code={"ZipFile": zipped("app.py", "import word\ndef handler(event, context): return word.W")},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName="says")
    return str(json.loads(functions.invoke(FunctionName="says")["Payload"].read()))


def zipped(name: str, text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, text)
    return buffer.getvalue()


def test_ctrl_c_ends_the_foreground_one_in_a_deep_folder(tmp_path: Path) -> None:
    """Deeper than the 108 bytes that the path of a socket may have."""
    state = tmp_path / ("deep-" * 20) / "state"
    command = [
        sys.executable,
        "-m",
        "isthmus_localcloud",
        "up",
        "--foreground",
        "--port",
        "0",
        "--state",
        str(state),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    wait_for(lambda: (state / "endpoint.json").exists(), 60)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert processes_of(state) == []
