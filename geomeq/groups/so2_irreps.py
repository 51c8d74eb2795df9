"""Types of features in the tangent plane: which orders, how many of each, and how they turn with their frame."""

import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self, overload

import torch
from torch import Tensor

from .._checks import check_shape

_BLOCK = re.compile(r"^\s*(?:(\d+)\s*x\s*)?(-?\d+)\s*$")


class MulOrder(NamedTuple):
    """A block of equal orders: ``mul`` fields of order ``order``."""

    mul: int  #: number of fields
    order: int  #: rotation order, 0 for scalars, 1 for tangent vectors

    @property
    def components(self) -> int:
        """Real numbers per field: 1 for order 0, else 2."""
        return 2 if self.order else 1

    @property
    def dim(self) -> int:
        """Real numbers of the block."""
        return self.mul * self.components

    def __str__(self) -> str:
        return f"{self.mul}x{self.order}"


class SO2Irreps:
    r"""A direct sum of real irreps of SO(2), such as ``"16x0+8x1+4x2"``.

    A field of order 0 is one real number. A field of order :math:`m \geq 1` is a pair :math:`(\Re z, \Im z)`: under a
    turn by :math:`\alpha` it becomes :math:`e^{i m \alpha} z`,

    .. math:: R(m\alpha) = \begin{pmatrix} \cos m\alpha & -\sin m\alpha \\ \sin m\alpha & \cos m\alpha \end{pmatrix}.

    Order 1 are tangent vectors, order 2 tangent line fields and traceless symmetric tensors. The orders :math:`m` and
    :math:`-m` are the same real irrep (one is the complex conjugate of the other), so only :math:`m \geq 0` is written.

    Layout of a feature ``[..., dim]``: block after block as printed, and within a block (multiplicity, component), as
    in e3nn. ``"2x0+3x1"`` is two scalars, then three pairs. Blocks may come in any order, and an order may repeat.

    It is an immutable sequence of :class:`MulOrder`, hashable, and its ``str`` reads back.

    Args:
        irreps: A string, another ``SO2Irreps``, or pairs ``(mul, order)``. ``"1"`` is short for ``"1x1"``, the empty
            string is the empty sum.

    Raises:
        ValueError: If the text cannot be read, or a multiplicity or order is negative.

    Example:
        >>> types = SO2Irreps("16x0+8x1+4x2")
        >>> types.dim, types.max_order
        (40, 2)
        >>> types + "1x1"
        16x0+8x1+4x2+1x1
        >>> (types + "1x1").regroup()
        16x0+9x1+4x2
    """

    __slots__ = ("_blocks",)

    def __init__(self, irreps: "SO2Irreps | str | Iterable[tuple[int, int]]" = "") -> None:
        self._blocks: tuple[MulOrder, ...]
        if isinstance(irreps, SO2Irreps):
            self._blocks = irreps._blocks
        elif isinstance(irreps, str):
            self._blocks = tuple(_parse(irreps))
        elif isinstance(irreps, Iterable):
            self._blocks = tuple(_block(pair, irreps) for pair in irreps)
        else:
            raise ValueError(f"SO2Irreps reads '16x0+8x1' or pairs (mul, order), got {irreps!r}")

    @classmethod
    def band(cls, mul: int, max_order: int) -> Self:
        """``mul`` fields of every order from 0 to ``max_order``.

        Example:
            >>> SO2Irreps.band(16, 2)
            16x0+16x1+16x2
        """
        if max_order < 0:
            raise ValueError(f"max_order must be at least 0, got {max_order}")
        return cls((mul, order) for order in range(max_order + 1))

    @property
    def dim(self) -> int:
        """Real numbers in all: order 0 counts once, all others twice."""
        return sum(block.dim for block in self._blocks)

    @property
    def num_fields(self) -> int:
        """Number of fields, whatever their order."""
        return sum(block.mul for block in self._blocks)

    @property
    def max_order(self) -> int:
        """Largest order that occurs; -1 if there is none."""
        return max((block.order for block in self._blocks if block.mul), default=-1)

    @property
    def orders(self) -> tuple[int, ...]:
        """The order of each field, ``[num_fields]``."""
        return tuple(block.order for block in self._blocks for _ in range(block.mul))

    def count(self, order: int) -> int:
        """Number of fields of an order."""
        return sum(block.mul for block in self._blocks if block.order == order)

    def slices(self) -> list[slice]:
        """Where each block lies in a feature."""
        found, start = [], 0
        for block in self._blocks:
            found.append(slice(start, start + block.dim))
            start += block.dim
        return found

    def regroup(self) -> "SO2Irreps":
        """The same fields sorted by order, one block per order, empty blocks left out."""
        present = sorted({block.order for block in self._blocks if block.mul})
        return SO2Irreps((self.count(order), order) for order in present)

    def permutation(self) -> Tensor:
        """Columns that take a feature to the layout of :meth:`regroup`: ``x[..., permutation]``, ``[dim]``, int64."""
        blocks = zip(self._blocks, self.slices(), strict=True)
        ordered = sorted(blocks, key=lambda item: item[0].order)  # stable: equal orders stay in sequence
        columns = [torch.arange(columns.start, columns.stop) for _, columns in ordered]
        return torch.cat(columns) if columns else torch.empty(0, dtype=torch.long)

    def split(self, x: Tensor) -> list[Tensor]:
        """Takes features apart, ``[..., dim]`` to one ``[..., mul, 1 or 2]`` per block; views."""
        check_shape("x", x, "...", self.dim, hint=f"the components of {self}")
        return [
            x[..., columns].unflatten(-1, (block.mul, block.components))
            for block, columns in zip(self._blocks, self.slices(), strict=True)
        ]

    def join(self, blocks: Sequence[Tensor]) -> Tensor:
        """Puts features together again, the inverse of :meth:`split`.

        Args:
            blocks: One tensor ``[..., mul, 1 or 2]`` per block.

        Raises:
            ValueError: If their number or a shape does not fit.
        """
        if len(blocks) != len(self._blocks):
            raise ValueError(f"{self} has {len(self._blocks)} blocks, got {len(blocks)} tensors")
        for block, x in zip(self._blocks, blocks, strict=True):
            check_shape(f"block {block}", x, "...", block.mul, block.components)
        if not blocks:
            raise ValueError("an empty SO2Irreps has nothing to join")
        return torch.cat([x.flatten(-2) for x in blocks], dim=-1)

    def rotate(self, x: Tensor, angle: Tensor | float) -> Tensor:
        r"""Turns features: order :math:`m` is multiplied by :math:`e^{i m \alpha}`.

        With ``angle = transport`` it carries features along an edge; with ``angle = -t`` it writes them in frames
        that were turned by ``t``. Differentiable in both arguments.

        Args:
            x: ``[..., dim]``.
            angle: Radians, a number or a tensor whose shape broadcasts against ``x.shape[:-1]``.

        Returns:
            The turned features, ``[..., dim]``.

        Raises:
            ValueError: If ``x`` has another number of components, or ``angle`` does not broadcast.
        """
        check_shape("x", x, "...", self.dim, hint=f"the components of {self}")
        if not isinstance(angle, Tensor):
            angle = torch.tensor(angle, dtype=torch.float64)  # a number is not to be rounded to float32
        angle = angle.to(x.device, x.dtype if angle.dtype != torch.float64 else None)
        try:
            shape = torch.broadcast_shapes(angle.shape, x.shape[:-1])
        except RuntimeError:
            raise ValueError(
                f"angle {list(angle.shape)} must broadcast against the leading axes of x, {list(x.shape[:-1])}"
            ) from None
        x = x.expand(*shape, self.dim)
        turned = [
            _turn(part, block.order * angle) if block.order else part
            for block, part in zip(self._blocks, self.split(x), strict=True)
        ]
        return self.join(turned) if turned else x

    @overload
    def __getitem__(self, index: int) -> MulOrder: ...
    @overload
    def __getitem__(self, index: slice) -> "SO2Irreps": ...
    def __getitem__(self, index: int | slice) -> "MulOrder | SO2Irreps":
        return SO2Irreps(self._blocks[index]) if isinstance(index, slice) else self._blocks[index]

    def __iter__(self) -> Iterator[MulOrder]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def __add__(self, other: "SO2Irreps | str | Iterable[tuple[int, int]]") -> "SO2Irreps":
        return SO2Irreps(self._blocks + SO2Irreps(other)._blocks)

    def __radd__(self, other: "str | Iterable[tuple[int, int]]") -> "SO2Irreps":
        return SO2Irreps(other) + self

    def __mul__(self, times: int) -> "SO2Irreps":
        return SO2Irreps(self._blocks * times)

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):  # the printed form only, so that equal things have equal hashes
            return str(self) == other
        return isinstance(other, SO2Irreps) and self._blocks == other._blocks

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> "tuple[type[SO2Irreps], tuple[str]]":
        return SO2Irreps, (str(self),)

    def __repr__(self) -> str:
        return "+".join(str(block) for block in self._blocks)


