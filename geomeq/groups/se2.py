"""SE(2), the motions of the plane."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_shape
from ._random import Source, generator_of, normal, uniform
from ._series import half_cot, one_minus_cos_over, sin_over
from .group import Group, GroupSample, centred_grid, check_geodesic, check_period, check_size, fibre_angles
from .so2 import SO2, wrap_angle


class SE2(Group):
    r"""The group of rotations and translations of the plane; an element is ``[..., 3]``: x, y and the angle.

    .. math:: (x, \theta)(x', \theta') = (x + R_\theta x', \theta + \theta'), \qquad
        \exp(c)  = (V(c_3) (c_1, c_2)^T, c_3), \quad
        V(t) = \frac{1}{t} \begin{pmatrix} \sin t & \cos t - 1 \\ 1 - \cos t & \sin t \end{pmatrix}

    Lie algebra ``[..., 3]``: forward, to the left, turn, as seen from the element. Haar measure: area times angle,
    the whole turn counted 1.

    Args:
        period: ``math.pi`` if an orientation and its opposite are the same for samples and for
            :func:`geomeq.groups.left_invariant_distance` (a metric that is diagonal in the three axes cannot tell
            them apart), ``2 * math.pi`` if not. Products and logarithms never depend on it.

    Example:
        >>> SE2().log(torch.tensor([0.3, 0.5, 1.0], dtype=torch.float64))
        tensor([0.5246, 0.3076, 1.0000], dtype=torch.float64)
    """

    dim = 3  #: of the Lie algebra
    space_dim = 2  #: of the space it acts on
    element_shape: tuple[int, ...] = (3,)

    def __init__(self, period: float = math.pi) -> None:
        self.period = check_period(period)

    @property
    def symmetry(self) -> Tensor:
        """The identity and, with period pi, the half turn, ``[1 or 2, 3]``."""
        angles = [0.0] if self.period == 2 * math.pi else [0.0, math.pi]
        return torch.tensor([[0.0, 0.0, angle] for angle in angles], dtype=torch.float64)

    @staticmethod
    def identity(*size: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
        """No motion, ``[*size, 3]``."""
        return torch.zeros(*size, 3, dtype=dtype, device=device)

    @staticmethod
    def compose(a: Tensor, b: Tensor) -> Tensor:
        """The motion ``b``, then ``a``; angle in (-pi, pi]."""
        check_shape("b", b, "...", 3)
        place = SE2.act(a, b[..., :2])
        angle = wrap_angle(a[..., 2] + b[..., 2])
        return torch.cat([place, angle[..., None]], dim=-1)

    @staticmethod
    def inverse(a: Tensor) -> Tensor:
        """The motion back, angle in (-pi, pi]."""
        check_shape("a", a, "...", 3)
        place = -SO2.act(-a[..., 2], a[..., :2])
        return torch.cat([place, wrap_angle(-a[..., 2])[..., None]], dim=-1)

    @staticmethod
    def exp(v: Tensor) -> Tensor:
        """The motion along the arc of a circle that starts as ``v [..., 3]`` and ends after unit time."""
        check_shape("v", v, "...", 3)
        c1, c2, angle = v.unbind(-1)
        along, across = sin_over(angle.square()), angle * one_minus_cos_over(angle.square())
        return torch.stack([along * c1 - across * c2, across * c1 + along * c2, wrap_angle(angle)], dim=-1)

    @staticmethod
    def log(a: Tensor) -> Tensor:
        r"""Algebra vectors ``[..., 3]``: the arc of a circle with the smaller turn that ends at ``a``.

        .. math:: c_1 = h \cot(h) x + h y, \quad c_2 = -h x + h \cot(h) y, \quad c_3 = \theta = 2 h
        """
        check_shape("a", a, "...", 3)
        x, y, angle = a[..., 0], a[..., 1], wrap_angle(a[..., 2])
        half, cot = angle / 2, half_cot(angle.square())
        return torch.stack([cot * x + half * y, cot * y - half * x, angle], dim=-1)

    @staticmethod
    def local_log(a: Tensor, b: Tensor) -> Tensor:
        r"""``log(a^-1 b)``, ``[..., 3]``, exactly negated when ``a`` and ``b`` change places.

        The chord of the arc is seen from the mean angle: :math:`(h / \sin h) R_{-m} (x_b - x_a)` with
        :math:`h = (\theta_b - \theta_a)/2` and :math:`m = (\theta_a + \theta_b)/2`.
        At a half turn, where the arc may bend either way, both orders give the same one.
        """
        check_shape("a", a, "...", 3)
        check_shape("b", b, "...", 3)
        turn = b[..., 2] - a[..., 2]
        angle = wrap_angle(turn)
        chord = SO2.act(-(a[..., 2] + b[..., 2]) / 2, b[..., :2] - a[..., :2])
        odd = torch.round((turn - angle) / (2 * math.pi)).remainder(2)  # whole turns taken off turn the mean by a half
        stretch = (1 - 2 * odd) / sin_over(angle.square() / 4)
        return torch.cat([stretch[..., None] * chord, angle[..., None]], dim=-1)

    @staticmethod
    def adjoint(a: Tensor) -> Tensor:
        r"""How conjugation acts on the algebra, ``[..., 3, 3]``: :math:`a \exp(v) a^{-1} = \exp(Ad_a v)`."""
        check_shape("a", a, "...", 3)
        x, y, angle = a.unbind(-1)
        cos, sin, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(x), torch.ones_like(x)
        return torch.stack([cos, -sin, y, sin, cos, -x, zero, zero, one], dim=-1).unflatten(-1, (3, 3))

    @staticmethod
    def matrix(a: Tensor) -> Tensor:
        """Matrices ``[..., 3, 3]`` that move points ``(x, y, 1)``."""
        check_shape("a", a, "...", 3)
        top = torch.cat([SO2.matrix(a[..., 2]), a[..., :2, None]], dim=-1)
        bottom = torch.tensor([0.0, 0.0, 1.0], dtype=a.dtype, device=a.device).expand(*a.shape[:-1], 1, 3)
        return torch.cat([top, bottom], dim=-2)

    @staticmethod
    def act(a: Tensor, x: Tensor) -> Tensor:
        """Moves points ``x [..., 2]``: turned, then shifted."""
        check_shape("a", a, "...", 3)
        return a[..., :2] + SO2.act(a[..., 2], x)

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> Tensor:
        """Length of ``log(a^-1 b)``, all axes weighted alike; see :func:`geomeq.groups.left_invariant_distance`."""
        return SE2.local_log(a, b).norm(dim=-1)

    def geodesic_distance(self, a: Tensor, b: Tensor, metric: Tensor) -> Tensor:
        """Exact geodesic distance for a metric ``diag(r, r, s)``, for which SE(2) is plane times circle.

        Raises:
            ValueError: For any other metric: it has no closed form.
        """
        r, s = metric[0, 0], metric[2, 2]
        check_geodesic(self, metric, torch.diag(torch.stack([r, r, s])), "diag(r, r, s)")
        shift = (b[..., :2] - a[..., :2]).square().sum(dim=-1)
        return (r * shift + s * wrap_angle(b[..., 2] - a[..., 2]).square()).sqrt()

    @staticmethod
    def random(*size: int, seed: Source = None, dtype: torch.dtype = torch.float64) -> Tensor:
        """Motions ``[*size, 3]``: standard normal shifts, uniform angles."""
        generator = generator_of(seed)
        shift = normal(*size, 2, seed=generator)
        angle = wrap_angle(2 * math.pi * uniform(*size, seed=generator))
        return torch.cat([shift, angle[..., None]], dim=-1).to(dtype)

    def sample(self, size: int | Sequence[int]) -> GroupSample:
        """A centred grid of places, at each of them ``n`` equally spaced orientations, from ``-period / 2`` upwards.

        Args:
            size: ``(nx, ny, n)``.

        Returns:
            Elements ``[n * ny * nx, 3]`` with weights whose sum is the area; ``pos`` is (x, y, angle / period).
        """
        nx, ny, count = check_size(repr(self), size, "nx", "ny", "n_theta")
        points, step = centred_grid((nx, ny))
        angle = fibre_angles(self.period, count).repeat_interleave(len(points))
        points = points.repeat(count, 1)
        element = torch.cat([points, angle[:, None]], dim=1)
        pos = torch.cat([points, angle[:, None] / self.period], dim=1)
        weight = torch.full((len(element),), step**2 / count, dtype=torch.float64)
        return GroupSample(element, weight, pos, count, nx * ny, (nx, ny), (step, step, self.period / count))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.period == math.pi else 'period=2*pi'})"
