"""Spin-weighted harmonics and small Wigner matrices, by the sum over powers of half angles: slow, and independent."""

from math import factorial, sqrt

import torch


def wigner_d(degree, m, n, beta):
    """d^l_mn(beta), Wigner's own sum."""
    total = torch.zeros_like(beta)
    scale = sqrt(factorial(degree + m) * factorial(degree - m) * factorial(degree + n) * factorial(degree - n))
    for k in range(max(0, n - m), min(degree + n, degree - m) + 1):
        below = factorial(degree + n - k) * factorial(k) * factorial(m - n + k) * factorial(degree - m - k)
        power = 2 * degree + n - m - 2 * k
        total = total + (-1.0) ** (m - n + k) * scale / below * (beta / 2).cos() ** power * (beta / 2).sin() ** (
            m - n + 2 * k
        )
    return total


def spin_harmonic(spin, degree, m, pos):
    """sY_lm in meridian frames, for fields with f -> e^{-i s psi} f; zero where degree < spin."""
    x, y, z = pos.T
    theta, phi = torch.atan2(torch.hypot(x, y), z), torch.atan2(y, x)
    if degree < max(abs(spin), abs(m)):
        return torch.zeros(len(pos), dtype=torch.complex128)
    size = sqrt((2 * degree + 1) / (4 * torch.pi)) * wigner_d(degree, m, -spin, theta)
    return torch.polar(size.abs(), m * phi + torch.pi * (size < 0))


def kernel_coefficient(profile, spin_in, spin_out, degree, cutoff, steps=4000):
    """khat^l of a kernel k(beta) between spins, in the parallel transport form: 2 pi int k d^l sin."""
    if degree < max(abs(spin_in), abs(spin_out)):
        return 0.0
    beta = (torch.arange(steps, dtype=torch.float64) + 0.5) * (cutoff / steps)
    d = wigner_d(degree, -spin_out, -spin_in, beta)
    return float(2 * torch.pi * (profile(beta) * d * beta.sin()).sum() * cutoff / steps)
