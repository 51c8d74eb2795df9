"""O(3), rotations and reflections of space, by their matrices."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_shape
from ._random import Source, generator_of, uniform
from .group import GroupSample
from .so3 import SO3


def inversion(dtype: torch.dtype = torch.float64) -> Tensor:
    """The inversion in the origin, minus the unit matrix, ``[3, 3]``."""
    return -torch.eye(3, dtype=dtype)


def reflection(normal: Tensor) -> Tensor:
    r"""The mirror images in planes through the origin, :math:`I - 2 n n^T`.

    Args:
        normal: Vectors at right angles to the planes, any length but zero, ``[..., 3]``.

    Returns:
        Matrices ``[..., 3, 3]`` with determinant -1.

    Raises:
        ValueError: If a normal is zero.
    """
    check_shape("normal", normal, "...", 3)
    length = normal.norm(dim=-1, keepdim=True)
    if not bool((length > 0).all()):
        raise ValueError("normal must not be zero: no plane is at right angles to it")
    n = normal / length
    return torch.eye(3, dtype=n.dtype, device=n.device) - 2 * n[..., :, None] * n[..., None, :]


def split_parity(g: Tensor) -> tuple[Tensor, Tensor]:
    """Writes elements of O(3) as a rotation times the inversion or not.

    Args:
        g: Orthogonal matrices, ``[..., 3, 3]``.

    Returns:
        The rotation ``[..., 3, 3]`` and the sign ``[...]`` (the determinant, 1 or -1) whose product is ``g``.

    Raises:
        ValueError: If a matrix is not orthogonal.
    """
    check_shape("g", g, "...", 3, 3)
    tolerance = 1e-9 if g.dtype == torch.float64 else 1e-4
    fixed = g.detach()
    error = (fixed @ fixed.transpose(-1, -2) - torch.eye(3, dtype=g.dtype, device=g.device)).abs()
    if g.numel() and not float(error.amax()) <= tolerance:
        raise ValueError(
            f"g must be orthogonal matrices, but g g^T differs from the unit matrix by {float(error.amax()):.2g}; "
            "geomeq.groups.nearest_orthogonal(g) repairs rounded matrices"
        )
    sign = torch.where(torch.linalg.det(g) < 0, -torch.ones_like(g[..., 0, 0]), torch.ones_like(g[..., 0, 0]))
    return g * sign[..., None, None], sign


def nearest_orthogonal(matrix: Tensor) -> Tensor:
    """The orthogonal matrices closest to given ones ``[..., 3, 3]`` (polar decomposition), computed in float64."""
    check_shape("matrix", matrix, "...", 3, 3)
    left, _, right = torch.linalg.svd(matrix.to(torch.float64))
    return (left @ right).to(matrix.dtype)


class O3(SO3):
    r"""The group of rotations and reflections of space; an element is a matrix ``[..., 3, 3]``, determinant 1 or -1.

    As for :class:`SO3` but for the half of the group that mirrors: it has no logarithm, and on rotation vectors (which
    are pseudovectors) an element acts by the rotation in it.
    """

    @staticmethod
    def log(a: Tensor) -> Tensor:
        """Rotation vectors ``[..., 3]`` of proper rotations.

        Raises:
            ValueError: For an element with determinant -1: no path leads there from the identity.
        """
        rotation, sign = split_parity(a)
        if bool((sign < 0).any()):
            raise ValueError(
                "an element with determinant -1 has no logarithm; take O3.split(g) and the logarithm of its rotation"
            )
        return SO3.log(rotation)

    @staticmethod
    def split(a: Tensor) -> tuple[Tensor, Tensor]:
        """Rotation and sign; see :func:`geomeq.groups.split_parity`."""
        return split_parity(a)

    @staticmethod
    def adjoint(a: Tensor) -> Tensor:
        """How conjugation acts on rotation vectors, ``[..., 3, 3]``: by the rotation in ``a``."""
        return split_parity(a)[0]

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> Tensor:
        """Geodesic distance; infinite between a rotation and a reflection, which no path joins."""
        between, sign = split_parity(SO3.compose(SO3.inverse(a), b))
        angle = SO3.log(between).norm(dim=-1)
        return torch.where(sign < 0, torch.full_like(angle, torch.inf), angle)

    @staticmethod
    def random(*size: int, seed: Source = None, dtype: torch.dtype = torch.float64) -> Tensor:
        """Elements ``[*size, 3, 3]``, uniform by the Haar measure: half of them reflections."""
        generator = generator_of(seed)
        rotation = SO3.random(*size, seed=generator)
        sign = torch.where(uniform(*size, seed=generator) < 0.5, -1.0, 1.0)
        return (rotation * sign[..., None, None]).to(dtype)

    @staticmethod
    def grid(degree: int) -> tuple[Tensor, Tensor]:
        """Elements and weights with exact integrals up to ``degree``: the grid of SO(3) and its inverted copy."""
        rotation, weight = SO3.grid(degree)
        return torch.cat([rotation, -rotation]), torch.cat([weight, weight]) / 2

    def sample(self, size: int | Sequence[int]) -> GroupSample:
        """The sample of SO(3) of this size and its inverted copy, twice as many orientations over each place.

        ``pos`` of the inverted copy lies on further shells, of radius 2 to 3.
        """
        half = super().sample(size)
        pos = torch.cat([half.pos, half.pos + half.pos / half.pos.norm(dim=1, keepdim=True)])
        element, weight = torch.cat([half.element, -half.element]), torch.cat([half.weight, half.weight]) / 2
        return GroupSample(element, weight, pos, 2 * half.num_orientations, half.num_spatial, None, half.spacing)
