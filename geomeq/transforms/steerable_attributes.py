"""Spherical harmonics of edges and nodes, for steerable message passing."""

from collections.abc import Sequence

from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from geomeq._checks import check_finite
from geomeq.harmonics import edge_vectors, steerable_attributes

from ._edges import graph_of_nodes, require_data, require_pos


@functional_transform("steerable_attributes")
class SteerableAttributes(BaseTransform):
    r"""Writes the directions that steer a SEGNN.

    Reads ``pos`` (``[N, 3]``, any unit), ``edge_index``, the ``vectors`` (each ``[N, 3]``) and, for periodic
    structures, ``shift`` and ``cell``.
    Writes ``edge_attr`` (``[E, (L+1)^2]``, harmonics of ``pos[j] - pos[i]``), ``node_attr`` (``[N, (L+1)^2]``, their
    mean over incoming edges plus the harmonics of the vectors, component 0 set to 1) and ``edge_dist`` (``[E, 1]``).

    For fixed positions only: where forces are wanted a model computes the same from ``pos`` itself.

    Args:
        lmax: Highest degree, ``L``.
        vectors: Names of node attributes whose harmonics join the node attribute (velocity, force, spin).
        normalization: ``"component"`` (:math:`|Y_l|^2 = 2l+1`, what the layers expect), ``"integral"`` or ``"norm"``.
        cutoff: If given, node attributes fade out smoothly at this length; use the cutoff of the model.

    Raises:
        ValueError: For missing or non-finite ``pos``, missing edges or vectors.

    Example:
        >>> import torch
        >>> data = Data(pos=torch.tensor([[0.0, 0, 0], [0, 0, 2]]), edge_index=torch.tensor([[1, 0], [0, 1]]))
        >>> SteerableAttributes(lmax=1)(data).edge_dist.flatten().tolist()
        [2.0, 2.0]

    Source: Brandstetter et al. (2022), https://arxiv.org/abs/2110.02905, sec. 3.
    """

    def __init__(
        self,
        lmax: int = 1,
        vectors: Sequence[str] = (),
        normalization: str = "component",
        cutoff: float | None = None,
    ) -> None:
        if lmax < 0:
            raise ValueError(f"lmax must be at least 0, got {lmax}")
        if isinstance(vectors, str):
            raise TypeError(f"vectors must be a sequence of names, got the string {vectors!r}; write ({vectors!r},)")
        if cutoff is not None and not cutoff > 0:
            raise ValueError(f"cutoff must be positive, got {cutoff}")
        self.lmax, self.vectors, self.normalization, self.cutoff = lmax, tuple(vectors), normalization, cutoff

    def forward(self, data: Data) -> Data:
        """Writes the attributes to ``data`` and returns it."""
        require_data(data, "SteerableAttributes")
        pos = require_pos(data, "SteerableAttributes")
        check_finite("pos", pos, "drop or repair that structure")
        if data.get("edge_index") is None:
            raise ValueError("SteerableAttributes reads edge_index; apply CutoffGraph, NearestGraph or FullyConnected")
        missing = [name for name in self.vectors if data.get(name) is None]
        if missing:
            raise ValueError(f"data has no {', '.join(missing)}; it has {sorted(data.keys())}")
        batch = graph_of_nodes(data, pos.size(0))
        vec = edge_vectors(pos, data.edge_index, data.get("shift"), data.get("cell"), batch)
        made = steerable_attributes(
            vec,
            data.edge_index,
            pos.size(0),
            self.lmax,
            [data[name].to(pos.dtype) for name in self.vectors],
            self.normalization,
            self.cutoff,
        )
        data.edge_attr, data.node_attr, data.edge_dist = made.edge_attr, made.node_attr, made.edge_dist
        return data

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(lmax={self.lmax}, vectors={self.vectors}, "
            f"normalization={self.normalization!r}, cutoff={self.cutoff})"
        )
