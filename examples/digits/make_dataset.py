"""Write scikit-learn's digits as a dataset: ``train/digits.csv`` and ``test/digits.csv``.

Each row is one image: 64 pixels (0 to 16, row by row) and the label. A fifth is held out,
stratified by label, with a fixed seed; so every run writes the same bytes.

Usage: ``uv run examples/digits/make_dataset.py FOLDER`` (default ``build/digits``).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def make_dataset(folder: Path) -> None:
    """Write both splits below ``folder``."""
    pixels, labels = load_digits(return_X_y=True)
    rows = np.column_stack([pixels, labels]).astype(int)
    train, test = train_test_split(rows, test_size=0.2, stratify=labels, random_state=7)
    for channel, table in (("train", train), ("test", test)):
        (folder / channel).mkdir(parents=True, exist_ok=True)
        np.savetxt(folder / channel / "digits.csv", table, fmt="%d", delimiter=",")
        print(f"{folder / channel / 'digits.csv'}: {len(table)} images")


if __name__ == "__main__":
    make_dataset(Path(sys.argv[1] if len(sys.argv) > 1 else "build/digits"))
