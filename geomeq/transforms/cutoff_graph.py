"""Edges between all points closer than a cutoff, periodic where there is a cell."""

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from ..neighbors import periodic_radius_edges, radius_edges
from ._edges import graph_of_nodes, reject_coincident, require_data, require_pos, write_edges


@functional_transform("cutoff_graph")
class CutoffGraph(BaseTransform):
    r"""Connects every pair of points at most a cutoff apart, never dropping a neighbour.

    Reads ``pos`` (``[N, d]``, any unit of length), on a batch ``batch``, and for periodic structures ``cell``
    (``[B, 3, 3]``, rows, same unit) and ``pbc`` (``[B, 3]`` bool; all directions if missing).
    Writes ``edge_index`` (``[2, E]``, both ways, sorted by target, then source) and, if there is a ``cell``, ``shift``
    (``[E, 3]`` integers), so that ``edge_vec = pos[j] - pos[i] + shift @ cell``.
    Removes the attributes of former edges (``edge_attr``, ``edge_vec``, ``shift`` and their like).

    Works on a ``Data`` and on a ``Batch``, in which points of different graphs are never connected. A pair exactly at
    the cutoff is connected, also after a rotation; see :mod:`geomeq.neighbors`.

    Args:
        cutoff: Largest distance, in the unit of ``pos``.
        loop: Whether each point is also connected with itself.
        allow_coincident: Whether two points may lie at the same place. By default this is an error that names them,
            since the edge between them has no direction.

    Raises:
        ValueError: For a missing or non-finite ``pos``, coincident points, or a cell without volume.

    Example:
        >>> data = CutoffGraph(1.5)(Data(pos=torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])))
        >>> data.edge_index.tolist()
        [[1, 0], [0, 1]]
    """

    def __init__(self, cutoff: float, *, loop: bool = False, allow_coincident: bool = False) -> None:
        if not cutoff > 0:
            raise ValueError(f"cutoff must be positive, got {cutoff}")
        self.cutoff = float(cutoff)
        self.loop = loop
        self.allow_coincident = allow_coincident

    def forward(self, data: Data) -> Data:
        """Writes the edges to ``data`` and returns it."""
        require_data(data, "CutoffGraph")
        pos = require_pos(data, "CutoffGraph")
        batch = graph_of_nodes(data, pos.size(0))
        cell = data.get("cell")
        if cell is None:
            edge_index = radius_edges(pos, self.cutoff, batch, loop=self.loop)
            if not self.allow_coincident:
                reject_coincident(data, pos, edge_index, None, "CutoffGraph")
            return write_edges(data, edge_index, batch)
        cell = cell.view(-1, 3, 3)
        pbc = _read_pbc(data)
        edge_index, shift = periodic_radius_edges(pos, self.cutoff, cell, pbc, batch, loop=self.loop)
        if not self.allow_coincident:
            self._check_periodic(data, pos, cell, batch, edge_index, shift)
        return write_edges(data, edge_index, batch, shift=shift)

    def _check_periodic(
        self, data: Data, pos: Tensor, cell: Tensor, batch: Tensor | None, edge_index: Tensor, shift: Tensor
    ) -> None:
        own = (edge_index[0] == edge_index[1]) & (shift == 0).all(dim=1)
        edge_index, shift = edge_index[:, ~own], shift[~own]
        rows = cell[0].expand(shift.size(0), 3, 3)
        if batch is not None and cell.size(0) > 1:
            rows = cell[batch[edge_index[1]]]
        offset = (shift.to(pos.dtype)[:, None] @ rows.to(pos.dtype)).squeeze(1)
        reject_coincident(data, pos, edge_index, offset, "CutoffGraph")

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(cutoff={self.cutoff}, loop={self.loop}, allow_coincident={self.allow_coincident})"
        )


def _read_pbc(data: Data) -> Tensor | bool:
    """``pbc`` of each graph, ``[B, 3]``, whether it was stored as ``[3]``, ``[1, 3]`` or one bool."""
    pbc = data.get("pbc")
    if pbc is None:
        return True
    pbc = torch.as_tensor(pbc)
    return pbc.view(-1, 3) if pbc.numel() % 3 == 0 and pbc.numel() else pbc.view(-1, 1).expand(-1, 3)
