"""Even functions of an angle that exp and log need, given the *square* of the angle, smooth through zero.

Below a threshold each follows its series, so that values and derivatives are finite and accurate at zero; the branch
that is not taken is fed a harmless argument, so that its derivative is no NaN.
"""

import torch
from torch import Tensor


def _split(square: Tensor) -> tuple[Tensor, Tensor]:
    """Where the series holds to rounding, and the angle (1 there)."""
    small = square < (1e-3 if square.dtype == torch.float64 else 0.1)
    return small, torch.where(small, torch.ones_like(square), square).sqrt()


def _nested(x: Tensor, *divisors: float) -> Tensor:
    """``1 - x/a (1 - x/b (1 - ...))``."""
    result = torch.ones_like(x)
    for divisor in reversed(divisors):
        result = 1 - x / divisor * result
    return result


def sin_over(square: Tensor) -> Tensor:
    r""":math:`\sin t / t`."""
    small, t = _split(square)
    return torch.where(small, _nested(square, 6, 20, 42, 72), torch.sin(t) / t)


def one_minus_cos_over(square: Tensor) -> Tensor:
    r""":math:`(1 - \cos t) / t^2`, by the half angle: ``1 - cos`` loses digits."""
    small, t = _split(square)
    return torch.where(small, _nested(square, 12, 30, 56, 90) / 2, (torch.sin(t / 2) / (t / 2)).square() / 2)


def t_minus_sin_over(square: Tensor) -> Tensor:
    r""":math:`(t - \sin t) / t^3`."""
    small, t = _split(square)
    return torch.where(small, _nested(square, 20, 42, 72, 110) / 6, (t - torch.sin(t)) / t**3)


def half_cot(square: Tensor) -> Tensor:
    r""":math:`(t/2) \cot(t/2)`: 1 at zero, 0 at :math:`t = \pi`."""
    small, t = _split(square)
    h = torch.where(small, square, torch.zeros_like(square)) / 4
    series = 1 - h / 3 * (1 + h / 15 * (1 + h * (2 / 21) * (1 + h / 10)))
    return torch.where(small, series, t / 2 * torch.cos(t / 2) / torch.sin(t / 2))


def one_minus_half_cot_over(square: Tensor) -> Tensor:
    r""":math:`(1 - (t/2) \cot(t/2)) / t^2`."""
    small, t = _split(square)
    x = torch.where(small, square, torch.zeros_like(square))
    series = 1 / 12 + x * (1 / 720 + x * (1 / 30240 + x * (1 / 1209600 + x / 47900160)))
    return torch.where(small, series, (1 - t / 2 * torch.cos(t / 2) / torch.sin(t / 2)) / t**2)


def expm1_over(s: Tensor) -> Tensor:
    r""":math:`(e^s - 1) / s`, of ``s`` itself."""
    small = s.abs() < (1e-3 if s.dtype == torch.float64 else 0.03)
    safe = torch.where(small, torch.ones_like(s), s)
    x = torch.where(small, s, torch.zeros_like(s))
    series = 1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6))))
    return torch.where(small, series, torch.expm1(safe) / safe)
