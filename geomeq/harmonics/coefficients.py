r"""What one does with coefficients: spectra, rotations, derivatives, and the conventions of other libraries.

Coefficients are ``[K]``, ``[K, C]`` or ``[B, K, C]`` with ``K = (lmax + 1)^2``, place :math:`l^2 + l + m`; those of a
spin field have a last axis of 2 more, which must be named by ``spin`` where it matters.
"""

import math

import torch
from torch import Tensor

from geomeq._checks import check_shape
from geomeq.groups.wigner import wigner_blocks

_AXES = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=torch.float64)  # (x, y, z) to (y, z, x)


def degrees(lmax: int) -> Tensor:
    """Degree of each coefficient, ``[(lmax + 1)^2]``."""
    return torch.arange(lmax + 1).repeat_interleave(2 * torch.arange(lmax + 1) + 1)


def orders(lmax: int) -> Tensor:
    """Order of each coefficient, ``[(lmax + 1)^2]``, negative for sines."""
    degree = degrees(lmax)
    return torch.arange((lmax + 1) ** 2) - degree * (degree + 1)


def power_spectrum(c: Tensor) -> Tensor:
    r"""Mean square of the coefficients of each degree, :math:`\hat C_l = \frac{1}{2l+1} \sum_m c_{lm}^2`.

    The mean square of the field over the sphere is :math:`\sum_l (2l+1) \hat C_l / 4\pi`.

    Args:
        c: Coefficients of scalars, or one part (``z[..., 0]``: E, ``z[..., 1]``: B) of those of a spin field.

    Returns:
        ``lmax + 1`` in place of ``(lmax + 1)^2``.

    Example:
        >>> power_spectrum(torch.ones(9))
        tensor([1., 1., 1.])
    """
    return cross_spectrum(c, c)


def cross_spectrum(a: Tensor, b: Tensor) -> Tensor:
    r"""Mean product of the coefficients of each degree of two fields, :math:`\frac{1}{2l+1} \sum_m a_{lm} b_{lm}`.

    Args:
        a: Coefficients.
        b: Others of the same degree; shapes broadcast.

    Returns:
        ``lmax + 1`` in place of ``(lmax + 1)^2``.
    """
    axis, lmax = _axis(a)
    if _axis(b)[1] != lmax:
        raise ValueError(f"both fields must have the same degree, got lmax={lmax} and {_axis(b)[1]}; pad with zeros")
    if a.dim() != b.dim():
        raise ValueError(f"both must have the same number of axes, got {list(a.shape)} and {list(b.shape)}")
    product = a * b
    shape = list(product.shape)
    shape[axis] = lmax + 1
    degree = degrees(lmax).to(a.device)
    return product.new_zeros(shape).index_add(axis, degree, product / _along(2 * degree + 1, product, axis))


def rotate(c: Tensor, rotation: Tensor, spin: int = 0) -> Tensor:
    r"""Coefficients of the rotated field, :math:`(R f)(x) = f(R^{-1} x)`; frames of a spin field are carried along.

    Exact, with no interpolation. Real matrices that are the same for every spin. Degree 96 takes 0.1 s (the first time
    2 s), and the time grows with the fourth power.

    Args:
        c: Coefficients.
        rotation: Proper rotation ``[3, 3]``.
        spin: Other than 0 if ``c`` has a last axis of real and imaginary parts.

    Returns:
        The shape of ``c``. Differentiable in both.

    Raises:
        ValueError: If a shape is wrong or the matrix is no proper rotation.
    """
    check_shape("rotation", rotation, 3, 3)
    axis, lmax = _axis(c, spin)
    if not torch.compiler.is_compiling():
        given = rotation.detach()
        error = float((given.mT @ given - torch.eye(3).to(given)).abs().max())
        if not error < 1e-4 or float(torch.linalg.det(given)) < 0:
            raise ValueError(f"rotation must be orthogonal with determinant 1, got {rotation.tolist()}")
    axes = _AXES.to(rotation)
    return _turned(c, axes @ rotation @ axes.T, axis, lmax)


def raise_spin(c: Tensor, spin: int) -> Tensor:
    r"""Coefficients of :math:`(\partial_\theta + \frac{i}{\sin\theta} \partial_\phi - s \cot\theta) f`, of spin s + 1.

    The derivative towards :math:`e_\theta + i e_\phi`; also written as minus eth.

    Args:
        c: Coefficients of a field of spin s; real ones if s = 0.
        spin: s.

    Returns:
        Complex coefficients, a last axis of 2, also if ``spin`` is -1.
    """
    return _scaled(_complex(c, spin), spin, 1)


