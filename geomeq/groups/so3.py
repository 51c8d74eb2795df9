"""SO(3), the rotations of space, by their matrices."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_shape
from ._random import Source, normal
from .grids import rotation_grid
from .group import GroupSample, check_geodesic, check_period, fibre_angles
from .icosphere import icosphere, icosphere_level
from .rotation_vectors import rotation_from_quaternion, rotation_from_vector, vector_from_rotation


def sphere_frame(p: Tensor) -> Tensor:
    r"""A rotation that takes the north pole to each point, :math:`R_z(\gamma) R_y(\beta)`.

    Args:
        p: Unit vectors with polar angle beta and azimuth gamma, ``[..., 3]``.

    Returns:
        Rotations ``[..., 3, 3]`` whose columns point south, east, and to ``p``; at a pole gamma is taken as 0.
    """
    check_shape("p", p, "...", 3)
    x, y, z = p.unbind(-1)
    square = x.square() + y.square()
    pole = square == 0
    r = torch.where(pole, torch.ones_like(square), square).sqrt()
    cos, sin = torch.where(pole, torch.ones_like(x), x / r), torch.where(pole, torch.zeros_like(y), y / r)
    r = torch.where(pole, torch.zeros_like(r), r)
    rows = [cos * z, -sin, x, sin * z, cos, y, -r, torch.zeros_like(r), z]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


class SO3:
    r"""The group of rotations of space; an element is a matrix ``[..., 3, 3]``.

    Lie algebra: rotation vectors ``[..., 3]``, axis times angle, in the frame of the element for
    :meth:`local_log`: a rotation R is seen as the point ``R e_z`` of the sphere with a direction there, the first two
    coordinates move the point, the third turns the direction. Haar measure: normalised to 1.

    The static methods need no instance. An instance carries how the group is sampled.

    Args:
        period: ``math.pi`` if a direction and its opposite are the same for samples and for
            :func:`geomeq.groups.left_invariant_distance` (a metric that is diagonal in the three axes cannot tell
            them apart), ``2 * math.pi`` if not. Products, logarithms and :meth:`distance` never depend on it.

    Example:
        >>> quarter = SO3.exp(torch.tensor([0.0, 0.0, torch.pi / 2]))
        >>> SO3.act(quarter, torch.tensor([1.0, 0.0, 0.0])).round(decimals=6)
        tensor([-0., 1., 0.])
    """

    dim = 3  #: of the Lie algebra
    space_dim = 3  #: of the space it acts on
    element_shape: tuple[int, ...] = (3, 3)

    def __init__(self, period: float = math.pi) -> None:
        self.period = check_period(period)

    @property
    def symmetry(self) -> Tensor:
        """The identity and, with period pi, the half turn about z, ``[1 or 2, 3, 3]``."""
        half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))
        group = torch.stack([torch.eye(3, dtype=torch.float64), half_turn])
        return group if self.period == math.pi else group[:1]

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

    @classmethod
    def local_log(cls, a: Tensor, b: Tensor) -> Tensor:
        """``log(a^-1 b)``, ``[..., 3]``: the rotation vector from ``a`` to ``b`` in the frame of ``a``."""
        return cls.log(SO3.compose(SO3.inverse(a), b))

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

    def geodesic_distance(self, a: Tensor, b: Tensor, metric: Tensor) -> Tensor:
        """Exact geodesic distance for a metric ``diag(r, r, r)``: a multiple of the angle.

        Raises:
            ValueError: For any other metric: it has no closed form.
        """
        check_geodesic(self, metric, metric[0, 0] * torch.eye(3), "diag(r, r, r)")
        return metric[0, 0].sqrt() * self.distance(a, b)

    def sample(self, size: int | Sequence[int]) -> GroupSample:
        r"""The vertices of an icosphere, at each of them equally spaced directions.

        :math:`R_z(\gamma) R_y(\beta) R_z(\alpha_k)` with the polar angle and azimuth of the vertex,
        :math:`\alpha_k` from ``-period / 2`` upwards.

        Args:
            size: ``(level, n)``: level of the icosphere, directions at each vertex.

        Returns:
            Rotations ``[n * Vs, 3, 3]``, direction outermost, with ``Vs = 10 * 4^level + 2``; weights with sum 1;
            ``pos`` puts the directions on shells round the sphere, of radius 1 to 2.
        """
        level, count = _level_and_count(repr(self), size)
        mesh = icosphere(level)
        angle = fibre_angles(self.period, count)
        turn = SO3.exp(torch.nn.functional.pad(angle[:, None], (2, 0)))
        element = (sphere_frame(mesh.pos) @ turn[:, None]).flatten(0, 1)
        shell = 1 + torch.arange(count, dtype=torch.float64) / count
        pos = (shell[:, None, None] * mesh.pos).flatten(0, 1)
        area = mesh.area
        weight = (area / area.sum()).repeat(count) / count
        spacing = (mesh.mean_edge, self.period / count)
        return GroupSample(element, weight, pos, count, len(mesh.pos), None, spacing)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.period == math.pi else 'period=2*pi'})"


def _level_and_count(name: str, size: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(size, int) or len(size) != 2 or not isinstance(size[1], int) or size[1] < 1:
        raise ValueError(
            f"{name} is sampled by the level of an icosphere and a number of angles, (level, n), got {size!r}"
        )
    return icosphere_level(name, size[:1]), size[1]
