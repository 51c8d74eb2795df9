"""The rescaled Laplacian of a graph, made once and kept with it."""

import math
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from ..ops import SparseOperator, rescaled_laplacian
from ._edges import graph_of_nodes, require_data
from ._spectrum import top_eigenvalue

_EQUAL = 1e-13  # relative; numbers that differ by less are the same number, rounded differently


@functional_transform("laplacian")
class Laplacian(BaseTransform):
    r"""Writes the Laplacian of a graph as an operator, scaled for Chebyshev polynomials.

    .. math:: \tilde L = 2 L / \lambda_{max} - I, \qquad L = I - D^{-1/2} W D^{-1/2} \ (\text{sym}), \quad
        I - D^{-1} W \ (\text{rw}), \quad D - W \ (\text{None})

    with :math:`W_{ij}` the weight of the edge j -> i. The row of an isolated node in :math:`L` is zero; self loops are
    left out; repeated edges are summed.

    Reads ``edge_index`` (or ``adj_t``) and ``edge_weight`` (``[E]``, default ones), on a batch ``batch``. Writes
    ``laplacian``, a :class:`geomeq.ops.SparseOperator` of :math:`\tilde L`, and ``lambda_max``, a number, on a batch a
    tensor ``[B]``: each graph has its own scale, as if it were alone. Batch graphs first, then apply this: operators
    cannot be batched.

    Computed in float64. Entries that are equal up to rounding are made equal before they are cast, so a symmetry of
    the graph is an exact one of the operator, also in float32.

    Args:
        normalization: ``"sym"``, ``"rw"`` (directed graphs too) or ``None``.
        lambda_max: What the spectrum is scaled by. ``None``: a bound that always holds, 2 if normalised, else twice the
            largest degree. ``"power"``: the largest eigenvalue, computed by Lanczos iteration, never below it and at
            most 1% above. A number: checked against the largest eigenvalue if it is below the bound.
        dtype: Of the operator; ``None``: torch's default dtype, float32 unless changed, which is that of features.

    Raises:
        ValueError: For a graph without edges attributes, weights that are negative or not finite, ``"sym"`` or
            ``"power"`` on a graph that is not symmetric, or ``lambda_max`` below the largest eigenvalue.

    Example:
        >>> data = Laplacian()(Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=2))
        >>> data.laplacian.to_dense()
        tensor([[ 0., -1.],
                [-1.,  0.]])
    """

    def __init__(
        self,
        normalization: str | None = "sym",
        lambda_max: float | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if normalization not in ("sym", "rw", None):
            raise ValueError(f"normalization must be 'sym', 'rw' or None, got {normalization!r}")
        number = isinstance(lambda_max, int | float) and not isinstance(lambda_max, bool) and 0 < lambda_max < math.inf
        if not (lambda_max is None or lambda_max == "power" or number):
            raise ValueError(f"lambda_max must be a positive number, 'power' or None, got {lambda_max!r}")
        if dtype is not None and not dtype.is_floating_point:
            raise ValueError(f"dtype must be floating point, got {dtype}")
        self.normalization, self.lambda_max, self.dtype = normalization, lambda_max, dtype

    def forward(self, data: Data) -> Data:
        """Writes the operator to ``data`` and returns it."""
        require_data(data, "Laplacian")
        graph, weight = _read(data)
        num_nodes = int(data.num_nodes or 0)
        batch = graph_of_nodes(data, num_nodes)
        # scaled by 2, the operator is L - I: its eigenvalues are those of L less one
        shifted = rescaled_laplacian(graph, weight, num_nodes, self.normalization, 2.0)
        if self.normalization == "sym" and not shifted.symmetric:
            raise ValueError(
                "normalization='sym' needs a graph with the same weight both ways; symmetrise it "
                "(torch_geometric.utils.to_undirected) or use normalization='rw'"
            )
        scale = self._scales(shifted, graph, weight, batch, getattr(data, "num_graphs", 1))
        rows = scale[0].expand(num_nodes) if batch is None else scale[batch]
        data.laplacian = self._rescaled(shifted, rows)
        data.lambda_max = float(scale[0]) if batch is None else scale
        return data

    def _scales(self, shifted: SparseOperator, graph: Any, weight: Tensor, batch: Tensor | None, graphs: int) -> Tensor:
        """``lambda_max`` of each graph, ``[B]``, float64."""
        bound = self._bounds(shifted, batch, graphs)
        if self.lambda_max is None:
            return bound
        wanted = bound if self.lambda_max == "power" else torch.full_like(bound, float(self.lambda_max))
        if self.lambda_max != "power" and bool((wanted >= bound).all()):
            return wanted
        symmetric = shifted
        if self.normalization == "rw":  # the same eigenvalues as the symmetric one
            symmetric = rescaled_laplacian(graph, weight, shifted.size, "sym", 2.0)
        if not symmetric.symmetric:
            if self.lambda_max != "power":
                return wanted
            raise ValueError(
                "lambda_max='power' needs a graph with the same weight both ways, since eigenvalues of others are not "
                "real; give a number or leave lambda_max out"
            )
        top = torch.tensor([top_eigenvalue(part, 1.0) for part in _parts(symmetric, batch, graphs)]).to(bound)
        if self.lambda_max == "power":
            return torch.where(top > 0, torch.minimum(top, bound), bound)  # a graph without edges has top 0
        if bool((wanted < top / 1.002).any()):
            raise ValueError(
                f"lambda_max={self.lambda_max} is below the largest eigenvalue, {float(top.max()):.4g}, above which "
                "Chebyshev polynomials grow without bound; use lambda_max='power'"
            )
        return wanted

    def _bounds(self, shifted: SparseOperator, batch: Tensor | None, graphs: int) -> Tensor:
        """What no eigenvalue exceeds, ``[B]``, always positive."""
        bound = torch.full((graphs,), 2.0, dtype=torch.float64, device=shifted.device)
        if self.normalization is not None or shifted.size[0] == 0:
            return bound
        degree = torch.ones(shifted.size[0], dtype=torch.float64, device=shifted.device)
        source, target = shifted.edge_index
        loop = source == target
        degree[target[loop]] += shifted.value[loop]  # the diagonal of L - I
        owner = torch.zeros_like(degree, dtype=torch.long) if batch is None else batch
        largest = torch.zeros_like(bound).scatter_reduce_(0, owner, degree, "amax")
        return torch.where(largest > 0, 2 * largest, bound)

    def _rescaled(self, shifted: SparseOperator, scale: Tensor) -> SparseOperator:
        """``2 / scale (shifted + I) - I``."""
        edges, diagonal = shifted.edge_index, 2 / scale - 1
        value = shifted.value * (2 / scale)[edges[1]]
        if bool(diagonal.any()):
            operator = SparseOperator.from_edges(edges, value, shifted.size, diagonal=diagonal)
            edges, value = operator.edge_index, operator.value
        dtype = torch.get_default_dtype() if self.dtype is None else self.dtype
        return SparseOperator.from_edges(edges, equalize(value).to(dtype), shifted.size)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(normalization={self.normalization!r}, lambda_max={self.lambda_max!r}, "
            f"dtype={self.dtype})"
        )


def equalize(value: Tensor) -> Tensor:
    """Numbers ``[E]`` in which those that differ by rounding only have become one and the same."""
    ordered, order = value.sort()
    if ordered.numel() < 2:
        return value
    step = ordered[1:] - ordered[:-1] > _EQUAL * ordered[1:].abs()
    group = torch.cat([step.new_zeros(1), step]).cumsum(0)
    first = torch.cat([step.new_ones(1), step])
    out = torch.empty_like(value)
    out[order] = ordered[first][group]
    return out


def _read(data: Data) -> tuple[Any, Tensor]:
    graph = data.get("edge_index")
    graph = data.get("adj_t") if graph is None else graph
    if graph is None:
        raise ValueError(
            f"Laplacian reads edge_index, but the data has only {sorted(data.keys())}; apply a transform that makes "
            "edges first, such as GroupGraph or NearestGraph"
        )
    weight = data.get("edge_weight")
    if weight is None and data.get("edge_index") is not None:
        weight = torch.ones(graph.size(1), dtype=torch.float64, device=graph.device)
    if weight is not None:
        if not isinstance(weight, Tensor) or not weight.dtype.is_floating_point:
            raise TypeError("edge_weight must be a floating point tensor [E]; call .float() on it")
        if not bool(torch.isfinite(weight).all()):
            raise ValueError("edge_weight must be finite")
        weight = weight.detach().double()
    return graph, weight


def _parts(operator: SparseOperator, batch: Tensor | None, graphs: int) -> list[SparseOperator]:
    """The blocks of a block-diagonal operator."""
    if batch is None:
        return [operator]
    edges, nodes = operator.edge_index, torch.arange(operator.size[0], device=operator.device)
    parts = []
    for graph in range(graphs):
        own = nodes[batch == graph]
        local = torch.zeros_like(nodes)
        local[own] = torch.arange(len(own), device=nodes.device)
        inside = batch[edges[1]] == graph
        parts.append(SparseOperator.from_edges(local[edges[:, inside]], operator.value[inside], len(own)))
    return parts
