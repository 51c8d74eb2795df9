r"""Rotation of node features into the frames of edges, and of messages back, fused with gather and sum."""

import torch
from torch import Tensor

from geomeq._checks import check_edge_index, check_shape
from geomeq.ops._edge_kernels import edge_rotate_in, edge_rotate_out
from geomeq.ops._edge_layout import EdgeLayout, EdgeOrder
from geomeq.ops._edge_plain import plain_in, plain_out
from geomeq.ops._functorch import transforms_functions

__all__ = ["SIDES", "EdgeLayout", "EdgeOrder", "EdgeRotation"]

SIDES = ("source", "target", "both")


class EdgeRotation:
    r"""The frames of the edges of one graph, made once and shared by all layers.

    .. math:: h_{ij} = D_{ij} x_j, \qquad x'_i = \sum_j w_{ij} D_{ij}^T y_{ij}

    with the truncated Wigner matrices :math:`D_{ij}` of each edge (rows :math:`|m| \le M` only), which no one ever
    stores as a matrix over all degrees. Neither the gathered :math:`x_j` nor the turned-back messages exist as a
    whole. Linear in features and in the matrices, differentiable in both to any order.

    Args:
        wigner: Wigner rows of each edge, ``[E, T]``, as :func:`geomeq.harmonics.edge_wigner` makes them.
        edge_index: Source j and target i of each edge, ``[2, E]``; fastest if sorted by target.
        num_nodes: Number of nodes, ``N``.
        layout: Order of the coefficients in the frame.

    Raises:
        ValueError: If ``wigner`` has another shape, or an index lies outside.

    Example:
        >>> layout = EdgeLayout(lmax=1)
        >>> edge_index = torch.tensor([[1, 0], [0, 1]])
        >>> rotation = EdgeRotation(torch.randn(2, layout.num_values), edge_index, 2, layout)
        >>> h = rotation.into_frame(torch.randn(2, 4, 8))
        >>> h.shape, rotation.out_of_frame(h).shape
        (torch.Size([2, 4, 8]), torch.Size([2, 4, 8]))

    Source: Passaro and Zitnick (2023), https://arxiv.org/abs/2302.03655, sec. 3.
    """

    def __init__(self, wigner: Tensor, edge_index: Tensor, num_nodes: int, layout: EdgeLayout) -> None:
        hint = f"make it by edge_wigner(vec, {layout.lmax}, {layout.mmax}) or transforms.EdgeFrames"
        check_shape("edge_index", edge_index, 2, "E")
        check_shape("wigner", wigner, edge_index.size(1), layout.num_values, hint=hint)
        check_edge_index(edge_index, num_nodes, num_nodes)
        if max(wigner.numel(), num_nodes * layout.num_coefficients, wigner.size(0) * layout.num_rows * 2) >= 2**31:
            raise ValueError(
                f"{wigner.size(0)} edges of {layout.num_values} coefficients and {num_nodes} nodes do not fit 32-bit "
                "indices; split the batch into parts"
            )
        self.wigner, self.edge_index, self.num_nodes, self.layout = wigner, edge_index, num_nodes, layout
        self.start = 0
        self._sorting: dict[int, Tensor] = {}

    @property
    def num_edges(self) -> int:
        """Number of edges."""
        return self.edge_index.size(1)

    @property
    def target(self) -> Tensor:
        """Target node of each edge, ``[E]``."""
        return self.edge_index[1]

    def into_frame(self, x: Tensor, side: str = "source") -> Tensor:
        """Gathers the features of an endpoint and turns them into the frames.

        Args:
            x: Coefficients of each node, ``[N, (L+1)^2, C]``.
            side: ``"source"``, ``"target"`` or ``"both"`` (source first, then target, side by side in the channels).

        Returns:
            ``[E, B, C]`` in the order of the layout; ``[E, B, 2C]`` for both sides.
        """
        check_shape("x", x, self.num_nodes, self.layout.num_coefficients, "C", hint="[nodes, (lmax+1)^2, channels]")
        rows = self._rows_of(side)
        index = self.edge_index[rows].T.contiguous()
        lmax, mmax, dtype = self.layout.lmax, self.layout.mmax, self._dtype(x)
        wigner, x, out_dtype = self.wigner.to(dtype), x.to(dtype), x.dtype
        if transforms_functions():
            return plain_in(wigner, x, index, lmax, mmax).to(out_dtype)
        sorting = [self._sorted(row) for row in rows]
        return edge_rotate_in(wigner, x, index, sorting, lmax, mmax).to(out_dtype)

    def out_of_frame(self, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Turns messages back and sums them at their targets.

        Args:
            y: Messages in the frames, ``[E, B, C]``.
            weight: Factor of each message (envelope, normalisation, attention), ``[E]``; costs next to nothing here.

        Returns:
            ``[N, (L+1)^2, C]``; zero for nodes without edges.
        """
        check_shape("y", y, self.num_edges, self.layout.num_rows, "C", hint=f"rows in the order of {self.layout}")
        lmax, mmax, dtype = self.layout.lmax, self.layout.mmax, self._dtype(y)
        wigner, y, out_dtype = self.wigner.to(dtype), y.to(dtype), y.dtype
        if weight is not None:
            check_shape("weight", weight, self.num_edges)
            wigner = wigner * weight.to(dtype)[:, None]
        index = self.edge_index[1:].T.contiguous()
        if transforms_functions():
            return plain_out(wigner, y, index, self.num_nodes, lmax, mmax).to(out_dtype)
        return edge_rotate_out(wigner, y, index, [self._sorted(1)], self.num_nodes, lmax, mmax).to(out_dtype)

    def chunk(self, start: int, stop: int) -> "EdgeRotation":
        """The same for the edges ``start`` to ``stop`` of all; nodes keep their numbers."""
        if not 0 <= start <= stop <= self.num_edges:
            raise ValueError(f"edges {start} to {stop} are not within 0 to {self.num_edges}")
        part = object.__new__(EdgeRotation)
        part.wigner, part.edge_index = self.wigner[start:stop], self.edge_index[:, start:stop]
        part.num_nodes, part.layout, part.start = self.num_nodes, self.layout, self.start + start
        part._sorting = {}
        if 1 in self._sorting and self._sorting[1].numel() == 0:
            part._sorting[1] = self._sorting[1]
        return part

    def _rows_of(self, side: str) -> list[int]:
        if side not in SIDES:
            raise ValueError(f"side must be one of {SIDES}, got {side!r}")
        return [0, 1] if side == "both" else [SIDES.index(side)]

    def _dtype(self, x: Tensor) -> torch.dtype:
        wide = torch.promote_types(x.dtype, self.wigner.dtype)
        return torch.promote_types(wide, torch.float32)

    def _sorted(self, row: int) -> Tensor:
        """The order that sorts a row of the edge list, or an empty tensor if it is sorted; found once."""
        if row not in self._sorting:
            nodes = self.edge_index[row].detach()
            if not torch.compiler.is_compiling() and not bool((nodes[1:] < nodes[:-1]).any()):
                self._sorting[row] = nodes.new_empty(0, dtype=torch.long)
            else:
                self._sorting[row] = nodes.argsort(stable=True)
        return self._sorting[row]

    def __repr__(self) -> str:
        return f"EdgeRotation({self.num_edges} edges, {self.num_nodes} nodes, {self.layout})"
