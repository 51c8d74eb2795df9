"""What gauge layers need to know about a surface, made once per graph."""

from collections.abc import Callable
from math import pi
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from geomeq._checks import check_edge_index, check_finite, check_shape
from geomeq.groups._lasting import lasting
from geomeq.ops._functorch import transforms_functions
from geomeq.ops._gauge_fused import fused_table
from geomeq.ops._gauge_sum import gauge_table

from ._gauge_radial import check_rings, is_inside, ring_profiles

WEIGHTS = ("auto", "area", "mean", "sum", "integral")
_HINT = "apply transforms.MeshGauge, PlaneGauge or SphereGauge, which write it"


class GaugePlan(nn.Module):
    r"""The edges of a surface as gauge layers read them: radial profiles times weights, angles, order of summation.

    Every layer with equal ``rings``, ``cutoff``, ``weight`` and ``basis`` can share one. ``.to`` moves it (angles are
    rounded once, when they are narrowed); a ``state_dict`` does not hold it, as geometry is data and not a parameter.

    Weights of a neighbour: ``"sum"`` 1, ``"mean"`` :math:`1 / \deg i`, ``"area"`` :math:`A_j / \sum_k A_k` over the
    neighbours of ``i``, ``"integral"`` :math:`A_j / (\pi r_c^2)`, a quadrature of the mean over the disc that does not
    renormalise (what the sphere and pixel grids need). ``"auto"`` is ``"area"`` where areas are given, else ``"mean"``.

    Args:
        edge_index: Source and target of each edge, ``[2, E]``, in any order, without self loops.
        polar: ``(r, angle)`` of the source seen from the target, ``[E, 2]``, radians.
        transport: Angle that takes components in the source's frame to the target's, ``[E]``.
        area: Of each node, ``[N]``, in the square of the unit of ``r``.
        rings: Number of radial profiles.
        cutoff: Where they end, in the unit of ``r``. Edges beyond are clipped to it with ``basis="hat"`` and count as
            absent with ``basis="smooth"``.
        weight: As above.
        basis: ``"hat"`` or ``"smooth"``.
        num_nodes: By default the number of areas, or the largest index plus one.
        num_targets: Where nodes that receive are others than those that send, as between two samplings of a sphere:
            their number. Rows of ``edge_index`` then count from 0 each on its own side, ``num_nodes`` and ``area`` are
            those of the senders, and layers give features of the receivers. They need ``self_interaction=False``.

    Raises:
        TypeError: If ``edge_index`` holds no integers or an angle is not floating point.
        ValueError: If a shape is wrong, a number is not finite, an index is out of range, or the weights need areas.

    Example:
        >>> edge_index = torch.tensor([[1, 0], [0, 1]])
        >>> GaugePlan(edge_index, torch.tensor([[1.0, 0.0], [1.0, 3.1]]), torch.zeros(2), rings=2, cutoff=2.0)
        GaugePlan(nodes=2, edges=2, rings=2, cutoff=2.0, weight='mean', basis='hat')
    """

    edge_index: Tensor
    angle: Tensor
    transport: Tensor
    radial: Tensor
    ratio: Tensor | None

    def __init__(
        self,
        edge_index: Tensor,
        polar: Tensor,
        transport: Tensor,
        area: Tensor | None = None,
        rings: int = 2,
        cutoff: float | None = None,
        weight: str = "auto",
        basis: str = "hat",
        num_nodes: int | None = None,
        num_targets: int | None = None,
    ) -> None:
        super().__init__()
        check_rings(rings, cutoff, basis)
        weight = resolve_weight(weight, area, cutoff)
        self.rings, self.cutoff, self.weight, self.basis = rings, cutoff, weight, basis
        self.num_nodes = _check_input(edge_index, polar, transport, area, num_nodes, num_targets)
        self.is_bipartite = num_targets is not None
        self.num_targets = self.num_nodes if num_targets is None else num_targets
        self.has_zero_radius = basis == "hat" and _has_zero(polar)
        r = polar[:, 0]
        inside = is_inside(r, cutoff, basis)
        share = neighbour_weights(edge_index, inside.to(r.dtype), area, cutoff, weight, self.num_targets)
        buffers = {
            "edge_index": edge_index.clone(),
            "angle": polar[:, 1].clone(),
            "transport": transport.clone(),
            "radial": ring_profiles(r, rings, cutoff, basis) * share[:, None],
            "ratio": r / cutoff if basis == "smooth" and cutoff is not None else None,
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor, persistent=False)
        self._made: dict[str, int] = {}

    @property
    def num_edges(self) -> int:
        """Number of edges."""
        return self.edge_index.size(1)

    @property
    def is_fixed(self) -> bool:
        """Whether no gradient has to reach the geometry."""
        return not any(t is not None and t.requires_grad for t in (self.angle, self.transport, self.radial, self.ratio))

    def tables(
        self, orders_in: tuple[int, ...], orders_out: tuple[int, ...], fused: bool = False
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Tables of ``ops._gauge_sum`` for layers between these orders, there and back; made when first asked for."""
        return self._table(orders_in, orders_out, False, fused), self._table(orders_out, orders_in, True, fused)

    def _table(self, orders_in: tuple[int, ...], orders_out: tuple[int, ...], back: bool, fused: bool) -> list[Tensor]:
        name = "back" if back else "there"
        name = f"{name}_fused" if fused else "_".join((name, *map(str, orders_in), "to", *map(str, orders_out)))
        if name not in self._made:
            if torch.compiler.is_compiling():
                return self._make_table(orders_in, orders_out, back, fused)
            made = lasting(self._make_table)(orders_in, orders_out, back, fused)
            for number, tensor in enumerate(made):
                self.register_buffer(f"{name}_{number}", tensor, persistent=False)
            self._made[name] = len(made)
        return [getattr(self, f"{name}_{number}") for number in range(self._made[name])]

    def _make_table(
        self, orders_in: tuple[int, ...], orders_out: tuple[int, ...], back: bool, fused: bool
    ) -> list[Tensor]:
        # the reversed graph reads the same with phi - theta for phi and -theta for theta
        angle = self.angle - self.transport if back else self.angle
        transport = -self.transport if back else self.transport
        turn = transport - angle if self.ratio is None else transport
        edge_index = self.edge_index.flip(0) if back else self.edge_index
        ends = self.num_nodes if back else self.num_targets
        if fused:
            return fused_table(edge_index, ends, angle, turn, self.radial, self.ratio)
        return gauge_table(edge_index, ends, angle, turn, self.radial, self.ratio, orders_in, orders_out)

    def extra_repr(self) -> str:
        """Sizes and settings."""
        nodes = f"{self.num_nodes} -> {self.num_targets}" if self.is_bipartite else self.num_nodes
        return (
            f"nodes={nodes}, edges={self.num_edges}, rings={self.rings}, cutoff={self.cutoff}, "
            f"weight={self.weight!r}, basis={self.basis!r}"
        )


def wide_dtype(weight: Tensor) -> torch.dtype:
    """What layers with these weights compute in: half precision is too coarse for angles, and for sums."""
    return torch.promote_types(weight.dtype, torch.float32)


def out_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """Of the result: no wider than the weights, unless these are in half precision and features are not."""
    common = torch.promote_types(x.dtype, weight.dtype)
    return common if common == weight.dtype else wide_dtype(weight)


def resolve_weight(weight: str, area: Tensor | None, cutoff: float | None) -> str:
    """What ``"auto"`` means here.

    Raises:
        ValueError: If there is no such weight or it lacks what it needs.
    """
    if weight not in WEIGHTS:
        raise ValueError(f"weight must be one of {', '.join(WEIGHTS)}, got {weight!r}")
    if weight == "auto":
        return "mean" if area is None else "area"
    if weight in ("area", "integral") and area is None:
        raise ValueError(f"weight={weight!r} needs area [N], got None; {_HINT}, or use weight='mean'")
    if weight == "integral" and cutoff is None:
        raise ValueError("weight='integral' divides by the area of the disc within the cut-off; give cutoff")
    return weight


def neighbour_weights(
    edge_index: Tensor, counts: Tensor, area: Tensor | None, cutoff: float | None, weight: str, num_targets: int
) -> Tensor:
    """The weight of each edge, ``[E]``; ``counts`` is 1 for edges that count and 0 for others."""
    if weight == "sum":
        return counts
    source, target = edge_index
    if weight == "mean":
        mass = counts
    else:
        assert area is not None, "resolve_weight lets nothing else through"
        mass = counts * area.to(counts.dtype).index_select(0, source)
    if weight == "integral":
        assert cutoff is not None, "resolve_weight lets nothing else through"
        return mass / (pi * cutoff**2)
    total = mass.new_zeros(num_targets).index_add(0, target, mass).index_select(0, target)
    return mass / torch.where(total > 0, total, torch.ones_like(total))  # neighbours without any area weigh nothing


def _check_input(
    edge_index: Tensor,
    polar: Tensor,
    transport: Tensor,
    area: Tensor | None,
    num_nodes: int | None,
    num_targets: int | None,
) -> int:
    """Checks shapes, types and values; the number of nodes that send."""
    check_edge_index(edge_index)
    if num_nodes is None:
        senders = edge_index if num_targets is None else edge_index[0]
        num_nodes = int(senders.max()) + 1 if edge_index.numel() else 0
        num_nodes = area.size(0) if area is not None and area.dim() else num_nodes
    check_edge_index(edge_index, num_nodes, num_nodes if num_targets is None else num_targets)
    check_shape("polar", polar, edge_index.size(1), 2, hint=f"(r, angle) of each edge; {_HINT}")
    check_shape("transport", transport, edge_index.size(1), hint=f"one angle per edge; {_HINT}")
    named = {"polar": polar, "transport": transport}
    if area is not None:
        check_shape("area", area, num_nodes, hint=f"one area per node; {_HINT}")
        named["area"] = area
    for name, tensor in named.items():
        if not tensor.dtype.is_floating_point:
            raise TypeError(f"{name} must be floating point, got {tensor.dtype}; call .float() on it")
        if tensor.device != edge_index.device:
            raise ValueError(f"{name} must lie on the device of edge_index, {edge_index.device}, got {tensor.device}")
        check_finite(name, tensor, hint="look at the report of MeshGauge().with_report(mesh) for degenerate faces")
    if not torch.compiler.is_compiling():
        if bool((polar[:, 0] < 0).any()):
            raise ValueError("polar[:, 0] holds distances and must not be negative; polar is (r, angle), in this order")
        if area is not None and bool((area < 0).any()):
            raise ValueError("area must not be negative; orient the faces (meshes.orient) before areas are taken")
    return num_nodes


def _has_zero(polar: Tensor) -> bool:
    return not torch.compiler.is_compiling() and bool((polar[:, 0] == 0).any())


_PLANS: Any = WeakTensorKeyDictionary()


def cached_plan(
    tensors: tuple[Tensor | None, ...], settings: tuple[Any, ...], build: Callable[[], GaugePlan]
) -> GaugePlan:
    """The plan of these tensors, shared by all layers of equal settings for as long as ``polar`` lives unchanged.

    Identity and version count, not content, as in ``OperatorCache``. Plans hang on their ``polar`` tensor, hold copies
    only, and go when it goes: batches that pass by leave nothing behind.

    Args:
        tensors: ``(edge_index, polar, transport, area)``.
        settings: What else the plan depends on, hashable.
        build: Makes the plan.
    """
    passing = torch.compiler.is_compiling() or transforms_functions()
    if passing or any(t is not None and (t.requires_grad or t.is_inference()) for t in tensors):
        return build()
    polar = tensors[1]
    assert polar is not None
    plans = _PLANS.setdefault(polar, {})
    if settings in plans:
        state, plan = plans[settings]
        if all(_unchanged(entry, t) for entry, t in zip(state, tensors, strict=True)):
            return plan  # type: ignore[no-any-return]
    plan = lasting(build)()
    plans[settings] = [None if t is None else (ref(t), t._version, t.data_ptr()) for t in tensors], plan
    return plan


def _unchanged(entry: tuple[Any, int, int] | None, tensor: Tensor | None) -> bool:
    if entry is None or tensor is None:
        return entry is None and tensor is None
    return entry[0]() is tensor and entry[1:] == (tensor._version, tensor.data_ptr())
