"""The message-passing layer of SEGNN."""

import torch
from e3nn import o3
from torch import Tensor, nn

from geomeq._checks import check_edge_index, check_shape

from ._frame import FrameMessage, frame_path_exists
from ._graph import SteerableGraph
from .steerable_gate import SteerableGate
from .steerable_linear import SteerableLinear

PATHS = ("auto", "frame", "cg")


class SEGNNConv(nn.Module):
    r"""Steerable message passing: both message layers and both update layers are steered by attributes.

    .. math::
        m_{ij} &= \text{Gate}_{a_{ij}}(\text{Gate}_{a_{ij}}([h_i, h_j, e_{ij}])) \\
        h'_i &= h_i + \text{Lin}_{a_i}(\text{Gate}_{a_i}([h_i, \textstyle\sum_j m_{ij}]))

    with the harmonics :math:`a_{ij}` of the edge, the attribute :math:`a_i` of the node and invariants
    :math:`e_{ij}`. Message form: tensor (3). Where the attribute is the harmonics of the edge and all types have the
    parity of spherical harmonics, messages are computed in the frame of the edge, one small matrix per order m; the
    result is that of the Clebsch-Gordan products, to rounding.

    Args:
        irreps_in: Type of the node features.
        irreps_edge: Type of the edge attribute, for example ``"1x0e+1x1o"``.
        irreps_out: Type of messages and output; default ``irreps_in``. The residual is added if both are equal.
        irreps_node: Type of the node attribute; default ``irreps_edge``.
        edge_scalars: Number of invariants :math:`e_{ij}` per edge.
        path: ``"frame"``, ``"cg"`` or ``"auto"`` (the frame where it exists).

    Example:
        >>> conv = SEGNNConv("8x0e + 8x1o", "1x0e + 1x1o")
        >>> edge_index = torch.tensor([[1, 0], [0, 1]])
        >>> edge_attr = o3.spherical_harmonics([0, 1], torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]), True, "component")
        >>> conv(torch.randn(2, 32), edge_index, edge_attr, torch.ones(2, 4), torch.ones(2, 1)).shape
        torch.Size([2, 32])

    Source: Brandstetter et al. (2022), https://arxiv.org/abs/2110.02905, eq. 13 and 14.
    """

    def __init__(
        self,
        irreps_in: o3.Irreps | str,
        irreps_edge: o3.Irreps | str,
        irreps_out: o3.Irreps | str | None = None,
        irreps_node: o3.Irreps | str | None = None,
        edge_scalars: int = 1,
        path: str = "auto",
    ) -> None:
        super().__init__()
        if path not in PATHS:
            raise ValueError(f"path must be one of {PATHS}, got {path!r}")
        if edge_scalars < 0:
            raise ValueError(f"edge_scalars must be at least 0, got {edge_scalars}")
        self.irreps_in = o3.Irreps(irreps_in)
        self.irreps_edge = o3.Irreps(irreps_edge)
        self.irreps_out = o3.Irreps(irreps_in if irreps_out is None else irreps_out)
        self.irreps_node = o3.Irreps(irreps_edge if irreps_node is None else irreps_node)
        self.edge_scalars, self.path = edge_scalars, path
        pair = self.irreps_in + self.irreps_in
        scalars = o3.Irreps([(edge_scalars, "0e")] if edge_scalars else [])
        self.message_first = SteerableGate(pair + scalars, self.irreps_edge, self.irreps_out)
        self.message_second = SteerableGate(self.irreps_out, self.irreps_edge, self.irreps_out)
        self.update_first = SteerableGate(self.irreps_in + self.irreps_out, self.irreps_node, self.irreps_out)
        self.update_second = SteerableLinear(self.irreps_out, self.irreps_node, self.irreps_out)
        harmonics = o3.Irreps.spherical_harmonics(self.irreps_edge.lmax) if len(self.irreps_edge) else None
        self._frame: FrameMessage | None = None
        self._dims = (self.irreps_in.dim, self.irreps_edge.dim, self.irreps_node.dim)
        self._lmax_edge = self.irreps_edge.lmax if len(self.irreps_edge) else 0
        self._residual = self.irreps_in == self.irreps_out
        self._hints = tuple(
            f"the layer was built for {name}={irreps}"
            for name, irreps in (
                ("irreps_in", self.irreps_in),
                ("irreps_edge", self.irreps_edge),
                ("irreps_node", self.irreps_node),
            )
        )
        directed = self.irreps_edge == harmonics and self.irreps_edge.lmax > 0
        if directed and frame_path_exists(self.irreps_in, self.irreps_out):
            self._frame = FrameMessage(self.irreps_in, self.message_first, self.message_second)
        if path == "frame" and self._frame is None:
            raise ValueError(
                f"the edge frame needs edge attributes 1x0e+1x1o+... and types of parity (-1)^l; got "
                f"{self.irreps_edge} and {self.irreps_in} -> {self.irreps_out}; use path='auto' or 'cg'"
            )

    def reset_parameters(self) -> None:
        """Draws all weights again."""
        for layer in (self.message_first.linear, self.message_second.linear, self.update_first.linear):
            layer.reset_parameters()
        self.update_second.reset_parameters()

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor,
        node_attr: Tensor,
        edge_scalar: Tensor | None = None,
        edge_weight: Tensor | None = None,
        graph: SteerableGraph | None = None,
    ) -> Tensor:
        """One round of messages.

        Args:
            x: Node features, ``[N, irreps_in.dim]``.
            edge_index: Source j and target i of each edge, ``[2, E]``.
            edge_attr: Edge attribute, ``[E, irreps_edge.dim]``.
            node_attr: Node attribute, ``[N, irreps_node.dim]``.
            edge_scalar: Invariants of the edges, ``[E, edge_scalars]``.
            edge_weight: Factor of each message, ``[E]``.
            graph: The same four tensors wrapped, to share couplings between layers; then they are not checked again.

        Returns:
            ``[N, irreps_out.dim]``.

        Raises:
            ValueError: If a shape differs from the types of the layer, or ``path="frame"`` was forced on attributes
                that are not the harmonics of a direction.
        """
        check_shape("x", x, "N", self._dims[0], hint=self._hints[0])
        if graph is None:
            check_edge_index(edge_index, x.size(0), x.size(0))
            edges = edge_index.size(1)
            check_shape("edge_attr", edge_attr, edges, self._dims[1], hint=self._hints[1])
            check_shape("node_attr", node_attr, x.size(0), self._dims[2], hint=self._hints[2])
            if edge_weight is not None:
                check_shape("edge_weight", edge_weight, edges)
            graph = SteerableGraph(edge_index, edge_attr, node_attr, edge_weight)
        if self.edge_scalars:
            if edge_scalar is None:
                raise ValueError(
                    f"edge_scalar is missing: the layer was built with edge_scalars={self.edge_scalars}; "
                    "pass the lengths of the edges, for example"
                )
            check_shape("edge_scalar", edge_scalar, graph.num_edges, self.edge_scalars)
        else:
            edge_scalar = None
        with torch.autocast(x.device.type, enabled=False):
            dtype = self.update_second.weight.dtype
            x = x.to(dtype)
            edge_scalar = None if edge_scalar is None else edge_scalar.to(dtype)
            if self._frame is not None and self._use_frame(graph):
                summed = self._frame(x, edge_scalar, graph)
            else:
                summed = self._messages_by_products(x, edge_scalar, graph)
            update = self.update_second(self.update_first(torch.cat([x, summed], dim=1), graph.node), graph.node)
            return x + update if self._residual else update

    def _use_frame(self, graph: SteerableGraph) -> bool:
        if self.path == "cg":
            return False
        if graph.is_harmonic(self._lmax_edge):
            return True
        if self.path == "frame":
            raise ValueError(
                "path='frame' needs edge_attr to be the component-normalised spherical harmonics of one direction per "
                "edge (no zero-length edges); this one is not: apply SteerableAttributes(normalization='component'), "
                "or use path='auto'"
            )
        return False

    def _messages_by_products(self, x: Tensor, edge_scalar: Tensor | None, graph: SteerableGraph) -> Tensor:
        source, target = graph.edge_index
        parts = [x.index_select(0, target), x.index_select(0, source)]
        if edge_scalar is not None:
            parts.append(edge_scalar)
        message = self.message_second(self.message_first(torch.cat(parts, dim=1), graph.edge), graph.edge)
        return graph.sum_messages(message)

    def extra_repr(self) -> str:
        """The types and the chosen path."""
        return f"{self.irreps_in} -> {self.irreps_out}, edge={self.irreps_edge}, path={self.path}"
