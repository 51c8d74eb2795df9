"""The two simpler steerable convolutions that SEGNN is compared with."""

import torch
from e3nn import o3
from torch import Tensor, nn

from geomeq._checks import check_edge_index, check_shape

from ._graph import SteerableGraph
from .steerable_gate import SteerableGate


class SEConv(nn.Module):
    r"""Steerable convolution: messages without an update network, linear or non-linear.

    .. math::
        \text{linear:} \quad h'_i &= h_i
            + \text{Act}\big(\textstyle\sum_j \text{Lin}_{a_{ij}}([h_i, h_j, e_{ij}])\big) \\
        \text{non-linear:} \quad h'_i &= h_i
            + \text{Act}\big(\textstyle\sum_j \text{Lin}_{a_{ij}}(\text{Gate}_{a_{ij}}([h_i, h_j, e_{ij}]))\big)

    where Act is SiLU on even scalars and a sigmoid gate on every other channel. The linear one is a tensor field
    network layer. Message form: tensor (3).

    Args:
        irreps_in: Type of the node features.
        irreps_edge: Type of the edge attribute.
        irreps_out: Type of the output; default ``irreps_in``. The residual is added if both are equal.
        edge_scalars: Number of invariants per edge.
        nonlinear: Which of the two.

    Source: ablation of Brandstetter et al. (2022), https://arxiv.org/abs/2110.02905, sec. 4 and table 1.
    """

    def __init__(
        self,
        irreps_in: o3.Irreps | str,
        irreps_edge: o3.Irreps | str,
        irreps_out: o3.Irreps | str | None = None,
        edge_scalars: int = 1,
        nonlinear: bool = True,
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_edge = o3.Irreps(irreps_in), o3.Irreps(irreps_edge)
        self.irreps_out = o3.Irreps(irreps_in if irreps_out is None else irreps_out)
        self.edge_scalars, self.nonlinear = edge_scalars, nonlinear
        self._dims = (self.irreps_in.dim, self.irreps_edge.dim)
        self._hint = f"the layer was built for irreps_in={self.irreps_in} and irreps_edge={self.irreps_edge}"
        self._residual = self.irreps_in == self.irreps_out
        scalars = o3.Irreps([(edge_scalars, "0e")] if edge_scalars else [])
        pair = self.irreps_in + self.irreps_in + scalars
        self.first = SteerableGate(pair, self.irreps_edge, self.irreps_out) if nonlinear else None
        # A gate layer whose linear part runs per edge and whose gate runs after the sum.
        self.last = SteerableGate(self.irreps_out if nonlinear else pair, self.irreps_edge, self.irreps_out)

    def reset_parameters(self) -> None:
        """Draws all weights again."""
        for layer in (self.first, self.last):
            if layer is not None:
                layer.linear.reset_parameters()

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor,
        edge_scalar: Tensor | None = None,
        edge_weight: Tensor | None = None,
        graph: SteerableGraph | None = None,
    ) -> Tensor:
        """One round of messages.

        Args:
            x: Node features, ``[N, irreps_in.dim]``.
            edge_index: Source j and target i of each edge, ``[2, E]``.
            edge_attr: Edge attribute, ``[E, irreps_edge.dim]``.
            edge_scalar: Invariants of the edges, ``[E, edge_scalars]``.
            edge_weight: Factor of each message, ``[E]``.
            graph: The same tensors wrapped, to share couplings between layers.

        Returns:
            ``[N, irreps_out.dim]``.

        Raises:
            ValueError: If a shape differs from the types of the layer.
        """
        check_shape("x", x, "N", self._dims[0], hint=self._hint)
        if graph is None:
            check_edge_index(edge_index, x.size(0), x.size(0))
            check_shape("edge_attr", edge_attr, edge_index.size(1), self._dims[1], hint=self._hint)
            graph = SteerableGraph(edge_index, edge_attr, edge_attr.new_ones(x.size(0), 1), edge_weight)
        source, target = graph.edge_index
        parts = [x.index_select(0, target), x.index_select(0, source)]
        if self.edge_scalars:
            if edge_scalar is None:
                raise ValueError(f"edge_scalar is missing: the layer was built with edge_scalars={self.edge_scalars}")
            check_shape("edge_scalar", edge_scalar, graph.num_edges, self.edge_scalars)
            parts.append(edge_scalar)
        message = torch.cat([p.to(x.dtype) for p in parts], dim=1)
        if self.first is not None:
            message = self.first(message, graph.edge)
        kinds = self.last.linear.kinds(message, graph.edge)
        out = self.last.finish({kind: graph.sum_messages(t) for kind, t in kinds.items()})
        return x + out if self._residual else out

    def extra_repr(self) -> str:
        """The types and the variant."""
        return f"{self.irreps_in} -> {self.irreps_out}, edge={self.irreps_edge}, nonlinear={self.nonlinear}"
