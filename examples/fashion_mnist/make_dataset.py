"""Lay out Fashion-MNIST as a dataset: ``train`` and ``test`` with one IDX file of images and of labels.

The four files come from Debian's package ``dataset-fashion-mnist`` or from a folder that has them
(https://github.com/zalandoresearch/fashion-mnist). They are copied as they are, compressed.

Usage: ``uv run examples/fashion_mnist/make_dataset.py FOLDER [SOURCE]`` (default ``build/fashion-mnist``).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = {
    "train/images.idx.gz": "train-images-idx3-ubyte.gz",
    "train/labels.idx.gz": "train-labels-idx1-ubyte.gz",
    "test/images.idx.gz": "t10k-images-idx3-ubyte.gz",
    "test/labels.idx.gz": "t10k-labels-idx1-ubyte.gz",
}


def make_dataset(folder: Path, source: Path = DEBIAN) -> None:
    """Copy the four files of ``source`` to their channels below ``folder``."""
    missing = [name for name in FILES.values() if not (source / name).is_file()]
    if missing:
        sys.exit(
            f"{source} has no {', '.join(missing)}.\nInstall Debian's package "
            "(apt-get install dataset-fashion-mnist), or name a folder with the four files of "
            "https://github.com/zalandoresearch/fashion-mnist as the second argument."
        )
    for path, name in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / path)
        print(folder / path)


if __name__ == "__main__":
    make_dataset(*[Path(argument) for argument in sys.argv[1:3]] or [Path("build/fashion-mnist")])
