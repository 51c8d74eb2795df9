"""Edges between atoms, periodic images included."""

from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from ..molecules import periodic_graph
from ..molecules._edge_list import check_cap
from ._edges import require_data, require_pos


@functional_transform("periodic_graph")
class PeriodicGraph(BaseTransform):
    r"""Connects all atoms and periodic images at most a cutoff apart; see :func:`geomeq.molecules.periodic_graph`.

    Reads ``pos`` (``[N, 3]``, Angstrom, say), on a batch ``batch``, and for periodic structures ``cell``
    (``[B, 3, 3]``, rows) and ``pbc`` (``[B, 3]`` bool; all directions if missing). Molecules have neither.
    Writes ``edge_index`` (``[2, E]``, sorted by target, then source), with a cell ``shift`` (``[E, 3]`` integers), so
    that ``edge_vec = pos[j] - pos[i] + shift @ cell``, and with ``max_neighbors`` the number of edges it left out,
    ``dropped_edges`` (``[B]``). Removes the attributes of former edges.

    The edges are those of :class:`CutoffGraph`, which is for points of any kind and dimension; this transform is for
    atoms, and can cap their neighbours.

    Args:
        cutoff: Largest distance, in the unit of ``pos``.
        max_neighbors: If given, each atom receives from this many nearest neighbours only, and all that tie with the
            last of them. The energy then jumps where neighbours change ranks, and forces are no longer its slope there:
            leave it out unless a published model was trained so.

    Raises:
        ValueError: For atoms at the same place, NaN, a cell that periodic directions lack or that has no volume.

    Example:
        >>> import torch
        >>> crystal = Data(z=torch.tensor([29]), pos=torch.zeros(1, 3), cell=3.61 * torch.eye(3)[None])
        >>> PeriodicGraph(4.0)(crystal)
        Data(pos=[1, 3], z=[1], cell=[1, 3, 3], edge_index=[2, 6], shift=[6, 3])
    """

    def __init__(self, cutoff: float, max_neighbors: int | None = None) -> None:
        if not cutoff > 0:
            raise ValueError(f"cutoff must be positive, got {cutoff}")
        check_cap(max_neighbors)
        self.cutoff = float(cutoff)
        self.max_neighbors = max_neighbors

    def forward(self, data: Data) -> Data:
        """Returns ``data`` with its edges."""
        require_data(data, "PeriodicGraph")
        require_pos(data, "PeriodicGraph")
        return periodic_graph(data, self.cutoff, self.max_neighbors)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(cutoff={self.cutoff}, max_neighbors={self.max_neighbors})"
