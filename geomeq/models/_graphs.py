"""Which node belongs to which graph of a batch, on every level, and means over each graph."""

import torch
from torch import Tensor
from torch_geometric.data import Data


def check_data(data: object) -> None:
    """Raises unless a model got a graph."""
    if not isinstance(data, Data):
        raise TypeError(f"the model reads a Data or Batch, got {type(data).__name__}")


def coarse_batch(batch: Tensor, pool_index: Tensor, num_coarse: int) -> Tensor:
    """The graph of each coarse node, from the graphs ``[N]`` and the coarse nodes ``[N]`` of the fine ones."""
    return batch.new_zeros(num_coarse).scatter(0, pool_index.long(), batch)


def means_of_graphs(x: Tensor, data: Data, batch: Tensor | None, weight: Tensor | None = None) -> Tensor:
    """Means over the nodes of each graph; zeros where a graph has no nodes or no weight.

    Args:
        x: ``[N, C]``, or ``[B, N, C]``: many signals on one graph.
        data: Knows how many graphs there are, if it is a ``Batch``.
        batch: Graph of each node, ``[N]``; ``None`` for one graph.
        weight: Of each node, ``[N]``; equal ones by default.

    Returns:
        ``[num_graphs, C]`` or ``[B, C]``.

    Raises:
        ValueError: If signals share a graph that is several, or nothing says which node belongs to which graph.
    """
    count = getattr(data, "num_graphs", None)  # a Batch may end with graphs that have no nodes; a Data has no count
    weight = x.new_ones(x.size(-2)) if weight is None else weight.to(x.dtype)
    if batch is None or x.dim() > 2:
        count = count or (1 if batch is None or not batch.numel() else int(batch.max()) + 1)
        if count > 1 and batch is None:
            raise ValueError(
                f"a Batch of {count} graphs without batch: nothing says which node belongs to which; make it by "
                "Batch.from_data_list"
            )
        if count > 1:
            raise ValueError(f"x [B, N, dim] belongs to one surface, but data holds a batch of {count}")
        total = weight.sum()
        mean = torch.einsum("n,...nc->...c", weight, x) / torch.where(total > 0, total, torch.ones_like(total))
        return mean.unsqueeze(0) if x.dim() == 2 else mean
    if count is None:
        count = int(batch.max()) + 1 if batch.numel() else 0
    total = weight.new_zeros(count).index_add(0, batch, weight)
    summed = x.new_zeros(count, x.size(1)).index_add(0, batch, x * weight[:, None])
    return summed / torch.where(total > 0, total, torch.ones_like(total))[:, None]
