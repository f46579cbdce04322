"""Containers, by an engine that stands in: it writes down what it was told, and runs the program on this machine
with the folders that were mounted."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig_world import LEAVES_A_MODEL, World, training, zip_of

import isthmus
from isthmus import documents
from isthmus.errors import AttemptLost, EnvironmentProblem
from isthmus.model.job import Training
from isthmus.ports import Flag, TrainingRun
from isthmus.rig import containers, warden
from isthmus.rig.contract import Layout
from isthmus.rig.gpus import Share
from isthmus.rig.runner import JobRunner, TrainingRequest

IMAGE = f"registry.example:5000/team/trainer@sha256:{'0' * 64}"
ENDS = "raise SystemExit(3)"
ENGINE = """#!{python} -IS
import json, os, sys
words, folder = sys.argv[1:], {folder!r}
with open(folder + "/told.jsonl", "a") as file:
    file.write(json.dumps({{"words": words, "env": dict(os.environ)}}) + "\\n")
if words[0] == "info":
    print({info!r})
if words[:2] == ["image", "inspect"]:
    sys.exit(0 if os.path.exists(folder + "/pulled") else 1)
if words[0] == "pull":
    if os.path.exists(folder + "/slow-registry"):
        os.execvp("tail", ["tail", "-f", "/dev/null"])
    if os.path.exists(folder + "/no-registry"):
        sys.exit("trying\\nError: connection refused")
    open(folder + "/pulled", "w").close()
if words[0] == "run":
    if os.path.exists(folder + "/broken"):
        print("Error: crun: cannot set up a cgroup")
        sys.exit(125)
    mounts = [dict(part.split("=", 1) for part in word.removesuffix(",readonly").split(","))
              for option, word in zip(words, words[1:]) if option == "--mount"]
    def here(text):
        for mount in mounts:
            text = text.replace(mount["target"], mount["source"])
        return text
    given = [word for option, word in zip(words, words[1:]) if option == "--env"]
    seen = {{name: os.environ[name] for name in given if "=" not in name}}
    seen |= dict(word.split("=", 1) for word in given if "=" in word)
    seen = {{name: here(text) for name, text in seen.items()}} | {{"PYTHONPATH": {source!r}}}
    image = words.index({image!r})
    os.chdir(here(words[words.index("--workdir") + 1]))
    os.execve({python!r}, [{python!r}, *map(here, words[image + 1:])], seen)
