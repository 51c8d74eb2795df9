"""Makes ``subset.npz``: 2,000 training and 1,000 test images of Fashion-MNIST, equally many of each class.

Reads the four idx files of the full set. On Debian they are in the package ``dataset-fashion-mnist``, which need not be
installed::

    apt-get download dataset-fashion-mnist
    dpkg-deb -x dataset-fashion-mnist_*.deb unpacked
    python datasets/fashion_mnist/build.py unpacked/usr/share/datasets/fashion-mnist

The file is the same byte for byte each time. Its sha256 and size go into ``geomeq/datasets/_registry.py``.
"""

import sys
from pathlib import Path

import numpy as np

from geomeq.datasets import _idx
from geomeq.datasets._raw import sha256_of, write_npz

SIZES, SEED = {"train": 2_000, "test": 1_000}, 0
OUT = Path(__file__).with_name("subset.npz")


def choose(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Equally many of each of the ten classes, in the order of the full set."""
    order = np.random.RandomState(seed).permutation(len(labels))
    return np.sort(np.concatenate([order[labels[order] == c][: size // 10] for c in range(10)]))


def main(folder: Path) -> None:
    arrays: dict[str, np.ndarray] = {}
    for split, size in SIZES.items():
        images, labels = _idx.read_split(folder, split)
        chosen = choose(labels, size, SEED)
        arrays |= {f"{split}_images": images[chosen], f"{split}_labels": labels[chosen]}
        arrays[f"{split}_index"] = chosen.astype(np.uint16)  # the place in the full set
    write_npz(OUT, arrays)
    print(f"{OUT}: {OUT.stat().st_size} bytes, sha256 {sha256_of(OUT)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
