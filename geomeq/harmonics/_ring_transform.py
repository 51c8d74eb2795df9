"""Analysis and synthesis on rings: Fourier along each ring, then one table of Legendre functions for each order."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from geomeq.spheres import Sampling

from ._legendre_tables import group_table, order_groups, row_numbers
from ._ring_fourier import GridFourier, RingFourier
from ._transform_cache import kept_tensors, shared_transform

_TABLE_BYTES = 1 << 30  # larger tables are made anew, a group of orders at a time, whenever they are needed
_INDEX = 6  # index tensors and those of poles, which come before all others


class RingTransform:
    """A :class:`SphereTransform` on rings.

    Args:
        s: With rings.
        lmax: Highest degree.
        spin: Of the field.
    """

    def __init__(self, s: Sampling, lmax: int, spin: int) -> None:
        self.s, self.lmax, self.spin = s, lmax, spin
        self.fourier = GridFourier(s, lmax) if GridFourier.serves(s, lmax) else RingFourier(s, lmax)
        self.groups = order_groups(lmax)
        self.signs = 2 if spin else 1
        self.rows = self.groups[-1].start + self.groups[-1].rows
        self.entries = self.rows * self.signs * self.fourier.half
        self.has_poles = bool(spin) and bool((s.rings.colatitude.sin() < 1e-15).any()) if s.rings else False
        self._index = [*_places(lmax, row_numbers(self.groups, lmax), self.rows), *_poles(s, spin)]
        self.kept: dict[tuple[str, torch.dtype, torch.device], list[Tensor]] = {}

    def analyse(self, x: Tensor, weighted: bool = True) -> Tensor:
        """The integral of the field with each harmonic, or the bare sum over the nodes."""
        tensors, channels = self._tensors(x), x.size(2)
        x = _turned(x, tensors[4], tensors[5], -1.0) if self.has_poles else x
        fourier = self.fourier.analyse(x, self._of_rings(tensors), weighted)
        if self.spin:
            fourier = torch.stack([fourier, _partner(fourier.flip(1))], dim=2)
            fourier = fourier.flip(1) if self.spin % 2 else fourier
        fourier = fourier.reshape(2 * (self.lmax + 1), self.signs * self.fourier.half, -1)
        parts = fourier.split([2 * (group.stop - group.first) for group in self.groups])
        flat = self._products(parts, tensors, False).view(2 * self.rows, -1)
        pick, factor = tensors[0], tensors[2]
        flat = flat.index_select(0, pick) * factor[:, None]
        return flat.view(flat.size(0), -1, channels).transpose(0, 1)

    def synthesise(self, c: Tensor) -> Tensor:
        """The field of coefficients at the nodes."""
        tensors, channels = self._tensors(c), c.size(2)
        put, factor = tensors[1], tensors[3]
        flat = c.transpose(0, 1).flatten(1) * factor[:, None]
        flat = torch.cat([flat, flat.new_zeros(1, flat.size(1))]).index_select(0, put).view(self.rows, -1)
        parts = flat.split([group.rows for group in self.groups])
        parts = [part.view(-1, group.length, part.size(1)) for part, group in zip(parts, self.groups, strict=True)]
        fourier = self._products(parts, tensors, True)
        fourier = fourier.view(self.lmax + 1, 2, self.signs, self.fourier.half, 2, -1, channels)
        if self.spin:
            fourier = fourier.flip(1) if self.spin % 2 else fourier
            plus, minus = fourier.unbind(2)
            fourier = plus + _partner(minus.flip(1))
        else:
            fourier = fourier.squeeze(2)
        x = self.fourier.synthesise(fourier, self._of_rings(tensors))
        return _turned(x, tensors[4], tensors[5], 1.0) if self.has_poles else x

    def weigh(self, x: Tensor) -> Tensor:
        """The field times the weights."""
        return x * self._of_rings(self._tensors(x))[0][:, None]

    def _products(self, parts: Sequence[Tensor], tensors: list[Tensor], transpose: bool) -> Tensor:
        """All orders: each group times its table, one below the other ``[rows, columns]``."""
        tables = tensors[_INDEX + len(self.fourier.tensors()) :]
        if not tables:
            return torch.cat(
                [_Passing.apply(x, self, n, transpose).flatten(0, 1) for n, x in enumerate(parts)]  # type: ignore[no-untyped-call]
            )
        tables = [table.mT for table in tables] if transpose else tables
        pairs = list(zip(tables, parts, strict=True))
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            return torch.cat([torch.bmm(table, x).flatten(0, 1) for table, x in pairs])
        out = parts[0].new_empty(sum(len(table) * table.size(1) for table in tables), parts[0].size(2))
        start = 0
        for table, x in pairs:  # into one piece of memory, which a list and a copy would take twice
            stop = start + len(table) * table.size(1)
            torch.bmm(table, x, out=out[start:stop].view(len(table), table.size(1), -1))
            start = stop
        return out

    def _of_rings(self, tensors: list[Tensor]) -> list[Tensor]:
        return tensors[_INDEX : _INDEX + len(self.fourier.tensors())]

    def table(self, number: int, like: Tensor) -> Tensor:
        """The table of a group of orders, made now."""
        group = self.groups[number]
        return group_table(group, self.fourier.colatitude, self.lmax, self.spin).to(like)

    def _tensors(self, x: Tensor) -> list[Tensor]:
        return kept_tensors((self.s.key, self.lmax, self.spin), "tables", x.dtype, x.device)

    def make(self, name: str, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
        """Indices, what the rings need and, unless they are too large, the tables."""
        like = torch.empty(0, dtype=dtype, device=device)
        made = [_moved(tensor, like) for tensor in [*self._index, *self.fourier.tensors()]]
        if self.entries * like.element_size() > _TABLE_BYTES:
            return made
        return made + [self.table(number, like) for number in range(len(self.groups))]

    def __deepcopy__(self, memo: dict[int, Any]) -> "RingTransform":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return shared_transform, (RingTransform, self.s, self.lmax, self.spin)


def _moved(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor.to(like if tensor.is_floating_point() else like.device)


def _places(lmax: int, row: Tensor, rows: int) -> list[Tensor]:
    """Between rows of two, the real and imaginary part, and coefficients, both ways, with the factors of each."""
    degree = torch.arange(lmax + 1).repeat_interleave(2 * torch.arange(lmax + 1) + 1)
    order = torch.arange((lmax + 1) ** 2) - degree * (degree + 1)
    pick = 2 * row[degree, order.abs()] + (order < 0)
    put = torch.full((2 * rows,), (lmax + 1) ** 2)
    put[pick] = torch.arange(len(pick))
    there = torch.where(order < 0, -1.0, 1.0).double()  # the sine is minus the imaginary part
    return [pick, put, there, torch.where(order == 0, there, there / 2)]


def _poles(s: Sampling, spin: int) -> list[Tensor]:
    """Nodes at the poles, and the turn from frames along their meridians to the one along longitude 0 ``[P, 2]``."""
    assert s.rings is not None
    colatitude = s.rings.colatitude.double().repeat_interleave(s.rings.count)
    polar = colatitude.sin() < 1e-15
    south = colatitude[polar] > 1
    angle = spin * s.rings.longitude[polar].double() * torch.where(south, -1, 1)
    return [s.rings.node[polar], torch.stack([angle.cos(), angle.sin()], dim=1)]


def _turned(x: Tensor, node: Tensor, turn: Tensor, sign: float) -> Tensor:
    """The numbers at some nodes multiplied by ``exp(i sign angle)``."""
    re, im = x.index_select(1, node).unflatten(2, (-1, 2)).unbind(-1)
    cos, sin = turn[:, :1], sign * turn[:, 1:]
    turned = torch.stack([cos * re - sin * im, sin * re + cos * im], dim=-1)
    return x.index_copy(1, node, turned.flatten(2))


def _partner(fourier: Tensor) -> Tensor:
    """What the table of the lower sign takes: real part for imaginary part, of the field and of its transform.

    Args:
        fourier: ``[..., 2, B, 2 C]``.
    """
    pairs = fourier.unflatten(-1, (-1, 2)).flip((-4, -1))
    sign = pairs.new_tensor([[-1.0, 1.0], [1.0, -1.0]])
    return (pairs * sign[:, None, None]).flatten(-2)


class _Passing(torch.autograd.Function):
    """A product with a table that is made for it and forgotten; so is the one of its gradient."""

    @staticmethod
    def forward(x: Tensor, transform: RingTransform, number: int, transpose: bool) -> Tensor:
        table = transform.table(number, x)
        return torch.bmm(table.mT if transpose else table, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.rest = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        transform, number, transpose = ctx.rest
        return _Passing.apply(grad, transform, number, not transpose), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        transform, number, transpose = ctx.rest
        return _Passing.apply(tangent, transform, number, transpose)  # type: ignore[no-any-return]
