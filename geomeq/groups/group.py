r"""What every group here offers, what a space it acts on offers, and the samples both are turned into graphs by.

Conventions that hold for all of them. A product ``compose(a, b)`` does ``b`` first. Coordinates of the Lie algebra
belong to the *left-invariant* frame: the step from ``a`` to ``b`` is ``local_log(a, b) = log(a^-1 b)``, which no
left translation changes. Angles are in radians. Samples are built in float64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .._checks import check_shape
from ._random import Source


@dataclass(frozen=True)
class GroupSample:
    """Finitely many elements of a group, or points of a space, each with its share of the volume.

    Nodes are ordered by orientation, then by place: node ``k * num_spatial + s`` has orientation ``k`` and place
    ``s``; on a grid ``s = (iz * ny + iy) * nx + ix``. Everything is float64.

    Attributes:
        element: The elements, ``[N, *element_shape]``.
        weight: Haar measure of the cell round each element, ``[N]``, positive. Their sum is the measure of the region
            that was sampled: 1 for a whole compact group, the area or volume in which the translations lie otherwise.
        pos: A point for each element to draw it at, ``[N, d]``.
        num_orientations: Number of elements over each place, ``Vo``.
        num_spatial: Number of places, ``Vs``, with ``N = Vo * Vs``.
        grid: Number of places along each axis, ``(nx, ny[, nz])``; ``None`` where the places form no grid.
        spacing: Step along each axis of the size asked for: a length along axes of a grid, the mean length of an edge
            on an icosphere (radians), then the step of the angle or of the logarithm of the scale.
    """

    element: Tensor
    weight: Tensor
    pos: Tensor
    num_orientations: int
    num_spatial: int
    grid: tuple[int, ...] | None
    spacing: tuple[float, ...]

    def __post_init__(self) -> None:
        nodes = self.num_orientations * self.num_spatial
        for name in ("element", "weight", "pos"):
            if getattr(self, name).size(0) != nodes:
                raise ValueError(
                    f"{name} must have one row for each of the {self.num_orientations} x {self.num_spatial} nodes, "
                    f"got {getattr(self, name).size(0)}"
                )

    @property
    def num_nodes(self) -> int:
        """``N``."""
        return self.num_orientations * self.num_spatial


@runtime_checkable
class Space(Protocol):
    """A space that can be sampled and whose points see each other in local coordinates: a group, or the sphere.

    Attributes:
        dim: Number of local coordinates (dimension of the Lie algebra; 0 for a finite group).
        space_dim: Dimension of the vectors on which :meth:`act` works.
        element_shape: Trailing shape of the tensors that hold elements.
        symmetry: Elements ``[m, *element_shape]`` of the finite subgroup that is divided out of samples and of
            left-invariant distances; only the identity where nothing is.
    """

    dim: int
    space_dim: int
    element_shape: tuple[int, ...]

    @property
    def symmetry(self) -> Tensor:
        """Elements of the finite subgroup that samples leave out, the identity first."""
        ...

    def identity(self, *size: int) -> Tensor:
        """The neutral element, ``[*size, *element_shape]``, float64."""
        ...

    def exp(self, v: Tensor) -> Tensor:
        """Elements ``[..., *element_shape]`` of algebra vectors ``[..., dim]``."""
        ...

    def log(self, a: Tensor) -> Tensor:
        """Algebra vectors ``[..., dim]`` of elements, on the principal branch: the inverse of :meth:`exp` near 0."""
        ...

    def local_log(self, a: Tensor, b: Tensor) -> Tensor:
        """Where ``b`` lies as seen from ``a``, ``[..., dim]``."""
        ...

    def act(self, a: Tensor, x: Tensor) -> Tensor:
        """Moves vectors ``x [..., space_dim]`` by ``a``."""
        ...

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance ``[...]`` of elements for the unit metric, nothing divided out."""
        ...

    def random(self, *size: int, seed: Source = None) -> Tensor:
        """Random elements ``[*size, *element_shape]``, by the Haar measure in every compact part."""
        ...

    def sample(self, size: int | Sequence[int]) -> GroupSample:
        """Elements spread evenly, with Haar weights."""
        ...


@runtime_checkable
class Group(Space, Protocol):
    """A group: a :class:`Space` whose points multiply.

    A class of one's own may inherit from this to get :meth:`local_log`, or only have the same methods.

    Example:
        >>> from geomeq.groups import SE2, SO3, S2
        >>> isinstance(SE2(), Group), isinstance(SO3(), Group), isinstance(S2(), Group)
        (True, True, False)
    """

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        """The product: ``b`` first, then ``a``."""
        ...

    def inverse(self, a: Tensor) -> Tensor:
        """The element that undoes ``a``."""
        ...

    def adjoint(self, a: Tensor) -> Tensor:
        r"""Matrices ``[..., dim, dim]`` with :math:`a \exp(v) a^{-1} = \exp(Ad_a v)`."""
        ...

    def local_log(self, a: Tensor, b: Tensor) -> Tensor:
        """``log(a^-1 b)``, ``[..., dim]``: unchanged when both are moved from the left by the same element."""
        return self.log(self.compose(self.inverse(a), b))


def check_size(name: str, size: int | Sequence[int], *axes: str) -> tuple[int, ...]:
    """The size as a tuple with one positive integer per axis.

    Raises:
        ValueError: If the number of axes differs or one is not a positive integer.
    """
    got = (size,) if isinstance(size, int) else tuple(size)
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in got)
    if len(got) != len(axes) or not whole or min(got) < 1:
        wanted = ", ".join(axes) + ("," if len(axes) == 1 else "")
        raise ValueError(f"{name} is sampled by positive integers ({wanted}), got {size!r}")
    return got


def centred_grid(shape: tuple[int, ...]) -> tuple[Tensor, float]:
    """Points of a grid centred at the origin, its longest side of length 1, ``x`` running fastest.

    Args:
        shape: Points along each axis, ``(nx, ny, ...)``.

    Returns:
        Points ``[nx * ny * ..., len(shape)]``, float64, negated exactly when an axis is reversed, and their spacing.
    """
    longest = max(shape)
    axes = [(torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / longest for n in shape]
    mesh = torch.meshgrid(*reversed(axes), indexing="ij")
    return torch.stack([axis.flatten() for axis in reversed(mesh)], dim=-1), 1 / longest


def fibre_angles(period: float, count: int) -> Tensor:
    """``count`` angles from ``-period / 2`` upwards in equal steps, float64: one per class modulo the period."""
    return -period / 2 + torch.arange(count, dtype=torch.float64) * (period / count)


def check_element(group: Space, name: str, a: Tensor) -> None:
    """Raises unless ``a`` has the trailing shape of the group's elements."""
    check_shape(name, a, "...", *group.element_shape)


def check_period(period: float) -> float:
    """Raises unless a line (period pi) or an arrow (2 pi) is meant."""
    if period not in (math.pi, 2 * math.pi):
        raise ValueError(f"period must be math.pi (orientations without a head) or 2 * math.pi, got {period!r}")
    return period


def check_geodesic(group: object, metric: Tensor, simple: Tensor, form: str) -> None:
    """Raises unless the metric has the form for which the geodesic distance is known."""
    tolerance = 1e-12 if metric.dtype == torch.float64 else 1e-6
    if not torch.allclose(metric, simple.to(metric), rtol=tolerance, atol=0):
        raise ValueError(
            f"the geodesic distance of {group!r} is known in closed form only for metrics {form}, "
            f"got {metric.tolist()}; use dist='log' or 'rho_b'"
        )
