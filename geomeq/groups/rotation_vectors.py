r"""Rotation matrices from rotation vectors (axis times angle) and back, accurate at every angle."""

import torch
from torch import Tensor

from .._checks import check_shape


def skew(v: Tensor) -> Tensor:
    r"""Matrix of the cross product, ``[..., 3, 3]``: :math:`[v]_\times w = v \times w`."""
    check_shape("v", v, "...", 3)
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def rotation_from_vector(v: Tensor) -> Tensor:
    r"""Rotation about the axis of ``v`` by the angle ``|v|``.

    .. math:: \exp [v]_\times = I + \frac{\sin\theta}{\theta} [v]_\times
        + \frac{1 - \cos\theta}{\theta^2} [v]_\times^2, \qquad \theta = \|v\|

    Near zero both factors follow their series, so values and derivatives are finite everywhere.

    Args:
        v: Rotation vectors, radians, ``[..., 3]``.

    Returns:
        Rotation matrices, ``[..., 3, 3]``.
    """
    matrix = skew(v)
    square = v.square().sum(dim=-1)[..., None, None]
    small = square < _series_below(v.dtype)
    angle = torch.where(small, torch.ones_like(square), square).sqrt()  # no root of zero, so no infinite slope
    first = torch.where(small, _series(square, 6.0, 20.0, 42.0), torch.sin(angle) / angle)
    half = torch.sin(angle / 2) / (angle / 2)  # 1 - cos loses digits, the square of a sine does not
    second = torch.where(small, _series(square, 12.0, 30.0, 56.0) / 2, half.square() / 2)
    return torch.eye(3, dtype=v.dtype, device=v.device) + first * matrix + second * (matrix @ matrix)


def _series_below(dtype: torch.dtype) -> float:
    """Squared angle below which four terms of the series are exact to rounding: the next is smaller than eps."""
    return 1e-3 if dtype == torch.float64 else 0.1


def _series(x: Tensor, a: float, b: float, c: float) -> Tensor:
    """``1 - x/a (1 - x/b (1 - x/c))``."""
    return 1 - x / a * (1 - x / b * (1 - x / c))


def quaternion_from_rotation(rotation: Tensor) -> Tensor:
    """Unit quaternions ``[..., 4]`` (w, x, y, z) with ``w >= 0`` of rotation matrices ``[..., 3, 3]``.

    Each row of the matrix built here is the quaternion times one of its own components; the longest row is the most
    accurate one. No square root of a difference is taken.
    """
    check_shape("rotation", rotation, "...", 3, 3)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in rotation.unbind(-2))
    rows = [
        [1 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz],
    ]
    table = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    longest = torch.diagonal(table, dim1=-2, dim2=-1).argmax(dim=-1)
    row = table.gather(-2, longest[..., None, None].expand(*longest.shape, 1, 4)).squeeze(-2)
    row = row / row.norm(dim=-1, keepdim=True)
    return torch.where(row[..., :1] < 0, -row, row)


def rotation_from_quaternion(q: Tensor) -> Tensor:
    """Rotation matrices ``[..., 3, 3]`` of quaternions ``[..., 4]`` (w, x, y, z) of any length but zero."""
    check_shape("q", q, "...", 4)
    w, x, y, z = (q / q.norm(dim=-1, keepdim=True)).unbind(-1)
    entries = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))


def vector_from_rotation(rotation: Tensor) -> Tensor:
    r"""Rotation vector with angle in [0, pi] of a rotation matrix: the inverse of :func:`rotation_from_vector`.

    By way of the quaternion :math:`(w, u)`: :math:`v = 2\,\mathrm{atan2}(|u|, w)\, u / |u|`, accurate to rounding from
    angle 0 to pi. At exactly pi the axis has two signs; one of them is returned.

    Args:
        rotation: Rotation matrices, ``[..., 3, 3]``.

    Returns:
        Rotation vectors, radians, ``[..., 3]``.
    """
    q = quaternion_from_rotation(rotation)
    w, u = q[..., :1], q[..., 1:]
    square = u.square().sum(dim=-1, keepdim=True)
    small = square < 1e-12
    length = torch.where(small, torch.ones_like(square), square).sqrt()
    # atan(t)/t = 1 - t^2/3 + ... for the smallest angles, where w = 1 to rounding
    scale = torch.where(small, 2 / w.clamp(min=0.5) * (1 - square / 3), 2 * torch.atan2(length, w) / length)
    return scale * u
