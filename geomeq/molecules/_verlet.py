"""A neighbour list that outlives small moves."""

import torch
from torch import Tensor

from ..neighbors import tie_tolerance
from ..neighbors._periodic import complete_cells, lattice_columns
from ._edge_list import EdgeList, Lattice, find_edges


class VerletList:
    r"""All edges within a cutoff of slowly moving atoms, exactly those of a new search at every step.

    The list holds edges up to ``cutoff + skin``. Two atoms that have moved by at most ``skin / 2`` each since it was
    made have come closer by at most ``skin``, so none that is now within the cutoff can be missing. A displacement
    common to all atoms changes no distance and is not counted. The list is made anew when an atom has moved farther,
    or when the number of atoms, their cell or its periodic directions change; then atoms are also put back into the
    cell, so that positions stay small however far atoms diffuse.

    Args:
        cutoff: Largest distance.
        skin: How much farther the list reaches; 0 to search at every step.

    Attributes:
        builds: How often the list was made.
    """

    def __init__(self, cutoff: float, skin: float) -> None:
        if not (cutoff > 0 and skin >= 0):
            raise ValueError(f"a neighbour list needs cutoff > 0 and skin >= 0, got {cutoff} and {skin}")
        self.cutoff, self.skin = float(cutoff), float(skin)
        self.builds = 0
        self._made_at: Tensor | None = None
        self._lattice: Lattice | None = None
        self._offset: Tensor | None = None
        self._edges: EdgeList | None = None
        self._moves: Tensor | None = None

    def __call__(self, pos: Tensor, lattice: Lattice | None) -> tuple[Tensor, EdgeList, Tensor]:
        """Finds the edges.

        Args:
            pos: Positions ``[N, 3]``, float64.
            lattice: Cell ``[1, 3, 3]`` and periodic directions ``[1, 3]`` of the structure.

        Returns:
            Positions ``[N, 3]``, moved by cell vectors; the edges between these; their squared lengths ``[E]``.
        """
        if self._edges is None or self._is_stale(pos, lattice):
            self._build(pos, lattice)
        assert self._edges is not None
        home = pos if self._offset is None else pos - self._offset
        squares = self._squares(home)
        # the limit of a new search, digit by digit
        inside = squares <= (self.cutoff * (1 + tie_tolerance(torch.float64))) ** 2
        return home, self._edges.take(inside), squares[inside]

    def _is_stale(self, pos: Tensor, lattice: Lattice | None) -> bool:
        before = self._made_at
        if self.skin == 0 or before is None or before.shape != pos.shape or not _same(self._lattice, lattice):
            return True
        if pos.size(0) == 0:
            return False
        moved = pos - before
        drift = moved.mean(dim=0)
        if lattice is not None and float(drift.norm()) > self.cutoff + self.skin:
            return True  # not for the edges, but to have atoms back in the cell
        moved = moved - drift
        # a hair less than half, for the rounding of the difference; NaN must not look like rest
        return not float(moved.square().sum(dim=1).amax()) <= (0.4999 * self.skin) ** 2

    def _build(self, pos: Tensor, lattice: Lattice | None) -> None:
        self.builds += 1
        self._made_at, self._lattice, self._offset, self._moves = pos.clone(), lattice, None, None
        if lattice is not None:
            self._lattice = Lattice(lattice.cell.clone(), lattice.pbc.clone())
            self._offset = _offset(pos, lattice)
            pos = pos - self._offset
        self._edges = find_edges(pos, self.cutoff + self.skin, lattice, None)
        if lattice is not None and self._edges.shift is not None:
            owner = self._edges.edge_index[1]
            self._moves = lattice_columns(self._edges.shift, lattice.cell, owner)

    def _squares(self, home: Tensor) -> Tensor:
        """Squared lengths of the edges, digit by digit those of ``squared_lengths``."""
        assert self._edges is not None
        j, i = self._edges.edge_index
        total = home.new_zeros(j.size(0))
        for axis, column in enumerate(home.t().contiguous()):
            step = column.index_select(0, j).sub_(column.index_select(0, i))
            if self._moves is not None:
                step += self._moves[axis]
            total += step.square_()
        return total


def _same(a: Lattice | None, b: Lattice | None) -> bool:
    if a is None or b is None:
        return a is b
    return torch.equal(a.cell, b.cell) and torch.equal(a.pbc, b.pbc)


def _offset(pos: Tensor, lattice: Lattice) -> Tensor:
    """What to subtract from each position to have it in the cell, ``[N, 3]``; whole cell vectors."""
    cell = complete_cells(lattice.cell, lattice.pbc)[0]
    whole = torch.where(lattice.pbc[0], torch.linalg.solve(cell.mT, pos.mT).mT.floor(), 0.0)
    return whole @ lattice.cell[0]
