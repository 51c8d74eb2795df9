"""The rescaled Laplacian of a weighted graph as an operator, differentiable in the weights."""

import math
from typing import Any

import torch
from torch import Tensor

from geomeq._checks import check_shape
from geomeq.ops._adjacency import Size, read_graph
from geomeq.ops.sparse_operator import SparseOperator

NORMALIZATIONS = ("sym", "rw", None)


def rescaled_laplacian(
    edge_index: Any,
    edge_weight: Tensor | None = None,
    size: Size | None = None,
    normalization: str | None = "sym",
    lambda_max: float | None = None,
) -> SparseOperator:
    r"""``Lt = 2 L / lambda_max - I``, whose spectrum lies in [-1, 1].

    .. math:: L = I - D^{-1/2} W D^{-1/2} \ (\text{sym}), \quad I - D^{-1} W \ (\text{rw}), \quad D - W \ (\text{None})

    with :math:`W_{ij}` the weight of the edge j -> i and :math:`D_{ii} = \sum_j W_{ij}`. The row of an isolated node in
    :math:`L` is zero. Self loops are left out.

    Args:
        edge_index: ``[2, E]``, or a sparse adjacency (rows = targets) with its weights.
        edge_weight: ``[E]``, not negative; default ones, in float32. Where it requires a gradient, so does the result.
        size: Number of nodes, unless ``edge_index`` tells it.
        normalization: ``"sym"``, ``"rw"`` or ``None``.
        lambda_max: The number the spectrum of ``L`` is scaled by. Default: a bound that always holds, 2 if normalised,
            else twice the largest degree.

    Returns:
        The operator; its diagonal is stored only where it is not zero.

    Raises:
        TypeError: If ``edge_weight`` is not floating point.
        ValueError: If a name, a shape or an index is wrong, a weight is negative or ``lambda_max`` not positive.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization must be 'sym', 'rw' or None, got {normalization!r}")
    check_lambda_max(lambda_max)
    edges, stored, (num_nodes, num_targets) = read_graph(edge_index, size)
    if num_nodes != num_targets:
        raise ValueError(f"a Laplacian needs as many sources as targets, got size {(num_nodes, num_targets)}")
    weight = _check_weight(stored if edge_weight is None else edge_weight, edges)
    (source, target), loop = edges, edges[0] == edges[1]
    weight = weight.masked_fill(loop, 0.0)
    degree = weight.new_zeros(num_nodes).index_add(0, target, weight)
    scale = 2.0 * degree.detach().amax() if normalization is None and degree.numel() else 2.0
    scale = scale if lambda_max is None else lambda_max

    linked = degree > 0
    safe = degree.where(linked, 1.0)  # the derivative of 1 / sqrt(0) would be NaN even where it is masked
    if normalization == "sym":
        root = safe.rsqrt().where(linked, 0.0)
        weight = (root[source] * root[target]) * weight  # in this order both directions round alike
    elif normalization == "rw":
        weight = weight * safe.reciprocal()[target]
    diagonal = degree if normalization is None else linked.to(weight.dtype)
    diagonal = 2.0 * diagonal / scale - 1.0
    value = -2.0 * weight / scale
    if not torch.compiler.is_compiling():
        if bool(loop.any()):
            edges, value = edges[:, ~loop], value[~loop]
        if not diagonal.requires_grad and not bool(diagonal.any()):
            return SparseOperator.from_edges(edges, value, num_nodes)
    return SparseOperator.from_edges(edges, value, num_nodes, diagonal=diagonal)


def check_lambda_max(lambda_max: float | None) -> None:
    """Raises unless it is ``None`` or a positive number."""
    if lambda_max is not None and not 0 < lambda_max < math.inf:
        raise ValueError(
            f"lambda_max must be positive and finite, got {lambda_max}; it bounds the spectrum of the Laplacian"
        )


def _check_weight(weight: Tensor | None, edges: Tensor) -> Tensor:
    if weight is None:
        return torch.ones(edges.size(1), device=edges.device)
    check_shape("edge_weight", weight, edges.size(1), hint="one number per edge")
    if not weight.dtype.is_floating_point:
        raise TypeError(f"edge_weight must be floating point, got {weight.dtype}; call .float() on it")
    if not torch.compiler.is_compiling() and bool((weight < 0).any()):
        raise ValueError(f"edge_weight must not be negative, got {float(weight.min())}; a distance is not a weight")
    return weight
