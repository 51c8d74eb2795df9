"""Quadrature weights that are exact for polynomials, for points of any kind."""

import dataclasses
import math

import torch

from geomeq.spheres import Sampling

from ._iterate import solve_normal
from .sht import InverseSHT

_ROUNDS, _ITERATIONS = 10, 20
_TOLERANCE = 3e-13  # of integrals of orthonormal harmonics


def exact_weights(s: Sampling, degree: int) -> Sampling:
    r"""The same points with the nearest weights that integrate spherical polynomials up to a degree exactly.

    Samplings without such weights (HEALPix, icosphere, cubed sphere, Fibonacci, random points) integrate even smooth
    functions to some digits only, which is what limits how equivariant a convolution on them is. Among all weights with

    .. math:: \sum_i w_i Y_{lm}(x_i) = \sqrt{4 \pi} \, \delta_{l0}, \qquad l \le \mathrm{degree},

    these change the old ones least, :math:`\sum_i (w_i - A_i)^2 / A_i`. A point may lose or gain some percent. About
    ``sqrt(N) - 1`` is the highest degree there can be; half of that or less leaves weights that are all positive, a
    third for random points.
    Tables of latitude and longitude have their best weights already.

    Args:
        s: The sampling.
        degree: Up to which polynomials are to be integrated exactly.

    Returns:
        A sampling with ``exact_degree=degree`` and new ``area``; ``s`` itself if it is exact already.

    Raises:
        ValueError: If the sampling is a part of the sphere, or has no positive weights of this degree.

    Example:
        >>> from geomeq import spheres
        >>> exact_weights(spheres.fibonacci(500), degree=10).exact_degree
        10
    """
    if not isinstance(degree, int) or isinstance(degree, bool) or degree < 0:
        raise ValueError(f"degree must be an integer of at least 0, got {degree!r}")
    if not s.is_whole:
        raise ValueError("weights for the whole sphere need points all over it, and this is a part")
    if s.exact_degree is not None and s.exact_degree >= degree:
        return s
    if (degree + 1) ** 2 > s.num_nodes:
        most = math.isqrt(s.num_nodes) - 1
        raise ValueError(f"{s!r} has fewer nodes than there are polynomials of degree {degree}; at most {most} can do")
    factor = _factors(s, degree)
    if bool((factor <= 0).any()):
        raise ValueError(
            f"{s!r} has no positive weights near its own that are exact to degree {degree}: {int((factor <= 0).sum())} "
            "would be negative; take a lower degree or more nodes"
        )
    # a table of rows stands for equal weights in each row, which these need not be
    rings = None if s.grid is not None else s.rings
    return dataclasses.replace(s, area=s.area * factor, exact_degree=degree, rings=rings)


def _factors(s: Sampling, degree: int) -> torch.Tensor:
    r"""New weights over old ones: a polynomial :math:`g = S \mu` with :math:`S^T W S \mu = t`, ``[N]``."""
    back = InverseSHT(s, degree)
    wanted = torch.zeros(1, (degree + 1) ** 2, 1, dtype=torch.float64)
    wanted[0, 0] = math.sqrt(4 * math.pi)
    found, rest = torch.zeros_like(wanted), wanted
    for _ in range(_ROUNDS):
        found = found + solve_normal(rest, back.transform, _ITERATIONS, 1)
        rest = wanted - back.transform.analyse(back.transform.synthesise(found))
        if float(rest.abs().max()) < _TOLERANCE:
            return back.transform.synthesise(found)[0, :, 0]
    raise ValueError(
        f"{s!r} has no weights exact to degree {degree} (the best found are off by {float(rest.abs().max()):.1g}): "
        "there are too few points, or too many of them lie close together; take a lower degree"
    )
