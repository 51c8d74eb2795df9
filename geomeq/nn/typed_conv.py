"""A layer with one matrix per type of edge."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from geomeq.ops import TypedPattern, typed_linear

from ._operator_cache import OperatorCache


class TypedConv(nn.Module):
    r"""Sums over neighbours, each multiplied by the learned matrix of its edge's type.

    .. math:: y_i = b + \sum_{e = (j \to i)} x_j W_{\tau(e)}

    On the graph of a group whose types are relative elements this is the group convolution by its definition; on
    ``transforms.GroupGrid`` that of ``GroupConv2d``, whose ``graph_weight()`` is a weight for here. Message form:
    stencil (1).

    Args:
        in_channels: C.
        out_channels: C'.
        num_types: Number of types, R.
        bias: Whether there is one, per output channel.

    Example:
        >>> edge_index, edge_type = torch.tensor([[0, 1, 1], [0, 0, 1]]), torch.tensor([0, 1, 0])
        >>> TypedConv(4, 8, num_types=2)(torch.randn(2, 4), edge_index, edge_type).shape
        torch.Size([2, 8])

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(self, in_channels: int, out_channels: int, num_types: int, bias: bool = True) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("num_types", num_types)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        self.in_channels, self.out_channels, self.num_types = in_channels, out_channels, num_types
        self.weight = nn.Parameter(torch.empty(num_types, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self._patterns = OperatorCache()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights uniform with variance 2 / (R C) (He, where a node has one neighbour per type), bias 0."""
        bound = math.sqrt(6 / (self.num_types * self.in_channels))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        x: Tensor,
        edges: TypedPattern | Tensor,
        edge_type: Tensor | None = None,
        num_targets: int | None = None,
        path: str = "auto",
    ) -> Tensor:
        """Convolves.

        Args:
            x: ``[N, C]``, or ``[B, N, C]`` on this one graph.
            edges: A ``TypedPattern`` (shared by all layers on a graph), or ``edge_index`` ``[2, E]``; the pattern of
                the last ``edge_index`` is kept.
            edge_type: Type of each edge, ``[E]``, with ``edge_index``.
            num_targets: Number of target nodes where it is not that of ``x`` (lifting), with ``edge_index``.
            path: As for ``ops.typed_linear``.

        Returns:
            ``[N, C']`` or ``[B, N, C']``.

        Raises:
            ValueError: If ``edge_type`` is missing, or a shape is wrong.
        """
        pattern = edges if isinstance(edges, TypedPattern) else self._pattern(x, edges, edge_type, num_targets)
        y = typed_linear(x, self.weight, pattern, path)
        return y if self.bias is None else y + self.bias

    def _pattern(
        self, x: Tensor, edge_index: Tensor, edge_type: Tensor | None, num_targets: int | None
    ) -> TypedPattern:
        if edge_type is None:
            raise ValueError(
                "edge_type is missing: give the type of each edge, or a TypedPattern instead of edge_index"
            )
        size = (x.size(-2), x.size(-2) if num_targets is None else num_targets)
        pattern: Any = self._patterns.get((edge_index, edge_type), lambda: self._build(edge_index, edge_type, size))
        if pattern.size != size:  # the same edges between other sets of nodes
            pattern = self._build(edge_index, edge_type, size)
        return pattern  # type: ignore[no-any-return]

    def _build(self, edge_index: Tensor, edge_type: Tensor, size: tuple[int, int]) -> Any:
        with torch.inference_mode(False):  # it serves training later
            return TypedPattern(edge_index, edge_type, self.num_types, size)

    def extra_repr(self) -> str:
        """Channels and types."""
        return f"{self.in_channels}, {self.out_channels}, num_types={self.num_types}, bias={self.bias is not None}"
