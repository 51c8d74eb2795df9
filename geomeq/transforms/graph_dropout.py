"""A random subgraph at every call: dropout of edges or vertices."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from .._checks import check_finite, check_shape
from ._edges import EDGE_LEVEL, graph_of_nodes, require_data, write_edges


@functional_transform("graph_dropout")
class GraphDropout(BaseTransform):
    r"""Keeps a random part of the edges; both directions of an edge stay or go together.

    Reads ``edge_index`` and ``edge_weight`` (``[E]``, default ones). Writes both again, with fewer edges, and every
    attribute of edges that the data has (``edge_log``, ``edge_attr``, ``shift`` ...); with ``by="vertex"`` also
    ``node_mask`` (``[N]``, whether a vertex kept its edges). Removes ``laplacian``, which no longer belongs to it. All
    nodes stay, so signals fit as before; those without edges are isolated. Each call draws anew:

        training_graph = Compose([GraphDropout(0.3), Laplacian()])(graph)  # once per epoch

    Args:
        p: Share that is dropped, at least 0 and less than 1; the number kept is exact up to rounding.
        by: ``"edge"``: edges are drawn without replacement, with probabilities proportional to their weight, so light
            (long) edges go first. ``"vertex"``: vertices are drawn, all alike, and keep the edges among them.
        generator: Source of randomness; default torch's global state.

    Raises:
        ValueError: For an argument out of range, missing edges, or weights of another shape, negative or not finite.

    Example:
        >>> data = Data(edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), num_nodes=3)
        >>> GraphDropout(0.5)(data).num_edges
        2
    """

    def __init__(self, p: float = 0.5, by: str = "edge", generator: torch.Generator | None = None) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"p must be at least 0 and less than 1, got {p}")
        if by not in ("edge", "vertex"):
            raise ValueError(f"by must be 'edge' or 'vertex', got {by!r}")
        self.p, self.by, self.generator = float(p), by, generator

    def forward(self, data: Data) -> Data:
        """Writes the subgraph to ``data`` and returns it."""
        require_data(data, "GraphDropout")
        edge_index = data.edge_index
        if edge_index is None:
            raise ValueError(f"GraphDropout reads edge_index, but the data has only {sorted(data.keys())}")
        num_nodes = int(data.num_nodes or 0)
        if self.by == "vertex":
            data.node_mask = self._draw(torch.ones(num_nodes, device=edge_index.device))
            kept = data.node_mask[edge_index].all(dim=0)
        else:
            kept = self._edges(edge_index, data.get("edge_weight"), num_nodes)
        attributes = {key: value[kept] for key, value in _edge_attributes(data, edge_index.size(1)).items()}
        return write_edges(data, edge_index[:, kept], graph_of_nodes(data, num_nodes), **attributes)

    def _edges(self, edge_index: Tensor, weight: Tensor | None, num_nodes: int) -> Tensor:
        low, high = edge_index.min(dim=0).values, edge_index.max(dim=0).values
        pairs, pair = torch.unique(low * num_nodes + high, return_inverse=True)
        weight = torch.ones(edge_index.size(1), device=edge_index.device) if weight is None else weight.detach()
        check_shape("edge_weight", weight, edge_index.size(1), hint="one number per edge")
        check_finite("edge_weight", weight)
        if bool((weight < 0).any()):
            raise ValueError(f"edge_weight must not be negative, got {float(weight.min())}")
        heaviest = weight.new_zeros(pairs.numel()).scatter_reduce_(0, pair, weight, "amax")
        return self._draw(heaviest)[pair]

    def _draw(self, weight: Tensor) -> Tensor:
        """A mask of the share that stays, drawn one after the other in proportion to weights ``[M]``.

        The exponential race: times with rates ``w`` end in the order of such a draw (Efraimidis and Spirakis, 2006).
        """
        count = round((1 - self.p) * weight.numel())
        device = weight.device if self.generator is None else self.generator.device
        time = torch.empty(weight.numel(), dtype=torch.float64, device=device)
        time = time.exponential_(generator=self.generator).to(weight.device) / weight.double()
        mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
        mask[time.topk(count, largest=False).indices] = True
        return mask

    def __repr__(self) -> str:
        seed = None if self.generator is None else self.generator.initial_seed()
        return f"{type(self).__name__}(p={self.p}, by={self.by!r}, generator={seed})"


def _edge_attributes(data: Data, num_edges: int) -> dict[str, Any]:
    named = {key: data[key] for key in data.keys() if key.startswith("edge_") or key in EDGE_LEVEL}  # noqa: SIM118
    for key in ("edge_index", "adj", "adj_t"):  # matrices of all edges: stale
        named.pop(key, None)
    return {key: value for key, value in named.items() if isinstance(value, Tensor) and value.size(0) == num_edges}
