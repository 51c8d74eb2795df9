"""Spheres by repeated subdivision of the icosahedron."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Icosphere:
    """A triangulated unit sphere.

    Attributes:
        pos: Vertices ``[V, 3]``, float64, unit length, ``V = 10 * 4^level + 2``. Those of the level below come first.
        face: Corners of the triangles, ``[3, F]``, counter-clockwise from outside, ``F = 20 * 4^level``.
        parents: ``[V, 2]``: the ends, in the level below, of the edge in whose middle a vertex was put; twice its own
            number for a vertex that was there before.
        level: Number of subdivisions.
    """

    pos: Tensor
    face: Tensor
    parents: Tensor
    level: int

    @property
    def area(self) -> Tensor:
        """Solid angle of each vertex, ``[V]``: a third of its spherical triangles; the sum is 4 pi."""
        share = spherical_area(self.pos[self.face[0]], self.pos[self.face[1]], self.pos[self.face[2]]) / 3
        return share.new_zeros(len(self.pos)).index_add_(0, self.face.flatten(), share.repeat(3))

    @property
    def edge(self) -> Tensor:
        """Every edge once, smaller vertex first, ``[2, 3 F / 2]``."""
        return _edges(self.face)[0].T

    @property
    def mean_edge(self) -> float:
        """Mean length of an edge, radians."""
        a, b = self.pos[self.edge]
        return float(2 * torch.asin((a - b).norm(dim=1) / 2).mean())


def icosphere(level: int) -> Icosphere:
    """The icosahedron subdivided ``level`` times, pushed to the unit sphere.

    Its vertices are (0, +-1, +-phi) and cyclic, those of :func:`geomeq.groups.icosahedral_rotations`. The 24 symmetries
    that permute and negate the axes hold exactly in float64, so antipodes are exact; the others to rounding.

    Args:
        level: Number of subdivisions, from 0 (12 vertices); 5 has 10,242.

    Raises:
        ValueError: If ``level`` is negative or no integer.

    Example:
        >>> icosphere(2).pos.shape, icosphere(2).face.shape
        (torch.Size([162, 3]), torch.Size([3, 320]))
    """
    if not isinstance(level, int) or isinstance(level, bool) or level < 0:
        raise ValueError(f"level must be an integer from 0, got {level!r}")
    with torch.device("cpu"):  # whatever the default is
        pos, face, parents = _build(level)
        return Icosphere(pos.clone(), face.clone(), parents.clone(), level)


def icosphere_level(name: str, size: int | Sequence[int]) -> int:
    """The level that ``size`` asks for, itself or its only entry.

    Raises:
        ValueError: If it is anything else.
    """
    if isinstance(size, int) and not isinstance(size, bool):
        return size
    if isinstance(size, Sequence) and len(size) == 1:
        return size[0]
    raise ValueError(f"{name} is sampled by the level of an icosphere, (level,), got {size!r}")


def spherical_area(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Solid angle of triangles with unit corners ``[..., 3]``, positive if counter-clockwise from outside.

    Source: Van Oosterom and Strackee (1983), https://doi.org/10.1109/TBME.1983.325207
    """
    volume = (a * torch.linalg.cross(b, c)).sum(dim=-1)
    return 2 * torch.atan2(volume, 1 + (a * b).sum(dim=-1) + (b * c).sum(dim=-1) + (c * a).sum(dim=-1))


@cache
def _build(level: int) -> tuple[Tensor, Tensor, Tensor]:
    if level == 0:
        return _icosahedron()
    pos, face, _ = _build(level - 1)
    edge, number = _edges(face)
    middle = _normalise(pos[edge[:, 0]] + pos[edge[:, 1]])
    ab, bc, ca = number + len(pos)
    a, b, c = face
    corners = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    face = torch.cat([torch.stack(corner) for corner in corners], dim=1)
    old = torch.arange(len(pos))[:, None].expand(-1, 2)
    return torch.cat([pos, middle]), face, torch.cat([old, edge])


def _icosahedron() -> tuple[Tensor, Tensor, Tensor]:
    phi = (1 + math.sqrt(5)) / 2
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    corner = torch.cat(
        [torch.zeros(4, 1, dtype=torch.float64), signs * torch.tensor([1.0, phi], dtype=torch.float64)], dim=1
    )
    pos = _normalise(torch.cat([corner.roll(shift, dims=1) for shift in range(3)]))
    triple = torch.combinations(torch.arange(12), 3)
    near = (pos[triple] @ pos[triple].transpose(1, 2)).flatten(1).amin(dim=1) > 0.4  # neighbours: cosine 1/sqrt(5)
    triple = triple[near]
    outward = torch.linalg.det(pos[triple]) > 0
    face = torch.where(outward[:, None], triple, triple.flip(1)).T.contiguous()
    return pos, face, torch.arange(12)[:, None].expand(-1, 2)


def _normalise(v: Tensor) -> Tensor:
    """Unit vectors; the squares are added in order of size, so that permuting the axes permutes the result exactly."""
    return v / v.square().sort(dim=-1).values.sum(dim=-1, keepdim=True).sqrt()


def _edges(face: Tensor) -> tuple[Tensor, Tensor]:
    """Edges ``[E, 2]`` once each, and their numbers along the three sides (ab, bc, ca) of every face, ``[3, F]``."""
    sides = torch.stack([face, face.roll(-1, dims=0)], dim=-1).sort(dim=-1).values  # [3, F, 2]
    count = int(face.max()) + 1
    code, number = torch.unique(sides[..., 0] * count + sides[..., 1], return_inverse=True)
    return torch.stack([code // count, code % count], dim=1), number
