r"""Left-invariant metrics and the distances that graphs on groups are built from.

A metric is a positive definite matrix R on the Lie algebra; carried along by left translation it measures steps at
every element. The distance that its shortest paths give has no closed form in general. What stands in for it is the
length of the straight step, :math:`d(a, b)^2 = c^T R c` with :math:`c = \log(a^{-1} b)`: exactly left-invariant and
symmetric, and never below the geodesic distance, as the straight step is one of the paths that join a and b. The two
agree for close elements, and everywhere if the metric is bi-invariant (R^n, isotropic SO(3)).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .._checks import check_shape
from .group import Group, Space

Metric = Tensor | Sequence[float] | None
Dist = Literal["log", "rho_b", "geodesic"]


def metric_matrix(group: Space, metric: Metric = None) -> Tensor:
    """The matrix of a metric on the algebra of a group.

    Args:
        group: The group, or the sphere.
        metric: The diagonal, ``dim`` positive numbers; the whole matrix ``[dim, dim]``; or ``None`` for the unit
            matrix. Of a tensor, dtype, device and gradients are kept.

    Returns:
        A symmetric positive definite matrix ``[dim, dim]``.

    Raises:
        ValueError: If the shape differs, or the matrix is not symmetric, not positive definite, or not preserved by
            the symmetry of the group (or, on the sphere, by rotations).
    """
    dim = group.dim
    if metric is None:
        return torch.eye(dim, dtype=torch.float64)
    matrix = metric if isinstance(metric, Tensor) else torch.as_tensor(list(metric), dtype=torch.float64)
    if matrix.shape == (dim,):
        matrix = torch.diag(matrix)
    check_shape("metric", matrix, dim, dim, hint=f"{group!r} has {dim} axes: give their {dim} prices, or a matrix")
    _check_positive(matrix.detach())
    _check_preserved(group, matrix.detach())
    return matrix


def _check_positive(matrix: Tensor) -> None:
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError(f"metric must be finite, got {matrix.tolist()}")
    if not torch.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-12 * float(matrix.abs().max())):
        raise ValueError(f"metric must be symmetric, got {matrix.tolist()}")
    lowest = float(torch.linalg.eigvalsh(matrix.to(torch.float64))[0]) if len(matrix) else 1.0
    if not lowest > 0:
        raise ValueError(
            f"metric must be positive definite, but its smallest eigenvalue is {lowest:.3g}; "
            "make every axis cost something"
        )


def _check_preserved(group: Space, matrix: Tensor) -> None:
    tolerance = 1e-12 if matrix.dtype == torch.float64 else 1e-5
    if not isinstance(group, Group):
        if not torch.allclose(matrix, matrix[0, 0] * torch.eye(len(matrix)).to(matrix), rtol=tolerance, atol=0):
            raise ValueError(
                f"metric on {group!r} must be a multiple of the unit matrix, got {matrix.tolist()}: "
                "rotations preserve no other; lift to SO3 for an anisotropic one"
            )
        return
    symmetry = group.symmetry.to(matrix)
    if len(symmetry) == 1:
        return
    turn = group.adjoint(symmetry)
    moved = turn.transpose(-1, -2) @ matrix @ turn
    if not torch.allclose(moved, matrix.expand_as(moved), rtol=tolerance, atol=tolerance * float(matrix.abs().max())):
        raise ValueError(
            f"metric of {group!r} must look the same after a half turn, got {matrix.tolist()}: leave out the entries "
            "that mix the first two axes with the third, or take period=2 * math.pi"
        )


def squared_length(c: Tensor, metric: Tensor) -> Tensor:
    """Squares ``[...]`` of the lengths of algebra vectors ``c [..., dim]``, ``c^T R c``, for a ``metric [dim, dim]``.

    Differentiable in both; a metric that is learned is used this way on the stored ``edge_log``.
    """
    check_shape("c", c, "...", metric.size(-1))
    return ((c @ metric) * c).sum(dim=-1)


def homogeneous_length(c: Tensor, metric: Tensor, nu: float = 44.0) -> Tensor:
    r"""Estimate of the sub-Riemannian length of algebra vectors in SE(2) or SO(3), ``[...]``.

    .. math:: \rho_b(c) = \sqrt[4]{(R_{11} c_1^2 + R_{33} c_3^2)^2 + \nu R_{11} R_{33} c_2^2}

    Moving forward and turning are free to mix, moving sideways is not a step but comes about by the two in turn,
    which makes it as expensive as the square root of its length. R22 plays no role: this is the limit of its growth.

    Args:
        c: Algebra vectors, ``[..., 3]``.
        metric: Matrix ``[3, 3]``; only entries 11 and 33 are read.
        nu: Price of going sideways. Small sideways steps cost exactly this with ``16 pi^2``; the default is lower and
            closer to the truth for larger ones.

    Source: Bekkers et al. (2018), nilpotent approximations, https://arxiv.org/abs/1707.02811
    """
    check_shape("c", c, "...", 3)
    r1, r3 = metric[0, 0], metric[2, 2]
    flat = r1 * c[..., 0].square() + r3 * c[..., 2].square()
    return (flat.square() + nu * r1 * r3 * c[..., 1].square()) ** 0.25


def left_invariant_distance(
    group: Space, a: Tensor, b: Tensor, metric: Metric = None, dist: Dist = "log", nu: float = 44.0
) -> Tensor:
    r"""Distance of elements for a left-invariant metric, modulo the symmetry of the group.

    .. math:: d(a, b) = \min_{u \in K} \sqrt{c^T R c}, \qquad c = \log(a^{-1} b u)

    K is ``group.symmetry``: for SE(2) and SO(3) with period pi the identity and the half turn. Left-invariant and
    symmetric to rounding. It approximates the geodesic distance, see :mod:`geomeq.groups.metric`.

    Args:
        group: The group, or :class:`geomeq.groups.S2`.
        a: Elements, ``[..., *element_shape]``.
        b: Elements, broadcast against ``a``.
        metric: See :func:`metric_matrix`.
        dist: ``"log"``, as above; ``"rho_b"``, the sub-Riemannian estimate :func:`homogeneous_length` in place of the
            root; ``"geodesic"``, exact, for the isotropic metrics where a closed form is known.
        nu: Only for ``"rho_b"``.

    Returns:
        Distances ``[...]``, at least 0, of the dtype of the elements.

    Raises:
        ValueError: If the metric is not positive definite or not preserved by the symmetry, the ``dist`` unknown or
            not defined for this group and metric.

    Example:
        >>> from geomeq.groups import SE2
        >>> origin, left = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([0.0, 0.1, 0.0])
        >>> left_invariant_distance(SE2(), origin, left, metric=(1.0, 100.0, 1.0))
        tensor(1.)
    """
    matrix = metric_matrix(group, metric).to(a)
    if len(group.symmetry) == 1:
        return _distance(group, a, b, matrix, dist, nu)
    assert isinstance(group, Group)
    images = [group.compose(b, u) for u in group.symmetry.to(b)]
    return torch.stack([_distance(group, a, image, matrix, dist, nu) for image in images]).amin(dim=0)


def _distance(group: Space, a: Tensor, b: Tensor, matrix: Tensor, dist: str, nu: float) -> Tensor:
    if dist == "log":
        return squared_length(group.local_log(a, b), matrix).clamp(min=0).sqrt()
    if dist == "rho_b":
        if group.dim != 3 or not hasattr(group, "period"):
            raise ValueError(f"dist='rho_b' is defined for SE2 and SO3, got {group!r}; use dist='log'")
        return homogeneous_length(group.local_log(a, b), matrix, nu)
    if dist == "geodesic":
        exact = getattr(group, "geodesic_distance", None)
        if exact is None:
            raise ValueError(f"the geodesic distance of {group!r} has no closed form here; use dist='log'")
        return exact(a, b, matrix)
    raise ValueError(f"dist must be 'log', 'rho_b' or 'geodesic', got {dist!r}")
