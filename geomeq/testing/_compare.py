"""Compares what a model says about a graph with what it says about the moved graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from geomeq.groups import SO2Irreps
from geomeq.testing._elements import Element
from geomeq.testing._move import Moved, default_type, row_turn, turned_angles
from geomeq.testing._types import INVARIANT, FeatureType, act, check_type, parse_type


@dataclass(frozen=True)
class Rows:
    """Where the rows of a tensor went.

    Attributes:
        nodes: Number of nodes, and the order of the new ones; ``None`` keeps them.
        edges: Number of edges, and the order of the new ones.
        graphs: Number of graphs in the batch.
    """

    nodes: tuple[int, Tensor | None]
    edges: tuple[int, Tensor | None]
    graphs: int = 1

    def choices(self, x: Tensor) -> list[tuple[int, Tensor | None]]:
        """Lists the ways (axis, order) in which the rows of ``x`` may be nodes, edges or graphs, most likely first."""
        found: list[tuple[int, Tensor | None]] = []
        for axis in range(min(x.dim(), 2)):  # axis 1 for [B, N, C] on one static graph
            for size, order in (self.nodes, self.edges):
                if x.size(axis) == size and size > 0:
                    found.append((axis, order))
            if axis == 0 and found:
                break
        return found or [(0, None)]

    def unknown(self, x: Tensor) -> bool:
        """Says whether the rows of ``x`` are neither nodes nor edges nor graphs."""
        return x.dim() > 0 and x.size(0) != self.graphs and self.choices(x) == [(0, None)]


def match_rows(before: Data, moved: Moved) -> Rows:
    """Finds where nodes and edges of one graph are in another.

    Raises:
        ValueError: If the two graphs do not have the same edges.
    """
    after = moved.data
    nodes = int(before.num_nodes or 0)
    if before.edge_index is None or after.edge_index is None:
        return Rows((nodes, moved.node_order), (-1, None), _num_graphs(before))
    edges = before.edge_index.size(1)
    order = moved.edge_order
    if order is None:
        order = _match_edges(before, after, moved.node_order)
    return Rows((nodes, moved.node_order), (edges, order), _num_graphs(before))


def _match_edges(before: Data, after: Data, node_order: Tensor | None) -> Tensor | None:
    old, new = before.edge_index.cpu(), after.edge_index.cpu()
    if node_order is not None:
        rank = torch.empty_like(node_order)
        rank[node_order] = torch.arange(node_order.numel())
        old = rank[old]
    elif torch.equal(old, new):
        return None
    old, new = _edge_keys(before, old), _edge_keys(after, new)
    old_order, new_order = _lexsort(old), _lexsort(new)
    if old.shape != new.shape or not torch.equal(old[:, old_order], new[:, new_order]):
        raise ValueError(
            f"the moved graph has other edges than the original ({new.size(1)} against {old.size(1)}): the transform "
            "that writes edge_index does not commute with the symmetry, or a pair lies exactly at the cutoff"
        )
    order = torch.empty_like(old_order)
    order[new_order] = old_order
    return order


def _edge_keys(data: Data, edge_index: Tensor) -> Tensor:
    shift = data.get("shift")
    if shift is None or shift.dim() != 2 or shift.size(0) != edge_index.size(1):
        return edge_index
    return torch.cat([edge_index, shift.round().long().cpu().T])  # several images of one neighbour are several edges


def _lexsort(keys: Tensor) -> Tensor:
    order = torch.arange(keys.size(1))
    for key in keys:
        order = order[torch.argsort(key[order], stable=True)]
    return order


def _num_graphs(data: Data) -> int:
    batch = data.get("batch")
    return 1 if batch is None or batch.numel() == 0 else int(batch.max()) + 1


def output_types(
    model: Any, found: Mapping[str, Tensor], irreps_out: Any, types: Mapping[str, FeatureType]
) -> dict[str, FeatureType]:
    """Says how each output moves: as ``irreps_out`` says, else as the model says, else by its name, else not at all.

    Args:
        model: May carry ``irreps_out`` or ``types_out``, itself or in its ``config``.
        found: The outputs by name, as ``outputs`` gives them.
        irreps_out: One type for the only output, a dict by key, or a sequence.
        types: Types of the attributes of the graph, for models that return a graph.

    Raises:
        ValueError: If a type does not fit its output, or ``irreps_out`` its number.
    """
    declared = declared_type(model)
    chosen = {}
    for k, (name, value) in enumerate(found.items()):
        key = output_key(name)
        if irreps_out is None:
            chosen[name] = _undeclared(name, key, value, declared, found, types)
        elif isinstance(irreps_out, Mapping):
            chosen[name] = parse_type(irreps_out[key]) if key in irreps_out else default_type(key, value)
        elif isinstance(irreps_out, (list, tuple)) and not _is_irreps(irreps_out):
            if len(irreps_out) != len(found):
                raise ValueError(f"irreps_out has {len(irreps_out)} types, but the model returns {len(found)} tensors")
            chosen[name] = parse_type(irreps_out[k])
        elif len(found) == 1:
            chosen[name] = parse_type(irreps_out)
        else:
            raise ValueError(
                f"the model returns {len(found)} tensors ({', '.join(found)}), but irreps_out is one type; "
                "give a list, or a dict by key"
            )
        check_type(f"the model's {name}", value, chosen[name])
    return chosen


def _is_irreps(value: Any) -> bool:
    from e3nn import o3

    return isinstance(value, o3.Irreps | SO2Irreps)  # the first of which is a tuple, too


def declared_type(model: Any) -> FeatureType | None:
    """Returns ``irreps_out`` (of O(3)) or ``types_out`` (of SO(2)) of a model or its config, ``None`` without one."""
    for owner in (model, getattr(model, "config", None)):
        for name in ("irreps_out", "types_out"):
            spec = getattr(owner, name, None)
            if spec is not None:
                return parse_type(spec)
    return None


def output_key(name: str) -> str:
    """``force`` of ``output['force']`` and of ``output.force``."""
    return name.removeprefix("output").strip(".[]'\"") or "output"


def _undeclared(
    name: str,
    key: str,
    value: Tensor,
    declared: FeatureType | None,
    found: Mapping[str, Tensor],
    types: Mapping[str, FeatureType],
) -> FeatureType:
    if name.startswith("output.") and key in types:  # the model returned a graph
        return types[key]
    named = default_type(key, value)
    if named is not INVARIANT or declared is None:
        return named
    if len(found) == 1:
        return declared
    try:
        check_type(name, value, declared)
    except ValueError:
        return INVARIANT
    return declared


def expected(kind: FeatureType, x: Tensor, element: Element, data: Data) -> Tensor:
    """Returns the output on the original graph moved by the element (its rows in the old order), float64."""
    if element.turn is not None and kind.kind in ("polar", "angle", "transport"):
        return turned_angles(kind, x, element.turn, data)
    turn = row_turn(data, x, element.turn) if element.turn is not None and kind.turns else None
    return act(kind, x, element, turn)


def difference(before: Tensor, after: Tensor, rows: Rows) -> float:
    """Returns the largest deviation between two tensors once their rows are brought into one order."""
    if before.shape != after.shape:
        return float("inf")
    if before.numel() == 0:
        return 0.0
    deviations = []
    for axis, order in rows.choices(before):
        moved = before if order is None else before.index_select(axis, order.to(before.device))
        deviations.append(_largest(moved - after))
    return min(deviations)


def _largest(x: Tensor) -> float:
    return float(torch.nan_to_num(x.abs(), nan=float("inf")).max()) if x.numel() else 0.0


def relative(deviation: float, scale: float) -> float:
    """Divides a deviation by the size of what deviates; nothing deviating from nothing is 0."""
    return 0.0 if deviation == 0 else deviation / scale if scale > 0 else float("inf")
