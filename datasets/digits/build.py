"""Makes ``digits.npz``: the 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn.

Needs scikit-learn (``pip install scikit-learn``), which carries the file; nothing is fetched. Run from the top of the
repository::

    python datasets/digits/build.py

The file is the same byte for byte each time. Its sha256 and size go into ``geomeq/datasets/_registry.py``.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from geomeq.datasets._raw import sha256_of, write_npz

OUT = Path(__file__).with_name("digits.npz")


def main() -> None:
    source = load_digits()
    images, labels = source.images.astype(np.uint8), source.target.astype(np.uint8)
    if images.shape != (1797, 8, 8) or images.max() != 16 or not np.array_equal(images, source.images):
        sys.exit(f"expected 1797 images of 8 x 8 with whole values 0..16, got {images.shape}, up to {images.max()}")
    write_npz(OUT, {"images": images, "labels": labels})
    print(f"{OUT}: {OUT.stat().st_size} bytes, sha256 {sha256_of(OUT)}")


if __name__ == "__main__":
    main()
