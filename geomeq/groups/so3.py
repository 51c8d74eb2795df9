"""SO(3), the rotations of space, by their matrices."""

import torch
from torch import Tensor

from .._checks import check_shape
from ._random import Source, normal
from .grids import rotation_grid
from .rotation_vectors import rotation_from_quaternion, rotation_from_vector, vector_from_rotation


class SO3:
    r"""The group of rotations of space; an element is a matrix ``[..., 3, 3]``.

    Lie algebra: rotation vectors ``[..., 3]``, axis times angle. Haar measure: normalised to 1.

    Example:
        >>> quarter = SO3.exp(torch.tensor([0.0, 0.0, torch.pi / 2]))
        >>> SO3.act(quarter, torch.tensor([1.0, 0.0, 0.0])).round(decimals=6)
        tensor([-0., 1., 0.])
    """

    dim = 3  #: of the Lie algebra
    space_dim = 3  #: of the space it acts on
    element_shape: tuple[int, ...] = (3, 3)

    @staticmethod
    def identity(*size: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
        """Unit matrices, ``[*size, 3, 3]``."""
        return torch.eye(3, dtype=dtype, device=device).repeat(*size, 1, 1)

    @staticmethod
    def compose(a: Tensor, b: Tensor) -> Tensor:
        """The rotation ``b``, then ``a``: the matrix product."""
        check_shape("a", a, "...", 3, 3)
        check_shape("b", b, "...", 3, 3)
        return a @ b

    @staticmethod
    def inverse(a: Tensor) -> Tensor:
        """The rotation back: the transposed matrix."""
        check_shape("a", a, "...", 3, 3)
        return a.transpose(-1, -2)

    @staticmethod
    def exp(v: Tensor) -> Tensor:
        """Rotation matrices of rotation vectors ``[..., 3]``; see :func:`geomeq.groups.rotation_from_vector`."""
        return rotation_from_vector(v)

    @staticmethod
    def log(a: Tensor) -> Tensor:
        """Rotation vectors ``[..., 3]``, angle at most pi; see :func:`geomeq.groups.vector_from_rotation`."""
        return vector_from_rotation(a)

    @staticmethod
    def adjoint(a: Tensor) -> Tensor:
        r"""How conjugation acts on rotation vectors, ``[..., 3, 3]``: :math:`a \exp(v) a^{-1} = \exp(Ad_a v)`."""
        check_shape("a", a, "...", 3, 3)
        return a

    @staticmethod
    def act(a: Tensor, x: Tensor) -> Tensor:
        """Rotates points ``x [..., 3]``."""
        check_shape("a", a, "...", 3, 3)
        check_shape("x", x, "...", 3)
        return (a @ x[..., None])[..., 0]

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> Tensor:
        """Angle of the rotation from ``a`` to ``b``, in [0, pi]: the geodesic distance."""
        return vector_from_rotation(SO3.compose(SO3.inverse(a), b)).norm(dim=-1)

    @staticmethod
    def random(*size: int, seed: Source = None, dtype: torch.dtype = torch.float64) -> Tensor:
        """Rotations ``[*size, 3, 3]``, uniform by the Haar measure (normal quaternions).

        Args:
            size: Shape of the sample.
            seed: A seed, a ``torch.Generator``, or ``None`` for torch's global state.
            dtype: Of the result, which is computed in float64.
        """
        return rotation_from_quaternion(normal(*size, 4, seed=seed)).to(dtype)

    @staticmethod
    def grid(degree: int) -> tuple[Tensor, Tensor]:
        """Rotations and weights with exact integrals up to ``degree``; see :func:`geomeq.groups.rotation_grid`."""
        return rotation_grid(degree)
