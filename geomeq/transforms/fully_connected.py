"""Edges between all nodes of a graph."""

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from ._edges import graph_of_nodes, require_data, write_edges


@functional_transform("fully_connected")
class FullyConnected(BaseTransform):
    """Connects every node with every other node of its graph.

    Reads the number of nodes and on a batch ``batch``; positions are not needed.
    Writes ``edge_index`` (``[2, E]``, sorted by target, then source).
    Removes the attributes of former edges (``edge_attr``, ``edge_vec``, ``shift`` and their like).

    Args:
        loop: Whether each node is also connected with itself.

    Raises:
        ValueError: If the number of nodes is not known.

    Example:
        >>> FullyConnected()(Data(num_nodes=3)).edge_index.tolist()
        [[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]]
    """

    def __init__(self, *, loop: bool = False) -> None:
        self.loop = loop

    def forward(self, data: Data) -> Data:
        """Writes the edges to ``data`` and returns it."""
        require_data(data, "FullyConnected")
        example = next((data[key] for key in ("pos", "x", "z") if isinstance(data.get(key), Tensor)), None)
        num_nodes = example.size(0) if example is not None else data.num_nodes
        if num_nodes is None:
            raise ValueError("FullyConnected cannot tell the number of nodes; set data.pos, data.x or data.num_nodes")
        batch = graph_of_nodes(data, num_nodes)
        device = batch.device if batch is not None else (example.device if example is not None else None)
        edge_index = _all_pairs(int(num_nodes), batch, device)
        if not self.loop:
            edge_index = edge_index[:, edge_index[0] != edge_index[1]]
        return write_edges(data, edge_index, batch)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(loop={self.loop})"


def _all_pairs(num_nodes: int, batch: Tensor | None, device: torch.device | None) -> Tensor:
    """All pairs of nodes of the same graph, ``[2, E]``, sorted by target, then source."""
    nodes = torch.arange(num_nodes, device=device)
    if batch is None:
        return torch.stack([nodes.repeat(num_nodes), nodes.repeat_interleave(num_nodes)])
    order = torch.sort(batch, stable=True).indices  # the nodes of each graph, lowest first
    size = torch.bincount(batch)
    count, start = size[batch], (size.cumsum(0) - size)[batch]
    target = nodes.repeat_interleave(count)
    place = torch.arange(target.numel(), device=device) - (count.cumsum(0) - count)[target] + start[target]
    return torch.stack([order[place], target])
