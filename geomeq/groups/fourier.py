r"""The Fourier transform on a finite group, and what it does to convolutions and norms.

.. math:: \hat f(\rho) = \sum_g f(g)\, \rho(g), \qquad
          f(g) = \frac{1}{|G|} \sum_\rho d_\rho\, \mathrm{tr}(\hat f(\rho)\, \rho(g)^H)

With these conventions (sums, no :math:`1/|G|` in the convolution)

.. math:: (f * \chi)(u) = \sum_v f(u v^{-1})\, \chi(v) \;\Rightarrow\; \hat f \hat \chi, \qquad
          (f \star w)(u) = \sum_v f(v)\, w(u^{-1} v) \;\Rightarrow\; \hat f \hat w^H \text{ (real } w).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._checks import check_shape
from ._lasting import lasting

if TYPE_CHECKING:
    from .finite import FiniteGroup

_COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def fourier(group: "FiniteGroup", f: Tensor) -> list[Tensor]:
    """Fourier coefficients of functions on a group.

    Args:
        group: The group.
        f: Functions, ``[..., n]``, real or complex.

    Returns:
        One complex matrix ``[..., d, d]`` for each irrep of ``group.irreps``.

    Raises:
        ValueError: If the last axis of ``f`` has another length.

    Example:
        >>> from geomeq.groups import dihedral
        >>> [tuple(block.shape) for block in fourier(dihedral(3), torch.randn(5, 6))]
        [(5, 1, 1), (5, 1, 1), (5, 2, 2)]
    """
    f = _as_complex(group, f)
    coefficients = f @ _coefficients(group, f)
    dims = [irrep.size(-1) for irrep in group.irreps]
    blocks = coefficients.split([d * d for d in dims], dim=-1)
    return [block.unflatten(-1, (d, d)) for block, d in zip(blocks, dims, strict=True)]


def inverse_fourier(group: "FiniteGroup", fhat: Sequence[Tensor]) -> Tensor:
    """The functions with given Fourier coefficients.

    Args:
        group: The group.
        fhat: A matrix ``[..., d, d]`` for each irrep.

    Returns:
        Functions ``[..., n]``, complex; where they are real, take ``.real``.

    Raises:
        ValueError: If a matrix is missing or has another size.
    """
    _check_blocks(group, fhat)
    weights = [block.size(-1) / group.order for block in fhat]
    flat = torch.cat([w * block.flatten(-2) for w, block in zip(weights, fhat, strict=True)], dim=-1)
    flat = flat if flat.is_complex() else flat.to(_COMPLEX[flat.dtype])
    return flat @ _coefficients(group, flat).mH


def fourier_matrix(group: "FiniteGroup") -> Tensor:
    r"""A real orthogonal matrix whose rows are matrix coefficients of the real irreps, ``[n, n]`` float64.

    Rows belong to irreps in the order of ``group.real_irreps``: :math:`\sqrt{m / n}\, \rho_{ij}`, all ``i`` for each
    column ``j`` that is not the image of an earlier one under the commutant (every column for real type, every second
    for complex, every fourth for quaternionic type).
    """
    return fourier_rows(group.real_irreps, group.real_irrep_types)


def fourier_rows(real_irreps: Sequence[Tensor], types: Sequence[str]) -> Tensor:
    """The rows of :func:`fourier_matrix` from real irreps ``[n, m, m]`` in adapted bases."""
    rows = []
    for real, kind in zip(real_irreps, types, strict=True):
        step = {"real": 1, "complex": 2, "quaternionic": 4}[kind]
        chosen = real[:, :, ::step].permute(2, 1, 0).flatten(0, 1)
        rows.append(chosen * math.sqrt(real.size(-1) / real.size(0)))
    return torch.cat(rows)


def convolution(group: "FiniteGroup", f: Tensor, chi: Tensor, path: str = "table") -> Tensor:
    r"""Convolution :math:`(f * \chi)(u) = \sum_v f(u v^{-1}) \chi(v)`, ``[..., n]``.

    Args:
        group: The group.
        f: Functions, ``[..., n]``.
        chi: Functions, ``[..., n]``; leading axes are broadcast.
        path: ``"table"`` or ``"fourier"``.
    """
    _check_functions(group, f, chi)
    if path == "fourier":
        return _by_fourier(group, f, chi, [a @ b for a, b in zip(fourier(group, f), fourier(group, chi), strict=True)])
    _check_path(path)
    table = _on(group, "divide", f.device)  # [u, w]: w^-1 u
    return _gathered_product(f, chi, table)


def correlation(group: "FiniteGroup", f: Tensor, w: Tensor, path: str = "table") -> Tensor:
    r"""Correlation :math:`(f \star w)(u) = \sum_v f(v) w(u^{-1} v)`, ``[..., n]``: what a group convolution layer does.

    Args:
        group: The group.
        f: Functions, ``[..., n]``.
        w: Filters, ``[..., n]``; leading axes are broadcast.
        path: ``"table"`` or ``"fourier"``.
    """
    _check_functions(group, f, w)
    if path == "fourier":
        hats = zip(fourier(group, f), fourier(group, w.conj()), strict=True)
        return _by_fourier(group, f, w, [a @ b.mH for a, b in hats])
    _check_path(path)
    table = _on(group, "relative", f.device)  # [u, v]: u^-1 v
    return _gathered_product(f, w, table)


def schatten_norm(fhat: Sequence[Tensor], p: float = 2.0) -> Tensor:
    r"""Schatten norm of Fourier coefficients, each block counted as often as its dimension, ``[...]``.

    .. math:: \|\hat f\|_p = \Big( \sum_\rho d_\rho \sum_i \sigma_i(\hat f(\rho))^p \Big)^{1/p}

    For ``p < 1`` this is a quasi-norm; ``p = inf`` gives the largest singular value, ``p = 2``
    :math:`\sqrt n \|f\|_2`.

    Args:
        fhat: A matrix ``[..., d, d]`` for each irrep.
        p: Positive.

    Raises:
        ValueError: If ``p`` is not positive or ``fhat`` is empty.
    """
    if not p > 0:
        raise ValueError(f"p must be positive, got {p}")
    values, weight = singular_values(fhat)
    if math.isinf(p):
        return values.amax(dim=-1)
    return (weight * values.pow(p)).sum(dim=-1).pow(1 / p)


def effective_rank(fhat: Sequence[Tensor], tol: float = 1e-2) -> Tensor:
    r"""How many singular values exceed ``tol`` times the largest, each counted :math:`d_\rho` times, ``[...]``.

    It is at most the order of the group, and the rank of convolution with ``f`` as ``tol`` goes to 0.

    Args:
        fhat: A matrix ``[..., d, d]`` for each irrep.
        tol: Relative to the largest singular value of all blocks, at least 0 and below 1.
    """
    if not 0 <= tol < 1:
        raise ValueError(f"tol must lie in [0, 1), got {tol}")
    values, weight = singular_values(fhat)
    return (weight * (values > tol * values.amax(dim=-1, keepdim=True))).sum(dim=-1)


def singular_values(fhat: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Singular values of all blocks, ``[..., sum d]``, and how often each counts (the dimension of its irrep)."""
    if not len(fhat):
        raise ValueError("fhat must hold a matrix for each irrep, got none")
    for i, block in enumerate(fhat):
        check_shape(f"fhat[{i}]", block, "...", "d", "d")
    values = torch.cat([torch.linalg.svdvals(block) for block in fhat], dim=-1)
    weight = torch.cat([values.new_full((block.size(-1),), block.size(-1)) for block in fhat])
    return values, weight


