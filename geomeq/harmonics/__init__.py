"""Functions on spheres and groups: spherical harmonics, Wigner blocks, radial bases, filters on discs, DISCO."""

from .attributes import SteerableGeometry, edge_length, edge_vectors, steerable_attributes
from .caps import Caps, Meridian, find_caps, find_meridian, meridian_frames, shares_meridian
from .disco import DiscoGeometry, RingEntries, default_cutoff, disco_geometry, disco_graph
from .filter_basis import FilterBasis, filter_basis
from .radial import bessel_basis, gaussian_basis, polynomial_envelope
from .spherical import direction, spherical_harmonics
from .wigner import edge_frames, edge_wigner, wigner_blocks

__all__ = [
    "Caps",
    "DiscoGeometry",
    "FilterBasis",
    "Meridian",
    "RingEntries",
    "SteerableGeometry",
    "bessel_basis",
    "default_cutoff",
    "direction",
    "disco_geometry",
    "disco_graph",
    "edge_frames",
    "edge_length",
    "edge_vectors",
    "edge_wigner",
    "filter_basis",
    "find_caps",
    "find_meridian",
    "gaussian_basis",
    "meridian_frames",
    "polynomial_envelope",
    "shares_meridian",
    "spherical_harmonics",
    "steerable_attributes",
    "wigner_blocks",
]
