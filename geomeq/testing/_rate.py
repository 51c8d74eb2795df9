"""Two codecs compared over a range of qualities, as one number."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from scipy.interpolate import PchipInterpolator
from torch import Tensor

Method = Literal["pchip", "cubic"]
Curve = Sequence[float] | np.ndarray | Tensor
_LEAST = {"pchip": 2, "cubic": 4}  # points that determine the curve


def bd_rate(rate_a: Curve, psnr_a: Curve, rate_b: Curve, psnr_b: Curve, method: Method = "pchip") -> float:
    r"""Bits that codec B needs more than codec A for the same quality, in percent (Bjontegaard delta rate).

    .. math:: 100 \left(10^{\frac{1}{D_1 - D_0} \int_{D_0}^{D_1} (\log_{10} R_b(D) - \log_{10} R_a(D)) \, dD} - 1\right)

    over the qualities :math:`[D_0, D_1]` that both curves reach. Negative: B needs fewer bits.

    Args:
        rate_a: Bits of codec A, the anchor, at each of its settings, in any unit, positive, ``[K]``.
        psnr_a: Its quality there, dB, ``[K]``.
        rate_b: Bits of codec B, in the same unit, ``[L]``.
        psnr_b: Its quality, ``[L]``.
        method: How the points of a curve are joined: ``"pchip"``, a monotone cubic between neighbours, through every
            point; ``"cubic"``, the polynomial of degree 3 nearest to all points, as first proposed (at least 4 points;
            exact for 4, between widely spaced points it may swing).

    Returns:
        Percent.

    Raises:
        ValueError: If a curve has too few points, rates that are not positive, quality that does not grow with the
            rate, or the curves have no quality in common.

    Example:
        >>> round(bd_rate([1, 2, 4, 8], [30, 33, 36, 39], [0.9, 1.8, 3.6, 7.2], [30, 33, 36, 39]), 6)
        -10.0

    Source: Bjontegaard (2001), VCEG-M33; piecewise: Bjontegaard (2008), VCEG-AI11.
    """
    a, b = _curve("a", rate_a, psnr_a, method), _curve("b", rate_b, psnr_b, method)
    return 100 * (10 ** _mean_gap(a[::-1], b[::-1], method, "quality") - 1)


def bd_psnr(rate_a: Curve, psnr_a: Curve, rate_b: Curve, psnr_b: Curve, method: Method = "pchip") -> float:
    """Quality that codec B gains on codec A at the same rate, dB: mean over the logarithm of the common rates.

    Arguments as those of :func:`bd_rate`. Positive: B is better.

    Raises:
        ValueError: As :func:`bd_rate`, or if the curves have no rate in common.
    """
    a, b = _curve("a", rate_a, psnr_a, method), _curve("b", rate_b, psnr_b, method)
    return _mean_gap(a, b, method, "rate")


def _curve(name: str, rate: Curve, psnr: Curve, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of the rate and quality, both rising."""
    if method not in _LEAST:
        raise ValueError(f"method must be one of {list(_LEAST)}, got {method!r}")
    rates, quality = (np.asarray(_plain(v), dtype=np.float64) for v in (rate, psnr))
    if rates.ndim != 1 or rates.shape != quality.shape or len(rates) < _LEAST[method]:
        raise ValueError(
            f"curve {name} needs at least {_LEAST[method]} rates for method={method!r} and as many qualities, "
            f"got shapes {list(rates.shape)} and {list(quality.shape)}"
        )
    if not (np.isfinite(rates).all() and np.isfinite(quality).all() and (rates > 0).all()):
        raise ValueError(
            f"curve {name} needs finite positive rates and finite qualities (a lossless point has none), "
            f"got {rates.tolist()} and {quality.tolist()}"
        )
    order = np.argsort(rates)
    rates, quality = np.log10(rates[order]), quality[order]
    if (np.diff(rates) <= 0).any() or (np.diff(quality) <= 0).any():
        raise ValueError(
            f"the quality of curve {name} must grow with its rate, got {quality.tolist()} at rising rates; "
            "leave out settings that another one beats in both"
        )
    return rates, quality


def _plain(values: Curve) -> object:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def _mean_gap(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], method: str, what: str) -> float:
    """Mean of ``b - a`` over the common interval of the first coordinate."""
    low, high = max(a[0][0], b[0][0]), min(a[0][-1], b[0][-1])
    if low >= high:
        raise ValueError(
            f"the curves have no {what} in common: [{a[0][0]:.4g}, {a[0][-1]:.4g}] and "
            f"[{b[0][0]:.4g}, {b[0][-1]:.4g}]{' (log10)' if what == 'rate' else ''}; code at more settings"
        )
    return float((_integral(*b, method)(low, high) - _integral(*a, method)(low, high)) / (high - low))


def _integral(x: np.ndarray, y: np.ndarray, method: str) -> Callable[[float, float], float]:
    if method == "pchip":
        curve = PchipInterpolator(x, y)
        return lambda low, high: float(curve.integrate(low, high))
    middle = x.mean()  # centred: powers of 40 dB cost digits
    primitive = np.polyint(np.polyfit(x - middle, y, 3))
    return lambda low, high: float(np.polyval(primitive, high - middle) - np.polyval(primitive, low - middle))
