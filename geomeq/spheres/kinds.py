"""Samplings by name, and the resolution that a task needs."""

import math
from collections.abc import Callable

from .cubed import cubed
from .healpix import healpix
from .ring_grids import driscoll_healy, equiangular, gauss_legendre, lobatto, reduced_gauss_legendre
from .sampling import Sampling, check_count
from .scattered import random
from .spread import fibonacci, icosphere

_KINDS: dict[str, Callable[[int], Sampling]] = {
    "cubed": cubed,
    "driscoll_healy": driscoll_healy,
    "equiangular": equiangular,
    "fibonacci": fibonacci,
    "gauss_legendre": gauss_legendre,
    "healpix": healpix,
    "icosphere": icosphere,
    "lobatto": lobatto,
    "random": random,
    "reduced_gauss_legendre": reduced_gauss_legendre,
}
# resolution -> nodes and degree of exactness (None: approximate only), without making the points
_NODES: dict[str, Callable[[int], int]] = {
    "cubed": lambda n: 6 * n * n,
    "driscoll_healy": lambda b: 4 * b * b,
    "equiangular": lambda rows: 2 * rows * (rows - 1),
    "fibonacci": lambda n: n,
    "gauss_legendre": lambda rows: 2 * rows * rows,
    "healpix": lambda nside: 12 * nside * nside,
    "icosphere": lambda level: 10 * 4**level + 2,
    "lobatto": lambda rows: 2 * rows * (rows - 1),
    "random": lambda n: n,
    "reduced_gauss_legendre": lambda rows: rows * (rows + 18),
}
_DEGREE: dict[str, Callable[[int], int]] = {
    "driscoll_healy": lambda b: 2 * b - 1,
    "equiangular": lambda rows: min(rows if rows % 2 else rows - 1, 2 * rows - 3),
    "gauss_legendre": lambda rows: 2 * rows - 1,
    "lobatto": lambda rows: 2 * rows - 3,
}
KINDS = tuple(_KINDS)


def sampling(kind: str, resolution: int) -> Sampling:
    """The sampling of a kind, with its one number: rows, ``nside``, level, bandwidth or points.

    Args:
        kind: Such as ``"healpix"`` or ``"gauss_legendre"``; the names of the functions of this package.
        resolution: The first argument of that function; the others have their defaults.

    Raises:
        ValueError: If there is no such kind, or the number is out of range.

    Example:
        >>> sampling("icosphere", 3)
        Sampling('icosphere', num_nodes=642)
    """
    _check_kind(kind)
    return _KINDS[kind](resolution)


def resolution_for(
    kind: str, *, nodes: int | None = None, spacing: float | None = None, degree: int | None = None
) -> int:
    """The least resolution of a kind that is fine enough.

    Args:
        kind: As for :func:`sampling`.
        nodes: At least so many nodes; or
        spacing: cells at most so wide, radians (see :attr:`Sampling.spacing`); or
        degree: spherical polynomials up to this degree are integrated exactly (grids of latitude and longitude only).

    Raises:
        ValueError: If there is no such kind, not exactly one demand, or a kind that is never exact.

    Example:
        >>> resolution_for("healpix", nodes=1000), resolution_for("gauss_legendre", degree=63)
        (16, 32)
    """
    _check_kind(kind)
    if sum(demand is not None for demand in (nodes, spacing, degree)) != 1:
        raise ValueError(f"give one of nodes, spacing and degree, got {nodes}, {spacing} and {degree}")
    if degree is not None:
        if kind not in _DEGREE:
            raise ValueError(f"{kind!r} integrates no degree exactly; take one of {sorted(_DEGREE)}, or give nodes")
        check_count("degree", degree, 0)
        return _least(kind, lambda resolution: _DEGREE[kind](resolution) >= degree)
    if spacing is not None:
        if not (spacing > 0 and math.isfinite(spacing)):
            raise ValueError(f"spacing is an angle in radians and must be positive, got {spacing}")
        nodes = math.ceil(4 * math.pi / spacing**2 * (1 - 1e-12))
    assert nodes is not None
    check_count("nodes", nodes, 1)
    return _least(kind, lambda resolution: _NODES[kind](resolution) >= nodes)


def _least(kind: str, enough: Callable[[int], bool]) -> int:
    """The least legal resolution that is enough, by doubling and halving."""
    if kind == "healpix":
        return next(1 << order for order in range(40) if enough(1 << order))
    step = 2 if kind == "reduced_gauss_legendre" else 1
    least = {"equiangular": 2, "lobatto": 2, "reduced_gauss_legendre": 2, "icosphere": 0, "random": 4}.get(kind, 1)
    high = 1
    while not enough(least + step * high):
        high *= 2
    low = -1  # not enough, high is
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(least + step * middle) else (middle, high)
    return least + step * high


def _check_kind(kind: str) -> None:
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {sorted(_KINDS)}, got {kind!r}")
