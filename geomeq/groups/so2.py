"""SO(2), the turns of the plane, by their angles."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_shape
from ._random import Source, uniform
from .group import GroupSample, check_size


def wrap_angle(angle: Tensor) -> Tensor:
    """The same angle in (-pi, pi], exactly unchanged where it lies there already."""
    wrapped = angle - 2 * math.pi * torch.round(angle / (2 * math.pi))
    wrapped = torch.where(wrapped <= -math.pi, wrapped + 2 * math.pi, wrapped)
    return torch.where((angle > -math.pi) & (angle <= math.pi), angle, wrapped)


class SO2:
    r"""The group of rotations of the plane; an element is an angle in radians, any shape ``[...]``.

    Lie algebra: the angle itself, ``[..., 1]``. Haar measure: normalised to 1.

    Example:
        >>> SO2.compose(torch.tensor(3.0), torch.tensor(3.0))
        tensor(-0.2832)
    """

    dim = 1  #: of the Lie algebra
    space_dim = 2  #: of the space it acts on
    element_shape: tuple[int, ...] = ()

    @property
    def symmetry(self) -> Tensor:
        """Only the identity: nothing is divided out."""
        return self.identity(1)

    @staticmethod
    def identity(*size: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
        """Angle 0, ``[*size]``."""
        return torch.zeros(size, dtype=dtype, device=device)

    @staticmethod
    def compose(a: Tensor, b: Tensor) -> Tensor:
        """The turn by ``b``, then by ``a``: the sum of angles in (-pi, pi]."""
        return wrap_angle(a + b)

    @staticmethod
    def inverse(a: Tensor) -> Tensor:
        """The turn back, in (-pi, pi]."""
        return wrap_angle(-a)

    @staticmethod
    def exp(v: Tensor) -> Tensor:
        """Element ``[...]`` of an algebra vector ``[..., 1]``."""
        check_shape("v", v, "...", 1)
        return wrap_angle(v[..., 0])

    @staticmethod
    def log(a: Tensor) -> Tensor:
        """Algebra vector ``[..., 1]`` of an element, in (-pi, pi]."""
        return wrap_angle(a)[..., None]

    @staticmethod
    def local_log(a: Tensor, b: Tensor) -> Tensor:
        """``log(a^-1 b)``, ``[..., 1]``: the turn from ``a`` to ``b``."""
        return wrap_angle(b - a)[..., None]

    @staticmethod
    def adjoint(a: Tensor) -> Tensor:
        """How conjugation acts on the algebra, ``[..., 1, 1]``: not at all, the group commutes."""
        return torch.ones_like(a)[..., None, None]

    @staticmethod
    def matrix(a: Tensor) -> Tensor:
        """Rotation matrices ``[..., 2, 2]``, counter-clockwise."""
        cos, sin = torch.cos(a), torch.sin(a)
        return torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2)

    @staticmethod
    def act(a: Tensor, x: Tensor) -> Tensor:
        """Turns points ``x [..., 2]`` by ``a``."""
        check_shape("x", x, "...", 2)
        return (SO2.matrix(a) @ x[..., None])[..., 0]

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> Tensor:
        """Smallest angle between two elements, in [0, pi]."""
        return wrap_angle(a - b).abs()

    @staticmethod
    def random(*size: int, seed: Source = None, dtype: torch.dtype = torch.float64) -> Tensor:
        """Angles ``[*size]``, uniform on (-pi, pi].

        Args:
            size: Shape of the sample.
            seed: A seed, a ``torch.Generator``, or ``None`` for torch's global state.
            dtype: Of the result.
        """
        return wrap_angle(2 * math.pi * uniform(*size, seed=seed)).to(dtype)

    @staticmethod
    def grid(degree: int) -> tuple[Tensor, Tensor]:
        r"""Angles and weights, ``[degree + 1]`` each, exact for :math:`e^{im\theta}` to ``|m| = degree``."""
        if degree < 0:
            raise ValueError(f"degree must be at least 0, got {degree}")
        angle = wrap_angle(torch.arange(degree + 1, dtype=torch.float64) * (2 * math.pi / (degree + 1)))
        return angle, torch.full((degree + 1,), 1 / (degree + 1), dtype=torch.float64)

    def geodesic_distance(self, a: Tensor, b: Tensor, metric: Tensor) -> Tensor:
        """Angle between two elements for the metric ``[1, 1]``."""
        return metric[0, 0].sqrt() * self.distance(a, b)

    def sample(self, size: int | Sequence[int]) -> GroupSample:
        """Equally spaced angles, 0 first, weights 1/n; ``pos`` lies on the unit circle.

        Args:
            size: Number of angles, ``n`` or ``(n,)``.
        """
        (count,) = check_size(repr(self), size, "n")
        angle = wrap_angle(torch.arange(count, dtype=torch.float64) * (2 * math.pi / count))
        pos = torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)
        weight = torch.full((count,), 1 / count, dtype=torch.float64)
        return GroupSample(angle, weight, pos, count, 1, None, (2 * math.pi / count,))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
