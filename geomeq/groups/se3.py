"""SE(3), the motions of space."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_shape
from ._random import Source, generator_of, normal
from ._series import one_minus_cos_over, one_minus_half_cot_over, t_minus_sin_over
from .grids import cube_rotations, icosahedral_rotations, tetrahedral_rotations
from .group import Group, GroupSample, centred_grid, check_geodesic, check_size
from .rotation_vectors import rotation_from_vector, skew, vector_from_rotation
from .so3 import SO3

_ROTATIONS = {
    1: lambda: SO3.identity(1),
    12: tetrahedral_rotations,
    24: cube_rotations,
    60: icosahedral_rotations,
}


def motion(rotation: Tensor, shift: Tensor) -> Tensor:
    """Elements of SE(3), ``[..., 4, 4]``, from rotations ``[..., 3, 3]`` and shifts ``[..., 3]``."""
    check_shape("rotation", rotation, "...", 3, 3)
    check_shape("shift", shift, "...", 3)
    lead = torch.broadcast_shapes(rotation.shape[:-2], shift.shape[:-1])
    top = torch.cat([rotation.expand(*lead, 3, 3), shift[..., None].expand(*lead, 3, 1)], dim=-1)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=top.dtype, device=top.device).expand(*lead, 1, 4)
    return torch.cat([top, bottom], dim=-2)


class SE3(Group):
    r"""The group of rotations and translations of space; an element is a matrix ``[..., 4, 4]``.

    .. math:: \exp(u, w) = \begin{pmatrix} R & V u \\ 0 & 1 \end{pmatrix}, \qquad R = \exp [w]_\times, \quad
        V = I + \frac{1 - \cos t}{t^2} [w]_\times + \frac{t - \sin t}{t^3} [w]_\times^2, \quad t = \|w\|

    Lie algebra ``[..., 6]``: velocity ``u``, then rotation vector ``w``, as seen from the element. Haar measure:
    volume times the measure of SO(3), which is normalised to 1.

    Example:
        >>> screw = SE3.exp(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, torch.pi / 2]))
        >>> SE3.act(screw, torch.tensor([1.0, 0.0, 0.0])).round(decimals=6)
        tensor([-0., 1., 1.])
    """

    dim = 6  #: of the Lie algebra
    space_dim = 3  #: of the space it acts on
    element_shape: tuple[int, ...] = (4, 4)

    @property
    def symmetry(self) -> Tensor:
        """Only the identity: nothing is divided out."""
        return self.identity(1)

    @staticmethod
    def identity(*size: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
        """Unit matrices, ``[*size, 4, 4]``."""
        return torch.eye(4, dtype=dtype, device=device).repeat(*size, 1, 1)

    @staticmethod
    def compose(a: Tensor, b: Tensor) -> Tensor:
        """The motion ``b``, then ``a``: the matrix product."""
        check_shape("a", a, "...", 4, 4)
        check_shape("b", b, "...", 4, 4)
        return a @ b

    @staticmethod
    def inverse(a: Tensor) -> Tensor:
        """The motion back."""
        check_shape("a", a, "...", 4, 4)
        back = a[..., :3, :3].transpose(-1, -2)
        return motion(back, -(back @ a[..., :3, 3:])[..., 0])

    @staticmethod
    def exp(v: Tensor) -> Tensor:
        """Motions ``[..., 4, 4]`` along the screws that start as ``v [..., 6]``."""
        check_shape("v", v, "...", 6)
        u, w = v[..., :3], v[..., 3:]
        square, matrix = w.square().sum(dim=-1)[..., None, None], skew(w)
        left = one_minus_cos_over(square) * matrix + t_minus_sin_over(square) * (matrix @ matrix)
        return motion(rotation_from_vector(w), u + (left @ u[..., None])[..., 0])

    @staticmethod
    def log(a: Tensor) -> Tensor:
        r"""Algebra vectors ``[..., 6]``, angle at most pi.

        .. math:: u = V^{-1} x, \qquad
            V^{-1} = I - \tfrac12 [w]_\times + \frac{1 - (t/2) \cot (t/2)}{t^2} [w]_\times^2
        """
        check_shape("a", a, "...", 4, 4)
        w, x = vector_from_rotation(a[..., :3, :3]), a[..., :3, 3:]
        square, matrix = w.square().sum(dim=-1)[..., None, None], skew(w)
        u = x - matrix @ x / 2 + one_minus_half_cot_over(square) * (matrix @ (matrix @ x))
        return torch.cat([u[..., 0], w], dim=-1)

    @staticmethod
    def adjoint(a: Tensor) -> Tensor:
        r"""How conjugation acts on the algebra, ``[..., 6, 6]``: :math:`(u, w) \to (R u + x \times R w, R w)`."""
        check_shape("a", a, "...", 4, 4)
        rotation = a[..., :3, :3]
        top = torch.cat([rotation, skew(a[..., :3, 3]) @ rotation], dim=-1)
        return torch.cat([top, torch.cat([torch.zeros_like(rotation), rotation], dim=-1)], dim=-2)

    @staticmethod
    def act(a: Tensor, x: Tensor) -> Tensor:
        """Moves points ``x [..., 3]``: rotated, then shifted."""
        check_shape("a", a, "...", 4, 4)
        return SO3.act(a[..., :3, :3], x) + a[..., :3, 3]

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> Tensor:
        """Length of ``log(a^-1 b)``, all axes weighted alike; see :func:`geomeq.groups.left_invariant_distance`."""
        return SE3.log(SE3.compose(SE3.inverse(a), b)).norm(dim=-1)

    def geodesic_distance(self, a: Tensor, b: Tensor, metric: Tensor) -> Tensor:
        """Exact geodesic distance for a metric ``diag(r, r, r, s, s, s)``, for which SE(3) is space times SO(3).

        Raises:
            ValueError: For any other metric: it has no closed form.
        """
        r, s = metric[0, 0], metric[3, 3]
        check_geodesic(self, metric, torch.diag(torch.stack([r, r, r, s, s, s])), "diag(r, r, r, s, s, s)")
        shift = (b[..., :3, 3] - a[..., :3, 3]).square().sum(dim=-1)
        return (r * shift + s * SO3.distance(a[..., :3, :3], b[..., :3, :3]).square()).sqrt()

    @staticmethod
    def random(*size: int, seed: Source = None, dtype: torch.dtype = torch.float64) -> Tensor:
        """Motions ``[*size, 4, 4]``: rotations uniform by the Haar measure, standard normal shifts."""
        generator = generator_of(seed)
        return motion(SO3.random(*size, seed=generator), normal(*size, 3, seed=generator)).to(dtype)

    def sample(self, size: int | Sequence[int]) -> GroupSample:
        """A centred grid of places, at each of them the rotations of a regular solid.

        Args:
            size: ``(nx, ny, nz, n)`` with ``n`` 1 (no rotation), 12 (tetrahedron), 24 (cube) or 60 (icosahedron).

        Returns:
            Elements ``[n * nz * ny * nx, 4, 4]`` with weights whose sum is the volume; ``pos`` puts the rotations of a
            place on a small sphere round it.
        """
        *shape, count = check_size(repr(self), size, "nx", "ny", "nz", "n")
        if count not in _ROTATIONS:
            raise ValueError(f"{self!r} is sampled with {', '.join(map(str, _ROTATIONS))} rotations, got {count}")
        points, step = centred_grid(tuple(shape))
        rotation = _ROTATIONS[count]()
        element = motion(rotation[:, None], points).flatten(0, 1)
        # no rotation of these solids but the identity keeps this direction
        direction = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64) / 21**0.5
        offset = (rotation @ direction) * (step / 3 if count > 1 else 0.0)
        pos = (offset[:, None] + points).flatten(0, 1)
        weight = torch.full((len(element),), step**3 / count, dtype=torch.float64)
        return GroupSample(element, weight, pos, count, len(points), tuple(shape), (step,) * 3)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
