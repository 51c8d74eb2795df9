"""Wigner rows of the frames of edges."""

from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from geomeq._checks import check_finite, check_shape
from geomeq.harmonics import edge_vectors, edge_wigner
from geomeq.ops import EdgeLayout

from ._edges import graph_of_nodes, require_data, require_pos


@functional_transform("edge_frames")
class EdgeFrames(BaseTransform):
    r"""Writes the Wigner rows that turn features into the frame of each edge, its direction on the axis y.

    Reads ``edge_vec`` (``[E, 3]``, any unit) if there, else ``pos``, ``edge_index`` (and ``shift``, ``cell``).
    Writes ``edge_wigner`` (``[E, T]``, in the order of :class:`geomeq.ops.EdgeLayout`): only the blocks of each degree
    and their rows of order up to ``mmax``, 145 numbers per edge for degree 6 and order 1 instead of 931.

    The roll about the edge is a fixed function of its direction: nothing is random. For fixed positions; where forces
    are wanted, a model computes the same from ``pos`` in its forward pass (``geomeq.harmonics.edge_wigner``).

    Args:
        lmax: Highest degree.
        mmax: Highest order in the frame; all by default.

    Raises:
        ValueError: For missing positions or edges, numbers that are not finite, or an edge of length zero: it has no
            direction.

    Example:
        >>> import torch
        >>> data = Data(edge_index=torch.tensor([[0], [1]]), edge_vec=torch.tensor([[0.0, 2.0, 0.0]]))
        >>> EdgeFrames(lmax=2, mmax=0)(data).edge_wigner.round().int().tolist()
        [[1, 0, 1, 0, 0, 0, 1, 0, 0]]
    """

    def __init__(self, lmax: int, mmax: int | None = None) -> None:
        self.layout = EdgeLayout(lmax, mmax)
        self.lmax, self.mmax = self.layout.lmax, self.layout.mmax

    def forward(self, data: Data) -> Data:
        """Writes the rows to ``data`` and returns it."""
        require_data(data, "EdgeFrames")
        if data.get("edge_index") is None:
            raise ValueError("EdgeFrames reads edge_index; apply CutoffGraph or PeriodicGraph first")
        vec = self._vectors(data)
        check_finite("edge_vec", vec, "drop or repair that structure")
        zero = (vec == 0).all(dim=1)
        if bool(zero.any()):
            edge = int(zero.nonzero()[0])
            source, target = data.edge_index[:, edge].tolist()
            raise ValueError(
                f"edge {edge} from node {source} to node {target} has length zero and so no direction; repair "
                "overlapping points, or make the graph without loops (CutoffGraph(..., loop=False))"
            )
        data.edge_wigner = edge_wigner(vec, self.lmax, self.mmax)
        return data

    def _vectors(self, data: Data) -> Tensor:
        stored = data.get("edge_vec")
        if stored is not None:
            check_shape("edge_vec", stored, data.edge_index.size(1), 3)
            return stored
        pos = require_pos(data, "EdgeFrames")
        batch = graph_of_nodes(data, pos.size(0))
        return edge_vectors(pos, data.edge_index, data.get("shift"), data.get("cell"), batch)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lmax={self.lmax}, mmax={self.mmax})"
