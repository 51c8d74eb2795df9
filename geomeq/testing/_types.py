"""How a tensor moves under a symmetry: its type, parsed from what users write."""

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from e3nn import o3
from torch import Tensor

from geomeq.groups import SO2Irreps
from geomeq.ops import EdgeLayout
from geomeq.testing._elements import Element, irrep_matrix

_AXIS = re.compile(r"(.+) on axis (-?\d+)")
_ORDERS = re.compile(r"^\s*(\d+x)?\d+(\s*\+\s*(\d+x)?\d+)*\s*$")


@dataclass(frozen=True)
class FeatureType:
    """How the components of a tensor move.

    Attributes:
        kind: ``"invariant"`` (nothing moves it), ``"irreps"`` (O(3) types), ``"orders"`` (SO(2) orders in
            the frames of the nodes), ``"position"`` (a point: turned and shifted), ``"matrix"``
            (``[..., 3, 3]``, turned on both sides), ``"wigner"`` (flat rows of Wigner matrices of edges, in the
            order of ``EdgeLayout``), ``"polar"``, ``"angle"`` and ``"transport"`` (relative geometry of
            edges, which shifts where frames turn).
        irreps: For ``"irreps"``.
        orders: For ``"orders"``: multiplicity and order of each block.
        axis: The axis that holds the components, for ``"irreps"`` and ``"position"``.
    """

    kind: str
    irreps: o3.Irreps | None = None
    orders: tuple[tuple[int, int], ...] = ()
    axis: int = -1

    @property
    def dim(self) -> int | None:
        """Number of components, ``None`` where any number will do."""
        if self.irreps is not None:
            return int(self.irreps.dim)
        if self.orders:
            return sum(mul * (2 if m else 1) for mul, m in self.orders)
        return {"position": 3, "matrix": 9, "polar": 2}.get(self.kind)

    @property
    def turns(self) -> bool:
        """Whether components turn with the frames of the nodes."""
        return any(order for _, order in self.orders)

    def __str__(self) -> str:
        if self.irreps is not None:
            return str(self.irreps) if self.axis == -1 else f"{self.irreps} on axis {self.axis}"
        if self.orders:
            return "+".join(f"{mul}x{m}" for mul, m in self.orders)
        return self.kind


INVARIANT = FeatureType("invariant")
POLAR = FeatureType("polar")
ANGLE = FeatureType("angle")
TRANSPORT = FeatureType("transport")
POSITION = FeatureType("position")
MATRIX = FeatureType("matrix")
WIGNER = FeatureType("wigner")
VECTOR = FeatureType("irreps", o3.Irreps("1x1o"))


