"""Samplings of the unit sphere: points and quadrature weights, in float64.

Every function returns a :class:`Sampling`; :func:`sphere_graph` makes a graph of it.

- :func:`gauss_legendre`, :func:`equiangular`, :func:`lobatto`, :func:`driscoll_healy`: tables of latitude and
  longitude, exact for spherical polynomials; :func:`reduced_gauss_legendre` has fewer longitudes near the poles.
- :func:`healpix`: equal areas on rings, nested order; :func:`healpix_neighbours`, :func:`healpix_pixel` and others are
  its tables.
- :func:`icosphere`: a triangulation with the symmetry of the icosahedron.
- :func:`cubed`: six square faces.
- :func:`fibonacci`: equal areas, any number of points, no symmetry.
- :func:`random`: independent points; :func:`scattered`: points of your own; :func:`voronoi_area`: their weights.
- :func:`equirectangular`, :func:`cubemap`: the pixels of images; :func:`from_equirectangular` and others take images
  to signals and back, :func:`resample` signals from any sampling to any other.
- :func:`sampling` and :func:`resolution_for`: a kind by its name, and the resolution that a task needs.
"""

from .cubed import cubed
from .graph import sphere_graph
from .healpix import healpix
from .healpix_tables import (
    face_order,
    face_place,
    healpix_children,
    healpix_faces,
    healpix_halo,
    healpix_neighbours,
    healpix_nested,
    healpix_parent,
    healpix_pixel,
    healpix_taps,
    nest_to_ring,
    ring_to_nest,
)
from .image_grids import cubemap, equirectangular
from .image_quality import s_psnr, ws_psnr
from .images import from_cubemap, from_equirectangular, to_cubemap, to_equirectangular
from .kinds import resolution_for, sampling
from .ordered_neighbours import order_by_azimuth, ordered_edges, ordered_neighbours
from .resampling import Resampler, resample
from .ring_grids import driscoll_healy, equiangular, gauss_legendre, lobatto, reduced_gauss_legendre
from .sampling import Rings, Sampling
from .scattered import random, scattered, voronoi_area
from .scores import weighted_f1, weighted_iou
from .spread import fibonacci, icosphere

__all__ = [
    "Resampler",
    "Rings",
    "Sampling",
    "cubed",
    "cubemap",
    "driscoll_healy",
    "equiangular",
    "equirectangular",
    "face_order",
    "face_place",
    "fibonacci",
    "from_cubemap",
    "from_equirectangular",
    "gauss_legendre",
    "healpix",
    "healpix_children",
    "healpix_faces",
    "healpix_halo",
    "healpix_neighbours",
    "healpix_nested",
    "healpix_parent",
    "healpix_pixel",
    "healpix_taps",
    "icosphere",
    "lobatto",
    "nest_to_ring",
    "order_by_azimuth",
    "ordered_edges",
    "ordered_neighbours",
    "random",
    "reduced_gauss_legendre",
    "resample",
    "resolution_for",
    "ring_to_nest",
    "s_psnr",
    "sampling",
    "scattered",
    "sphere_graph",
    "to_cubemap",
    "to_equirectangular",
    "voronoi_area",
    "weighted_f1",
    "weighted_iou",
    "ws_psnr",
]
