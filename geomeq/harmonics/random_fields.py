"""Isotropic Gaussian random fields with a given spectrum, on any sampling."""

import torch
from torch import Tensor

from geomeq._checks import check_finite, check_shape
from geomeq.spheres import Sampling

from .sht import InverseSHT


def gaussian_random_field(
    s: Sampling,
    spectrum: Tensor,
    generator: torch.Generator | None = None,
    num_fields: int | None = None,
    batch: int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""A Gaussian random field whose statistics no rotation changes.

    .. math:: f(x) = \sum_l \sqrt{C_l} \sum_m g_{lm} Y_{lm}(x), \qquad g_{lm} \sim N(0, 1)

    The covariance is :math:`\sum_l \frac{2l+1}{4\pi} C_l P_l(x \cdot y)`. The numbers are drawn as coefficients, degree
    after degree, on the CPU and in float64, so that generators in one state give the same function on every sampling
    (also of a part of the sphere, or rotated), in every precision, and a longer spectrum adds details to it.

    Args:
        s: The sampling.
        spectrum: :math:`C_l \geq 0` of the degrees 0 to ``lmax``, ``[lmax + 1]``; see :func:`power_spectrum`.
        generator: Of random numbers, on the CPU; default torch's own.
        num_fields: Independent fields side by side, a last axis C.
        batch: Independent ones in front, a first axis B; then there is a last axis C, of 1 if not given.
        dtype: Of the field; default torch's own.

    Returns:
        ``[N]``, ``[N, C]`` or ``[B, N, C]``, on the device of ``spectrum``; differentiable in it where it is positive.

    Raises:
        ValueError: If the spectrum is no vector of finite numbers of at least 0.

    Example:
        >>> from geomeq import spheres
        >>> red = 1.0 / (1 + torch.arange(17.0)) ** 3
        >>> gaussian_random_field(spheres.healpix(8), red, torch.Generator().manual_seed(0)).shape
        torch.Size([768])
    """
    c = random_coefficients(spectrum, generator, num_fields, batch)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    return InverseSHT(s, len(spectrum) - 1)(c.to(dtype))


def random_coefficients(
    spectrum: Tensor, generator: torch.Generator | None = None, num_fields: int | None = None, batch: int | None = None
) -> Tensor:
    """The coefficients of :func:`gaussian_random_field`.

    Args:
        spectrum: ``[lmax + 1]``.
        generator: Of random numbers, on the CPU.
        num_fields: A last axis C.
        batch: A first axis B.

    Returns:
        ``[K]``, ``[K, C]`` or ``[B, K, C]``, float64, ``K = (lmax + 1)^2``.

    Raises:
        ValueError: If the spectrum is no vector of finite numbers of at least 0, or a number of fields is not positive.
    """
    check_shape("spectrum", spectrum, "lmax + 1")
    if spectrum.numel() == 0:
        raise ValueError("spectrum must have at least the degree 0, got none")
    check_finite("spectrum", spectrum)
    if bool((spectrum < 0).any()):
        raise ValueError(f"spectrum holds mean squares, which are not negative, got {float(spectrum.min()):g}")
    for name, value in (("num_fields", num_fields), ("batch", batch)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
    fields = (batch or 1) * (num_fields or 1)
    parts = []
    for degree, power in enumerate(spectrum.double()):
        normal = torch.randn(2 * degree + 1, fields, generator=generator, dtype=torch.float64, device="cpu")
        parts.append(normal.to(power.device) * power.sqrt())
    c = torch.cat(parts)
    if batch is not None:
        return c.unflatten(1, (batch, -1)).transpose(0, 1)
    return c if num_fields is not None else c[:, 0]
