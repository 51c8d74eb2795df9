"""Bent bumpy spheres: which vertex of the template is this one?"""

import math
import os
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import dijkstra
from torch import Tensor
from torch_geometric.data import Data

from geomeq._checks import check_shape
from geomeq.datasets import _bending
from geomeq.datasets._cached import CachedDataset
from geomeq.datasets._images import check_split
from geomeq.groups import icosphere, rotation_from_quaternion

SPLITS = ("train", "test")
NUM_SAMPLES = {"train": 40, "test": 10}


class DeformedSpheres(CachedDataset):
    r"""Correspondence on closed surfaces that are bent, turned and renumbered: a generated stand-in for scanned bodies.

    The template is an icosphere pushed out to the radius :math:`1 + \sum_k h_k e^{-\alpha_k^2 / 2 w^2}` with 16 fixed
    bumps and dents (:math:`w` = 0.38 radians, :math:`h_k` from -0.36 to 0.4), a shape without symmetry. A sample is the
    template pulled by a random smooth vector field (harmonic polynomials of degrees 2 and 3) and held as rigid as
    possible meanwhile; then turned by a random rotation (Haar), its vertices renumbered at random, its triangles
    reordered. With ``bend=0.35`` vertices move by 8 % of the radius (root mean square, against the best rigid motion),
    and edges change their length by 3 % on average. Triangles stay counter-clockwise from outside.

    Attributes of a sample, ``V = 10 * 4^level + 2``:
        - ``pos`` ``[V, 3]``, float32; the template has mean radius 1, roughly.
        - ``face`` ``[3, 2 V - 4]``.
        - ``y`` ``[V]``: the vertex of the template that each vertex is.

    The mesh of all samples is that of the template, so the graph gives something away: which vertices have five
    neighbours, and how far one is from those. 120 symmetries of the icosphere are left, so the graph alone places at
    most a few vertices.

    Args:
        root: Folder of the processed files; default: the cache folder.
        split: ``"train"`` or ``"test"``; each has random numbers of its own.
        level: Of the icosphere: 3 has 642 vertices.
        num_samples: How many; default 40 for training, 10 for testing. A smaller choice is the beginning of a larger
            one.
        bend: Root mean square of the vector field, in units of the radius: 0 gives rigid motions only.
        seed: Of all random numbers. Another seed is another data set of the same template.
        transform: Applied to a sample at every access.
        pre_transform: Applied to every sample once; the result is stored. ``MeshGauge()`` belongs here.
        pre_filter: Keeps the samples for which it returns true.
        force_reload: Make the samples again even if a processed file is there.

    Raises:
        ValueError: If an argument is out of range.

    Licence: none needed, the data are made here.

    Example:
        >>> from geomeq.datasets import DeformedSpheres
        >>> DeformedSpheres(level=1, num_samples=2)[0].face.shape  # doctest: +SKIP
        torch.Size([3, 80])
    """

    version = "1"

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: Literal["train", "test"] = "train",
        level: int = 3,
        num_samples: int | None = None,
        bend: float = 0.35,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        force_reload: bool = False,
    ) -> None:
        check_split(split, *SPLITS)
        if not _is_integer(level) or not 1 <= level <= 6:
            raise ValueError(f"level must be from 1 (42 vertices) to 6 (40,962 vertices), got {level!r}")
        if num_samples is not None and (not _is_integer(num_samples) or num_samples < 1):
            raise ValueError(f"num_samples must be at least 1, an integer, got {num_samples!r}")
        if not _is_integer(seed) or seed < 0:
            raise ValueError(f"seed must be an integer that is not negative, got {seed!r}")
        if not (math.isfinite(bend) and 0 <= bend <= 0.7):
            raise ValueError(f"bend must be from 0 (rigid) to 0.7 (beyond, surfaces cut themselves), got {bend}")
        self.split, self.level, self.bend, self.seed = split, level, float(bend), seed
        self.num_samples = NUM_SAMPLES[split] if num_samples is None else num_samples
        super().__init__(root, transform, pre_transform, pre_filter, force_reload)

    def settings(self) -> dict[str, Any]:
        """The arguments that decide the content."""
        return {name: getattr(self, name) for name in ("split", "level", "num_samples", "bend", "seed")}

    def build(self) -> tuple[Data, dict[str, Tensor]]:
        """Bends, turns and renumbers the template."""
        template = self.template
        stream = np.random.SeedSequence([self.seed, SPLITS.index(self.split)])
        for_pull, for_turn, for_order = (np.random.default_rng(s) for s in stream.spawn(3))
        rest, edge = template.pos.numpy(), icosphere(self.level).edge.numpy()
        bent = _bending.keep_rigid(rest, edge, _bending.pull(rest, self.num_samples, self.bend, for_pull))
        quaternion = torch.from_numpy(for_turn.standard_normal((self.num_samples, 4)))  # normal: Haar measure
        turn = rotation_from_quaternion(quaternion)
        turned = torch.from_numpy(bent) @ turn.mT
        order = [_shuffled(template.face, for_order) for _ in turned]
        face, y = (torch.stack(part) for part in zip(*order, strict=True))
        pos = turned.gather(1, y[..., None].expand_as(turned)).float()
        data = Data(pos=pos.flatten(0, 1), face=face.transpose(0, 1).flatten(1), y=y.flatten())
        vertices, faces = (torch.arange(self.num_samples + 1) * rows for rows in (y.size(1), face.size(2)))
        return data, {"pos": vertices, "face": faces, "y": vertices}

    @property
    def template(self) -> Data:
        """The shape at rest: ``pos`` ``[V, 3]``, float64, ``face`` and ``y`` = 0, 1, ..., in its own order."""
        sphere = icosphere(self.level)
        pos = sphere.pos * torch.from_numpy(_bending.bumpy_radius(sphere.pos.numpy()))[:, None]
        return Data(pos=pos, face=sphere.face, y=torch.arange(len(pos)))

    @property
    def distance(self) -> Tensor:
        """Shortest paths along the edges of the template, in units of its mean edge, float64, ``[V, V]``.

        Raises:
            ValueError: If ``level`` is above 4: from there on the matrix has 800 MB and more.
        """
        return _distance(self.level).clone()

    def geodesic_error(self, prediction: Tensor, target: Tensor) -> float:
        """Mean distance on the template between the vertices predicted and the right ones, in units of its mean edge.

        Args:
            prediction: Vertices of the template, integers, ``[N]``.
            target: The right ones, ``[N]``: ``y`` of a batch.

        Raises:
            ValueError: If shapes differ, or ``level`` is above 4.
        """
        check_shape("target", target, "N")
        check_shape("prediction", prediction, target.size(0))
        vertices = len(self.template.pos)
        for name, index in (("prediction", prediction), ("target", target)):
            if index.is_floating_point() or (
                index.numel() and not 0 <= int(index.min()) <= int(index.max()) < vertices
            ):
                raise ValueError(f"{name} must hold vertices 0..{vertices - 1}, integers; for scores take .argmax(-1)")
        return float(_distance(self.level)[prediction.cpu(), target.cpu()].mean())

    def __repr__(self) -> str:
        return f"DeformedSpheres({len(self)}, split={self.split!r}, level={self.level}, bend={self.bend})"


def _is_integer(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _shuffled(face: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The triangles with vertices in another order, themselves too, each from any of its corners; and that order."""
    y = torch.from_numpy(random.permutation(int(face.max()) + 1))  # new vertex k is vertex y[k] of the template
    face = y.argsort()[face]
    face = face[:, torch.from_numpy(random.permutation(face.size(1)))]
    begin = torch.from_numpy(random.integers(3, size=face.size(1)))
    return face.gather(0, (torch.arange(3)[:, None] + begin) % 3), y


@cache
def _distance(level: int) -> Tensor:
    if level > 4:
        raise ValueError(f"distances between all vertices are given up to level 4 (2,562 vertices), got level {level}")
    sphere = icosphere(level)
    pos = sphere.pos * torch.from_numpy(_bending.bumpy_radius(sphere.pos.numpy()))[:, None]
    a, b = sphere.edge.numpy()
    length = (pos[a] - pos[b]).norm(dim=1).numpy()
    graph = sparse.csr_matrix((length, (a, b)), shape=(len(pos), len(pos)))
    return torch.from_numpy(dijkstra(graph, directed=False) / length.mean())