"""


class Standin:
    """An engine of this name in its folder, first on the PATH."""

    def __init__(self, folder: Path, name: str, info: str) -> None:
        self.folder = folder
        self.path = folder / name
        source = str(Path(isthmus.__file__).parents[1])
        values = {
            "python": sys.executable,
            "folder": str(folder),
            "info": info,
            "image": IMAGE,
            "source": source,
        }
        self.path.write_text(ENGINE.format(**values))
        self.path.chmod(0o755)

    def told(self, verb: str) -> list[dict[str, Any]]:
        """What it was told that begins with a word."""
        lines = (self.folder / "told.jsonl").read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if entry["words"][0] == verb]


@pytest.fixture
def podman(tmp_path: Path) -> Standin:
    folder = tmp_path / "engine"
    folder.mkdir()
    return Standin(folder, "podman", "5.4.2 false")


def engine(standin: Standin) -> containers.Engine:
    found = containers.find(str(standin.path))
    assert found is not None
    return found


def request(world: World, script: str, **changes: Any) -> TrainingRequest:
    data = world.folder / "data"
    data.mkdir(exist_ok=True)
    (data / "a.csv").write_text("1,2\n")
    code = zip_of({"train.py": script}, world.folder / "code.zip")
    wanted = training(code, image=IMAGE, **changes)
    run_id = f"run-{world.folder.name}-{os.getpid()}"
    work = world.folder / f"work-{len(list(world.folder.glob('work-*')))}"
    return TrainingRequest("digits-1", run_id, wanted, code, {"train": data}, work)


def run(world: World, standin: Standin, script: str, **changes: Any) -> TrainingRun:
    runner = world.runner(engine=engine(standin), interpreter=nobody)
    return runner.run(request(world, script, **changes), threading.Event())


def nobody(framework: str, version: str, stop: Flag) -> Path:
    raise AssertionError("an image needs no environment")


def test_a_job_with_an_image_runs_in_it_under_the_contract(world: World, podman: Standin) -> None:
    script = "import os, sys\nprint('loss=0.5', os.listdir(os.environ['SM_CHANNEL_TRAIN']), sys.argv)\n"
    done = run(world, podman, script + LEAVES_A_MODEL, hyperparameters={"epochs": 3})
    assert done.exit_code == 0, done.tail
    assert done.metrics == {"loss": 0.5}
    assert "['a.csv'] ['train.py', '--epochs', '3']" in done.tail
    assert (done.output / "model/export.json").is_file()
    trained, exported = podman.told("run")
    assert trained["words"][trained["words"].index(IMAGE) - 1] == "python3"
    assert "isthmus.frameworks.export" in exported["words"]
    assert "/opt/ml/model" in exported["words"]
    assert trained["env"]["SM_MODEL_DIR"] == "/opt/ml/model"
    assert trained["env"]["SM_CHANNEL_TRAIN"] == "/opt/ml/input/data/train"


def test_it_gets_no_network_no_rights_and_no_more_of_the_machine(
    world: World, podman: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-1")
    run(world, podman, ENDS)
    told = podman.told("run")[0]
    words = told["words"]
    assert "--init" in words
    for option, value in [
        ("--network", "none"),
        ("--user", f"{os.getuid()}:{os.getgid()}"),
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--pids-limit", "4096"),
        ("--pull", "never"),
        ("--env", "HOME=/opt/ml/home"),
        ("--name", f"isthmus-run-{world.folder.name}-{os.getpid()}"),
    ]:
        assert (option, value) in itertools.pairwise(words), (option, words)
    assert "secret-1" not in json.dumps(told)
    assert "PATH" not in words, "the image has its own"
    assert "--privileged" not in words
    mounted = [word for option, word in itertools.pairwise(words) if option == "--mount"]
    written = {word.rpartition("target=")[2] for word in mounted if not word.endswith("readonly")}
    assert written == {f"/opt/ml/{name}" for name in ("code", "model", "output", "checkpoints", "home")}


def test_an_image_is_pulled_once_before_it_runs(world: World, podman: Standin) -> None:
    run(world, podman, ENDS)
    run(world, podman, ENDS)
    assert [entry["words"][-1] for entry in podman.told("pull")] == [IMAGE]


def test_an_image_that_cannot_be_pulled_is_the_rigs_trouble(world: World, podman: Standin) -> None:
    (podman.folder / "no-registry").touch()
    with pytest.raises(EnvironmentProblem, match=r"podman cannot pull .*: Error: connection refused"):
        run(world, podman, ENDS)


def test_a_stop_is_heard_while_an_image_is_pulled(world: World, podman: Standin) -> None:
    (podman.folder / "slow-registry").touch()
    stop = threading.Event()
    stop.set()
    with pytest.raises(AttemptLost, match="stopped while podman pull ran"):
        world.runner(engine=engine(podman), interpreter=nobody).run(request(world, ENDS), stop)


def test_an_engine_that_fails_is_the_rigs_trouble_and_a_script_that_fails_its_own(
    world: World, podman: Standin
) -> None:
    assert run(world, podman, "raise SystemExit(125)").exit_code == 125
    (podman.folder / "broken").touch()
    with pytest.raises(EnvironmentProblem, match="could not be run: Error: crun: cannot set up a cgroup"):
        run(world, podman, ENDS)


def test_what_an_engine_said_of_data_in_place_is_not_told(world: World, podman: Standin) -> None:
    (podman.folder / "broken").touch()
    wanted = dataclasses.replace(request(world, ENDS), withholds=True)
    runner = world.runner(engine=engine(podman), interpreter=nobody)
    with pytest.raises(EnvironmentProblem, match=r"could not be run: why stands in the rig's log$"):
        runner.run(wanted, threading.Event())


def test_its_container_is_removed_however_it_ends(world: World, podman: Standin) -> None:
    run(world, podman, ENDS)
    removed = podman.told("rm")[-1]["words"]
    assert removed == ["rm", "--force", "--time", "0", f"isthmus-run-{world.folder.name}-{os.getpid()}"]
    count = len(podman.told("rm"))
    assert JobRunner(interpreter=nobody, source=world.folder, engine=engine(podman)).end("run-of-old") == 0
    assert podman.told("rm")[count]["words"][-1] == "isthmus-run-of-old"


def test_the_warden_removes_it_when_the_agent_dies(tmp_path: Path, podman: Standin) -> None:
    """As the kernel does it then: the lifeline is closed."""
    ending = json.dumps(engine(podman).ending("run-x"))
    with subprocess.Popen(
        [
            sys.executable,
            "-I",
            "-S",
            warden.__file__,
            f"died-{os.getpid()}",
            sys.executable,
            "-c",
            SAYS_ITS_END,
        ],
        env={**os.environ, warden.RUN_END: ending},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"None\n", "what ends the run is not the script's to see"
        process.stdin.close()
        assert process.wait(20) == 137
    assert podman.told("rm")[0]["words"][-1] == "isthmus-run-x"


SAYS_ITS_END = (
    "import os, threading; print(os.environ.get('ISTHMUS_RUN_END'), flush=True); threading.Event().wait()"
)


@pytest.mark.parametrize(
    ("name", "rootless", "gpus", "expected"),
    [
        ("podman", False, ("0", "2"), ["--device", "nvidia.com/gpu=0", "--device", "nvidia.com/gpu=2"]),
        ("docker", False, ("0", "2"), ["--gpus", '"device=0,2"']),
        ("podman", True, (), ["--userns", "keep-id", "--user", f"{os.getuid()}:{os.getgid()}"]),
        ("docker", True, (), ["--user", "0:0"]),
    ],
)
def test_what_engines_call_differently(
    tmp_path: Path, name: str, rootless: bool, gpus: Sequence[str], expected: list[str]
) -> None:
    made = containers.run_command(
        containers.Engine(name, f"/usr/bin/{name}", "1", rootless),
        IMAGE,
        ["python3", "-c", "pass"],
        run_id="run",
        layout=Layout(tmp_path),
        channels={},
        variables={},
        gpus=gpus,
    )
    assert " ".join(expected) in " ".join(made)
    assert ("--gpus" in made or "--device" in made) == bool(gpus)


def test_all_gpus_of_the_agent_go_to_each_training(world: World, podman: Standin) -> None:
    runner = world.runner(engine=engine(podman), interpreter=nobody, share=Share(("1", "3"), chosen=True))
    runner.run(request(world, ENDS), threading.Event())
    told = podman.told("run")[0]
    assert "nvidia.com/gpu=3" in told["words"]
    assert told["env"]["SM_NUM_GPUS"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in told["words"], "a container numbers its GPUs anew"


def test_a_folder_that_an_engine_cannot_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="holds a comma or a quote; give the agent another folder"):
        containers.mounts(Layout(tmp_path / "a,b"), {})


@pytest.mark.parametrize(
    ("name", "info", "found"),
    [
        ("podman", "4.3.1 true", ("podman", "4.3.1", True)),
        ("docker", "28.2.2 [name=seccomp,profile=builtin name=rootless]", ("docker", "28.2.2", True)),
        ("docker", "28.2.2 [name=seccomp,profile=builtin]", ("docker", "28.2.2", False)),
        ("docker", "", None),
        ("nerdctl", "2.0", None),
    ],
)
def test_an_engine_is_one_that_answers(
    tmp_path: Path, name: str, info: str, found: tuple[str, str, bool] | None
) -> None:
    standin = Standin(tmp_path, name, info)
    there = containers.find(str(standin.path))
    assert (there and (there.name, there.version, there.rootless)) == found


def test_without_an_engine_an_image_is_refused_with_need_and_have(world: World) -> None:
    with pytest.raises(EnvironmentProblem, match="needs Docker or Podman for its image; on this rig neither"):
        world.runner().check(request(world, "").training)


@pytest.mark.parametrize(
    "image", ["trainer:latest", "trainer", f"trainer@sha256:{'0' * 63}", f"-v@sha256:{'0' * 64}"]
)
def test_an_image_is_named_by_its_digest(world: World, image: str) -> None:
    value = msgspec.to_builtins(request(world, "").training) | {"image": image}
    with pytest.raises(documents.InvalidDocument, match="image needs a digest, repository@sha256:…, and is"):
        documents.convert(Training, value, "the job")


def test_a_job_without_an_image_has_the_digest_that_it_had(world: World) -> None:
    plain = training(zip_of({"train.py": ""}, world.folder / "code.zip"))
    assert {"image", "distribution"} & set(msgspec.to_builtins(plain)) == set()


def test_data_in_place_are_seen_by_their_own_path_and_only_read(tmp_path: Path) -> None:
    home = tmp_path / "scans"
    home.mkdir()
    seen = containers.mounts(Layout(tmp_path), {"train": tmp_path / "input/data/train"}, home)
    assert f"type=bind,source={home},target={home},readonly" in seen
    assert len(seen) == len(containers.mounts(Layout(tmp_path), {"train": tmp_path / "input/data/train"})) + 1


def test_of_data_that_are_streamed_a_container_sees_the_folder_of_the_pipes(tmp_path: Path) -> None:
    data = tmp_path / "input/data"
    seen = containers.mounts(Layout(tmp_path), {"train": data / "train", "test": data / "test"}, streams=True)
    assert f"type=bind,source={data},target=/opt/ml/input/data,readonly" in seen
    assert not any("train" in mount or "arrived" in mount for mount in seen)
