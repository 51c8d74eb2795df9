"""Translations and changes of scale."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_shape
from ._random import Source, normal
from ._series import expm1_over
from .group import Group, GroupSample, centred_grid, check_element, check_geodesic, check_size


class ScaleTranslation(Group):
    r"""The group of translations and dilations of :math:`\mathbb{R}^n`; an element is ``[..., n + 1]``: shift, log s.

    .. math:: (x, a)(x', a') = (x + e^a x', a + a'), \qquad \exp(c, a) = \left( \frac{e^a - 1}{a} c, a \right)

    It does not commute and is not unimodular: the left Haar measure is :math:`e^{-n a} dx\, da`.

    Args:
        n: Dimension of the space, at least 1.
        ratio: Factor between neighbouring scales of a sample, greater than 1.

    Example:
        >>> twice = torch.tensor([1.0, 0.0, math.log(2)])
        >>> ScaleTranslation().act(twice, torch.tensor([3.0, 4.0]))
        tensor([7., 8.])
    """

    def __init__(self, n: int = 2, ratio: float = math.sqrt(2)) -> None:
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"n must be a positive integer, got {n!r}")
        if not ratio > 1:
            raise ValueError(f"ratio must be greater than 1, got {ratio!r}")
        self.ratio = ratio
        self.dim, self.space_dim = n + 1, n
        self.element_shape = (n + 1,)

    @property
    def symmetry(self) -> Tensor:
        """Only the identity: nothing is divided out."""
        return self.identity(1)

    def identity(self, *size: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
        """No shift, scale 1 (logarithm 0), ``[*size, n + 1]``."""
        return torch.zeros(*size, self.dim, dtype=dtype, device=device)

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        """``b`` first, then ``a``."""
        check_element(self, "b", b)
        return torch.cat([self.act(a, b[..., :-1]), a[..., -1:] + b[..., -1:]], dim=-1)

    def inverse(self, a: Tensor) -> Tensor:
        """The element that undoes ``a``."""
        check_element(self, "a", a)
        return torch.cat([-torch.exp(-a[..., -1:]) * a[..., :-1], -a[..., -1:]], dim=-1)

    def exp(self, v: Tensor) -> Tensor:
        """Elements of algebra vectors ``[..., n + 1]``."""
        check_element(self, "v", v)
        return torch.cat([expm1_over(v[..., -1:]) * v[..., :-1], v[..., -1:]], dim=-1)

    def log(self, a: Tensor) -> Tensor:
        """Algebra vectors ``[..., n + 1]``, defined for every element."""
        check_element(self, "a", a)
        return torch.cat([a[..., :-1] / expm1_over(a[..., -1:]), a[..., -1:]], dim=-1)

    def adjoint(self, a: Tensor) -> Tensor:
        r"""How conjugation acts on the algebra, ``[..., n + 1, n + 1]``: :math:`(c, s) \to (e^a c - s x, s)`."""
        check_element(self, "a", a)
        scale = torch.exp(a[..., -1:]).expand_as(a[..., :-1])
        diagonal = torch.diag_embed(torch.cat([scale, torch.ones_like(a[..., -1:])], dim=-1))
        shift = torch.nn.functional.pad(torch.nn.functional.pad(-a[..., :-1], (0, 1))[..., None], (self.dim - 1, 0))
        return diagonal + shift

    def act(self, a: Tensor, x: Tensor) -> Tensor:
        """Moves points ``x [..., n]``: scaled, then shifted."""
        check_element(self, "a", a)
        check_shape("x", x, "...", self.space_dim)
        return a[..., :-1] + torch.exp(a[..., -1:]) * x

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Length of ``log(a^-1 b)``."""
        return self.local_log(a, b).norm(dim=-1)

    def geodesic_distance(self, a: Tensor, b: Tensor, metric: Tensor) -> Tensor:
        """Exact geodesic distance for a metric ``diag(r, ..., r, s)``, which makes the group a hyperbolic space.

        Raises:
            ValueError: For any other metric: it has no closed form.
        """
        r, s = metric[0, 0], metric[-1, -1]
        form = torch.diag(torch.cat([r.expand(self.space_dim), s[None]]))
        check_geodesic(self, metric, form, "diag(r, ..., r, s)")
        level = (a[..., -1] + b[..., -1]) / 2
        # of the upper half space with height e^a: the chord over twice the geometric mean of the heights
        shift = (b[..., :-1] - a[..., :-1]).square().sum(dim=-1) * (r / s) * torch.exp(-2 * level) / 4
        return 2 * s.sqrt() * torch.asinh((shift + torch.sinh((b[..., -1] - a[..., -1]) / 2).square()).sqrt())

    def random(self, *size: int, seed: Source = None, dtype: torch.dtype = torch.float64) -> Tensor:
        """Elements ``[*size, n + 1]`` with standard normal entries (no uniform distribution exists)."""
        return normal(*size, self.dim, seed=seed).to(dtype)

    def sample(self, size: int | Sequence[int]) -> GroupSample:
        """A centred grid of places, at each of them ``n_scale`` scales round 1 in equal ratios.

        Args:
            size: ``(nx, ny, n_scale)``, one entry per axis of the space before the last.

        Returns:
            Elements ``[N, n + 1]``, scale outermost; the weight is the left Haar measure of the cell.
        """
        *shape, count = check_size(repr(self), size, *(f"n{i}" for i in range(self.space_dim)), "n_scale")
        points, step = centred_grid(tuple(shape))
        width = math.log(self.ratio)
        level = (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * width
        n = self.space_dim
        # the integral of exp(-n a) over a cell of the logarithm, not its value in the middle
        mass = torch.exp(-n * level) * (2 * math.sinh(n * width / 2) / n) * step**n
        element = torch.cat([points.repeat(count, 1), level.repeat_interleave(len(points))[:, None]], dim=1)
        weight = mass.repeat_interleave(len(points))
        return GroupSample(element, weight, element, count, len(points), tuple(shape), (step,) * n + (width,))

    def __repr__(self) -> str:
        ratio = "" if self.ratio == math.sqrt(2) else f", ratio={self.ratio}"
        return f"{type(self).__name__}({self.space_dim}{ratio})"