def _turn(x: Tensor, angle: Tensor) -> Tensor:
    """Turns pairs ``[..., mul, 2]`` by ``angle [...]``."""
    # The angle is reduced in its own precision and only then rounded: a float64 angle keeps float32 features exact.
    cos, sin = angle.cos()[..., None].to(x.dtype), angle.sin()[..., None].to(x.dtype)
    re, im = x.unbind(-1)
    return torch.stack([cos * re - sin * im, sin * re + cos * im], dim=-1)


def _parse(text: str) -> Iterator[MulOrder]:
    if not text.strip():
        return
    for part in text.split("+"):
        match = _BLOCK.match(part)
        if match is None:
            raise ValueError(
                f"cannot read {part.strip()!r} in {text!r}: write multiplicity x order as in '16x0+8x1+4x2' "
                "(no parity letter: those belong to O(3) irreps)"
            )
        yield _block((int(match[1] or 1), int(match[2])), text)


def _block(pair: tuple[int, int], source: object) -> MulOrder:
    try:
        mul, order = pair
        mul, order = operator.index(mul), operator.index(order)
    except (TypeError, ValueError):
        raise ValueError(
            f"a block of SO2Irreps is a pair of integers (mul, order), got {pair!r} in {source!r}"
        ) from None
    if mul < 0:
        raise ValueError(f"a multiplicity must not be negative, got {mul}x{order} in {source!r}")
    if order < 0:
        raise ValueError(
            f"orders are 0, 1, 2 ..., got {order} in {source!r}; order -m is the complex conjugate of order m, the "
            "same real irrep: store the conjugate under m"
        )
    return MulOrder(mul, order)
