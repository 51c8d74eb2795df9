"""Groups that act on geometries: elements, exp and log, random and gridded samples, representations.

Classes :class:`SO2`, :class:`SO3` and :class:`O3` share one interface of static methods: ``identity``, ``compose``,
``inverse``, ``exp``, ``log``, ``adjoint``, ``act``, ``distance``, ``random`` (Haar) and ``grid`` (elements and Haar
weights, exact up to a degree). Everything is computed in float64 unless the input is float32.
"""

from .grids import cube_rotations, icosahedral_rotations, rotation_grid
from .o3 import O3, inversion, nearest_orthogonal, reflection, split_parity
from .representation import representation
from .rotation_vectors import (
    quaternion_from_rotation,
    rotation_from_quaternion,
    rotation_from_vector,
    skew,
    vector_from_rotation,
)
from .so2 import SO2, wrap_angle
from .so3 import SO3
from .wigner import wigner_blocks

random_rotations = SO3.random
random_orthogonal = O3.random
geodesic_distance = SO3.distance

__all__ = [
    "O3",
    "SO2",
    "SO3",
    "cube_rotations",
    "geodesic_distance",
    "icosahedral_rotations",
    "inversion",
    "nearest_orthogonal",
    "quaternion_from_rotation",
    "random_orthogonal",
    "random_rotations",
    "reflection",
    "representation",
    "rotation_from_quaternion",
    "rotation_from_vector",
    "rotation_grid",
    "skew",
    "split_parity",
    "vector_from_rotation",
    "wigner_blocks",
    "wrap_angle",
]
