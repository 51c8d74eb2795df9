"""What the transforms that write edges share: which graph a point belongs to, and replacing old edges."""

import math
import re
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from ..neighbors import tie_tolerance

# Edge attributes of the contract whose names do not begin with "edge_".
EDGE_LEVEL = ("shift", "polar", "transport", "adj", "adj_t")
# Computed from edges (a mean over them, their Laplacian): as stale as they are.
_FROM_EDGES = ("node_attr", "laplacian", "lambda_max")
# Coarser levels, as MultiScale writes them: made of the finest graph, so as stale as its edges.
_COARSER = re.compile(r"(pos|edge_index|polar|transport|area|frame|radius|pool_index|pool_transport)_[1-9]\d*")


def require_data(data: Any, transform: str) -> None:
    """Raises unless ``data`` is a homogeneous ``Data`` or ``Batch``."""
    if not isinstance(data, Data):
        raise TypeError(f"{transform} needs a torch_geometric Data or Batch, got {type(data).__name__}")


def require_pos(data: Data, transform: str) -> Tensor:
    """The positions ``[N, d]`` of ``data``.

    Raises:
        ValueError: If there are none, or their number differs from ``data.num_nodes``.
        TypeError: If they are not floating-point numbers.
    """
    pos = data.pos
    if pos is None:
        raise ValueError(f"{transform} reads pos, but the data has only {sorted(data.keys())}; set data.pos = [N, d]")
    if not isinstance(pos, Tensor) or pos.dim() != 2:
        got = list(pos.shape) if isinstance(pos, Tensor) else type(pos).__name__
        raise ValueError(f"pos must be a tensor of shape [N, d], got {got}")
    tie_tolerance(pos.dtype)
    return pos


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


def store_area(area: Tensor, pos: Tensor) -> Tensor:
    """Areas ``[N]`` in the dtype and on the device of ``pos``.

    Raises:
        ValueError: If they are too large or too small for that dtype: layers that weigh by them would give NaN.
    """
    stored, total = area.to(pos), float(area.sum())
    kept = float(stored.sum())
    if math.isfinite(total) and (not math.isfinite(kept) or (total > 0 and kept == 0)):
        raise ValueError(
            f"the areas of the nodes sum to {total:.3g} (the unit of pos, squared), which {stored.dtype} cannot hold; "
            "scale pos to another unit, or use .double()"
        )
    return stored


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


def reject_coincident(data: Data, pos: Tensor, edge_index: Tensor, offset: Tensor | None, transform: str) -> None:
    """Raises if an edge between two different points (or images) has no length, naming the two.

    Args:
        data: For the element in the message.
        pos: Positions ``[N, d]``.
        edge_index: ``[2, E]``.
        offset: What to add to ``pos[j] - pos[i]``, ``[E, d]``.
        transform: Who asks.
    """
    j, i = edge_index
    length = (pos[j] - pos[i] if offset is None else pos[j] - pos[i] + offset).abs().amax(dim=1)
    zero = length == 0
    if offset is None:
        zero &= j != i  # a loop has no length by intention
    if not bool(zero.any()):
        return
    edge = int(zero.nonzero()[0])
    a, b = sorted((int(j[edge]), int(i[edge])))
    z = data.get("z")
    element = f" (z = {int(z[a])} and {int(z[b])})" if isinstance(z, Tensor) and z.numel() == pos.size(0) else ""
    raise ValueError(
        f"points {a} and {b}{element} coincide at {pos[a].tolist()}: the edge between them has no direction; repair "
        f"the structure, or use {transform}(..., allow_coincident=True) with layers that bear edges of length zero"
    )
