"""Samplings of the unit sphere: points and quadrature weights, in float64.

Every function returns a :class:`Sampling`; :class:`geomeq.transforms.SphereGauge` makes a graph of it.

- :func:`gauss_legendre`, :func:`equiangular`: rings of constant latitude, exact for spherical polynomials.
- :func:`healpix`: equal areas on rings, nested order.
- :func:`icosphere`: a triangulation with the symmetry of the icosahedron.
- :func:`fibonacci`: equal areas, any number of points, no symmetry.
- :func:`scattered`: points of your own, :func:`voronoi_area` their weights.
"""

from .healpix import healpix
from .ring_grids import equiangular, gauss_legendre
from .sampling import Rings, Sampling
from .scattered import scattered, voronoi_area
from .spread import fibonacci, icosphere

__all__ = [
    "Rings",
    "Sampling",
    "equiangular",
    "fibonacci",
    "gauss_legendre",
    "healpix",
    "icosphere",
    "scattered",
    "voronoi_area",
]