def lower_spin(c: Tensor, spin: int) -> Tensor:
    r"""Coefficients of :math:`(\partial_\theta - \frac{i}{\sin\theta} \partial_\phi + s \cot\theta) f`, of spin s - 1.

    Args:
        c: Coefficients of a field of spin s; real ones if s = 0.
        spin: s.

    Returns:
        Complex coefficients, a last axis of 2, also if ``spin`` is 1.
    """
    return -_scaled(_complex(c, spin), spin, -1)


def gradient(c: Tensor) -> Tensor:
    r"""Coefficients of spin 1 of the gradient :math:`(\partial_\theta f, \partial_\phi f / \sin\theta)` of a scalar.

    Args:
        c: Coefficients of a scalar.

    Returns:
        A last axis of 2 more, whose second part is 0: a gradient has no curl.
    """
    return raise_spin(c, 0)


def divergence(z: Tensor) -> Tensor:
    """Coefficients of the divergence, a scalar, of a tangent vector field.

    Args:
        z: Coefficients of spin 1, a last axis of 2.
    """
    return lower_spin(z, 1)[..., 0]


def curl(z: Tensor) -> Tensor:
    r"""Coefficients of the curl, a scalar, of a tangent vector field.

    .. math:: \frac{1}{\sin\theta} (\partial_\theta(\sin\theta \, v_\phi) - \partial_\phi v_\theta)

    Args:
        z: Coefficients of spin 1, a last axis of 2.
    """
    return lower_spin(z, 1)[..., 1]


def to_complex(c: Tensor) -> Tensor:
    r"""Coefficients :math:`a_{lm} = \int f \bar Y_{lm}` for the complex harmonics of physics, orders from 0.

    :math:`a_{l0} = c_{l0}` and :math:`a_{lm} = (-1)^m (c_{l,m} - i c_{l,-m}) / \sqrt 2`: harmonics with the sign
    :math:`(-1)^m` of Condon and Shortley, those of scipy, healpy, ducc and torch-harmonics.

    Args:
        c: Coefficients of scalars.

    Returns:
        ``[..., lmax + 1 (degree), lmax + 1 (order)]`` in place of ``(lmax + 1)^2``, complex, zero where the order is
        above the degree: the layout of torch-harmonics (which has channels first).
    """
    axis, lmax = _axis(c)
    degree, order = torch.arange(lmax + 1, device=c.device)[:, None], torch.arange(lmax + 1, device=c.device)
    none = (lmax + 1) ** 2
    zero = degree * (degree + 1)
    cos = torch.where(order <= degree, zero + order, none)
    sin = torch.where((order <= degree) & (order > 0), zero - order, none)
    size = ((1 - 2 * (order % 2)).double() * torch.where(order > 0, 0.5, 1.0).double().sqrt()).to(c.dtype)
    padded = torch.nn.functional.pad(c.movedim(axis, -1), (0, 1))
    value = torch.complex(padded[..., cos] * size, -padded[..., sin] * size)
    return value.movedim((-2, -1), (axis, axis + 1))


def from_complex(a: Tensor) -> Tensor:
    """The inverse of :func:`to_complex`.

    Args:
        a: ``[L, L]``, ``[L, L, C]`` or ``[B, L, L, C]``, complex, degree before order. Imaginary parts of order 0 are
            not read: a real field has none.

    Returns:
        ``L^2`` in place of both axes.
    """
    if not a.is_complex() or a.dim() not in (2, 3, 4):
        raise ValueError(f"a must be complex with axes degree and order, got {a.dtype} {list(a.shape)}")
    axis = int(a.dim() == 4)
    if a.size(axis) != a.size(axis + 1):
        raise ValueError(f"a must have as many orders as degrees, got {list(a.shape)}; pad the orders with zeros")
    lmax = a.size(axis) - 1
    degree, order = degrees(lmax).to(a.device), orders(lmax).to(a.device)
    value = a.movedim((axis, axis + 1), (-2, -1))[..., degree, order.abs()]
    size = (1 - 2 * (order.abs() % 2)).double() * torch.where(order == 0, 1.0, 2.0).double().sqrt()
    value = torch.where(order < 0, -value.imag, value.real) * size.to(value.real.dtype)
    return value.movedim(-1, axis)


def to_healpy(c: Tensor) -> Tensor:
    r"""Coefficients as healpy and ducc store them: complex, order by order from 0, in each the degrees from m.

    healpy's E and B parts of spin s are these of ``z[..., 0]`` and ``z[..., 1]`` times :math:`(-1)^{s+1}`; its two maps
    are the real and imaginary part of ours.

    Args:
        c: Coefficients of scalars.

    Returns:
        ``(lmax + 1)(lmax + 2) / 2`` in place of ``(lmax + 1)^2``.
    """
    axis, lmax = _axis(c)
    order, degree = _packed(lmax, c.device)
    return to_complex(c).movedim((axis, axis + 1), (-2, -1))[..., degree, order].movedim(-1, axis)


