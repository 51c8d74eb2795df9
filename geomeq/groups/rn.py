"""R^n, the translations of space."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ._random import Source, normal
from .group import Group, GroupSample, centred_grid, check_element, check_size


class Rn(Group):
    r"""The group of translations of :math:`\mathbb{R}^n`; an element is a vector ``[..., n]``, the product their sum.

    Lie algebra: the vector itself. Haar measure: the volume.

    Args:
        n: Dimension, at least 1.

    Example:
        >>> Rn(2).sample((28, 28)).element.shape
        torch.Size([784, 2])
    """

    def __init__(self, n: int) -> None:
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"n must be a positive integer, got {n!r}")
        self.dim = self.space_dim = n
        self.element_shape = (n,)

    @property
    def symmetry(self) -> Tensor:
        """Only the identity: nothing is divided out."""
        return self.identity(1)

    def identity(self, *size: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
        """Zero, ``[*size, n]``."""
        return torch.zeros(*size, self.dim, dtype=dtype, device=device)

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        """The sum."""
        check_element(self, "a", a)
        check_element(self, "b", b)
        return a + b

    def inverse(self, a: Tensor) -> Tensor:
        """The vector back."""
        check_element(self, "a", a)
        return -a

    def exp(self, v: Tensor) -> Tensor:
        """The vector itself."""
        check_element(self, "v", v)
        return v

    def log(self, a: Tensor) -> Tensor:
        """The vector itself."""
        check_element(self, "a", a)
        return a

    def adjoint(self, a: Tensor) -> Tensor:
        """Unit matrices ``[..., n, n]``: the group commutes."""
        check_element(self, "a", a)
        return torch.eye(self.dim, dtype=a.dtype, device=a.device).expand(*a.shape, self.dim)

    def act(self, a: Tensor, x: Tensor) -> Tensor:
        """Moves points ``x [..., n]`` by ``a``."""
        check_element(self, "a", a)
        check_element(self, "x", x)
        return a + x

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Length of the vector between two elements."""
        return self.local_log(a, b).norm(dim=-1)

    def geodesic_distance(self, a: Tensor, b: Tensor, metric: Tensor) -> Tensor:
        """Distance for any constant metric ``[n, n]``: straight lines are the shortest paths."""
        c = self.local_log(a, b)
        return torch.einsum("...i,ij,...j->...", c, metric, c).clamp(min=0).sqrt()

    def random(self, *size: int, seed: Source = None, dtype: torch.dtype = torch.float64) -> Tensor:
        """Standard normal vectors ``[*size, n]`` (no uniform distribution exists)."""
        return normal(*size, self.dim, seed=seed).to(dtype)

    def sample(self, size: int | Sequence[int]) -> GroupSample:
        """A grid centred at the origin, longest side 1.

        Args:
            size: Points along each axis, ``(nx, ny, ...)``.

        Returns:
            Points ``[nx * ny * ..., n]``, ``x`` fastest, each with the volume of its cell.
        """
        shape = check_size(repr(self), size, *(f"n{i}" for i in range(self.dim)))
        points, step = centred_grid(shape)
        weight = torch.full((len(points),), step**self.dim, dtype=torch.float64)
        return GroupSample(points, weight, points, 1, len(points), shape, (step,) * self.dim)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dim})"
