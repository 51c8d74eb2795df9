"""The order of coefficients in the frame of an edge."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class EdgeOrder:
    """The rows of one order: ``plus`` holds +m and ``minus`` -m (``None`` for m = 0), degrees m to L in both."""

    m: int
    plus: slice
    minus: slice | None

    @property
    def rows(self) -> slice:
        """The rows of both signs, which lie side by side."""
        return self.plus if self.minus is None else slice(self.plus.start, self.minus.stop)


class EdgeLayout:
    """Order of the coefficients in the frame of an edge: by ``|m|`` first, so that each order is one contiguous block.

    Rows: m = 0 with degrees 0..L; then for m = 1..M first +m with degrees m..L, then -m with degrees m..L. The Wigner
    matrices of an edge are stored flat in the same order: row r holds the ``2l+1`` entries of the row (l, m) of
    :math:`D^l`, one row after the other, nothing else (:math:`D` is zero between degrees).

    Args:
        lmax: Highest degree, L.
        mmax: Highest order kept in the frame, M; all by default.

    Example:
        >>> layout = EdgeLayout(2, mmax=1)
        >>> list(zip(layout.degrees, layout.signed_orders))
        [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (1, -1), (2, -1)]
        >>> layout.num_rows, layout.num_values
        (7, 25)
    """

    def __init__(self, lmax: int, mmax: int | None = None) -> None:
        mmax = lmax if mmax is None else mmax
        if lmax < 0:
            raise ValueError(f"lmax must be at least 0, got {lmax}")
        if not 0 <= mmax <= lmax:
            raise ValueError(f"mmax must lie between 0 and lmax={lmax}, got {mmax}")
        self.lmax, self.mmax = lmax, mmax
        orders: list[EdgeOrder] = []
        rows: list[tuple[int, int]] = []
        for m in range(mmax + 1):
            plus = slice(len(rows), len(rows) + lmax + 1 - m)
            rows += [(deg, m) for deg in range(m, lmax + 1)]
            minus = slice(len(rows), len(rows) + lmax + 1 - m) if m else None
            rows += [(deg, -m) for deg in range(m, lmax + 1)] if m else []
            orders.append(EdgeOrder(m, plus, minus))
        self.orders = tuple(orders)
        self.degrees = tuple(deg for deg, _ in rows)
        self.signed_orders = tuple(m for _, m in rows)
        self.num_rows, self.num_coefficients = len(rows), (lmax + 1) ** 2
        ends = [0]
        for deg in self.degrees:
            ends.append(ends[-1] + 2 * deg + 1)
        self.starts, self.num_values = tuple(ends[:-1]), ends[-1]
        self._tables: dict[torch.device, dict[str, Tensor]] = {}

    def row(self, degree: int, m: int) -> int:
        """The row of one coefficient."""
        if not abs(m) <= min(degree, self.mmax) or degree > self.lmax:
            raise ValueError(f"no row for degree {degree} and order {m} in {self}")
        order = self.orders[abs(m)]
        part = order.plus if m >= 0 or order.minus is None else order.minus
        return part.start + degree - abs(m)

    def values_of(self, degree: int) -> Iterator[range]:
        """Positions in the flat Wigner row of the rows of one degree, from m = -min(l, M) up."""
        top = min(degree, self.mmax)
        for m in range(-top, top + 1):
            start = self.starts[self.row(degree, m)]
            yield range(start, start + 2 * degree + 1)

    def blocks(self, wigner: Tensor) -> list[Tensor]:
        """The Wigner matrices of a flat table ``[E, T]`` by degree, ``[E, 2 min(l, M) + 1, 2l + 1]``.

        Rows from m = -min(l, M) up, columns from -l up.
        """
        return [
            torch.stack([wigner[:, r.start : r.stop] for r in self.values_of(deg)], dim=1)
            for deg in range(self.lmax + 1)
        ]

    def coefficient_index(self) -> list[int]:
        """The index l*l + l + m of each row in the usual order of coefficients."""
        return [deg * deg + deg + m for deg, m in zip(self.degrees, self.signed_orders, strict=True)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EdgeLayout) and (self.lmax, self.mmax) == (other.lmax, other.mmax)

    def __hash__(self) -> int:
        return hash((self.lmax, self.mmax))

    def __repr__(self) -> str:
        return f"EdgeLayout(lmax={self.lmax}, mmax={self.mmax})"


@dataclass(frozen=True)
class LayoutTables:
    """Index arrays of a layout on one device, int32 where they become columns of a sparse matrix."""

    read: Tensor
    """Coefficient that each Wigner entry multiplies, ``[T]``."""
    starts: Tensor
    """First entry of each row, ``[B]``."""
    order_t: Tensor
    """Entries sorted by the coefficient they read, ``[T]``: the order of the transpose."""
    row_t: Tensor
    """Row of each of those, ``[T]``."""
    starts_t: Tensor
    """First of them for each coefficient, ``[R]``."""
    twice: Tensor
    """Entries with every row written twice, ``[2 T]``: for two endpoints side by side."""
    side_twice: Tensor
    """Which of the two, ``[2 T]``."""
    once: Tensor
    """Where the entries of the first endpoint and of the second stand among those, ``[2, T]``."""
    starts_twice: Tensor
    """First entry of each row for each endpoint, ``[2 B]``."""


@lru_cache(maxsize=64)
def layout_of(lmax: int, mmax: int) -> EdgeLayout:
    """The layout, made once."""
    return EdgeLayout(lmax, mmax)


@lru_cache(maxsize=64)
def layout_tables(lmax: int, mmax: int, device: torch.device) -> LayoutTables:
    """The index arrays, made once a device."""
    with torch.inference_mode(False), torch.no_grad():
        return _make_tables(layout_of(lmax, mmax), device)


def _make_tables(layout: EdgeLayout, device: torch.device) -> LayoutTables:
    length = torch.tensor([2 * deg + 1 for deg in layout.degrees])
    starts = torch.tensor(layout.starts)
    row = torch.arange(layout.num_rows).repeat_interleave(length)
    read = torch.cat([torch.arange(deg * deg, (deg + 1) ** 2) for deg in layout.degrees])
    order_t = read.argsort(stable=True)
    count = torch.bincount(read, minlength=layout.num_coefficients)
    twice = torch.cat([torch.arange(s, s + n).repeat(2) for s, n in zip(layout.starts, length.tolist(), strict=True)])
    side = torch.cat([torch.arange(2).repeat_interleave(n) for n in length.tolist()])
    once = torch.stack([(side == s).nonzero()[:, 0] for s in (0, 1)])
    starts_twice = torch.stack([2 * starts, 2 * starts + length], dim=1).flatten()
    made = (read.int(), starts, order_t, row[order_t].int(), count.cumsum(0) - count, twice, side, once, starts_twice)
    return LayoutTables(*(t.to(device) for t in made))
