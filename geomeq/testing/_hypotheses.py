"""Which type fits a tensor whose type nobody declared: each candidate moves it, and the data decide."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from e3nn import o3
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq.groups import SO2Irreps
from geomeq.testing._compare import Rows, difference, expected, relative
from geomeq.testing._elements import Element
from geomeq.testing._types import ANGLE, INVARIANT, POLAR, POSITION, TRANSPORT, FeatureType, check_type, parse_type

#: A tensor that fits no known type, but whose rows keep their lengths and mutual angles, moves by *some* orthogonal
#: representation: two sets of vectors have the same Gram matrix exactly if an orthogonal map takes one to the other.
ISOMETRIC = FeatureType("isometric")

_ROUNDING = 100  # rounding errors of a module, in units of eps times the size of its inputs


def known_irreps(model: Any) -> list[o3.Irreps | SO2Irreps]:
    """Collects the types that the submodules of a model carry in their attributes and configurations."""
    found: dict[str, o3.Irreps | SO2Irreps] = {}
    for module in model.modules() if isinstance(model, nn.Module) else ():
        values = list(vars(module).values()) + list(vars(getattr(module, "config", object)).values())
        for value in values:
            if isinstance(value, str) and ("e" in value or "o" in value):
                value = _parsed(value)
            if isinstance(value, o3.Irreps | SO2Irreps) and value.dim > 0:
                found[str(value)] = value
    return list(found.values())


def _parsed(text: str) -> o3.Irreps | None:
    try:
        return o3.Irreps(text)
    except ValueError:
        return None


def candidates(x: Tensor, known: Iterable[o3.Irreps | SO2Irreps], orders: bool) -> list[FeatureType]:
    """Lists the types that a tensor of this shape may have, simplest first.

    Args:
        x: The tensor.
        known: Types that occur in the model.
        orders: Whether SO(2) orders in the frames of the nodes are possible.
    """
    found = [INVARIANT]
    for axis in range(-1, -min(x.dim(), 3) - 1, -1):
        if x.dim() + axis == 0:
            break  # rows are not components
        size = x.size(axis)
        if size == 3:
            found += [FeatureType("irreps", o3.Irreps(v), axis=axis) for v in ("1x1o", "1x1e")]
            found.append(FeatureType("position", axis=axis))
        elif size > 3 and math.isqrt(size) ** 2 == size and size <= 144:
            found.append(FeatureType("irreps", o3.Irreps.spherical_harmonics(math.isqrt(size) - 1), axis=axis))
    if x.dim() == 1 and x.numel() == 3:
        found += [parse_type("1x1o"), parse_type("1x1e"), POSITION]
    width = x.size(-1) if x.dim() > 1 else 1
    if width % 3 == 0 and width > 3:
        found += [parse_type(f"{width // 3}x1o"), parse_type(f"{width // 3}x1e")]
    found += [parse_type(t) for t in known if t.dim == width and (orders or not isinstance(t, SO2Irreps))]
    if x.dim() > 2 and x.shape[-2:] == (3, 3):
        found.append(parse_type("matrix"))
    found.append(parse_type(f"{width}x0o"))
    if orders and width % 2 == 0:
        found += [parse_type(f"{width // 2}x{m}") for m in (1, 2, 3)]
    if orders and x.dim() == 2 and width == 2:
        found.append(POLAR)
    if orders and x.dim() == 1:
        found += [TRANSPORT, ANGLE]
    return list({str(kind): kind for kind in found if _fits(x, kind)}.values())


def _fits(x: Tensor, kind: FeatureType) -> bool:
    try:
        check_type("", x, kind)
    except ValueError:
        return False
    return True


@dataclass
class Probe:
    """What the tensors are compared with at the moment: a symmetry, and the graph before it.

    Attributes:
        symmetry: Its name in the report.
        element: The element drawn from it.
        rows: Where nodes and edges went.
        before: The original graph.
    """

    symmetry: str
    element: Element
    rows: Rows = field(default_factory=lambda: Rows((-1, None), (-1, None)))
    before: Data = field(default_factory=Data)


@dataclass
class Slot:
    """One tensor that goes into or comes out of one call of a submodule.

    Attributes:
        before: The tensor on the original graph.
        types: Types still in the race.
        declared: Whether the type is known and nothing has to be guessed.
        tol: Relative error allowed.
        scale_in: Size of what the tensor was computed from; sets the rounding allowed after cancellation.
    """

    before: Tensor
    types: list[FeatureType]
    declared: bool
    tol: float
    scale_in: float
    errors: dict[FeatureType, dict[str, float]] = field(default_factory=dict)
    broken: dict[FeatureType, set[str]] = field(default_factory=dict)

    def compare(self, after: Tensor | None, probe: Probe) -> None:
        """Lets every type left in the race predict the tensor on the moved graph."""
        for kind in self.types:
            self._test(kind, after, probe)
        if self.declared:
            return
        unbroken = [kind for kind in self.types if not self.broken.get(kind)]
        if not unbroken and ISOMETRIC not in self.errors:
            # Whatever fitted so far was orthogonal, so it kept lengths and angles: its record carries over.
            best = self.best()
            self.errors[ISOMETRIC] = {s: e for s, e in self.errors[best].items() if s != probe.symmetry}
            self.broken[ISOMETRIC] = self.broken.get(best, set()) - {probe.symmetry}
            self._test(ISOMETRIC, after, probe)
            unbroken = [] if self.broken[ISOMETRIC] else [ISOMETRIC]
        self.types = unbroken or self.types

    def _test(self, kind: FeatureType, after: Tensor | None, probe: Probe) -> None:
        scale = float(self.before.abs().max())
        deviation = float("inf") if after is None else _deviation(kind, self.before, after, probe)
        errors = self.errors.setdefault(kind, {})
        errors[probe.symmetry] = max(errors.get(probe.symmetry, 0.0), relative(deviation, scale))
        eps = torch.finfo(self.before.dtype).eps
        if not deviation <= self.tol * scale + _ROUNDING * eps * self.scale_in:
            self.broken.setdefault(kind, set()).add(probe.symmetry)

    def best(self) -> FeatureType:
        """Returns the type that fits best: it breaks the fewest symmetries, then deviates least."""
        return min(self.types, key=lambda kind: (len(self.broken.get(kind, ())), self._worst(kind)))

    def _worst(self, kind: FeatureType) -> float:
        # below the tolerance all fit equally well, and the simplest (the first) wins
        return max([self.tol, *self.errors.get(kind, {}).values()])


def _deviation(kind: FeatureType, before: Tensor, after: Tensor, probe: Probe) -> float:
    element, rows = probe.element, probe.rows
    if before.shape != after.shape:
        return float("inf")
    if kind is ISOMETRIC and element.matrix is not None:
        return _gram_deviation(before.double(), after.double())
    if kind is ISOMETRIC and element.turn is not None:
        return difference(_lengths(before), _lengths(after), rows)  # each row has its own turn
    try:
        wanted = expected(INVARIANT if kind is ISOMETRIC else kind, before, element, probe.before)
    except ValueError:  # SO(2) orders on rows without a frame
        return float("inf")
    if kind in (POLAR, ANGLE, TRANSPORT):
        wanted, after = _on_circle(wanted), _on_circle(after)
    deviation = difference(wanted, after.double(), rows)
    if element.order is not None and rows.unknown(before):  # edges made inside the model: their order is its own affair
        deviation = min(deviation, float((_sorted(before) - _sorted(after)).abs().max()))
    return deviation


def _on_circle(x: Tensor) -> Tensor:
    """Angles as points of the circle, so that full turns do not count; the last column of ``(r, angle)``."""
    x = x.double().reshape(x.size(0), -1)
    return torch.cat([x[:, :-1], x[:, -1:].cos(), x[:, -1:].sin()], dim=1)


def _lengths(x: Tensor) -> Tensor:
    x = x.double()
    return x.abs() if x.dim() < 2 else x.flatten(1).norm(dim=1)


def _gram_deviation(before: Tensor, after: Tensor, most: int = 256) -> float:
    a, b = (x.reshape(x.size(0), -1)[:most] if x.dim() > 1 else x.reshape(1, -1) for x in (before, after))
    gram = a @ a.T
    size = float(gram.abs().max().sqrt())
    return float((b @ b.T - gram).abs().max()) / (2 * size) if size > 0 else float(b.abs().max())


def _sorted(x: Tensor) -> Tensor:
    x = x.double()
    return x.reshape(x.size(0), -1).sort(dim=0).values if x.dim() > 0 else x
