"""The edge's side: a model with slices, and a cloud to ask for the rest, as the edge core has it.

``python -m benchmarks.slicing.edge BUNDLE SLICES KEY CLOUD`` reads lines ``[wish, count]`` (a wish is ``local``,
``split`` or ``cloud``, or empty: the balancer chooses), and writes for each ``[seconds, placements, reasons]``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from isthmus.client.part import CloudPart
from isthmus.edge.split_settings import SplitSettings, split_engine
from isthmus.edge.splitting import PLACEMENT, REASON
from isthmus.inference.bundle import open_bundle
from isthmus.inference.datatypes import NUMPY
from isthmus.inference.service import served
from isthmus.model.policy import DataPolicy

POLICY = DataPolicy(may_leave="everything")


def main() -> None:
    """Answer until standard input ends."""
    folder, slices, key, cloud = sys.argv[1:]
    public_key = Path(key).read_bytes()
    bundle = open_bundle(Path(folder), public_key)
    whole = served(bundle, threads=1).engine
    whole.load()
    settings = SplitSettings(folder=Path(slices), policy=POLICY, cloud=cloud)
    engine = split_engine(settings, bundle, whole, public_key, CloudPart(cloud), threads=1)
    random = np.random.default_rng(5)
    inputs = {
        spec.name: random.random([1 if size == -1 else size for size in spec.shape]).astype(
            NUMPY[spec.datatype]
        )
        for spec in bundle.manifest.inputs
    }
    print("ready", flush=True)
    for line in sys.stdin:
        wish, count = json.loads(line)
        seconds, placements, reasons = [], [], []
        for _ in range(count):
            begun = time.perf_counter()
            placed = engine.run_placed(inputs, {PLACEMENT: wish} if wish else {})
            seconds.append(time.perf_counter() - begun)
            placements.append(placed.parameters[PLACEMENT])
            reasons.append(placed.parameters[REASON])
        print(json.dumps([seconds, placements, reasons]), flush=True)


if __name__ == "__main__":
    main()
