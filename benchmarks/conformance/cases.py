"""What a training script may rely on, a case for each, as a script that writes down what it finds.

After "How Amazon SageMaker AI provides training information" (developer guide) and the README of the public
sagemaker-training toolkit. Paths are written as below ``/opt/ml``, wherever the folder of the run is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Value = str | int | float | bool

ASKS = """
import json, os, sys
root = os.path.dirname(os.environ["SM_MODEL_DIR"])

def tell(**found):
    os.makedirs(os.environ["SM_OUTPUT_DATA_DIR"], exist_ok=True)
    with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "told.json"), "w") as file:
        file.write(json.dumps(found, sort_keys=True).replace(root, "/opt/ml"))

def env(*names):
    return {name: os.environ.get(name) for name in names}

def loaded(*names):
    return {name: json.loads(os.environ[name]) for name in names}

def config(name):
    with open(os.path.join(os.environ["SM_INPUT_CONFIG_DIR"], name + ".json")) as file:
        return json.load(file)

def leave_a_model():
    import shutil
    shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.onnx"), os.environ["SM_MODEL_DIR"])

"""
"""Stands before every script. ``leave_a_model`` copies a small one, so that a run may count as good."""
LEAVES = "leave_a_model()\n"


@dataclass(frozen=True)
class Case:
    """``stops``: the run is stopped once the script has printed ``ready``. ``checkpoints``: files that are there.
    ``more``: what rig and container give a script that the toolkit alone does not, if that is so."""

    script: str
    hyperparameters: Mapping[str, Value] = field(default_factory=lambda: {"epochs": 3, "learning-rate": 0.1})
    stops: bool = False
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    more: str = ""


MIXED: dict[str, Value] = {
    "c": 5,
    "epochs": 3,
    "learning-rate": 0.1,
    "flag": True,
    "off": False,
    "name": "abc",
    "sentence": "two words",
    "number_as_text": "12",
    "json": '{"a": [1]}',
    "empty": "",
}

CASES = {
    "arguments": Case(LEAVES + "tell(argv=sys.argv)", MIXED),
    "where a script runs": Case(
        LEAVES
        + "tell(cwd=os.path.basename(os.getcwd()), path0=sys.path[0] == os.getcwd(), name=__name__, "
        + "file=os.path.basename(__file__), beside=sorted(f for f in os.listdir('.') if f in ('train.py', 'help.py')))"
    ),
    "code beside the script": Case(LEAVES + "import help\ntell(said=help.SAID)"),
    "hyperparameters in SM_HPS": Case(LEAVES + "tell(**loaded('SM_HPS'))", MIXED),
    "hyperparameters one by one": Case(
        LEAVES + "tell(**{n: v for n, v in os.environ.items() if n.startswith('SM_HP_')})", MIXED
    ),
    "SM_USER_ARGS": Case(LEAVES + "tell(**loaded('SM_USER_ARGS'))", MIXED),
    "folders": Case(
        LEAVES + "tell(**env('SM_MODEL_DIR', 'SM_OUTPUT_DIR', 'SM_OUTPUT_DATA_DIR', 'SM_INPUT_DIR', "
        "'SM_INPUT_CONFIG_DIR'), there=[os.path.isdir(os.environ[n]) for n in ('SM_MODEL_DIR', 'SM_OUTPUT_DIR', "
        "'SM_INPUT_DIR', 'SM_INPUT_CONFIG_DIR')])"
    ),
    "channels": Case(
        LEAVES + "tell(**loaded('SM_CHANNELS'), **env('SM_CHANNEL_TRAIN', 'SM_CHANNEL_TEST'), "
        "files={c: sorted(os.path.relpath(os.path.join(d, f), os.environ['SM_CHANNEL_' + c]) "
        "for d, _, fs in os.walk(os.environ['SM_CHANNEL_' + c]) for f in fs) for c in ('TRAIN', 'TEST')})"
    ),
    "what the channels hold": Case(
        LEAVES + "tell(train=open(os.path.join(os.environ['SM_CHANNEL_TRAIN'], 'a.csv')).read(), "
        "test=open(os.path.join(os.environ['SM_CHANNEL_TEST'], 'deep/b.csv')).read())"
    ),
    "hyperparameters.json": Case(
        LEAVES
        + "tell(**{n: v for n, v in config('hyperparameters').items() if not n.startswith('sagemaker_')}, "
        "kinds=sorted({type(v).__name__ for v in config('hyperparameters').values()}))"
    ),
    "inputdataconfig.json": Case(
        LEAVES + "tell(**{c: {n: v for n, v in told.items() if n != 'ContentType'} "
        "for c, told in config('inputdataconfig').items() if c != 'isthmus_code'})"
    ),
    "SM_INPUT_DATA_CONFIG": Case(
        LEAVES
        + "tell(**{c: v for c, v in json.loads(os.environ['SM_INPUT_DATA_CONFIG']).items() if c != 'isthmus_code'})"
    ),
    "resourceconfig.json": Case(
        LEAVES
        + "tell(**{n: config('resourceconfig')[n] for n in ('current_host', 'hosts', 'network_interface_name')})"
    ),
    "the machine": Case(
        LEAVES + "tell(**env('SM_CURRENT_HOST', 'SM_NUM_GPUS', 'SM_NUM_CPUS', 'SM_NETWORK_INTERFACE_NAME'), "
        "**loaded('SM_HOSTS'))"
    ),
    "the module": Case(LEAVES + "tell(**env('SM_MODULE_NAME', 'SM_USER_ENTRY_POINT'))"),
    "output that is no text": Case(LEAVES + "os.write(1, b'\\xff\\xfe\\n' * 100)\ntell(done=True)"),
    "much output": Case(LEAVES + "print('x' * 5_000_000)\ntell(done=True)"),
    "checkpoints to go on from": Case(
        LEAVES + "tell(there=sorted(os.listdir(os.path.join(root, 'checkpoints'))), "
        "epoch=open(os.path.join(root, 'checkpoints', 'epoch-2')).read())",
        checkpoints={"epoch-2": "two"},
    ),
    "exit code 0": Case(LEAVES + "tell()\nsys.exit(0)"),
    "exit code 3": Case("tell()\nsys.exit(3)"),
    "an exception": Case(
        "tell()\nraise ValueError('the third row has no label')",
        more="its failure file has the exit code alone; ours has the script's last lines",
    ),
    "a failure file of its own": Case(
        "tell()\nopen(os.path.join(os.environ['SM_OUTPUT_DIR'], 'failure'), 'w').write('my own reason')\nsys.exit(1)"
    ),
    "exit with a text": Case(
        "tell()\nsys.exit('no labels')", more="its failure file has the exit code alone; ours has the text"
    ),
    "SIGTERM, heard": Case(
        "import signal, threading\nover = threading.Event()\n"
        "signal.signal(signal.SIGTERM, lambda *_: over.set())\nprint('ready', flush=True)\n"
        "over.wait(60)\ntell(heard=over.is_set())\nleave_a_model()\nsys.exit(0)",
        stops=True,
        more="it does not hand SIGTERM on: a script of its own is killed without a word",
    ),
    "SIGTERM, not heard": Case("import time\nprint('ready', flush=True)\ntime.sleep(60)\ntell()", stops=True),
}
