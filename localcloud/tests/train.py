"""A training script that only knows SageMaker's contract."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

hyperparameters = json.loads(os.environ["SM_HPS"])
data = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"])
checkpoints = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
print(f"loss=0.75;\nloss=0.5; files={sorted(p.name for p in data.rglob('*'))}", flush=True)

if hyperparameters.get("wait") and not (hyperparameters["wait"] == "once" and any(checkpoints.iterdir())):
    if hyperparameters["wait"] == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    else:
        signal.signal(signal.SIGTERM, lambda *_: (print("got SIGTERM", flush=True), sys.exit(0)))
    (checkpoints / "step-1.txt").write_text("one")
    time.sleep(600)
if hyperparameters.get("fail"):
    pathlib.Path("/opt/ml/output/failure").write_text("no such label")
    sys.exit(3)
if hyperparameters.get("pipe"):
    passes = [data.with_name(f"{data.name}_{epoch}").read_bytes().hex() for epoch in range(2)]
    config = json.loads(pathlib.Path("/opt/ml/input/config/inputdataconfig.json").read_text())
    seen = {"passes": passes, "config": config["train"]}
    pathlib.Path(os.environ["SM_MODEL_DIR"], "seen.json").write_text(json.dumps(seen))
    sys.exit(0)
seen = {
    "config": json.loads(pathlib.Path("/opt/ml/input/config/hyperparameters.json").read_text()),
    "hosts": json.loads(os.environ["SM_HOSTS"]),
    "rate": os.environ["SM_HP_LEARNING-RATE"],
    "model_dir": os.environ["SM_MODEL_DIR"],
    "resumed_from": sorted(p.name for p in checkpoints.iterdir()),
    "train": (data / "a" / "x.txt").read_text(),
}
pathlib.Path(os.environ["SM_MODEL_DIR"], "seen.json").write_text(json.dumps(seen))
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "report.txt").write_text("fine")
