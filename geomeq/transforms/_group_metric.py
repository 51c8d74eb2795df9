r"""Left-invariant metrics: which local axes move and which turn, and what each of them costs.

A metric is a matrix :math:`R`; a step with logarithm :math:`c` has squared length :math:`c^T R c`. The price of
turning, ``xi``, is often searched for, so a metric is kept in two parts, :math:`R = base + \xi^2\, turn`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..groups import S2, SE2, SE3, SO2, SO3, Rn, ScaleTranslation
from ..groups.group import GroupSample

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """``base + xi^2 turn``, both ``[dim, dim]``; ``turn`` is zero where nothing is left to choose."""

    base: Array
    turn: Array

    def at(self, xi: float) -> Array:
        """The matrix for one price of turning."""
        return self.base + xi**2 * self.turn


def spatial_axes(group: Any, sample: GroupSample) -> list[int]:
    """The local axes along which the place changes; the others change only the orientation (or scale) over a place.

    For a class from outside the package they are read off the sample: an orientation axis is one along which elements
    over the same place differ.
    """
    known: list[tuple[type, range]] = [
        (SE2, range(2)),
        (SE3, range(3)),
        (SO3, range(2)),
        (S2, range(2)),
        (SO2, range(1)),
        (Rn, range(group.dim)),
        (ScaleTranslation, range(group.dim - 1)),
    ]
    for kind, axes in known:
        if isinstance(group, kind):
            return list(axes)
    fibre = sample.element.unflatten(0, (sample.num_orientations, sample.num_spatial))[:, 0]
    turned = group.local_log(fibre[:1].expand_as(fibre), fibre).abs().amax(dim=0) > 1e-9
    return [axis for axis in range(group.dim) if not turned[axis]]


def given_metric(metric: Any, group: Any) -> Metric:
    """A metric as the user wrote it: ``[dim]`` (a diagonal) or ``[dim, dim]``.

    Raises:
        ValueError: If it has another shape, is not symmetric, not positive definite, or not the same for elements that
            the group's ``symmetry`` identifies.
    """
    matrix = torch.as_tensor(metric, dtype=torch.float64).detach().cpu()
    if matrix.dim() == 1:
        matrix = torch.diag(matrix)
    if tuple(matrix.shape) != (group.dim, group.dim):
        raise ValueError(
            f"metric of {group!r} must have shape [{group.dim}] or [{group.dim}, {group.dim}], got {list(matrix.shape)}"
        )
    if not bool(torch.isfinite(matrix).all()) or not torch.allclose(matrix, matrix.T, rtol=1e-12, atol=0):
        raise ValueError(f"metric must be a finite symmetric matrix, got {matrix.tolist()}")
    lowest = float(torch.linalg.eigvalsh(matrix)[0])
    if not lowest > 0:
        raise ValueError(f"metric must be positive definite, but its smallest eigenvalue is {lowest:.3g}")
    _check_symmetry(matrix, group)
    return Metric(matrix.numpy(), np.zeros_like(matrix.numpy()))


def priced_metric(anisotropy: float, group: Any, sample: GroupSample) -> Metric:
    """``diag(1, 1 / anisotropy, ..)`` on the axes that move, ``xi^2`` on those that turn.

    Raises:
        ValueError: If an anisotropy other than 1 is asked for where there is no sideways axis.
    """
    axes = spatial_axes(group, sample)
    base, turn = np.zeros(group.dim), np.ones(group.dim)
    base[axes], turn[axes] = 1.0, 0.0
    if anisotropy != 1:
        if len(axes) < 2:
            raise ValueError(f"{group!r} has no second spatial axis; anisotropy must be 1, got {anisotropy}")
        base[axes[1:]] = 1 / anisotropy
    metric = Metric(np.diag(base), np.diag(turn))
    _check_symmetry(torch.from_numpy(metric.at(1.0)), group)
    return metric


def _check_symmetry(metric: Tensor, group: Any) -> None:
    if not hasattr(group, "adjoint"):  # a space: no choice of frames is preserved by its motions
        if not torch.allclose(metric, metric[0, 0] * torch.eye(group.dim, dtype=metric.dtype), rtol=1e-12, atol=0):
            raise ValueError(
                f"{group!r} has no preferred directions, so its metric must be a multiple of the unit matrix, got "
                f"{metric.tolist()}; for an anisotropic one lift the signal to a group (SO3 above the sphere)"
            )
        return
    for adjoint in group.adjoint(group.symmetry):
        if not torch.allclose(adjoint.T @ metric @ adjoint, metric, rtol=1e-9, atol=1e-12 * float(metric.abs().max())):
            raise ValueError(
                f"{group!r} identifies elements that this metric tells apart: {metric.tolist()}; use a metric without "
                "mixed terms between moving and turning, or a group with the full period, e.g. SE2(period=2 * math.pi)"
            )
