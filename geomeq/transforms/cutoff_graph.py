"""Edges between all points closer than a cutoff, periodic where there is a cell."""

from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from ..molecules import periodic_graph
from ._edges import require_data, require_pos


@functional_transform("cutoff_graph")
class CutoffGraph(BaseTransform):
    r"""Connects every pair of points at most a cutoff apart, never dropping a neighbour.

    Reads ``pos`` (``[N, d]``, any unit of length), on a batch ``batch``, and for periodic structures ``cell``
    (``[B, 3, 3]``, rows, same unit) and ``pbc`` (``[B, 3]`` bool; all directions if missing).
    Writes ``edge_index`` (``[2, E]``, both ways, sorted by target, then source) and, if there is a ``cell``, ``shift``
    (``[E, 3]`` integers), so that ``edge_vec = pos[j] - pos[i] + shift @ cell``.
    Removes the attributes of former edges (``edge_attr``, ``edge_vec``, ``shift`` and their like).

    For atoms, :class:`PeriodicGraph` writes the same edges and can cap them.

    Works on a ``Data`` and on a ``Batch``, in which points of different graphs are never connected. A pair exactly at
    the cutoff is connected, also after a rotation; see :mod:`geomeq.neighbors`.

    Args:
        cutoff: Largest distance, in the unit of ``pos``.
        loop: Whether each point is also connected with itself.
        allow_coincident: Whether two points may lie at the same place. By default this is an error that names them,
            since the edge between them has no direction.

    Raises:
        ValueError: For a missing or non-finite ``pos``, coincident points, ``pbc`` without a cell, or a
            cell without volume.

    Example:
        >>> import torch
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
        require_pos(data, "CutoffGraph")
        return periodic_graph(data, self.cutoff, loop=self.loop, allow_coincident=self.allow_coincident)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(cutoff={self.cutoff}, loop={self.loop}, allow_coincident={self.allow_coincident})"
        )