def parse_type(spec: Any) -> FeatureType:
    """Reads a type as users write it.

    Args:
        spec: ``None``, ``"invariant"``, ``"vector"``, ``"position"``, ``"matrix"``, an ``o3.Irreps`` or its
            string (``"8x0e+8x1o"``; ``"1x0e+1x1o+1x2e on axis -2"`` where components are not the last axis, as in
            spherical channels ``[N, (L+1)^2, C]``), ``"wigner"`` (rows of Wigner matrices, as ``EdgeFrames`` writes
            them), or SO(2) orders: an ``SO2Irreps`` or its string ``"16x0+8x1"`` (no parity
            letter).

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(spec, FeatureType):
        return spec
    if spec is None:
        return INVARIANT
    if isinstance(spec, SO2Irreps):
        return FeatureType("orders", orders=tuple((block.mul, block.order) for block in spec))
    if isinstance(spec, (o3.Irreps, o3.Irrep)):
        return FeatureType("irreps", o3.Irreps(spec))
    text = str(spec).strip()
    named = {"invariant": INVARIANT, "scalar": INVARIANT, "vector": VECTOR, "position": POSITION, "matrix": MATRIX}
    named["wigner"] = WIGNER
    if text in named:
        return named[text]
    placed = _AXIS.fullmatch(text)
    if placed is not None:
        return FeatureType("irreps", parse_type(placed[1]).irreps, axis=int(placed[2]))
    if _ORDERS.match(text):
        return FeatureType("orders", orders=tuple(_parse_order(part) for part in text.split("+")))
    try:
        return FeatureType("irreps", o3.Irreps(text))
    except ValueError as error:
        raise ValueError(
            f"cannot read the type {spec!r}: give O(3) irreps ('8x0e+8x1o'), SO(2) orders ('16x0+8x1'), "
            "'invariant', 'vector', 'position' or 'matrix'"
        ) from error


def _parse_order(part: str) -> tuple[int, int]:
    mul, _, order = part.strip().rpartition("x")
    return int(mul or 1), int(order)


def check_type(name: str, x: Tensor, kind: FeatureType) -> None:
    """Raises unless a tensor can hold features of a type."""
    if kind.dim is None:
        return
    if kind.kind == "matrix":
        fits = x.shape[-2:] == (3, 3)
    elif kind.kind == "position" or kind.axis != -1:
        fits = x.dim() > 0 and x.size(kind.axis) == kind.dim
    else:
        fits = _layout(x, kind.dim) is not None
    if not fits:
        raise ValueError(f"{name} has type {kind} of dimension {kind.dim}, but its shape is {list(x.shape)}")


def _layout(x: Tensor, dim: int) -> tuple[int, ...] | None:
    """Shape in which the last axis holds all ``dim`` components; channels first (``[N, C, 3]``) is one block."""
    if x.dim() > 0 and x.size(-1) == dim:
        return tuple(x.shape)
    size = 1
    for axis in range(x.dim() - 1, -1, -1):  # [N, C, 3] as "Cx1o"; [N] as "1x0e"
        if size == dim:
            return (*x.shape[: axis + 1], dim)
        size *= x.size(axis)
    return (dim,) if size == dim else None


def act(kind: FeatureType, x: Tensor, element: Element, turn: Tensor | None = None) -> Tensor:
    """Moves features by a rotation, reflection, translation or turn of the frames (not by a permutation).

    Args:
        kind: Type of the features.
        x: Features, any float dtype; they are moved in float64.
        element: The symmetry.
        turn: Angle of the frame of each row, ``[rows]`` or ``[1, rows]``, where the frames turn.

    Returns:
        The moved features, float64, same shape.
    """
    x = x.to(torch.float64)
    if kind.kind == "orders":
        return x if turn is None else _turn_orders(kind, x, turn)
    if element.matrix is not None and kind.kind in ("irreps", "position", "matrix", "wigner"):
        x = _act_linear(kind, x, element.matrix.to(x.device))
    if element.shift is not None and kind.kind == "position":
        x = (x.movedim(kind.axis, -1) + element.shift.to(x.device)).movedim(-1, kind.axis)
    return x


def _act_linear(kind: FeatureType, x: Tensor, matrix: Tensor) -> Tensor:
    if kind.kind == "matrix":
        return matrix @ x @ matrix.T
    if kind.kind == "wigner":
        return _act_wigner(x, matrix)
    if kind.kind == "position":
        return (x.movedim(kind.axis, -1) @ matrix.T).movedim(-1, kind.axis)
    assert kind.irreps is not None
    if kind.axis != -1:
        return _act_irreps(kind.irreps, x.movedim(kind.axis, -1), matrix).movedim(-1, kind.axis)
    layout = _layout(x, kind.irreps.dim)
    assert layout is not None, "call check_type first"
    return _act_irreps(kind.irreps, x.reshape(layout), matrix).reshape(x.shape)


def _act_wigner(x: Tensor, matrix: Tensor) -> Tensor:
    """Rows of D(R) for the edge ``e`` become rows of D(S R Q^-1), which sends ``Q e`` to the axis y as well.

    With S = 1 for a rotation Q; for a mirror image S turns x about, so that the new frame is a rotation again.
    """
    layout = wigner_layout(x)
    improper = bool(torch.linalg.det(matrix) < 0)
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    blocks = []
    for degree, m, start in zip(layout.degrees, layout.signed_orders, layout.starts, strict=True):
        row = x[..., start : start + 2 * degree + 1] @ irrep_matrix(degree, (-1) ** degree, matrix.cpu()).T.to(x.device)
        if improper:  # the mirror at x = 0 is diagonal in real harmonics about y
            row = row * float(irrep_matrix(degree, (-1) ** degree, flip)[degree + m, degree + m].round())
        blocks.append(row)
    return torch.cat(blocks, dim=-1)


def roll_wigner(x: Tensor) -> Tensor:
    """Turns the frame of each edge about the edge, by an angle of its own: as good a frame as before.

    A layer that notices the roll is not equivariant, as frames made anew have another one.
    """
    layout = wigner_layout(x)
    angle = 2 * math.pi * (0.618034 * torch.arange(1, x.size(0) + 1, dtype=torch.float64, device=x.device) % 1)[:, None]
    parts = [x[:, : (layout.lmax + 1) ** 2]]
    for order in layout.orders[1:]:
        start = layout.starts[order.rows.start]
        size = sum(2 * degree + 1 for degree in range(order.m, layout.lmax + 1))
        plus, minus = x[:, start : start + size], x[:, start + size : start + 2 * size]
        cos, sin = (order.m * angle).cos(), (order.m * angle).sin()
        parts += [cos * plus - sin * minus, sin * plus + cos * minus]
    return torch.cat(parts, dim=1)


def wigner_layout(x: Tensor) -> EdgeLayout:
    """The layout of flat Wigner rows ``[E, T]``, from their number and, where two have it, from rows of length 1.

    Raises:
        ValueError: If there is none.
    """
    found = _layouts(x.size(-1))
    if not found:
        raise ValueError(f"no Wigner rows have {x.size(-1)} numbers; make them by EdgeFrames or edge_wigner")
    return next((layout for layout in found if _has_unit_rows(x, layout)), found[0])


@functools.cache
def _layouts(values: int, highest: int = 16) -> list[EdgeLayout]:
    pairs = ((lmax, mmax) for lmax in range(highest + 1) for mmax in range(lmax + 1))
    return [layout for layout in (EdgeLayout(*pair) for pair in pairs) if layout.num_values == values]


def _has_unit_rows(x: Tensor, layout: EdgeLayout) -> bool:
    rows = [x[..., a : a + 2 * deg + 1] for deg, a in zip(layout.degrees, layout.starts, strict=True)]
    return all(bool(((row.norm(dim=-1) - 1).abs() < 1e-3).all()) for row in rows)


def _act_irreps(irreps: o3.Irreps, x: Tensor, matrix: Tensor) -> Tensor:
    blocks = []
    for columns, (mul, ir) in _blocks(irreps):
        block = x[..., columns]
        if ir.l > 0 or ir.p < 0:
            d = irrep_matrix(ir.l, ir.p, matrix.cpu()).to(x.device)
            block = (block.unflatten(-1, (mul, ir.dim)) @ d.T).flatten(-2)
        blocks.append(block)
    return torch.cat(blocks, dim=-1) if blocks else x


def _blocks(irreps: o3.Irreps) -> Iterator[tuple[slice, tuple[int, o3.Irrep]]]:
    for columns, (mul, ir) in zip(irreps.slices(), irreps, strict=True):
        if mul > 0:
            yield columns, (mul, ir)


def _turn_orders(kind: FeatureType, x: Tensor, turn: Tensor) -> Tensor:
    # A frame turned by +t turns components of order m by -m t (geomeq's sign convention).
    layout = _layout(x, kind.dim or 0)
    assert layout is not None, "call check_type first"
    flat, blocks, start = x.reshape(layout), [], 0
    rows = turn.to(x.device).reshape(*turn.shape, *[1] * (len(layout) - turn.dim()))
    for mul, m in kind.orders:
        width = mul * (2 if m else 1)
        block = flat[..., start : start + width]
        if m > 0:
            a, b = block.unflatten(-1, (mul, 2)).unbind(-1)
            cos, sin = (m * rows).cos(), (m * rows).sin()
            block = torch.stack([cos * a + sin * b, cos * b - sin * a], dim=-1).flatten(-2)
        blocks.append(block)
        start += width
    return torch.cat(blocks, dim=-1).reshape(x.shape)
