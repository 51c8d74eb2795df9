"""Fashion-MNIST: clothing in 28 x 28 pixels."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data

from geomeq.datasets import _idx
from geomeq.datasets._cached import cache_root
from geomeq.datasets._images import ImageDataset, Rotation, check_split, prepare
from geomeq.datasets._raw import load_npz
from geomeq.datasets._registry import bundled

#: sha256 of the pixels and of the labels of the full set, uncompressed and without the header.
CONTENT_SHA256 = {
    "train": (
        "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    ),
    "test": (
        "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    ),
}
#: Where Debian's package puts the files.
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")

_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


class FashionMNIST(ImageDataset):
    """Ten classes of clothing, grey images of 28 x 28 pixels.

    ``FashionMNIST()`` is a balanced seeded choice that comes with geomeq (1.3 MB): 2,000 training and 1,000
    test images.
    ``FashionMNIST(subset=False)`` is the full set, 60,000 and 10,000, read from the authors' four idx files (``.gz`` or
    not), looked for in ``raw/`` below ``root`` and then where Debian's package ``dataset-fashion-mnist`` puts them.

    Args:
        split: ``"train"`` or ``"test"``.
        subset: The bundled choice instead of the full set.
        root: The folder with ``raw/``; default: ``fashionmnist`` in ``$GEOMEQ_CACHE`` or ``~/.cache/geomeq``.
        size: Pixels along each side after bilinear interpolation; ``None``: 28.
        pad: Zeros around the resized image, so that a rotation cuts nothing off.
        rotate: Turns the images: ``None``, ``"quarter"``, ``"any"`` or an angle in degrees; see
            :meth:`ImageDataset.rotated`.
        seed: Of the random angles. Training and test images get different ones.
        transform: Applied to a sample at every access.

    Raises:
        FileNotFoundError: If the full set is not to be found; the message says how to get it.
        ValueError: If an argument is none of these, or a file is damaged or another one.

    Licence: MIT, copyright 2017 Zalando SE.

    Source: Xiao, Rasul, Vollgraf (2017), https://arxiv.org/abs/1708.07747

    Example:
        >>> from geomeq.datasets import FashionMNIST
        >>> FashionMNIST("test", rotate="any")
        FashionMNIST(1000, size=28x28)
    """

    def __init__(
        self,
        split: str = "train",
        subset: bool = True,
        root: str | os.PathLike[str] | None = None,
        size: int | None = None,
        pad: int = 0,
        rotate: Rotation = None,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_split(split, "train", "test")
        self.root = Path(root) if root is not None else cache_root() / "fashionmnist"
        pixels, labels = _read_subset(split) if subset else _read_full(self.root / "raw", split)
        images = prepare(pixels, 255.0, size, pad)
        super().__init__(images, torch.from_numpy(labels.astype(np.int64)), _CLASSES, transform)
        if rotate is not None:
            turned = self.rotated(rotate, 2 * seed + (split == "test"))
            self.images, self.degrees = turned.images, turned.degrees


def _read_subset(split: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = load_npz(bundled("fashion_mnist/subset.npz"), None, "install geomeq again")
    return arrays[f"{split}_images"], arrays[f"{split}_labels"]


def _read_full(raw: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels ``[S, 28, 28]`` and labels ``[S]`` of the full set, checked."""
    places = (raw, SYSTEM_FOLDER)
    folder = next((p for p in places if all(_idx.find(p, name) for name in _idx.FILES[split])), None)
    if folder is None:
        raise FileNotFoundError(
            f"the full Fashion-MNIST needs {' and '.join(_idx.FILES[split])} (with or without .gz) in {places[0]} or "
            f"{places[1]}: install the package dataset-fashion-mnist (Debian, Ubuntu), or put the authors' files "
            "there; FashionMNIST(subset=True) comes with geomeq"
        )
    pixels, labels = _idx.read_split(folder, split)
    found = tuple(hashlib.sha256(array.tobytes()).hexdigest() for array in (pixels, labels))
    if found != CONTENT_SHA256[split]:
        raise ValueError(
            f"the files of split {split!r} in {folder} are not those of Fashion-MNIST (such as MNIST under the same "
            f"names): the sha256 of pixels and labels must be {CONTENT_SHA256[split]}, got {found}; get them again"
        )
    return pixels, labels