def _gathered_product(f: Tensor, kernel: Tensor, table: Tensor) -> Tensor:
    """``sum_v kernel[..., table[u, v]] f[..., v]``."""
    dtype = torch.promote_types(f.dtype, kernel.dtype)
    return (kernel.to(dtype)[..., table] @ f.to(dtype)[..., None])[..., 0]


def _by_fourier(group: "FiniteGroup", f: Tensor, w: Tensor, product: list[Tensor]) -> Tensor:
    result = inverse_fourier(group, product)
    return result if f.is_complex() or w.is_complex() else result.real


def _check_path(path: str) -> None:
    if path != "table":
        raise ValueError(f"path must be 'table' or 'fourier', got {path!r}")


def _check_functions(group: "FiniteGroup", f: Tensor, w: Tensor) -> None:
    hint = f"one number for each element of {group!r}"
    check_shape("f", f, "...", group.order, hint=hint)
    check_shape("the kernel", w, "...", group.order, hint=hint)


def _check_blocks(group: "FiniteGroup", fhat: Sequence[Tensor]) -> None:
    dims = [irrep.size(-1) for irrep in group.irreps]
    if len(fhat) != len(dims):
        raise ValueError(f"fhat must hold a matrix for each of the {len(dims)} irreps of {group!r}, got {len(fhat)}")
    for i, (block, d) in enumerate(zip(fhat, dims, strict=True)):
        check_shape(f"fhat[{i}]", block, "...", d, d)


def _as_complex(group: "FiniteGroup", f: Tensor) -> Tensor:
    check_shape("f", f, "...", group.order, hint=f"one number for each element of {group!r}")
    if f.is_complex():
        return f
    if f.dtype not in _COMPLEX:
        raise TypeError(f"f must be float32, float64 or complex, got {f.dtype}")
    return f.to(_COMPLEX[f.dtype])


@lasting
def _coefficients(group: "FiniteGroup", like: Tensor) -> Tensor:
    """All matrix coefficients side by side, ``[n, sum d^2]``, in the dtype and on the device of another tensor."""
    key = ("coefficients", like.dtype, like.device)
    if key not in group._tables:
        flat = torch.cat([irrep.flatten(1) for irrep in group.irreps], dim=1)
        group._tables[key] = flat.to(like.device, like.dtype)
    return group._tables[key]


@lasting
def _on(group: "FiniteGroup", what: str, device: torch.device) -> Tensor:
    """``relative[u, v] = u^-1 v`` or ``divide[u, w] = w^-1 u``, on a device."""
    if (what, device) not in group._tables:
        relative = group.cayley[group.inv]
        group._tables[what, device] = (relative if what == "relative" else relative.T).contiguous().to(device)
    return group._tables[what, device]
