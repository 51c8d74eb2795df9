"""Functions on spheres and groups: spherical harmonics, Wigner blocks, radial bases, steerable attributes."""

from .attributes import SteerableGeometry, edge_length, edge_vectors, steerable_attributes
from .radial import bessel_basis, gaussian_basis, polynomial_envelope
from .spherical import direction, spherical_harmonics
from .wigner import edge_frames, edge_wigner, wigner_blocks

__all__ = [
    "SteerableGeometry",
    "bessel_basis",
    "direction",
    "edge_frames",
    "edge_length",
    "edge_vectors",
    "edge_wigner",
    "gaussian_basis",
    "polynomial_envelope",
    "spherical_harmonics",
    "steerable_attributes",
    "wigner_blocks",
]
