r"""Small Wigner functions :math:`d^l_{mn}(\beta)` by recursion over the degree, to any degree without underflow.

Conventions: :math:`d^l(\beta) = \exp(-i \beta J_y)`, rows m, columns n, so :math:`d^1_{10} = -\sin\beta / \sqrt 2`.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_STEPS = 8  # between looks at the exponents; a mantissa grows by at most 2^7 a step at degrees up to 8,000


def wigner_rows(m: Tensor, n: Tensor, beta: Tensor, lmax: int) -> Iterator[tuple[int, Tensor]]:
    r"""The functions of many pairs (m, n), degree after degree.

    :math:`d^{l+1}_{mn}` follows from two degrees below it (the recursion of Jacobi polynomials), beginning with
    :math:`l = \max(|m|, |n|)`, where it is a power of :math:`\cos\beta/2` and :math:`\sin\beta/2`. Near the poles that
    power is far below the smallest number; each value has an integer exponent of its own until it has grown to size.

    Args:
        m: First orders ``[Q]``, int64; with ``n`` such that ``max(|m|, |n|)`` never falls.
        n: Second orders ``[Q]``.
        beta: Angles in [0, pi], float64, ``[H]``.
        lmax: Highest degree.

    Yields:
        The degree l, and :math:`d^l_{mn}` of the first ``q`` pairs ``[q, H]``, float64: those with ``max(|m|, |n|)``
        at most l. Values below 1e-30 are 0.
    """
    first = torch.maximum(m.abs(), n.abs())
    if first.numel() == 0 or int(first[0]) > lmax:
        return
    seed, exponent = _seeds(m, n, beta)
    cos = beta.cos()
    now, before, factor = torch.zeros_like(seed), torch.zeros_like(seed), torch.zeros_like(seed)
    starts = torch.searchsorted(first, torch.arange(lmax + 2), right=False).tolist()  # pairs below each degree
    m, n = m.double()[:, None], n.double()[:, None]
    for degree in range(int(first[0]), lmax + 1):
        old, active = starts[degree], starts[degree + 1]
        if old:
            _step(now[:old], before[:old], m[:old], n[:old], cos, degree)
            now, before = _swapped(now, before, old)
        if active > old:
            now[old:active], factor[old:active] = seed[old:active], exponent[old:active].exp2()
        if degree % _STEPS == 0 and old:
            _rescale(now[:old], before[:old], exponent[:old], factor[:old])
        value = now[:active] * factor[:active]
        yield degree, value.masked_fill_(value.abs() < 1e-30, 0.0)


def _step(now: Tensor, before: Tensor, m: Tensor, n: Tensor, cos: Tensor, degree: int) -> None:
    """Writes the next degree over ``before``."""
    below = degree - 1
    root = ((degree**2 - m**2) * (degree**2 - n**2)).sqrt()
    up = degree * (2 * degree - 1) / root
    if below == 0:
        before.copy_(up * cos * now)
        return
    down = degree / below * ((below**2 - m**2) * (below**2 - n**2)).sqrt() / root
    before.mul_(-down).addcmul_(torch.addcmul(-up * (m * n / (below * degree)), up, cos), now)


def _swapped(now: Tensor, before: Tensor, old: int) -> tuple[Tensor, Tensor]:
    """The two degrees exchanged; rows that have not begun are zero in both."""
    return before, now


def _rescale(now: Tensor, before: Tensor, exponent: Tensor, factor: Tensor) -> None:
    """Moves powers of two from the mantissas to the exponents, which end at 0."""
    small = exponent < 0
    if not bool(small.any()):
        return
    size = torch.frexp(torch.maximum(now.abs(), before.abs())).exponent.double()
    new = torch.where(small, (exponent + size).clamp(max=0), exponent)
    scale = (exponent - new).exp2()
    now.mul_(scale)
    before.mul_(scale)
    exponent.copy_(new)
    factor.copy_(new.exp2())


def _seeds(m: Tensor, n: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mantissa and exponent ``[Q, H]`` of :math:`\pm \sqrt{C(2j, a)} \cos^a(\beta/2) \sin^b(\beta/2)`, j = max."""
    a, b = (m + n).abs(), (m - n).abs()
    mantissa, exponent = (part[:, None] for part in _root_binomial(a, b))
    sign = torch.where((m > n) & (b % 2 == 1), -1.0, 1.0).double()[:, None]
    mantissa = mantissa * sign
    for base, power in (((beta / 2).cos(), a), ((beta / 2).sin(), b)):
        more, shift = _power(base, power)
        mantissa, carry = torch.frexp(mantissa * more)
        exponent = exponent + shift + carry
    return mantissa, torch.where(mantissa == 0, torch.zeros_like(exponent), exponent)


def _power(base: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """Mantissa and exponent of ``base [H]`` to each ``power [Q]``."""
    mantissa, exponent = torch.frexp(base)
    half = mantissa ** (power // 2)[:, None]
    half, carry = torch.frexp(half)
    odd = torch.where((power % 2 == 1)[:, None], mantissa, torch.ones_like(mantissa))
    return half * half * odd, exponent.double() * power[:, None] + 2 * carry


def _root_binomial(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Mantissa and exponent of the root of (a + b over a), in numpy's long numbers."""
    log = _log2_factorials(int((a + b).max()) + 1)
    half = (log[(a + b).numpy()] - log[a.numpy()] - log[b.numpy()]) / 2
    exponent = np.floor(half)
    mantissa = np.exp2(half - exponent).astype(np.float64)
    return torch.from_numpy(mantissa), torch.from_numpy(exponent.astype(np.float64))


@lru_cache(maxsize=4)
def _log2_factorials(size: int) -> np.ndarray:
    logs = np.log2(np.arange(1, size + 1, dtype=np.longdouble))
    return np.concatenate([np.zeros(1, np.longdouble), np.cumsum(logs)])
