"""S^2, the sphere, on which SO(3) acts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_shape
from ._random import Source, normal
from ._series import sin_over
from .group import GroupSample, Space
from .icosphere import icosphere, icosphere_level
from .so3 import SO3, sphere_frame


class S2(Space):
    r"""The unit sphere, the space SO(3) / SO(2); a point is a unit vector ``[..., 3]``.

    Local coordinates are those of SO(3) with the last one, the turn about the point, left out (the horizontal lift):
    ``exp(v)`` is the north pole turned by the rotation vector ``(v1, v2, 0)``, and ``local_log(a, b)`` is the log of
    ``b`` seen from the frame :func:`geomeq.groups.sphere_frame` of ``a``, of length the great-circle distance. No
    choice of frames is preserved by all rotations, so only lengths have a meaning that does not depend on it. Points
    cannot be multiplied: ``S2`` is a :class:`geomeq.groups.Space`, not a group. Measure: the area, normalised to 1.

    Example:
        >>> S2().exp(torch.tensor([0.0, torch.pi / 2])).round(decimals=6)
        tensor([1., -0., -0.])
    """

    dim = 2  #: local coordinates
    space_dim = 3  #: of the vectors that rotations act on
    element_shape: tuple[int, ...] = (3,)

    @property
    def symmetry(self) -> Tensor:
        """Only the north pole: nothing is divided out."""
        return self.identity(1)

    @staticmethod
    def identity(*size: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
        """The north pole, ``[*size, 3]``."""
        return torch.tensor([0.0, 0.0, 1.0], dtype=dtype, device=device).repeat(*size, 1)

    @staticmethod
    def exp(v: Tensor) -> Tensor:
        """Points ``[..., 3]`` reached from the north pole by rotation vectors ``(v1, v2, 0)``."""
        check_shape("v", v, "...", 2)
        square = v.square().sum(dim=-1)
        factor = sin_over(square)
        half = sin_over(square / 4)
        return torch.stack([factor * v[..., 1], -factor * v[..., 0], 1 - square * half.square() / 2], dim=-1)

    @staticmethod
    def log(a: Tensor) -> Tensor:
        r"""Rotation vectors ``[..., 2]``, third entry 0, that take the north pole to points; (0, pi) at the south pole.

        .. math:: v = \frac{\mathrm{atan2}(r, z)}{r} (-y, x), \qquad r = \sqrt{x^2 + y^2}
        """
        check_shape("a", a, "...", 3)
        x, y, z = a.unbind(-1)
        square = x.square() + y.square()
        near = (square < (1e-3 if a.dtype == torch.float64 else 0.03)) & (z > 0)
        south = (square == 0) & (z <= 0)
        r = torch.where(near | south, torch.ones_like(square), square).sqrt()
        series = 1 + square * (1 / 6 + square * (3 / 40 + square * (15 / 336 + square * (105 / 3456))))
        factor = torch.where(near, series, torch.atan2(r, z) / r)
        v = torch.stack([-y * factor, x * factor], dim=-1)
        return torch.where(south[..., None], torch.tensor([0.0, torch.pi], dtype=a.dtype, device=a.device), v)

    @staticmethod
    def local_log(a: Tensor, b: Tensor) -> Tensor:
        """Where ``b`` lies as seen from the frame of ``a``, ``[..., 2]``; its length is the angle between them."""
        check_shape("b", b, "...", 3)
        return S2.log(SO3.act(sphere_frame(a).transpose(-1, -2), b))

    @staticmethod
    def act(a: Tensor, x: Tensor) -> Tensor:
        """Rotates points ``x [..., 3]`` by rotations ``a [..., 3, 3]``."""
        return SO3.act(a, x)

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> Tensor:
        """Great-circle distance in [0, pi]."""
        check_shape("a", a, "...", 3)
        check_shape("b", b, "...", 3)
        return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))  # accurate from 0 to pi

    def geodesic_distance(self, a: Tensor, b: Tensor, metric: Tensor) -> Tensor:
        """Great-circle distance for the metric ``diag(r, r)``."""
        return metric[0, 0].sqrt() * self.distance(a, b)

    @staticmethod
    def random(*size: int, seed: Source = None, dtype: torch.dtype = torch.float64) -> Tensor:
        """Points ``[*size, 3]``, uniform on the sphere."""
        v = normal(*size, 3, seed=seed)
        return (v / v.norm(dim=-1, keepdim=True)).to(dtype)

    def sample(self, size: int | Sequence[int]) -> GroupSample:
        """The vertices of an icosphere.

        Args:
            size: The level, from 0, or ``(level,)``; ``10 * 4^level + 2`` points.
        """
        mesh = icosphere(icosphere_level(repr(self), size))
        weight, points = mesh.area, mesh.pos
        return GroupSample(points, weight / weight.sum(), points, 1, len(points), None, (mesh.mean_edge,))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
