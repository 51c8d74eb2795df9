"""Writing edges to a ``Data``: which graph a point belongs to, replacing old edges, refusing those without length."""

import re
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

# Edge attributes of the contract whose names do not begin with "edge_".
EDGE_LEVEL = ("shift", "polar", "transport", "adj", "adj_t")
# Computed from edges (a mean over them, their Laplacian): as stale as they are.
_FROM_EDGES = ("node_attr", "laplacian", "lambda_max")
# Coarser levels, as MultiScale writes them: made of the finest graph, so as stale as its edges.
_COARSER = re.compile(r"(pos|edge_index|polar|transport|area|frame|radius|pool_index|pool_transport)_[1-9]\d*")


def graph_of_nodes(data: Data, num_nodes: int) -> Tensor | None:
    """Graph of each node, ``[N]``; ``None`` for a single graph.

    Raises:
        ValueError: If ``data`` holds several graphs but nothing says which node belongs to which.
    """
    batch = data.get("batch")
    if batch is not None:
        return batch
    ptr = data.get("ptr")
    if ptr is not None:
        counts = ptr.diff()
        return torch.repeat_interleave(torch.arange(counts.numel(), device=ptr.device), counts)
    if isinstance(data, Batch) and data.num_graphs > 1:
        raise ValueError(
            f"a Batch of {data.num_graphs} graphs without batch and ptr: edges would join different graphs; "
            "make it by Batch.from_data_list or set batch.batch"
        )
    return None


def write_edges(data: Data, edge_index: Tensor, batch: Tensor | None, **attributes: Tensor) -> Data:
    """Sets ``edge_index`` and edge attributes, and removes those that belonged to former edges.

    A ``Batch`` also learns where the edges of each graph begin, so that ``to_data_list`` returns them.
    """
    named, levels = (*EDGE_LEVEL, *_FROM_EDGES), data.get("pool_index_1") is not None
    stale = [
        key
        for key in data.keys()  # noqa: SIM118
        if key.startswith("edge_") or key in named or (levels and _COARSER.fullmatch(key))
    ]
    for key in stale:
        del data[key]
    data.edge_index = edge_index
    for key, value in attributes.items():
        data[key] = value
    if isinstance(data, Batch) and hasattr(data, "_slice_dict"):
        _record_slices(data, edge_index, batch, stale, list(attributes))
    return data


def _record_slices(data: Any, edge_index: Tensor, batch: Tensor | None, stale: list[str], written: list[str]) -> None:
    graphs = data.num_graphs
    slices = {key: value for key, value in data._slice_dict.items() if key not in stale}
    incs = {key: value for key, value in data._inc_dict.items() if key not in stale}
    if batch is None or not bool((batch[1:] < batch[:-1]).any()):  # else its edges are no contiguous range
        owner = edge_index.new_zeros(edge_index.size(1)) if batch is None else batch[edge_index[1]]
        ends = torch.bincount(owner, minlength=graphs).cumsum(0).cpu()
        sizes = torch.zeros(1, dtype=torch.long) if batch is None else torch.bincount(batch, minlength=graphs).cpu()
        bounds = torch.cat([ends.new_zeros(1), ends])
        slices |= dict.fromkeys(("edge_index", *written), bounds)
        incs |= dict.fromkeys(written)
        incs["edge_index"] = sizes.cumsum(0) - sizes
    data._slice_dict, data._inc_dict = slices, incs


def write_per_graph(data: Data, name: str, value: Tensor) -> Data:
    """Sets an attribute with one row per graph, ``[B, ...]``, which ``to_data_list`` then hands to each graph."""
    data[name] = value
    if isinstance(data, Batch) and hasattr(data, "_slice_dict"):
        batch: Any = data
        batch._slice_dict = {**batch._slice_dict, name: torch.arange(batch.num_graphs + 1, device="cpu")}
        batch._inc_dict = {**batch._inc_dict, name: None}
    return data


def reject_coincident(data: Data, pos: Tensor, edge_index: Tensor, touching: Tensor, remedy: str) -> None:
    """Raises if an edge has no length, naming its two points.

    Args:
        data: For the elements in the message.
        pos: Positions ``[N, d]``.
        edge_index: ``[2, E]``.
        touching: Which edges have no length though they should, ``[E]``.
        remedy: What to do about it.
    """
    if not bool(touching.any()):
        return
    edge = int(touching.nonzero()[0])
    a, b = sorted(edge_index[:, edge].tolist())
    z = data.get("z")
    element = f" (z = {int(z[a])} and {int(z[b])})" if isinstance(z, Tensor) and z.numel() == pos.size(0) else ""
    image = " or an image of it" if data.get("cell") is not None else ""
    raise ValueError(
        f"points {a} and {b}{element} coincide at {pos[a].tolist()}{image}: the edge between them has no direction; "
        f"repair the structure, or {remedy}"
    )
