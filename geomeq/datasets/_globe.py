"""The common ground of the sets on the sphere: any sampling or graph, turned globes, places kept for testing."""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geomeq._checks import check_shape
from geomeq.datasets.shared_graph import SharedGraphDataset
from geomeq.groups import SO3
from geomeq.spheres import Sampling, healpix, weighted_iou
from geomeq.spheres.scattered import unit_vectors

Domain: TypeAlias = Sampling | Data | None
_DEFAULT_NSIDE = 16
_ROTATIONS = ("none", "z", "random")


class GlobeDataset(SharedGraphDataset):
    """Signals on one sampling of the sphere, each of a globe turned by a rotation of its own.

    Attributes:
        graph: The domain, with ``pos`` and ``area``, and edges if it was given with them.
        rotation: ``[S, 3, 3]``, float64: node ``p`` of sample ``s`` shows the place ``rotation[s]^T p``.
        counted: Where a target counts, ``[S, N]``, bool; ``None``: everywhere. A sample carries its row.
        classes: Names of the classes, where targets are classes.
    """

    def __init__(
        self,
        graph: Data,
        x: Tensor,
        y: Tensor | None,
        rotation: Tensor,
        counted: Tensor | None = None,
        classes: tuple[str, ...] = (),
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        super().__init__(graph, x, y, transform)
        self.rotation, self.counted, self.classes = rotation, counted, classes

    @property
    def area(self) -> Tensor:
        """Solid angle of each node, ``[N]``, float64."""
        return self.graph.area.double()

    def __getitem__(self, index: int) -> Data:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be within {len(self)} samples, got {index}")
        sample = Data(x=self.signals[index], y=None if self.y is None else self.y[index])
        if self.counted is not None:
            sample.counted = self.counted[index]
        return sample if self.transform is None else self.transform(sample)

    def rmse(self, prediction: Tensor) -> float:
        """Root mean square of the error by area, where targets count, in the unit of ``y``; of vectors their length.

        Args:
            prediction: As ``y``, ``[S, N, C]``.

        Raises:
            ValueError: If it has another shape, or the targets are classes.
        """
        if self.y is None or not self.y.is_floating_point() or self.y.dim() != 3:
            raise ValueError("this task has classes as targets, rmse needs numbers; see miou")
        check_shape("prediction", prediction, *self.y.shape)
        weight = self.area.expand(self.y.shape[:2])
        weight = weight if self.counted is None else weight * self.counted
        square = (prediction.double() - self.y.double()).square().sum(-1)
        return math.sqrt(float((square * weight).sum() / weight.sum()))

    def ious(self, prediction: Tensor, weighted: bool = True) -> dict[str, float]:
        """Intersection over union of each class over all samples; NaN for a class that is neither there nor predicted.

        Args:
            prediction: Classes ``[S, N]``.
            weighted: By area; otherwise every node counts the same, as on images.

        Raises:
            ValueError: If it has another shape, or the targets are no classes of nodes.
        """
        if self.y is None or self.y.is_floating_point() or self.y.dim() != 2:
            raise ValueError("ious and miou need a class for every node as target, which this task has not")
        check_shape("prediction", prediction, *self.y.shape)
        area = self.area if weighted else torch.ones_like(self.area)
        return {name: weighted_iou(prediction, self.y, area, k) for k, name in enumerate(self.classes)}

    def miou(self, prediction: Tensor, weighted: bool = True) -> float:
        """Mean of :meth:`ious` over the classes but the first, the background."""
        values = [v for v in list(self.ious(prediction, weighted).values())[1:] if not math.isnan(v)]
        return sum(values) / len(values) if values else float("nan")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)}, nodes={self.signals.size(1)})"


def read_domain(domain: Domain) -> tuple[Data, Tensor]:
    """A graph with ``pos`` and ``area``, and its points in float64 on the CPU, ``[N, 3]``.

    Raises:
        TypeError: If it is neither a sampling nor a graph.
        ValueError: If the graph has no positions or areas, or a point is not on the unit sphere.
    """
    if domain is None:
        domain = healpix(_DEFAULT_NSIDE)
    if isinstance(domain, Sampling):
        return domain.to_data(torch.get_default_dtype()), domain.pos
    if not isinstance(domain, Data):
        raise TypeError(
            f"sampling must be a Sampling of geomeq.spheres, or a Data with pos and area, got {type(domain).__name__}"
        )
    for name in ("pos", "area"):
        if domain.get(name) is None:
            raise ValueError(
                f"the graph has no {name}, only {sorted(domain.keys())}; make it with spheres.sphere_graph or "
                "transforms.SphereGauge, or give a sampling"
            )
    return domain, unit_vectors(domain.pos)


def draw_rotations(kind: str, count: int, seed: int, split: str) -> Tensor:
    """Rotations of the globe, ``[S, 3, 3]``, float64; training and test get different ones.

    Args:
        kind: ``"none"``, ``"z"`` (about the poles) or ``"random"`` (Haar).
        count: How many.
        seed: Another seed gives other rotations.
        split: Name of the split.

    Raises:
        ValueError: If the kind is unknown or the count not positive.
    """
    if kind not in _ROTATIONS:
        raise ValueError(f"rotation must be one of {', '.join(map(repr, _ROTATIONS))}, got {kind!r}")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"samples must be a positive number, got {count!r}")
    random = torch.Generator().manual_seed(2 * seed + (split == "test"))
    if kind == "random":
        return SO3.random(count, seed=random)
    turn = 2 * math.pi * torch.rand(count, generator=random, dtype=torch.float64)
    turn = turn if kind == "z" else torch.zeros_like(turn)
    out = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    out[:, 0, 0] = out[:, 1, 1] = turn.cos()
    out[:, 1, 0], out[:, 0, 1] = turn.sin(), -turn.sin()
    return out


def shown_places(points: Tensor, rotation: Tensor) -> np.ndarray:
    """The place that each node shows, ``rotation^T p``, ``[S, N, 3]``."""
    return torch.einsum("nj,sji->sni", points, rotation).numpy()


def kept_for_test(place: np.ndarray) -> np.ndarray:
    """Whether a place lies in a sector of longitude that is kept for testing: -120 to -90 degrees, -30 to 0, ..."""
    longitude = np.degrees(np.arctan2(place[..., 1], place[..., 0]))
    return np.asarray(np.floor((longitude + 180) / 30).astype(int) % 3 == 2)


def counted_places(place: np.ndarray, split: str, holdout: bool) -> Tensor:
    """Where targets count, bool: with ``holdout`` training and test count different sectors."""
    counted = kept_for_test(place) == (split == "test") if holdout else np.ones(place.shape[:-1], dtype=bool)
    return torch.from_numpy(counted)
