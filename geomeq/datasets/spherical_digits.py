"""Digits and clothing projected on the sphere, on any sampling: which is it, and where?"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data

from geomeq.datasets._globe import Domain, GlobeDataset, draw_rotations, read_domain
from geomeq.datasets._images import ImageDataset, check_split
from geomeq.datasets.digits import Digits
from geomeq.datasets.fashion_mnist import FashionMNIST

_ITEM, _MARGIN = 28, 4  # pixels of an item, and of the black frame that the handwritten digits get
_SLOT = 30  # of a canvas for several items, so that two rows of two make 60 pixels
_HALF = 1.5  # half the side of the canvas on the plane
_BEYOND = 1e-3  # how far beyond the pole the projection starts
_THRESHOLD = {"digits": 150 / 255, "fashion": 0.15}
_CHUNK = 4_000_000  # values sampled at once


class SphericalDigits(GlobeDataset):
    r"""Images on the southern hemisphere, by stereographic projection, each sphere turned by a rotation of its own.

    The protocol of Gerken et al.: images of 28 x 28 pixels, one or several on a canvas, which covers
    :math:`[-1.5, 1.5]^2` of the plane that touches the south pole. The projection starts just beyond the north pole,
    :math:`\epsilon = 0.001`: a point :math:`p` of the sphere has the value of the canvas at

    .. math:: q = \frac{2 + \epsilon}{1 + \epsilon - p_z} \, (p_x, p_y),

    bilinear between pixels; columns run along :math:`q_x`, rows (downwards) along :math:`q_y`, so that items are the
    right way round from outside. A rotation moves the points before they are projected: nothing is interpolated twice,
    and any sampling and any rotation see the same picture. All that the canvas does not reach is black, so is the
    north pole (where the formula as it stands gives the middle of the canvas).

    Several items lie in different cells of 30 x 30 pixels of the canvas (two to four on 60 x 60), moved at random in
    their cells, without overlap.

    Input ``x`` ``[S, N, 1]``, grey values in 0 to 1. Targets ``y``: ``"classification"``: label, ``[S]``, of the only
    item. ``"segmentation"``: 0 background, label + 1 where the grey value is above ``threshold``, ``[S, N]``.

    Attributes:
        graph: The domain, with ``pos`` and ``area``, and edges if it was given with them.
        labels: Of the items, ``[S, num_items]``.
        canvas: The images before projection, ``[S, H, H]``.
        classes: Names; the first is ``"background"`` for segmentation.
        rotation: ``[S, 3, 3]``, float64: node ``p`` shows what is at ``rotation^T p`` without rotation.

    Args:
        sampling: Points with areas: a :class:`geomeq.spheres.Sampling`, whole or a part, or a graph (``Data`` with
            ``pos`` and ``area``); default: HEALPix with 3,072 nodes.
        split: ``"train"`` or ``"test"``.
        source: ``"digits"``: :class:`Digits`, enlarged to 20 x 20 pixels with a black frame of 4, as MNIST has it.
            ``"fashion"``: the bundled :class:`FashionMNIST`.
        task: ``"classification"`` or ``"segmentation"``.
        num_items: Items on each canvas.
        rotation: ``"none"``, ``"z"`` (about the poles) or ``"random"``. The pictures are the same for all three.
        samples: Number of samples; default: as many as there are images. Canvases show the images in a random order,
            all of them before one comes again.
        threshold: Grey value above which a node belongs to an item; default: 150 / 255 for digits as in the protocol,
            0.15 for clothing, which is often dark.
        seed: Of pictures and rotations; training and test differ.
        transform: Applied to a sample ``Data(x=[N, 1], y=...)`` at every access.

    Raises:
        TypeError: If ``sampling`` is no sampling and no graph.
        ValueError: If an argument is out of range, or a bundled file is damaged.

    Licence: digits CC BY 4.0 (UCI), clothing MIT (Zalando SE).

    Source: Gerken et al. (2022), https://arxiv.org/abs/2202.03990; Cohen et al. (2018), https://arxiv.org/abs/1801.10130

    Example:
        >>> from geomeq import spheres
        >>> SphericalDigits(spheres.driscoll_healy(16), task="segmentation", num_items=2, samples=10)
        SphericalDigits(10, nodes=1024)
    """

    def __init__(
        self,
        sampling: Domain = None,
        split: Literal["train", "test"] = "train",
        source: Literal["digits", "fashion"] = "digits",
        task: Literal["classification", "segmentation"] = "classification",
        num_items: int = 1,
        rotation: Literal["none", "z", "random"] = "none",
        samples: int | None = None,
        threshold: float | None = None,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        threshold = _THRESHOLD.get(source, 0.5) if threshold is None else threshold
        _check(split, source, task, num_items, threshold)
        graph, points = read_domain(sampling)
        images = _read(source, split)
        samples = len(images) // num_items if samples is None else samples
        turn = draw_rotations(rotation, samples, seed, split)
        random = np.random.RandomState([seed, split == "test"])
        chosen = _choose(len(images), samples, num_items, random)
        self.labels = images.labels[chosen]
        self.canvas, owner = _paste(images.images[:, 0], chosen, random)
        grey, item = _project(self.canvas, owner, points, turn, rotation == "none")
        if task == "classification":
            y, classes = self.labels[:, 0], images.classes
        else:
            label = torch.cat([torch.zeros(samples, 1, dtype=torch.int64), self.labels + 1], dim=1)
            y = label.gather(1, item) * (grey > threshold)
            classes = ("background", *images.classes)
        self.split, self.source, self.task, self.threshold = split, source, task, threshold
        super().__init__(graph, grey[..., None].to(graph.pos), y, turn, None, classes, transform)


def _check(split: str, source: str, task: str, num_items: int, threshold: float) -> None:
    check_split(split, "train", "test")
    for name, value, known in (
        ("source", source, ("digits", "fashion")),
        ("task", task, ("classification", "segmentation")),
    ):
        if value not in known:
            raise ValueError(f"{name} must be {known[0]!r} or {known[1]!r}, got {value!r}")
    if not isinstance(num_items, int) or isinstance(num_items, bool) or not 1 <= num_items <= 16:
        raise ValueError(f"num_items must be from 1 to 16, got {num_items!r}")
    if task == "classification" and num_items > 1:
        raise ValueError(f"classification needs one item on each sphere, got num_items={num_items}; use segmentation")
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be a grey value from 0 to 1, got {threshold}")


def _read(source: str, split: str) -> ImageDataset:
    """Images of 28 x 28 pixels."""
    return Digits(split, size=_ITEM - 2 * _MARGIN, pad=_MARGIN) if source == "digits" else FashionMNIST(split)


def _choose(available: int, samples: int, items: int, random: np.random.RandomState) -> Tensor:
    """Numbers of the images on each canvas, ``[S, items]``: each image once before one comes again."""
    rounds = [random.permutation(available) for _ in range(math.ceil(samples * items / available))]
    return torch.from_numpy(np.concatenate(rounds)[: samples * items].reshape(samples, items))


def _paste(images: Tensor, chosen: Tensor, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
    """Canvases ``[S, H, H]``, and which item each cell of them belongs to, ``[S, cells, cells]`` (0: none, 1, ...)."""
    samples, items = chosen.shape
    cells = math.ceil(math.sqrt(items))
    slot = _ITEM if items == 1 else _SLOT
    canvas, owner = torch.zeros(samples, cells * slot, cells * slot), torch.zeros(samples, cells, cells).long()
    order = np.stack([random.permutation(cells**2)[:items] for _ in range(samples)])
    moved = random.randint(0, slot - _ITEM + 1, (samples, items, 2))
    sample, pixel = torch.arange(samples)[:, None, None], torch.arange(_ITEM)
    for k in range(items):
        cell = torch.from_numpy(np.stack(np.divmod(order[:, k], cells), -1))
        start = cell * slot + torch.from_numpy(moved[:, k])
        row, column = start[:, :1] + pixel, start[:, 1:] + pixel
        canvas[sample, row[:, :, None], column[:, None, :]] = images[chosen[:, k]]
        owner[torch.arange(samples), cell[:, 0], cell[:, 1]] = k + 1
    return canvas, owner


def project(points: Tensor) -> tuple[Tensor, Tensor]:
    """Where points of the sphere see the canvas, ``[..., 2]`` in -1 to 1 (column, row), and whether they do, ``[...]``.

    Args:
        points: Unit vectors ``[..., 3]``.
    """
    q = points[..., :2] * ((2 + _BEYOND) / (1 + _BEYOND - points[..., 2:])) / _HALF
    return q, (q.abs().amax(-1) <= 1) & (points[..., 2] < 0.5)


def _project(canvas: Tensor, owner: Tensor, points: Tensor, rotation: Tensor, same: bool) -> tuple[Tensor, Tensor]:
    """Grey values and items at the nodes, ``[S, N]`` each."""
    step = max(1, _CHUNK // len(points))
    grey, item = [], []
    for part in torch.arange(len(canvas)).split(step):
        q, seen = project(points[None] if same else torch.einsum("nj,sji->sni", points, rotation[part]))
        q = q.expand(len(part), -1, -1)[:, None]  # [s, 1, N, 2]
        values = F.grid_sample(canvas[part, None].double(), q, padding_mode="zeros", align_corners=False)[:, 0, 0]
        cells = owner.size(1)
        column, row = ((q[:, 0] + 1) * (cells / 2)).floor().long().clamp(0, cells - 1).unbind(-1)
        index = part[:, None]
        grey.append(values * seen)
        item.append(owner[index, row, column] * seen)
    return torch.cat(grey), torch.cat(item)
