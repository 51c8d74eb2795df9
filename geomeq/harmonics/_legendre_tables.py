r"""Tables of what multiplies each coefficient on each ring, order by order.

A real function of spin 0 has on the ring at colatitude :math:`\theta` the Fourier coefficients
:math:`\sum_l T_{lm}(\theta) \, (c_{l,m} \cos m\phi + c_{l,-m} \sin m\phi)`. One of spin s has two tables,
:math:`T^\pm = (A \pm B) / \sqrt 2` with :math:`A = (-1)^m k_l d^l_{m,-s}`, :math:`B = k_l d^l_{-m,-s}` and
:math:`k_l = \sqrt{(2l+1)/4\pi}`; seen from the other side of the equator :math:`T^\pm` has the factor
:math:`\pm (-1)^{l+m+s}`, so that the rings of one hemisphere serve both.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ._wigner_rows import wigner_rows


@dataclass(frozen=True)
class Orders:
    """Neighbouring orders whose tables have one size, so that they are one batched product.

    Attributes:
        first: Lowest order.
        stop: One above the highest.
        length: Degrees of one parity that each order has, the highest orders padded with zeros.
        start: Place of the first row. Degree l and order m have row
            ``start + ((m - first) * 2 + (l - m) % 2) * length + (l - m) // 2``.
    """

    first: int
    stop: int
    length: int
    start: int

    @property
    def rows(self) -> int:
        """Number of rows, padding included."""
        return (self.stop - self.first) * 2 * self.length


def order_groups(lmax: int) -> list[Orders]:
    """All orders 0 to ``lmax`` in groups of a fifth of their degrees, which pads by a tenth."""
    groups, first, start = [], 0, 0
    while first <= lmax:
        stop = min(first + max(16, (lmax + 1 - first) // 5), lmax + 1)
        groups.append(Orders(first, stop, (lmax - first) // 2 + 1, start))
        start += groups[-1].rows
        first = stop
    return groups


def row_numbers(groups: list[Orders], lmax: int) -> Tensor:
    """Row of each degree and order, ``[lmax + 1, lmax + 1]``, where the order is at most the degree."""
    row = torch.zeros(lmax + 1, lmax + 1, dtype=torch.long)
    for group in groups:
        order = torch.arange(group.first, group.stop)
        above = torch.arange(lmax + 1)[:, None] - order
        row[:, group.first : group.stop] = (
            group.start + ((order - group.first) * 2 + above % 2) * group.length + above // 2
        )
    return row


def group_table(group: Orders, colatitude: Tensor, lmax: int, spin: int) -> Tensor:
    """The table of a group of orders in float64.

    Returns:
        ``[2 * orders, length, S * H]``: for each order first the degrees l = m, m + 2, ..., then m + 1, m + 3, ...;
        S = 2 for the two signs if there is a spin, otherwise 1.
    """
    signs = 2 if spin else 1
    table = colatitude.new_zeros(group.stop - group.first, 2, group.length, signs, len(colatitude))
    for degree, value in table_rows(range(group.first, group.stop), colatitude, lmax, spin):
        order = torch.arange(value.size(0))
        above = degree - group.first - order
        keep = above >= 0
        table[order[keep], above[keep] % 2, above[keep] // 2] = value[keep]
    return table.reshape(-1, group.length, signs * len(colatitude))


def table_rows(orders: range, colatitude: Tensor, lmax: int, spin: int) -> Iterator[tuple[int, Tensor]]:
    """Degree after degree, what multiplies the coefficients of each order.

    Args:
        orders: Neighbouring orders, none negative.
        colatitude: float64, ``[H]``.
        lmax: Highest degree.
        spin: Of the functions.

    Yields:
        The degree and the values ``[orders that have begun, S, H]``.
    """
    m = torch.arange(orders.start, orders.stop)
    both = m if spin == 0 else torch.stack([m, -m], dim=1).flatten()
    sign = (1 - 2 * (m % 2)).double()[:, None]
    root = (1 + (m > 0).double()).sqrt()[:, None]
    for degree, d in wigner_rows(both, torch.full_like(both, -spin), colatitude, lmax):
        size = math.sqrt((2 * degree + 1) / (4 * math.pi))
        if spin == 0:
            yield degree, (size * sign * root)[: len(d), :, None] * d[:, None]
            continue
        d = d.unflatten(0, (-1, 2)) * size
        a, b = sign[: len(d)] * d[:, 0], d[:, 1]
        value = torch.stack([a + b, a - b], dim=1) / math.sqrt(2)
        if orders.start == 0:
            value[0] = torch.stack([a[0], torch.zeros_like(a[0])])
        yield degree, value
