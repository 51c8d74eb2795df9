"""Functions on spheres and groups: spherical harmonics and their transforms, Wigner blocks, radial bases, DISCO."""

from .attributes import SteerableGeometry, edge_length, edge_vectors, steerable_attributes
from .caps import Caps, Meridian, find_caps, find_meridian, meridian_frames, shares_meridian
from .coefficients import (
    cross_spectrum,
    curl,
    degrees,
    divergence,
    from_complex,
    from_e3nn,
    from_healpy,
    gradient,
    lower_spin,
    orders,
    power_spectrum,
    raise_spin,
    rotate,
    to_complex,
    to_e3nn,
    to_healpy,
)
from .disco import DiscoGeometry, RingEntries, default_cutoff, disco_geometry, disco_graph
from .exact_weights import exact_weights
from .filter_basis import FilterBasis, filter_basis
from .harmonic_matrix import harmonic_matrix
from .radial import bessel_basis, gaussian_basis, polynomial_envelope
from .random_fields import gaussian_random_field, random_coefficients
from .sht import SHT, InverseSHT, largest_lmax
from .spherical import direction, spherical_harmonics
from .wigner import edge_frames, edge_wigner, wigner_blocks

__all__ = [
    "SHT",
    "Caps",
    "DiscoGeometry",
    "FilterBasis",
    "InverseSHT",
    "Meridian",
    "RingEntries",
    "SteerableGeometry",
    "bessel_basis",
    "cross_spectrum",
    "curl",
    "default_cutoff",
    "degrees",
    "direction",
    "disco_geometry",
    "disco_graph",
    "divergence",
    "edge_frames",
    "edge_length",
    "edge_vectors",
    "edge_wigner",
    "exact_weights",
    "filter_basis",
    "find_caps",
    "find_meridian",
    "from_complex",
    "from_e3nn",
    "from_healpy",
    "gaussian_basis",
    "gaussian_random_field",
    "gradient",
    "harmonic_matrix",
    "largest_lmax",
    "lower_spin",
    "meridian_frames",
    "orders",
    "polynomial_envelope",
    "power_spectrum",
    "raise_spin",
    "random_coefficients",
    "rotate",
    "shares_meridian",
    "spherical_harmonics",
    "steerable_attributes",
    "to_complex",
    "to_e3nn",
    "to_healpy",
    "wigner_blocks",
]
