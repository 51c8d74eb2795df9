"""What a sampling of the sphere is: points, weights and, where there are any, rings and triangles."""

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property

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
        place = torch.arange(int(self.count.sum()), device=self.count.device) - first.repeat_interleave(self.count)
        step = 2 * math.pi / self.count.double()
        return self.start.repeat_interleave(self.count) + place * step.repeat_interleave(self.count)


@dataclass(frozen=True, eq=False)
class Sampling:
    r"""Points on the unit sphere with quadrature weights, :math:`\int f \, d\Omega \approx \sum_i A_i f(x_i)`.

    Attributes:
        kind: Which, such as ``"healpix"``.
        pos: Unit vectors ``[N, 3]``, float64: x towards longitude 0, y towards 90 degrees east, z to the north pole.
        area: Weights ``[N]``, float64, positive, sum 4 pi (of a part of the sphere: less).
        exact_degree: Up to which degree spherical polynomials are integrated exactly; ``None``: approximately only.
        rings: Where nodes lie on rings.
        face: Triangles, counter-clockwise from outside, ``[3, F]``, where the sampling has them.
        node: Of a part: numbers of its nodes in the whole sampling, ``[N]``, int64.
        row_gap: Widest angle between rows of the table whose rings these are, radians, else 0; found by itself, and
            kept by :meth:`rotated` and :meth:`part`, which have no rings any more.

    Tensors are not copied and must not be changed in place: see :attr:`key`.
    """

    kind: str
    pos: Tensor
    area: Tensor
    exact_degree: int | None = None
    rings: Rings | None = field(default=None, repr=False)
    face: Tensor | None = field(default=None, repr=False)
    node: Tensor | None = field(default=None, repr=False)
    row_gap: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        check_shape("pos", self.pos, "N", 3)
        check_shape("area", self.area, self.pos.size(0))
        for name in ("pos", "area"):  # of a caller who did not read the types above
            given = getattr(self, name)
            if given.dtype != torch.float64 or given.requires_grad or given.device.type != "cpu":
                object.__setattr__(self, name, given.detach().double().cpu())
        if self.grid is not None and self.grid[0] > 1 and self.rings is not None:
            object.__setattr__(self, "row_gap", float(self.rings.colatitude.diff().max()))

    @property
    def num_nodes(self) -> int:
        """Number of points, coincident ones counted each."""
        return self.pos.size(0)

    @property
    def spacing(self) -> float:
        """Side of a square as large as the mean cell, radians: for cut-offs in units of the grid."""
        return math.sqrt(float(self.area.sum()) / self.num_nodes)

    @property
    def step(self) -> float:
        """:attr:`spacing`, or the widest gap between rows where a grid has a wider one; the same after a rotation."""
        return max(self.spacing, self.row_gap)

    @property
    def is_whole(self) -> bool:
        """Whether it covers the sphere, and is no :meth:`part`."""
        return self.node is None

    @cached_property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns, if the rings are those of one table, row by row; else ``None``."""
        if self.rings is None or not self.is_whole:
            return None
        count, start = self.rings.count, self.rings.start
        regular = bool((count == count[0]).all()) and bool((start == start[0]).all())
        regular = regular and torch.equal(self.rings.node, torch.arange(self.num_nodes, device=self.rings.node.device))
        return (len(count), int(count[0])) if regular else None

    @property
    def nside(self) -> int | None:
        """Pixels along the side of a face of a whole HEALPix sphere; else ``None``."""
        return math.isqrt(self.num_nodes // 12) if self.kind == "healpix" and self.is_whole else None

    @property
    def key(self) -> str:
        """A name for the content: equal for samplings with the same points, weights and rings. For caches.

        It is kept, and made anew where a tensor was changed in place, so that nothing is taken from a cache for other
        points; writes through numpy or ``.data`` go unseen. What was made before such a change stays as it was: make a
        new sampling instead (``dataclasses.replace``).
        """
        if torch.compiler.is_compiling() and "_key" in self.__dict__:  # versions of tensors cannot be traced
            return self.__dict__["_key"][1]  # type: ignore[no-any-return]
        tensors = [self.pos, self.area, self.node, self.face]
        tensors += [] if self.rings is None else [self.rings.colatitude, self.rings.count, self.rings.start]
        version = tuple(0 if t is None or t.is_inference() else t._version for t in tensors)
        if self.__dict__.get("_key", (None,))[0] != version:
            self.__dict__["_key"] = version, self._digest(tensors)
        return self.__dict__["_key"][1]  # type: ignore[no-any-return]

    def _digest(self, tensors: list[Tensor | None]) -> str:
        digest = hashlib.sha1(f"{self.kind} {self.exact_degree} {self.is_whole}".encode(), usedforsecurity=False)
        for tensor in tensors:
            digest.update(b"-" if tensor is None else tensor.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def part(self, index: Tensor) -> "Sampling":
        """Some of the points, such as those of a partial sky or a patch; areas stay, rings and triangles are lost.

        Args:
            index: Numbers of nodes ``[M]``, each at most once, or a mask ``[N]``.

        Raises:
            TypeError: If ``index`` holds neither integers nor booleans.
            ValueError: If a number is out of range or comes twice, or no point is left.
        """
        check_shape("index", index, self.num_nodes if getattr(index, "dtype", None) == torch.bool else "M")
        if index.is_floating_point() or index.is_complex():
            raise TypeError(f"index must hold integers or booleans, got {index.dtype}")
        index = index.nonzero().flatten() if index.dtype == torch.bool else index.long()
        if index.numel() == 0:
            raise ValueError("a part needs at least one node, got none")
        if int(index.min()) < 0 or int(index.max()) >= self.num_nodes or index.unique().numel() < index.numel():
            raise ValueError(f"index must hold different numbers of the {self.num_nodes} nodes, from 0")
        index = index.cpu()
        node = index if self.node is None else self.node[index]
        return Sampling(self.kind, self.pos[index], self.area[index], None, None, None, node, self.row_gap)

    def rotated(self, rotation: Tensor) -> "Sampling":
        """The sampling with every point moved by a rotation; weights and order stay, rings are no longer rings.

        Args:
            rotation: ``[3, 3]``.

        Raises:
            ValueError: If it is no proper rotation.
        """
        check_shape("rotation", rotation, 3, 3)
        turn = rotation.detach().to(self.pos)
        error = float((turn @ turn.T - torch.eye(3, dtype=turn.dtype, device=turn.device)).abs().max())
        if not error < 1e-4 or float(torch.linalg.det(turn)) < 0:  # a mirror would turn triangles inside out
            raise ValueError(f"rotation must be orthogonal with determinant 1, got {rotation.tolist()}")
        pos = self.pos @ turn.T
        pos = pos / pos.norm(dim=1, keepdim=True)
        return Sampling(self.kind, pos, self.area, self.exact_degree, None, self.face, self.node, self.row_gap)

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
