"""Lengths of edges in a basis of functions."""

from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from geomeq.harmonics import bessel_basis, edge_length, edge_vectors, gaussian_basis, polynomial_envelope

from ._edges import graph_of_nodes, require_data, require_pos

_BASES = {"bessel": bessel_basis, "gaussian": gaussian_basis}


@functional_transform("radial_basis")
class RadialBasis(BaseTransform):
    r"""Writes the length of each edge in a Bessel or Gaussian basis, times a smooth envelope.

    Reads ``edge_dist`` (``[E, 1]``) if there, else ``pos``, ``edge_index`` (and ``shift``, ``cell``).
    Writes ``edge_radial`` (``[E, num_basis]``).

    Args:
        cutoff: Where the envelope ends, in the unit of ``pos``.
        num_basis: Number of functions.
        basis: ``"bessel"`` or ``"gaussian"``.
        envelope: Order of :func:`~geomeq.harmonics.polynomial_envelope`, or ``None`` for none.

    Example:
        >>> import torch
        >>> data = Data(edge_dist=torch.tensor([[1.0], [4.9], [6.0]]))
        >>> RadialBasis(cutoff=5.0, num_basis=4)(data).edge_radial.shape
        torch.Size([3, 4])

    Source: Gasteiger et al. (2020), https://arxiv.org/abs/2003.03123, eq. 7 and 8.
    """

    def __init__(self, cutoff: float, num_basis: int = 8, basis: str = "bessel", envelope: int | None = 6) -> None:
        if not cutoff > 0:
            raise ValueError(f"cutoff must be positive, got {cutoff}")
        if basis not in _BASES:
            raise ValueError(f"basis must be one of {tuple(_BASES)}, got {basis!r}")
        if num_basis < 1:
            raise ValueError(f"num_basis must be at least 1, got {num_basis}")
        self.cutoff, self.num_basis, self.basis, self.envelope = cutoff, num_basis, basis, envelope

    def forward(self, data: Data) -> Data:
        """Writes the basis to ``data`` and returns it."""
        require_data(data, "RadialBasis")
        r = self._length(data)
        radial = _BASES[self.basis](r, self.cutoff, self.num_basis)
        if self.envelope is not None:
            radial = radial * polynomial_envelope(r, self.cutoff, self.envelope)[:, None]
        data.edge_radial = radial
        return data

    def _length(self, data: Data) -> Tensor:
        stored = data.get("edge_dist")
        if stored is not None:
            return stored.view(-1)
        pos = require_pos(data, "RadialBasis")
        if data.get("edge_index") is None:
            raise ValueError("RadialBasis reads edge_dist, or pos and edge_index; apply CutoffGraph first")
        batch = graph_of_nodes(data, pos.size(0))
        return edge_length(edge_vectors(pos, data.edge_index, data.get("shift"), data.get("cell"), batch))[:, 0]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(cutoff={self.cutoff}, num_basis={self.num_basis}, basis={self.basis!r}, "
            f"envelope={self.envelope})"
        )
