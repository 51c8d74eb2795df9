"""How far a graph on a group reaches: the distance of the k-th neighbour, and the price of turning that balances it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Squared distances tie if they differ by less than this share. Rounding moves them by about 1e-15, while different
#: distances of a regular sample differ by far more.
TIE = 1e-9


class Table(Protocol):
    """Squared distances from a few vertices to all vertices near them, for any price of turning."""

    @property
    def same(self) -> NDArray[np.bool_]:
        """Whether the other vertex has the orientation of the first, broadcastable to ``[L, M]``."""
        ...

    def sqdist(self, xi: float) -> Array:
        """``[L, M]``, infinite for the vertex itself."""
        ...

    def balance(self) -> float:
        """The price at which the shortest turn costs as much as the shortest step without one."""
        ...

    def reach(self, xi: float) -> float:
        """No vertex left out is as near as this squared distance; infinite if none is left out."""
        ...


T = TypeVar("T", bound=Table)


@dataclass
class Growing(Generic[T]):
    """A table that is made larger whenever what it leaves out might matter.

    Attributes:
        make: Builds the table of a size; a larger size leaves out less.
        size: The present one.
    """

    make: Callable[[int], T]
    size: int

    def __post_init__(self) -> None:
        self.table = self.make(self.size)

    def sqdist(self, xi: float, k: int, needed: Callable[[Array], float | None]) -> Array:
        """Squared distances ``[L, M]``, complete up to what ``needed`` says of them (``None``: they are too few)."""
        while True:
            sqdist, reach = self.table.sqdist(xi), self.table.reach(xi)
            far = needed(sqdist)
            if far is not None and (far * (1 + 2 * TIE) < reach or (math.isinf(reach) and math.isfinite(far))):
                return sqdist
            if math.isinf(reach):
                available = int(np.isfinite(sqdist).sum(axis=1).min())
                raise ValueError(f"k must be at most {available}, the number of other vertices, got {k}")
            self.size = self.size * 3 // 2 + 1
            self.table = self.make(self.size)

    def radius(self, xi: float, k: int) -> tuple[float, float]:
        """The squared radius within which the rows have k neighbours on average, and the share of equal orientation.

        For a price of turning ``xi``. Of tied neighbours all are within, so that the average may be above k.
        """

        def average(sqdist: Array) -> float | None:
            rank = k * len(sqdist)
            return float(np.partition(sqdist, rank - 1, axis=None)[rank - 1]) if sqdist.size >= rank else None

        sqdist = self.sqdist(xi, k, average)
        square = average(sqdist)
        assert square is not None
        near = sqdist <= square * (1 + TIE)
        return square, float((near & self.table.same).sum() / near.sum())


def search_xi(growing: Growing[Any], k: int, share: float, per_decade: int = 8) -> tuple[float, float]:
    """The price of turning for which the share of neighbours with the same orientation comes closest to a target.

    Around the price at which the shortest turn costs as much as the shortest step, prices are looked at in equal
    ratios, then more closely around the best. The share moves in steps, as whole sets of tied neighbours come and go,
    so a range of prices gives the same graph; its middle is taken, far from where anything changes.

    Returns:
        ``xi`` and the squared radius that belongs to it.
    """
    centre = math.log10(growing.table.balance())
    grid = centre + np.arange(-3 * per_decade // 2, 3 * per_decade // 2 + 1) / per_decade
    best = _best_of(growing, k, share, grid)
    best = _best_of(growing, k, share, best + np.arange(-5, 6) / (5 * per_decade))
    return 10**best, growing.radius(10**best, k)[0]


def _best_of(growing: Growing[Any], k: int, share: float, exponents: Array) -> float:
    gap = np.array([abs(growing.radius(10**e, k)[1] - share) for e in exponents.tolist()])
    best = np.flatnonzero(gap <= gap.min() + 1e-12)
    run = best[: np.flatnonzero(np.diff(best, append=len(gap) + 1) > 1)[0] + 1]  # the first run of equal gaps
    return float(exponents[run[len(run) // 2]])


def calibrate(growing: Growing[Any], k: int, xi: float | None, share: float) -> tuple[float, float]:
    """``xi`` (searched for if ``None``) and the squared radius of the graph."""
    if xi is None:
        return search_xi(growing, k, share)
    return xi, growing.radius(xi, k)[0]


def check_share(share: Any) -> float:
    """Raises unless the target lies strictly between 0 and 1."""
    if not 0 < share < 1:
        raise ValueError(f"share of neighbours with the same orientation must lie between 0 and 1, got {share}")
    return float(share)
