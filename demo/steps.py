"""The demo, step by step."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo.split import split_serving
from demo.stamp import ROOT
from demo.summary import Prediction, Summary
from demo.system import CommandFailed, System, run

SAMPLES = 6
EXAMPLES = {"digits": ROOT / "examples/digits", "fashion-mnist": ROOT / "examples/fashion_mnist"}


class Demo:
    """One dataset's whole path on a system of its own."""

    def __init__(self, system: System, dataset: str) -> None:
        self.system = system
        self.dataset = dataset
        self.example = EXAMPLES[dataset]
        self.data = system.folder / "data" / dataset
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say what begins, and keep how long it took."""
        self.system.say(name)
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)

    def run(self) -> Summary:
        """From nothing to predictions that agree. Raises CommandFailed."""
        self.prepare()
        return self.path()

    def prepare(self) -> None:
        """Cloud, stack, rig and core device; everything before the upload."""
        system = self.system
        with self.step("make the dataset"):
            run([system.bin / "python", self.example / "make_dataset.py", self.data], system.env)
        with self.step("start the local cloud"):
            system.up()
        with self.step("sam build"):
            system.build()
        with self.step("sam deploy"):
            system.deploy()
        with self.step("join the rig and start its agent"):
            system.join_rig()
            system.start_agent()
        with self.step("start the core device"):
            system.edge("start")
        own = {name: value for name, value in system.env.items() if name.startswith(("AWS_", "ISTHMUS_"))}
        lines = (f"export {name}={shlex.quote(value)}\n" for name, value in sorted(own.items()))
        (system.folder / "env").write_text("".join(lines))

    def path(self) -> Summary:
        """Upload, follow to the end, ask both, compare."""
        system, started = self.system, time.monotonic()
        with self.step("upload the dataset"):
            key = system.push(self.data, self.example / "job.yaml", self.dataset)
        with self.step("the pipeline, to its end"):
            self._follow(key)
        with self.step("ask the cloud, the edge and onnxruntime"):
            samples = self._samples()
            cloud = [self._ask(sample, None) for sample in samples]
            first = time.monotonic() - started
            edge = [self._ask(sample, system.edge_url) for sample in samples]
            both = time.monotonic() - started
        with self.step("cut the core device's network and ask it again"):
            system.edge("cut")
            offline = [self._ask(sample, system.edge_url) for sample in samples]
            system.edge("mend")
        told = "cut the model in two: its head on a device, its tail in the cloud"
        with self.step(told), split_serving(system, self.dataset) as device:
            split = [self._ask(sample, device, isthmus_placement="split:1") for sample in samples]
        return self._sum_up(key, samples, (cloud, edge, offline, split), (first, both))

    def _follow(self, key: str) -> None:
        """Show each step as it is entered; the JSON of ``job show`` has the rest."""
        told = 0
        while True:
            job = self.system.job(key)
            for name, seconds in job["steps"][told:]:
                self.system.say(f"    {seconds:6.1f} s  {name}")
            told = len(job["steps"])
            if job["state"] not in ("WAITING", "RUNNING"):
                break
            time.sleep(0.5)
        if job["state"] != "DEPLOYED":
            raise CommandFailed(
                f"the job ended {job['state']}: {job['error']} {job['cause']} {job['reason']}"
            )

    def _samples(self) -> list[dict[str, Any]]:
        from demo.samples import held_out

        return held_out(self.dataset, self.data, SAMPLES)

    def _ask(self, sample: dict[str, Any], edge: str | None, **parameters: object) -> Prediction:
        request = {
            "inputs": [
                {
                    "name": "raw",
                    "shape": sample["shape"],
                    "datatype": sample["datatype"],
                    "data": sample["pixels"],
                }
            ],
            "parameters": {"preprocess": True, "postprocess": True, **parameters},
        }
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=self.system.folder / "tmp") as file:
            json.dump(request, file)
            file.flush()
            where = ["--edge", edge] if edge else []
            answer = json.loads(self.system.isthmus("predict", self.dataset, file.name, *where, "--json"))
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        return Prediction(
            str(outputs["label"][0]),
            float(outputs["score"][0]),
            answer["outputs"][0]["data"],
            where=str(answer.get("parameters", {}).get("isthmus_placement", "")),
        )

    def _sum_up(
        self,
        key: str,
        samples: list[dict[str, Any]],
        answers: tuple[list[Prediction], list[Prediction], list[Prediction], list[Prediction]],
        reached: tuple[float, float],
    ) -> Summary:
        from demo.samples import direct

        system = self.system
        job = system.job(key)
        model = self._trained_model(key)
        return Summary(
            dataset=self.dataset,
            job=job,
            cost=json.loads(system.isthmus("job", "cost", key, "--json")),
            sizes=sizes(),
            seconds=dict(self.seconds),
            first_cloud_seconds=round(reached[0], 2),
            first_edge_seconds=round(reached[1], 2),
            samples=samples,
            direct=direct(self.dataset, model, samples),
            cloud=answers[0],
            edge=answers[1],
            offline=answers[2],
            split=answers[3],
        )

    def _trained_model(self, key: str) -> Path:
        """Fetch the ONNX file as the training left it, not as it was packaged."""
        from isthmus.adapters.aws.blobs import S3BlobStore
        from isthmus.adapters.aws.stack import outputs

        os.environ.update({name: value for name, value in self.system.env.items() if name.startswith("AWS_")})
        path = self.system.folder / "trained.onnx"
        store = S3BlobStore(outputs(self.system.stack)["Bucket"])
        found = [blob.key for blob in store.keys(f"jobs/{key}/attempts/") if blob.key.endswith("/model.onnx")]
        store.download(found[-1], path)
        return path


def sizes() -> dict[str, int]:
    """Return the unzipped bytes of what was built."""
    built = ROOT / ".aws-sam/build"
    names = ("CoreLayer", "OnnxRuntimeLayerX86", "OnnxRuntimeLayerArm", "EdgeInferFunction")
    return {n: sum(f.stat().st_size for f in (built / n).rglob("*") if f.is_file()) for n in names}
