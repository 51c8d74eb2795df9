"""Moves a whole graph by a symmetry: every attribute by its own type."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from e3nn import o3
from torch import Tensor
from torch_geometric.data import Data

from geomeq.groups import wrap_angle
from geomeq.testing._elements import Element
from geomeq.testing._types import (
    INVARIANT,
    MATRIX,
    POSITION,
    VECTOR,
    WIGNER,
    FeatureType,
    act,
    check_type,
    parse_type,
    roll_wigner,
)

#: Attributes of coarser levels (``pos_1``, ``pool_index_2``), as ``transforms.MultiScale`` writes them.
_LEVEL = re.compile(r"(.+)_([1-9]\d*)")

#: Attributes that move although nobody said so, where their last axis has size 3.
VECTOR_NAMES = frozenset(
    ("vel", "velocity", "v", "force", "forces", "edge_vec", "normal", "dipole", "acceleration", "momentum")
)
#: Row vectors of a cell or of a frame: each row moves as a vector.
_ROW_NAMES = frozenset(("cell", "frame"))
_MATRIX_NAMES = frozenset(("stress", "virial"))
_EDGE_NAMES = frozenset(("polar", "transport", "shift"))
_FRAME_NAMES = frozenset(("frame", "polar", "transport"))
_STRUCTURE = frozenset(("batch", "ptr", "num_nodes"))


@dataclass(frozen=True)
class Moved:
    """A graph after a symmetry.

    Attributes:
        data: The moved graph, sharing no tensor with the original.
        node_order: New node ``k`` is the old node ``node_order[k]``, ``[N]``, or ``None``.
        edge_order: The same for edges, ``[E]``, or ``None``.
    """

    data: Data
    node_order: Tensor | None = None
    edge_order: Tensor | None = None


def copy_data(data: Data) -> Data:
    """Copies a graph with all its tensors; which of them require gradients stays as it is."""
    return data.clone().apply(lambda x: x.detach().requires_grad_(x.requires_grad) if x.is_floating_point() else x)


def attribute_types(data: Data, irreps: Mapping[str, Any] | None = None) -> dict[str, FeatureType]:
    """Says how each tensor of a graph moves.

    Names given in ``irreps`` come first. Else ``pos`` is a position, the names of the attribute contract
    (``vel``, ``force``, ``edge_vec``, ``cell``, ``frame`` ...) are vectors, a pair ``edge_attr`` and ``node_attr``
    as ``SteerableAttributes`` writes them are spherical harmonics, and everything else is invariant.

    Args:
        data: The graph.
        irreps: Types by attribute name, in any form that ``parse_type`` reads.

    Raises:
        KeyError: If ``irreps`` names an attribute that the graph does not have.
        ValueError: If a type does not fit its tensor.
    """
    given = {name: parse_type(spec) for name, spec in (irreps or {}).items()}
    types: dict[str, FeatureType] = {}
    harmonics = _harmonics_type(data)
    for name, value in data.to_dict().items():
        if not isinstance(value, Tensor):
            continue
        if name in given:
            types[name] = given.pop(name)
        elif harmonics is not None and name in ("edge_attr", "node_attr"):
            types[name] = harmonics
        else:
            types[name] = default_type(name, value)
        check_type(f"data.{name}", value, types[name])
    if given:
        raise KeyError(f"irreps names {sorted(given)}, which data does not have; its tensors are {sorted(types)}")
    return types


def default_type(name: str, value: Tensor) -> FeatureType:
    """Guesses a type from a name and a shape."""
    coarse = _LEVEL.fullmatch(name)
    name = name if coarse is None else coarse[1]
    if not value.is_floating_point() or value.dim() == 0:
        return INVARIANT
    if name == "pos" and value.size(-1) == 3:
        return POSITION
    if (name in VECTOR_NAMES or name in _ROW_NAMES) and value.size(-1) == 3:
        return VECTOR
    if name == "edge_wigner" and value.dim() == 2:
        return WIGNER
    if name in _MATRIX_NAMES and value.shape[-2:] == (3, 3):
        return MATRIX
    return INVARIANT


def _harmonics_type(data: Data) -> FeatureType | None:
    edge, node = data.get("edge_attr"), data.get("node_attr")
    if edge is None or node is None or edge.dim() != 2 or node.dim() != 2 or edge.size(1) != node.size(1):
        return None
    lmax = math.isqrt(edge.size(1)) - 1
    if lmax < 1 or (lmax + 1) ** 2 != edge.size(1):
        return None
    # Y_0 is the same on every edge; one-hot bond types of the same width are not.
    if edge.size(0) and not torch.allclose(edge[:, 0], edge[0, 0]):
        return None
    return parse_type(o3.Irreps.spherical_harmonics(lmax))


def what_moves(data: Data, types: Mapping[str, FeatureType], element: Element) -> list[str]:
    """Names the attributes that an element touches; an empty list means that a check would say nothing.

    Raises:
        ValueError: If the element acts on space and the points lie in another one.
    """
    if element.order is not None:
        return ["every node"]
    pos = data.get("pos")
    if element.matrix is not None and pos is not None and types["pos"].kind == "invariant":
        raise ValueError(
            f"rotations and reflections act on points in space, but data.pos is {list(pos.shape)}, not [N, 3]"
        )
    names = []
    for name, kind in types.items():
        turned = element.turn is not None and (name in _FRAME_NAMES or kind.turns)
        shifted = element.shift is not None and (name == "pos" or kind.kind == "position")
        rotated = element.matrix is not None and kind.kind in ("irreps", "position", "matrix", "wigner")
        if turned or shifted or rotated:
            names.append(name)
    return names


def move(data: Data, element: Element, types: Mapping[str, FeatureType]) -> Moved:
    """Returns the graph moved by an element. The matrices act in float64; the result has the dtype of the data."""
    out = copy_data(data)
    if element.turn is not None:
        _turn_frames(out, element.turn)
    for name, kind in types.items():
        value = out[name]
        if not value.is_floating_point():
            continue
        turn = None
        if element.turn is not None and kind.turns:
            turn = row_turn(data, value, element.turn)
        shift_plane = kind.kind == "invariant" and name == "pos"  # points of a plane or a line only shift
        moved = act(FeatureType("position") if shift_plane and element.matrix is None else kind, value, element, turn)
        if kind.kind == "wigner" and element.matrix is not None:
            moved = roll_wigner(moved)
        out[name] = moved.to(value.dtype).requires_grad_(value.requires_grad)
    return Moved(out) if element.order is None else _permute(out, element.order)


def row_turn(data: Data, value: Tensor, turn: Tensor) -> Tensor:
    """Returns the turn of the frame of each row: its own for a node, the target's for an edge.

    ``[rows]``, or ``[1, rows]`` where rows are the second axis (many signals on one graph).
    """
    edges = None if data.edge_index is None else turn[data.edge_index[1].cpu()]
    for axis in range(min(value.dim(), 2)):
        for found in (turn, edges):
            if found is not None and value.size(axis) == found.numel():
                return found if axis == 0 else found[None]
    for k in range(1, len(data.keys())):  # coarser levels keep their frames
        coarse = data.get(f"pos_{k}")
        if coarse is None:
            break
        if coarse.size(0) in value.shape[:2]:
            return turn.new_zeros(1)
    raise ValueError(
        f"a tensor of shape {list(value.shape)} holds SO(2) orders, but has neither one row for each of the "
        f"{turn.numel()} nodes nor one for each edge, so its frames are unknown"
    )


def turned_angles(kind: FeatureType, x: Tensor, turn: Tensor, data: Data) -> Tensor:
    """Relative geometry of edges once frames have turned, float64.

    Args:
        kind: ``"polar"`` (``[E, 2]``), ``"angle"`` or ``"transport"`` (``[E]``).
        x: The tensor.
        turn: Of each node, ``[N]``.
        data: The graph.

    Raises:
        ValueError: If ``x`` does not have one row per edge.
    """
    if data.edge_index is None or x.size(0) != data.edge_index.size(1):
        raise ValueError(f"a tensor of shape {list(x.shape)} has not one row for each edge")
    x, (source, target), turn = x.double(), data.edge_index.to(x.device), turn.to(x.device)
    if kind.kind == "transport":
        return x - turn[target] + turn[source]
    if kind.kind == "angle":
        return x - turn[target]
    return torch.stack([x[:, 0], x[:, 1] - turn[target]], dim=1)


def _turn_frames(data: Data, turn: Tensor) -> None:
    frame, polar, transport = data.get("frame"), data.get("polar"), data.get("transport")
    if frame is not None:
        t = turn.to(frame.device)[:, None]
        e1, e2, normal = frame.double().unbind(dim=-2)
        rows = [t.cos() * e1 + t.sin() * e2, t.cos() * e2 - t.sin() * e1, normal]
        data["frame"] = torch.stack(rows, dim=-2).to(frame.dtype)
    pool = data.get("pool_transport_1")  # from the fine frames, which turn, to coarse ones, which stay
    if pool is not None:
        data["pool_transport_1"] = (pool.double() + turn.to(pool.device)).to(pool.dtype)
    if polar is None and transport is None:
        return
    if data.edge_index is None:
        raise ValueError("polar and transport belong to edges, but data.edge_index is missing")
    source, target = data.edge_index
    t = turn.to(source.device)
    if polar is not None:
        r, angle = polar.double().unbind(dim=-1)
        angle = wrap_angle(angle - t[target])
        data["polar"] = torch.stack([r, angle], dim=-1).to(polar.dtype)
    if transport is not None:
        # components: x_i' = R(-t_i) x_i, so R(new) R(-t_j) must equal R(-t_i) R(old)
        data["transport"] = (transport.double() - t[target] + t[source]).to(transport.dtype)


def _permute(data: Data, order: Tensor) -> Moved:
    nodes = order.numel()
    edges = -1 if data.edge_index is None else data.edge_index.size(1)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(nodes)
    edge_order = None
    if data.edge_index is not None:
        source, target = rank[data.edge_index.cpu()]
        edge_order = torch.argsort(target * nodes + source, stable=True)
    for name, value in data.to_dict().items():
        if name in _STRUCTURE or not isinstance(value, Tensor) or value.dim() == 0:
            continue
        if value.layout != torch.strided:
            raise TypeError(f"data.{name} is a sparse tensor, which a permutation cannot carry along; use edge_index")
        device = value.device
        if _LEVEL.fullmatch(name) and "pool_index_1" in data:  # coarser nodes keep their order
            if name in ("pool_index_1", "pool_transport_1"):
                data[name] = value[order.to(device)]
            continue
        if name == "edge_index":
            data[name] = rank.to(device)[value][:, _on(edge_order, device)]
        elif "index" in name or name == "face":  # PyG's rule for attributes that hold node numbers
            data[name] = rank.to(device)[value]
        elif attribute_level(name, value, nodes, edges) == "node":
            data[name] = value[order.to(device)]
        elif attribute_level(name, value, nodes, edges) == "edge":
            data[name] = value[_on(edge_order, device)]
    return Moved(data, order, edge_order)


def attribute_level(name: str, value: Tensor, nodes: int, edges: int) -> str:
    """Says whether an attribute has one row a node, one an edge, or belongs to the graph."""
    rows = value.size(0)
    if rows == edges and ("edge" in name or name in _EDGE_NAMES or rows != nodes):
        return "edge"
    return "node" if rows == nodes else "graph"


def _on(order: Tensor | None, device: torch.device) -> Tensor:
    assert order is not None
    return order.to(device)
