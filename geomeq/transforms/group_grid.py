"""The graph of a plane group: pixels or hexagons, in every orientation, joined by typed edges."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from ..groups import PointGroup
from ._edges import require_data, write_edges

_BOUNDARIES = ("zero", "circular")
# A quarter and a sixth turn, and the mirror, on cell coordinates (ix, iy) with iy downwards; hexagon (ix, iy) lies at
# ix (1, 0) + iy (1/2, sqrt(3)/2). The same matrices as geomeq.groups.plane_group.
_LATTICES = {
    "square": (4, [[0, 1], [-1, 0]], [[-1, 0], [0, 1]]),
    "hexagonal": (6, [[1, 1], [-1, 0]], [[-1, -1], [0, 1]]),
}


@functional_transform("group_grid")
class GroupGrid(BaseTransform):
    r"""Nodes are the elements (u, h) of a plane group on a grid; edges are the support of a convolution, by type.

    Node ``j`` sends to node ``i`` if :math:`g_i^{-1} g_j = (v, g)` has its cell ``v`` in the window, and the type of
    the edge is the number of that element, ``g * W + (number of v in the window)``, with ``W`` cells in the window. A
    layer with one matrix per type (``nn.TypedConv``) is then the group convolution: on a full square grid that of
    ``nn.GroupConv2d`` with ``padding="same"`` (its ``graph_weight`` converts), and beyond, what no conv2d computes:
    hexagons with exact turns by 60 degrees, masked domains, grids with missing nodes.

    Reads nothing. Writes, with node ``h * Y * X + iy * X + ix`` on a full grid and nodes of a mask in that order,

    - ``element`` ``[N, 3]`` int64: (h, iy, ix); ``pos`` ``[N, 3]``: (x, y, h), centred, in cells, y downwards;
    - ``edge_index`` ``[2, E]``, sorted by target, then source, and ``edge_type`` ``[E]``; ``num_types``;
    - ``num_orientations``, ``num_spatial`` (cells that have a node) and ``grid`` (nx, ny);
    - ``action`` ``[|H|, N]``: turning a signal about the centre is ``x[action[h]]``; absent if an element does not map
      the nodes onto themselves (a mask without the symmetry, a quarter turn of an oblong);
    - with ``lifting=True`` also the edges from cells to nodes, ``lift_edge_index`` (source: ``iy * X + ix``, or its
      number among the cells of a mask), ``lift_edge_type`` and ``lift_num_types`` = W, as ``nn.LiftingConv2d``.

    Missing neighbours count as zero. Everything is integer arithmetic.

    Args:
        size: Cells along each side, n or (nx, ny). Hexagons with ``boundary="zero"`` fill a hexagon of odd width n.
        point_group: ``"C<n>"`` or ``"D<n>"`` that the lattice has: n divides 4 (square) or 6 (hexagonal); or a plane
            group (``"p4m"``, ``"p6"``).
        kernel_size: Width k of the window, odd: k x k cells, or the hexagon of that width.
        boundary: ``"zero"``, or ``"circular"``: opposite sides meet.
        lattice: ``"square"`` or ``"hexagonal"``.
        mask: Which nodes there are: ``[Y, X]`` bool for cells, ``[|H|, Y, X]`` for single nodes.
        lifting: Whether the edges of a lifting layer are written too.

    Raises:
        ValueError: If the lattice has no such symmetry, a size is no positive integer, the window is even, or the mask
            has another shape or no node.

    Example:
        >>> grid = GroupGrid(9, "p6m", kernel_size=3, lattice="hexagonal")(Data())
        >>> grid.num_nodes, grid.num_types, grid.action.shape  # 12 orientations of 61 hexagons; 7 of them in a window
        (732, 84, torch.Size([12, 732]))
    """

    def __init__(
        self,
        size: int | Sequence[int],
        point_group: str | PointGroup,
        kernel_size: int = 3,
        boundary: str = "zero",
        lattice: str = "square",
        mask: Tensor | None = None,
        lifting: bool = False,
    ) -> None:
        self.group = PointGroup.parse(point_group)
        if boundary not in _BOUNDARIES:
            raise ValueError(f"boundary must be one of {_BOUNDARIES}, got {boundary!r}")
        if lattice not in _LATTICES:
            raise ValueError(f"lattice must be one of {tuple(_LATTICES)}, got {lattice!r}")
        if _LATTICES[lattice][0] % self.group.n:
            raise ValueError(
                f"the {lattice} lattice has turns by {360 // _LATTICES[lattice][0]} degrees, not those of "
                f"{self.group.name}; use another lattice, or GroupConv2d, which interpolates"
            )
        if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd and positive, got {kernel_size!r}: even windows are centred between cells"
            )
        self.size, self.kernel_size = _read_size(size), kernel_size
        self.boundary, self.lattice, self.mask, self.lifting = boundary, lattice, mask, lifting
        width, height = self.size
        if lattice == "hexagonal" and boundary == "zero" and (width != height or width % 2 == 0):
            raise ValueError(
                f"a hexagon of cells has one odd width, got size={size}; use boundary='circular', or a mask"
            )
        if mask is not None and tuple(mask.shape) not in ((height, width), (self.group.order, height, width)):
            raise ValueError(
                f"mask must have shape [{height}, {width}] or [{self.group.order}, {height}, {width}], "
                f"got {list(mask.shape)}"
            )
        if not bool(self._present().any()):
            raise ValueError("the mask leaves no node")

    def forward(self, data: Data) -> Data:
        """Writes the graph to ``data`` and returns it."""
        require_data(data, "GroupGrid")
        present = self._present()
        node = present.flatten().long().cumsum(0).sub_(1).masked_fill_(~present.flatten(), -1)
        element = present.nonzero()
        edge_index, edge_type = self._edges(element, node, present.shape)
        cells = present.any(0)
        write_edges(data, edge_index, None, edge_type=edge_type)
        data.num_types = self.group.order * len(self._window())
        data.element, data.pos = element, self._positions(element)
        data.num_orientations, data.num_spatial = self.group.order, int(cells.sum())
        data.grid = self.size
        action = self._action(element, node, present.shape)
        if action is not None:
            data.action = action
        elif "action" in data:
            del data.action
        if self.lifting:
            number = cells.flatten().long().cumsum(0).sub_(1).masked_fill_(~cells.flatten(), -1)
            data.lift_edge_index, data.lift_edge_type = self._lifting_edges(element, number, present.shape)
            data.lift_num_types = len(self._window())
        return data

    def _present(self) -> Tensor:
        """Which nodes there are, ``[|H|, Y, X]`` bool."""
        width, height = self.size
        present = torch.ones(self.group.order, height, width, dtype=torch.bool)
        if self.lattice == "hexagonal" and self.boundary == "zero":
            radius = (width - 1) // 2
            line = torch.arange(width) - radius
            present &= (line[:, None] + line).abs() <= radius
        return present if self.mask is None else present & self.mask.bool().cpu()

    def _matrices(self) -> Tensor:
        """How elements move cell coordinates (ix, iy), ``[|H|, 2, 2]`` int64."""
        turns, *generators = _LATTICES[self.lattice]
        turn, mirror = (torch.tensor(a) for a in generators)
        step = turns // self.group.n
        powers = [torch.linalg.matrix_power(turn, step * r) for r in range(self.group.n)]
        return torch.stack([*powers, *(p @ mirror for p in powers if self.group.mirror)])

    def _window(self) -> Tensor:
        """Cells of the window relative to its centre, (ix, iy), row by row, ``[W, 2]``."""
        radius = self.kernel_size // 2
        line = torch.arange(-radius, radius + 1)
        cell = torch.stack([line.expand(len(line), -1).flatten(), line[:, None].expand(-1, len(line)).flatten()], 1)
        return cell if self.lattice == "square" else cell[cell.sum(1).abs() <= radius]

    def _neighbours(self, element: Tensor) -> tuple[Tensor, Tensor]:
        """Of each node the cell at each place of its turned window: number ``iy * X + ix`` and whether it exists."""
        width, height = self.size
        offset = torch.einsum("hab,wb->hwa", self._matrices(), self._window())
        x = element[:, None, 2] + offset[element[:, 0], :, 0]
        y = element[:, None, 1] + offset[element[:, 0], :, 1]
        inside = torch.ones_like(x, dtype=torch.bool)
        if self.boundary == "zero":
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return (y % height) * width + x % width, inside

    def _edges(self, element: Tensor, node: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        cell, inside = self._neighbours(element)
        h = self.group.cayley[element[:, 0]]  # g_j = g_i (v, g) has the orientation h g
        source = node[h[:, :, None] * (shape[1] * shape[2]) + cell[:, None]]  # [N, |H|, W]
        return _gather_edges(source, inside[:, None].expand_as(source))

    def _lifting_edges(self, element: Tensor, number: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        cell, inside = self._neighbours(element)
        return _gather_edges(number[cell][:, None], inside[:, None])

    def _positions(self, element: Tensor) -> Tensor:
        centre = torch.tensor([self.size[0] - 1, self.size[1] - 1], dtype=torch.float64) / 2
        h, iy, ix = element.double().unbind(1)
        x, y = ix - centre[0], iy - centre[1]
        if self.lattice == "hexagonal":
            x, y = x + y / 2, y * 0.75**0.5
        return torch.stack([x, y, h], dim=1)

    def _action(self, element: Tensor, node: Tensor, shape: torch.Size) -> Tensor | None:
        """``action[h, i]``: the node whose value stands at node i after the signal was moved by h."""
        width, height = self.size
        # twice the coordinates from the centre; hexagons turn about a cell, since no even rhombus has another centre
        corner = torch.tensor([width - 1, height - 1])
        corner = corner if self.lattice == "square" else 2 * (corner // 2)
        twice = 2 * element[:, [2, 1]] - corner
        rows = []
        for h in range(self.group.order):
            back = self.group.inverse(h)
            moved = twice @ self._matrices()[back].T + corner
            if bool((moved % 2).any()):
                return None  # the centre of an oblong with one even and one odd side
            x, y = (moved // 2).unbind(1)
            if self.boundary == "circular":
                if width != height and bool((self._matrices()[back].diagonal() == 0).any()):
                    return None
                x, y = x % width, y % height
            if bool(((x < 0) | (x >= width) | (y < 0) | (y >= height)).any()):
                return None
            source = node[self.group.left_division[h][element[:, 0]] * width * height + y * width + x]
            if bool((source < 0).any()):
                return None
            rows.append(source)
        return torch.stack(rows)

    def __repr__(self) -> str:
        mask = "" if self.mask is None else f", mask={tuple(self.mask.shape)}:{_digest(self.mask)}"
        return (
            f"{type(self).__name__}(size={self.size}, point_group={self.group.name!r}, kernel_size={self.kernel_size}, "
            f"boundary={self.boundary!r}, lattice={self.lattice!r}{mask}, lifting={self.lifting})"
        )


def _gather_edges(source: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Edges from a table ``source[i, g, w]`` (-1: none), sorted by target, then source; their type is ``g * W + w``."""
    there = inside & (source >= 0)
    target, g, w = there.nonzero().unbind(1)
    edge_type, start = g * source.size(2) + w, source[there]
    order = torch.argsort(target * (int(start.max()) + 1 if start.numel() else 1) + start, stable=True)
    return torch.stack([start[order], target[order]]), edge_type[order]


def _read_size(size: int | Sequence[int]) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ValueError(f"size must be one positive integer or (nx, ny), got {size!r}")
    return pair  # type: ignore[return-value]


def _digest(mask: Tensor) -> str:
    return hashlib.sha256(mask.bool().cpu().numpy().tobytes()).hexdigest()[:12]
