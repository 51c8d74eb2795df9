"""What a sampling of the sphere is: points, weights and, where there are any, rings and triangles."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch_geometric.data import Data

from .._checks import check_shape


@dataclass(frozen=True, eq=False)
class Rings:
    """Nodes on circles of latitude, equally spaced in longitude on each.

    Attributes:
        colatitude: Of each ring, from north to south, radians, ``[R]``.
        count: Nodes of each ring, ``[R]``, int64.
        start: Longitude of the first node of each ring, radians, ``[R]``; the others follow eastward.
        node: Numbers of the nodes ring by ring, ``[N]``, int64.
    """

    colatitude: Tensor
    count: Tensor
    start: Tensor
    node: Tensor

    @property
    def longitude(self) -> Tensor:
        """Of the nodes ring by ring, radians in [0, 2 pi), ``[N]``."""
        first = self.count.cumsum(0) - self.count
        place = torch.arange(int(self.count.sum())) - first.repeat_interleave(self.count)
        step = 2 * math.pi / self.count.double()
        return self.start.repeat_interleave(self.count) + place * step.repeat_interleave(self.count)


@dataclass(frozen=True, eq=False)
class Sampling:
    r"""Points on the unit sphere with quadrature weights, :math:`\int f \, d\Omega \approx \sum_i A_i f(x_i)`.

    Attributes:
        kind: Which, such as ``"healpix"``.
        pos: Unit vectors ``[N, 3]``, float64: x towards longitude 0, y towards 90 degrees east, z to the north pole.
        area: Weights ``[N]``, float64, positive, sum 4 pi.
        exact_degree: Up to which degree spherical polynomials are integrated exactly; ``None``: approximately only.
        rings: Where nodes lie on rings.
        face: Triangles, counter-clockwise from outside, ``[3, F]``, where the sampling has them.
    """

    kind: str
    pos: Tensor
    area: Tensor
    exact_degree: int | None = None
    rings: Rings | None = field(default=None, repr=False)
    face: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_shape("pos", self.pos, "N", 3)
        check_shape("area", self.area, self.pos.size(0))

    @property
    def num_nodes(self) -> int:
        """Number of points, coincident ones counted each."""
        return self.pos.size(0)

    @property
    def spacing(self) -> float:
        """Side of a square as large as the mean cell, radians: for cut-offs in units of the grid."""
        return math.sqrt(4 * math.pi / self.num_nodes)

    def rotated(self, rotation: Tensor) -> "Sampling":
        """The sampling with every point moved by a rotation; weights and order stay, rings are no longer rings.

        Args:
            rotation: ``[3, 3]``.
        """
        check_shape("rotation", rotation, 3, 3)
        pos = self.pos @ rotation.to(self.pos).T
        return Sampling(self.kind, pos / pos.norm(dim=1, keepdim=True), self.area, self.exact_degree, None, self.face)

    def to_data(self, dtype: torch.dtype = torch.float32) -> Data:
        """``Data(pos, area)``, with ``face`` where there are triangles."""
        data = Data(pos=self.pos.to(dtype), area=self.area.to(dtype))
        if self.face is not None:
            data.face = self.face
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind!r}, num_nodes={self.num_nodes})"


def check_count(name: str, value: int, least: int) -> None:
    """Raises unless ``value`` is an integer of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