def from_healpy(alm: Tensor) -> Tensor:
    """The inverse of :func:`to_healpy`.

    Args:
        alm: ``[M]``, ``[M, C]`` or ``[B, M, C]``, complex, with ``M = (lmax + 1)(lmax + 2) / 2``.
    """
    axis = int(alm.dim() == 3)
    lmax = (math.isqrt(8 * alm.size(axis) + 1) - 3) // 2
    if not alm.is_complex() or (lmax + 1) * (lmax + 2) != 2 * alm.size(axis):
        raise ValueError(
            f"alm must hold (lmax + 1)(lmax + 2) / 2 complex numbers, got {alm.dtype} {list(alm.shape)}; mmax < lmax "
            "is not supported, pad with zeros"
        )
    order, degree = _packed(lmax, alm.device)
    moved = alm.movedim(axis, -1)
    a = moved.new_zeros(*moved.shape[:-1], (lmax + 1) ** 2).index_copy(-1, degree * (lmax + 1) + order, moved)
    return from_complex(a.unflatten(-1, (lmax + 1, lmax + 1)).movedim((-2, -1), (axis, axis + 1)))


def to_e3nn(c: Tensor) -> Tensor:
    r"""Coefficients for e3nn's harmonics, :func:`spherical_harmonics` with ``normalization="integral"`` (polar axis y).

    Ours at the point (x, y, z) are e3nn's at (y, z, x), so a coordinate change turns one into the other, in each
    degree the matrix :math:`D^l` of that rotation. (For ``"component"`` divide by :math:`\sqrt{4\pi}`.)

    Args:
        c: Coefficients.
    """
    return _changed(c, _AXES.T)


def from_e3nn(c: Tensor) -> Tensor:
    """The inverse of :func:`to_e3nn`."""
    return _changed(c, _AXES)


def _changed(c: Tensor, axes: Tensor) -> Tensor:
    return _turned(c, axes.to(c.device), *_axis(c))


def _turned(c: Tensor, rotation: Tensor, axis: int, lmax: int) -> Tensor:
    """Each degree times the matrix of a rotation in e3nn's axes."""
    parts = []
    for degree, block in enumerate(wigner_blocks(rotation[None], lmax)):
        part = c.narrow(axis, degree**2, 2 * degree + 1).movedim(axis, 0)
        parts.append(torch.einsum("km,m...->k...", block[0].to(c.dtype), part))
    return torch.cat(parts).movedim(0, axis)


def _packed(lmax: int, device: torch.device) -> tuple[Tensor, Tensor]:
    order, degree = torch.ones(lmax + 1, lmax + 1, dtype=torch.bool, device=device).triu().nonzero(as_tuple=True)
    return order, degree


def _axis(c: Tensor, spin: int = 0) -> tuple[int, int]:
    """Axis of the coefficients and their degree."""
    dims = c.dim() - bool(spin)
    if dims not in (1, 2, 3) or (spin and c.size(-1) != 2):
        wanted = "[K, 2], [K, C, 2] or [B, K, C, 2]" if spin else "[K], [K, C] or [B, K, C]"
        raise ValueError(f"coefficients must have shape {wanted}, K = (lmax + 1)^2, got {list(c.shape)}")
    axis = int(dims == 3)
    lmax = math.isqrt(c.size(axis)) - 1
    if lmax < 0 or (lmax + 1) ** 2 != c.size(axis):
        raise ValueError(f"there must be (lmax + 1)^2 coefficients, a square number, got {list(c.shape)} (axis {axis})")
    return axis, lmax


def _along(value: Tensor, like: Tensor, axis: int) -> Tensor:
    """A vector along one axis of another tensor."""
    return value.to(like).view(-1, *(1,) * (like.dim() - axis - 1))


def _complex(c: Tensor, spin: int) -> Tensor:
    _axis(c, spin)
    return c if spin else torch.stack([c, torch.zeros_like(c)], dim=-1)


def _scaled(z: Tensor, spin: int, step: int) -> Tensor:
    axis, lmax = _axis(z, 1)
    degree = degrees(lmax).double().to(z.device)
    size = ((degree - step * spin) * (degree + step * spin + 1)).clamp(min=0) * (degree >= abs(spin))
    return z * _along(size.sqrt(), z, axis)
