r"""Steerable attributes: what the edges and nodes of a SEGNN know about directions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geomeq._checks import check_edge_index, check_shape

from .radial import polynomial_envelope
from .spherical import spherical_harmonics


@dataclass(frozen=True)
class SteerableGeometry:
    """Attributes of one graph.

    Attributes:
        edge_attr: Spherical harmonics of each edge, ``[E, (L+1)^2]``.
        node_attr: Mean of those over the incoming edges plus the harmonics of further vectors, ``[N, (L+1)^2]``;
            the first component is 1.
        edge_dist: Lengths, ``[E, 1]``.
    """

    edge_attr: Tensor
    node_attr: Tensor
    edge_dist: Tensor


def steerable_attributes(
    edge_vec: Tensor,
    edge_index: Tensor,
    num_nodes: int,
    lmax: int,
    vectors: Sequence[Tensor] = (),
    normalization: str = "component",
    cutoff: float | None = None,
) -> SteerableGeometry:
    r"""Harmonics :math:`a_{ij} = Y(x_j - x_i)` of edges, :math:`a_i = \text{mean}_j a_{ij} + \sum_v Y(v_i)` of nodes.

    Args:
        edge_vec: ``pos[j] - pos[i]``, ``[E, 3]``, any unit.
        edge_index: Source j and target i of each edge, ``[2, E]``.
        num_nodes: Number of nodes, ``N``.
        lmax: Highest degree, ``L``.
        vectors: Further vectors at the nodes (velocity, force, spin), each ``[N, 3]``.
        normalization: Of the harmonics; ``"component"`` keeps messages at unit variance.
        cutoff: If given, the mean over neighbours is weighted by the envelope of this radius and divided by one plus
            the sum of weights, so that it is a smooth function of the positions when atoms cross the cut-off.

    Returns:
        The attributes. An isolated node has a mean of 0; component 0 of every node attribute is set to 1.

    Source: Brandstetter et al. (2022), https://arxiv.org/abs/2110.02905, eq. 9 to 11.
    """
    check_shape("edge_vec", edge_vec, edge_index.size(1), 3)
    check_edge_index(edge_index)
    edge_attr = spherical_harmonics(edge_vec, lmax, normalization)
    edge_dist = edge_length(edge_vec)
    target = edge_index[1]
    weight = torch.ones_like(edge_dist) if cutoff is None else polynomial_envelope(edge_dist, cutoff)
    total = edge_attr.new_zeros(num_nodes, edge_attr.size(1)).index_add(0, target, edge_attr * weight)
    count = weight.new_zeros(num_nodes, 1).index_add(0, target, weight)
    node_attr = total / (count.clamp(min=1) if cutoff is None else 1 + count)
    for vec in vectors:
        check_shape("vector at the nodes", vec, num_nodes, 3)
        node_attr = node_attr + spherical_harmonics(vec, lmax, normalization)
    node_attr = torch.cat([torch.ones_like(node_attr[:, :1]), node_attr[:, 1:]], dim=1)
    return SteerableGeometry(edge_attr, node_attr, edge_dist)


def edge_length(edge_vec: Tensor) -> Tensor:
    """Lengths ``[E, 1]`` of vectors ``[E, 3]``, with a zero (not NaN) gradient at the zero vector, to any order."""
    scale = edge_vec.detach().abs().amax(dim=-1, keepdim=True)
    zero = scale == 0
    scale = torch.where(zero, torch.ones_like(scale), scale)
    square = (edge_vec / scale).square().sum(dim=-1, keepdim=True)
    return torch.where(
        zero, torch.zeros_like(square), scale * torch.where(zero, torch.ones_like(square), square).sqrt()
    )


def edge_vectors(
    pos: Tensor,
    edge_index: Tensor,
    shift: Tensor | None = None,
    cell: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    """Vectors from target i to source j, ``pos[j] - pos[i] + shift @ cell``.

    Args:
        pos: Positions, ``[N, 3]``.
        edge_index: Source j and target i of each edge, ``[2, E]``.
        shift: Integer cell shifts of the edges, ``[E, 3]``, or ``None``.
        cell: Cell of each graph, rows, ``[B, 3, 3]``; needed with ``shift``.
        batch: Graph of each node, ``[N]``, for ``B > 1``.

    Returns:
        ``[E, 3]``, differentiable in ``pos`` and ``cell``.

    Raises:
        ValueError: If ``shift`` comes without ``cell``, or there are several cells and no ``batch``.
    """
    check_shape("pos", pos, "N", 3)
    check_edge_index(edge_index)
    vec = pos.index_select(0, edge_index[0]) - pos.index_select(0, edge_index[1])
    if shift is None:
        return vec
    if cell is None:
        raise ValueError("shift needs cell: the edges cross the borders of a periodic cell that is missing")
    check_shape("shift", shift, edge_index.size(1), 3)
    cell = cell.view(-1, 3, 3)
    if cell.size(0) == 1:
        return vec + shift.to(pos.dtype) @ cell[0].to(pos.dtype)
    if batch is None:
        raise ValueError(f"{cell.size(0)} cells but no batch: which graph does each node belong to?")
    rows = cell.to(pos.dtype)[batch.index_select(0, edge_index[1])]
    return vec + (shift.to(pos.dtype)[:, None] @ rows).squeeze(1)
