"""Handwritten digits of 8 x 8 pixels."""

from collections.abc import Callable

import numpy as np
import torch
from torch_geometric.data import Data

from geomeq.datasets._images import ImageDataset, Rotation, check_split, prepare
from geomeq.datasets._raw import load_npz
from geomeq.datasets._registry import bundled

_TEST_PER_CLASS = 50


class Digits(ImageDataset):
    """The 1,797 handwritten digits of scikit-learn: 8 x 8 pixels, ten classes, bundled (45 kB).

    Each pixel counts the dark points of a 4 x 4 block of the scan, 0 to 16, and is divided by 16 here. The set is the
    test part of UCI's optical digits, by 13 writers; the split here is random, so the writers are the same in training
    and test, and errors on other writers will be larger.

    The test part has 50 images of each digit (500), the training part all others (1,297).

    Args:
        split: ``"train"``, ``"test"`` or ``"all"``.
        size: Pixels along each side after bilinear interpolation; ``None``: 8.
        pad: Zeros around the resized image, so that a rotation cuts nothing off.
        rotate: Turns the images: ``None``, ``"quarter"``, ``"any"`` or an angle in degrees; see
            :meth:`ImageDataset.rotated`.
        seed: Of the random angles. Training and test images get different ones.
        split_seed: Of the choice of the test images.
        transform: Applied to a sample at every access.

    Raises:
        ValueError: If an argument is none of these, or the bundled file is damaged.

    Licence: CC BY 4.0 (UCI); scikit-learn, which carries the file, is BSD-3-Clause.

    Source: E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    https://doi.org/10.24432/C50P49

    Example:
        >>> from geomeq.datasets import Digits
        >>> Digits("test", size=16, rotate="any")
        Digits(500, size=16x16)
    """

    def __init__(
        self,
        split: str = "train",
        size: int | None = None,
        pad: int = 0,
        rotate: Rotation = None,
        seed: int = 0,
        split_seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_split(split, "train", "test", "all")
        arrays = load_npz(bundled("digits/digits.npz"), None, "install geomeq again")
        labels = arrays["labels"].astype(np.int64)
        chosen = _choose(labels, split, split_seed)
        images = prepare(arrays["images"][chosen], 16.0, size, pad)
        super().__init__(images, torch.from_numpy(labels[chosen]), tuple("0123456789"), transform)
        if rotate is not None:
            turned = self.rotated(rotate, 2 * seed + (split == "test"))
            self.images, self.degrees = turned.images, turned.degrees


def _choose(labels: np.ndarray, split: str, seed: int) -> np.ndarray:
    """The places of the images of a split, in the order of the file."""
    order = np.random.RandomState(seed).permutation(len(labels))
    test = np.concatenate([order[labels[order] == digit][:_TEST_PER_CLASS] for digit in range(10)])
    is_test = np.isin(np.arange(len(labels)), test)
    return np.flatnonzero({"train": ~is_test, "test": is_test, "all": np.ones_like(is_test)}[split])
