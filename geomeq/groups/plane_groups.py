"""Plane groups on a torus of n x n cells: translations and the symmetries of a square or hexagonal lattice."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .finite_constructors import cyclic, dihedral
from .group import GroupSample
from .products import SemidirectProduct, direct_product

# R and M as matrices on cell coordinates (ix, iy), iy downwards as rows of a picture. Square: torch.rot90 and
# flip(-1). Hexagonal, with cell (ix, iy) at ix (1, 0) + iy (1/2, sqrt(3)/2): a sixth turn and the same mirror.
_SQUARE = (torch.tensor([[0, 1], [-1, 0]]), torch.tensor([[-1, 0], [0, 1]]))
_HEXAGON = (torch.tensor([[1, 1], [-1, 0]]), torch.tensor([[-1, -1], [0, 1]]))
#: name: (lattice, turn as a power of R, number of turns, with mirror)
_KINDS = {
    "p1": (_SQUARE, 4, 1, False),
    "p2": (_SQUARE, 2, 2, False),
    "p4": (_SQUARE, 1, 4, False),
    "pm": (_SQUARE, 4, 1, True),
    "pmm": (_SQUARE, 2, 2, True),
    "p4m": (_SQUARE, 1, 4, True),
    "p3": (_HEXAGON, 2, 3, False),
    "p6": (_HEXAGON, 1, 6, False),
    "p3m1": (_HEXAGON, 2, 3, True),
    "p6m": (_HEXAGON, 1, 6, True),
}


class PlaneGroup(SemidirectProduct):
    r"""Motions ``p -> A_h p + t`` of the cells of an ``n x n`` torus.

    The element with translation ``t = (ix, iy)`` and point symmetry ``h`` has number ``h n^2 + iy n + ix``: that of
    the node of a group graph, and the memory order of a tensor ``[|H|, n, n]``.

    Args:
        kind: ``"p1"``, ``"p2"``, ``"p4"``, ``"pm"``, ``"pmm"`` or ``"p4m"`` on the square lattice, ``"p3"``,
            ``"p6"``, ``"p3m1"`` or ``"p6m"`` on the hexagonal lattice.
        size: Cells along each side, ``n``.

    Attributes:
        point_group: ``H``, cyclic or dihedral: ``h = r + (number of turns) m`` means ``R^r M^m``.
        point_matrices: ``A_h`` on cell coordinates ``(ix, iy)``, ``[|H|, 2, 2]`` int64. On the square lattice
            they are ``torch.rot90(k=r)`` and ``flip(-1)`` up to a translation.
    """

    def __init__(self, kind: str, size: int) -> None:
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {kind!r}")
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"size must be a whole number of cells, at least 1, got {size!r}")
        (turn, mirror), step, turns, mirrored = _KINDS[kind]
        self.kind, self.size = kind, size
        self.point_group = dihedral(turns) if mirrored else cyclic(turns)
        powers = [torch.linalg.matrix_power(turn, step * r) for r in range(turns)]
        self.point_matrices = torch.stack([*powers, *(p @ mirror for p in powers if mirrored)])
        torus = direct_product(cyclic(size), cyclic(size), name=f"Z{size}^2")  # slow iy, fast ix
        images = self._cell(self._coordinates() @ self.point_matrices.transpose(1, 2))
        super().__init__(torus, self.point_group, images, name=f"{kind}({size})")

    def _coordinates(self) -> Tensor:
        """``(ix, iy)`` of every cell, ``[n^2, 2]``."""
        cell = torch.arange(self.size**2)
        return torch.stack([cell % self.size, cell // self.size], dim=-1)

    def _cell(self, point: Tensor) -> Tensor:
        point = point % self.size
        return point[..., 1] * self.size + point[..., 0]

    def pixel_action(self) -> Tensor:
        """The cell to which each element sends each cell, ``[|G|, n^2]`` int64 (:class:`HomogeneousSpace`)."""
        cells = self.normal.cayley[:, self.action]  # translation, point symmetry, cell
        return cells.transpose(0, 1).reshape(self.order, -1)

    def pixel_generators(self) -> Tensor:
        """The cell to which each of ``generators`` sends each cell, ``[k, n^2]`` int64."""
        t, h = self.split(self.generators)
        return self.normal.cayley[t[:, None], self.action[h]]

    def sample(self, size: int | Sequence[int] | None = None) -> GroupSample:
        """All elements in the order of the nodes of a group graph; see :meth:`FiniteGroup.sample`.

        Args:
            size: ``None``, the order of the group, or its grid ``(n, n)`` (and the order of the point group).
        """
        grid = (self.size, self.size)
        if size is None or (not isinstance(size, int) and tuple(size) in (grid, (*grid, self.point_group.order))):
            return self._sample(self.point_group.order, grid, (1.0, 1.0))
        super().sample(size)
        return self.sample()

    def _positions(self) -> Tensor:
        """Cell coordinates and the point symmetry as the third coordinate, ``[|G|, 3]``."""
        t, h = self.split(torch.arange(self.order))
        xy = self._coordinates()[t].double()
        if self.kind in ("p3", "p6", "p3m1", "p6m"):
            xy = xy @ torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]], dtype=torch.float64)
        return torch.cat([xy, h[:, None].double()], dim=1)


def plane_group(kind: str, size: int) -> PlaneGroup:
    """Symmetries of the square or hexagonal lattice on a torus; see :class:`PlaneGroup`.

    Args:
        kind: Such as ``"p4"``, ``"p4m"``, ``"p6"`` or ``"p6m"``.
        size: Cells along each side.

    Example:
        >>> plane_group("p4m", 28).order
        6272
    """
    return PlaneGroup(kind, size)
