"""What the demo shows at its end."""

from __future__ import annotations

import dataclasses
from typing import Any

SHADES = " .:-=+*#%@"
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The best label, its probability, and all logits."""

    label: str
    score: float
    logits: list[float]
    where: str = ""
    """Of a split model, where the answer came from."""

    def agrees(self, other: Prediction) -> bool:
        """Same label, and logits that differ by at most 1e-4 of the largest."""
        scale = max(1.0, *(abs(value) for value in other.logits))
        pairs = zip(self.logits, other.logits, strict=True)
        return self.label == other.label and all(abs(a - b) <= TOLERANCE * scale for a, b in pairs)


@dataclasses.dataclass(frozen=True)
class Summary:
    """Everything that a reader wants to know of a run."""

    dataset: str
    job: dict[str, Any]
    cost: dict[str, Any]
    sizes: dict[str, int]
    seconds: dict[str, float]
    first_cloud_seconds: float
    first_edge_seconds: float
    samples: list[dict[str, Any]]
    direct: list[Prediction]
    cloud: list[Prediction]
    edge: list[Prediction]
    offline: list[Prediction]
    split: list[Prediction]

    @property
    def agrees(self) -> bool:
        """Whether cloud, edge, the cut-off edge and the model in two slices say what onnxruntime says, for every
        sample; and whether it was two slices indeed."""
        answers = zip(self.direct, self.cloud, self.edge, self.offline, self.split, strict=True)
        same = all(given.agrees(truth) for truth, *rest in answers for given in rest)
        return same and bool(self.direct) and all(given.where == "split:1" for given in self.split)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        return {**dataclasses.asdict(self), "agrees": self.agrees}

    def as_text(self) -> str:
        """Return the summary as a person reads it."""
        return "\n".join(["", *self._figures(), "", *self._predictions(), "", self._verdict()])

    def _figures(self) -> list[str]:
        mib = {name: f"{size / 2**20:.1f} MiB" for name, size in self.sizes.items()}
        steps = self.job["steps"]
        ends = [*(seconds for _, seconds in steps[1:]), steps[-1][1]]
        shares = ", ".join(
            f"{name} {end - start:.1f}"
            for (name, start), end in zip(steps, ends, strict=True)
            if end - start >= 0.1
        )
        cost = self.cost
        return [
            f"{self.dataset}: accuracy {self.job['candidate']:.4f} on the held-out split, "
            f"release {self.job['release']}",
            f"upload to the first cloud prediction {self.first_cloud_seconds:.1f} s, "
            f"to the first edge prediction {self.first_edge_seconds:.1f} s",
            f"  of that, in seconds: {shares}",
            "set-up: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items()),
            "unzipped: " + ", ".join(f"{name} {size}" for name, size in mib.items()),
            f"on AWS this run would have cost about ${cost['total_usd']:.4f} ({cost['prices']}); a thousand "
            f"predictions ${cost['per_thousand_requests_usd']:.4f}; idle ${cost['idle_per_month_usd']:.2f} a month",
        ]

    def _predictions(self) -> list[str]:
        lines = []
        rows = zip(self.samples, self.direct, self.cloud, self.edge, self.offline, self.split, strict=True)
        for sample, truth, cloud, edge, offline, split in rows:
            said = [
                f"label {sample['label']}",
                f"onnxruntime   {truth.label}  {truth.score:.4f}",
                f"API           {cloud.label}  {cloud.score:.4f}",
                f"edge          {edge.label}  {edge.score:.4f}",
                f"edge, cut off {offline.label}  {offline.score:.4f}",
                f"two slices    {split.label}  {split.score:.4f}  (the head here, the tail in the cloud)",
            ]
            picture = draw(sample["pixels"], sample["image"])
            height = max(len(picture), len(said))
            width = max(len(line) for line in picture)
            picture += [""] * (height - len(picture))
            said += [""] * (height - len(said))
            lines += [
                f"  {left.ljust(width)}   {right}".rstrip() for left, right in zip(picture, said, strict=True)
            ]
            lines.append("")
        return lines[:-1]

    def _verdict(self) -> str:
        if self.agrees:
            return "cloud, edge, the cut-off edge and the model in two slices agree with onnxruntime on every sample"
        return "DISAGREEMENT: cloud or edge differ from onnxruntime"


def draw(pixels: list[float], shape: tuple[int, int]) -> list[str]:
    """Return an image as characters, two per pixel; every second pixel of a large one."""
    height, width = shape
    top, step = max(pixels) or 1.0, 1 if height <= 14 else 2
    return [
        "".join(
            SHADES[min(9, int(10 * pixels[row * width + column] / top))] * 2
            for column in range(0, width, step)
        ).rstrip()
        for row in range(0, height, step)
    ]
