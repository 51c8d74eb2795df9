"""Points of one's own, and the area that belongs to each."""

import math

import numpy as np
import torch
from scipy.spatial import SphericalVoronoi
from torch import Tensor

from .._checks import check_finite, check_shape
from ._edges import distinct_places
from .sampling import Sampling, check_count

_SAME = 2e-6  # radians: twice what scipy takes for one point


def scattered(pos: Tensor, area: Tensor | None = None) -> Sampling:
    """A sampling by given points.

    Args:
        pos: Unit vectors ``[N, 3]``.
        area: Weights ``[N]``, not negative; default: :func:`voronoi_area`.

    Raises:
        ValueError: If a point is not on the unit sphere, or a weight is negative, NaN or infinite, or all are zero.

    Example:
        >>> scattered(torch.nn.functional.normalize(torch.randn(50, 3), dim=1))
        Sampling('scattered', num_nodes=50)
    """
    unit = unit_vectors(pos)
    if area is None:
        return Sampling("scattered", unit, voronoi_area(unit))
    check_shape("area", area, len(unit))
    check_finite("area", area)
    weight = area.detach().double().cpu()
    if bool((weight < 0).any()) or not bool((weight > 0).any()):
        raise ValueError(
            f"area must hold weights of at least 0, not all of them 0, got {float(weight.min()):g} to "
            f"{float(weight.max()):g}; leave it out for those of Voronoi cells"
        )
    return Sampling("scattered", unit, weight)


def random(n: int, seed: int | torch.Generator = 0) -> Sampling:
    """``n`` independent points, uniform on the sphere, with :func:`voronoi_area` as weights.

    Args:
        n: Number of points, at least 4.
        seed: Of the points, or a generator.

    Raises:
        ValueError: If there are too few.

    Example:
        >>> random(100)
        Sampling('random', num_nodes=100)
    """
    check_count("n", n, 4)
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    pos = torch.nn.functional.normalize(
        torch.randn(n, 3, generator=generator, dtype=torch.float64, device="cpu"), dim=1
    )
    return Sampling("random", pos, voronoi_area(pos))


def voronoi_area(pos: Tensor) -> Tensor:
    """Solid angle of the places nearer to a point than to any other, ``[N]``, float64, sum 4 pi.

    Coincident points (nearer than two microradians, so that rounding to float32 parts none) share theirs equally.

    Args:
        pos: Unit vectors ``[N, 3]``, at least four different ones that do not lie on one circle.

    Raises:
        ValueError: If a point is not on the unit sphere, or there are too few, or all lie on one circle.
    """
    unit = unit_vectors(pos)
    owner, first = (number.numpy() for number in distinct_places(unit, _SAME))
    if len(first) < 4:
        raise ValueError(f"Voronoi cells need at least 4 different points, got {len(first)}; set area yourself")
    try:
        area = SphericalVoronoi(unit.numpy()[first]).calculate_areas()
    except ValueError as error:  # of scipy, which speaks of ranks
        raise ValueError(
            f"Voronoi cells need points that do not lie on one circle ({error}); set area yourself"
        ) from error
    share = (area / np.bincount(owner))[owner]
    return torch.from_numpy(share * (4 * math.pi / share.sum()))


def unit_vectors(pos: Tensor, tolerance: float = 1e-5) -> Tensor:
    """Points in float64 on the CPU, normalised to the last digit.

    Args:
        pos: ``[N, 3]``, floating point.
        tolerance: How far a length may be from 1.

    Raises:
        TypeError: If ``pos`` holds no floating-point numbers.
        ValueError: If a point is not on the unit sphere.
    """
    check_shape("pos", pos, "N", 3)
    if not pos.is_floating_point():
        raise TypeError(f"pos must hold floating-point numbers, got {pos.dtype}")
    check_finite("pos", pos)
    unit = pos.detach().double().cpu()
    length = unit.norm(dim=1)
    off = ((length - 1).abs() > tolerance).nonzero().flatten()
    if off.numel():
        node = int(off[0])
        raise ValueError(
            f"pos must hold points of the unit sphere, but {off.numel()} do not: node {node} has length "
            f"{float(length[node]):.6g}; move the centre to the origin and divide by the radius"
        )
    return unit / length[:, None]
