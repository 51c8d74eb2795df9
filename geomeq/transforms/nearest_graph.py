"""Edges from the k nearest neighbours of each point."""

import torch
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from ..neighbors import knn_edges
from ._edges import graph_of_nodes, reject_coincident, require_data, require_pos, write_edges


@functional_transform("nearest_graph")
class NearestGraph(BaseTransform):
    """Connects each point with its ``k`` nearest neighbours.

    Reads ``pos`` (``[N, d]``, any unit of length) and on a batch ``batch``.
    Writes ``edge_index`` (``[2, E]``, from each neighbour to the point, sorted by target, then source).
    Removes the attributes of former edges (``edge_attr``, ``edge_vec``, ``shift`` and their like).

    Distances that tie with the k-th are treated by a rule which no rotation changes; see
    :func:`geomeq.neighbors.knn_edges`. A graph with fewer than ``k`` other points connects all of them.

    Args:
        k: Number of neighbours, at least 1.
        ties: ``"keep"``: all points that tie with the k-th are neighbours (in symmetric molecules some points then have
            more than ``k``); ``"index"``: exactly ``k``, the lowest indices among those that tie.
        loop: Whether a point is its own first neighbour.
        allow_coincident: Whether two points may lie at the same place. By default this is an error that names them.

    Raises:
        ValueError: For a missing or non-finite ``pos``, coincident points, or a periodic ``cell``, whose images
            this transform does not see.

    Example:
        >>> data = NearestGraph(1)(Data(pos=torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])))
        >>> data.edge_index.tolist()
        [[1, 0, 1], [0, 1, 2]]
    """

    def __init__(self, k: int, *, ties: str = "keep", loop: bool = False, allow_coincident: bool = False) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"k must be an integer of at least 1, got {k!r}")
        if ties not in ("keep", "index"):
            raise ValueError(f"ties must be 'keep' or 'index', got {ties!r}")
        self.k, self.ties, self.loop, self.allow_coincident = k, ties, loop, allow_coincident

    def forward(self, data: Data) -> Data:
        """Writes the edges to ``data`` and returns it."""
        require_data(data, "NearestGraph")
        pos = require_pos(data, "NearestGraph")
        pbc = data.get("pbc")
        if data.get("cell") is not None and (pbc is None or bool(torch.as_tensor(pbc).any())):
            raise ValueError(
                "NearestGraph does not see periodic images, but the data has a cell; use CutoffGraph or remove it"
            )
        batch = graph_of_nodes(data, pos.size(0))
        edge_index = knn_edges(pos, self.k, batch, ties=self.ties, loop=self.loop)
        if not self.allow_coincident:
            j, i = edge_index
            touching = ((pos[j] - pos[i]).abs().amax(dim=1) == 0) & (j != i)  # a loop has no length by intention
            remedy = "use NearestGraph(..., allow_coincident=True) with layers that bear edges of length zero"
            reject_coincident(data, pos, edge_index, touching, remedy)
        return write_edges(data, edge_index, batch)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(k={self.k}, ties={self.ties!r}, loop={self.loop}, "
            f"allow_coincident={self.allow_coincident})"
        )
