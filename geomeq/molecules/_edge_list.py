"""Edges between atoms and periodic images, with their squared lengths in float64."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from ..neighbors import periodic_radius_edges, radius_edges, tie_tolerance
from ..neighbors._periodic import periodic_squares
from ..neighbors._points import read_points, squared_distance


class Lattice(NamedTuple):
    """Cells ``[B, 3, 3]`` (rows) and periodic directions ``[B, 3]`` of the graphs of a batch."""

    cell: Tensor
    pbc: Tensor


class EdgeList(NamedTuple):
    """Edges sorted by target, source and shift; ``shift`` is ``None`` where nothing repeats."""

    edge_index: Tensor
    shift: Tensor | None

    def take(self, keep: Tensor) -> "EdgeList":
        """The edges of a mask ``[E]``, in the same order."""
        place = keep.nonzero().flatten()  # once, not for each row
        return EdgeList(
            self.edge_index.index_select(1, place), None if self.shift is None else self.shift.index_select(0, place)
        )


def read_lattice(data: Data) -> Lattice | None:
    """Cell and periodic directions of ``data``, ``None`` without a cell.

    ``pbc`` may have been stored as ``[3]``, ``[1, 3]`` or one bool; without it, a cell repeats in all directions.

    Raises:
        ValueError: If ``pbc`` says that a structure repeats, but nothing says how.
    """
    cell, pbc = data.get("cell"), data.get("pbc")
    flags = None if pbc is None else torch.as_tensor(pbc, device=None if cell is None else cell.device)
    if cell is None:
        if flags is not None and bool(flags.any()):
            raise ValueError(
                f"pbc is {flags.tolist()}, but the data has no cell: set data.cell [1, 3, 3] (rows), or remove pbc"
            )
        return None
    cell = cell.view(-1, 3, 3)
    if flags is None:
        return Lattice(cell, torch.ones(cell.size(0), 3, dtype=torch.bool, device=cell.device))
    by_row = flags.numel() % 3 == 0 and flags.numel() > 0
    return Lattice(cell, flags.view(-1, 3) if by_row else flags.view(-1, 1).expand(-1, 3))


def find_edges(
    pos: Tensor, cutoff: float, lattice: Lattice | None, batch: Tensor | None, loop: bool = False
) -> EdgeList:
    """All edges at most ``cutoff`` long, see :func:`geomeq.neighbors.periodic_radius_edges`."""
    if lattice is None:
        return EdgeList(radius_edges(pos, cutoff, batch, loop=loop), None)
    return EdgeList(*periodic_radius_edges(pos, cutoff, lattice.cell, lattice.pbc, batch, loop=loop))


def squared_lengths(pos: Tensor, edges: EdgeList, lattice: Lattice | None, batch: Tensor | None) -> Tensor:
    """Squared lengths ``[E]`` in float64, by the formula that decided on the edges."""
    points = read_points(pos, batch)
    j, i = edges.edge_index
    if lattice is None or edges.shift is None:
        return squared_distance(points, j, points, i)
    cells = lattice.cell.detach().double()
    owner = torch.zeros_like(points.graph()) if cells.size(0) == 1 else points.graph()
    return periodic_squares(points, cells, owner, j, i, edges.shift)


def touching(pos: Tensor, edges: EdgeList, squares: Tensor, lattice: Lattice | None) -> Tensor:
    """Which edges between different atoms or images have no length, ``[E]``.

    Between images "no length" is up to rounding: an atom that was written on both faces of a cell comes back from
    ``shift @ cell`` with an error.
    """
    own = edges.edge_index[0] == edges.edge_index[1]
    if lattice is None or edges.shift is None:
        return (squares == 0) & ~own
    own &= (edges.shift == 0).all(dim=1)
    rounding = tie_tolerance(pos.dtype) * float(lattice.cell.norm(dim=2).amax()) if lattice.cell.numel() else 0.0
    return (squares <= rounding**2) & ~own


def nearest(edges: EdgeList, squares: Tensor, num_nodes: int, most: int, rtol: float) -> Tensor:
    """Which edges are among the ``most`` shortest of their target, ``[E]``; all that tie with the last are."""
    target = edges.edge_index[1]
    order = squares.argsort()
    order = order[target[order].argsort(stable=True)]
    count = torch.bincount(target, minlength=num_nodes)
    full = count > most
    last = (count.cumsum(0) - count + most - 1)[full]
    limit = squares.new_full((num_nodes,), torch.inf)
    limit[full] = squares[order[last]] * (1 + rtol) ** 2
    return squares <= limit[target]


def check_cap(max_neighbors: int | None) -> None:
    """Raises unless a cap on neighbours is a positive integer or ``None``."""
    if max_neighbors is not None and (int(max_neighbors) != max_neighbors or max_neighbors < 1):
        raise ValueError(f"max_neighbors must be a positive integer, or None for all neighbours, got {max_neighbors}")
