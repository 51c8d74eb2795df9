"""Groups that act on geometries: elements, exp and log, random and gridded samples, representations.

All share one interface, :class:`Group`: ``identity``, ``compose``, ``inverse``, ``exp``, ``log``, ``adjoint``, ``act``,
``distance``, ``random`` (Haar) and ``sample`` (elements and Haar weights). On :class:`SO2`, :class:`SO3` and
:class:`O3` the methods but ``sample`` are static, and ``grid`` gives samples exact up to a degree. Everything is
computed in float64 unless the input is float32.

A :class:`FiniteGroup` has numbers as elements; it adds subgroups, irreps and the Fourier transform, and acts on a
:class:`HomogeneousSpace`.
"""

from .ambient import ambient_types, from_ambient, to_ambient
from .finite import FiniteGroup
from .finite_constructors import (
    alternating,
    cyclic,
    dihedral,
    from_cayley,
    from_matrices,
    from_permutations,
    icosahedral,
    octahedral,
    quaternion,
    symmetric,
)
from .fourier import convolution, correlation, effective_rank, fourier_matrix, schatten_norm
from .grids import cube_rotations, icosahedral_rotations, rotation_grid, tetrahedral_rotations
from .group import Group, GroupSample, Space
from .homogeneous import (
    HomogeneousSpace,
    burnside_count,
    coset_space,
    icosahedron_space,
    orbits_of_pairs,
    regular_space,
)
from .icosphere import Icosphere, icosphere
from .metric import homogeneous_length, left_invariant_distance, metric_matrix, squared_length
from .o3 import O3, inversion, nearest_orthogonal, reflection, split_parity
from .plane_groups import PlaneGroup, plane_group
from .point_group import PointGroup
from .products import SemidirectProduct, direct_product, semidirect_product
from .representation import representation
from .rn import Rn
from .rotation_vectors import (
    quaternion_from_rotation,
    rotation_from_quaternion,
    rotation_from_vector,
    skew,
    vector_from_rotation,
)
from .scale import ScaleTranslation
from .se2 import SE2
from .se3 import SE3, motion
from .so2 import SO2, wrap_angle
from .so2_irreps import MulOrder, SO2Irreps
from .so3 import SO3, sphere_frame
from .sphere import S2
from .wigner import wigner_blocks

random_rotations = SO3.random
random_orthogonal = O3.random
geodesic_distance = SO3.distance

__all__ = [
    "O3",
    "S2",
    "SE2",
    "SE3",
    "SO2",
    "SO3",
    "FiniteGroup",
    "Group",
    "GroupSample",
    "HomogeneousSpace",
    "Icosphere",
    "MulOrder",
    "PlaneGroup",
    "PointGroup",
    "Rn",
    "SO2Irreps",
    "ScaleTranslation",
    "SemidirectProduct",
    "Space",
    "alternating",
    "ambient_types",
    "burnside_count",
    "convolution",
    "correlation",
    "coset_space",
    "cube_rotations",
    "cyclic",
    "dihedral",
    "direct_product",
    "effective_rank",
    "fourier_matrix",
    "from_ambient",
    "from_cayley",
    "from_matrices",
    "from_permutations",
    "geodesic_distance",
    "homogeneous_length",
    "icosahedral",
    "icosahedral_rotations",
    "icosahedron_space",
    "icosphere",
    "inversion",
    "left_invariant_distance",
    "metric_matrix",
    "motion",
    "nearest_orthogonal",
    "octahedral",
    "orbits_of_pairs",
    "plane_group",
    "quaternion",
    "quaternion_from_rotation",
    "random_orthogonal",
    "random_rotations",
    "reflection",
    "regular_space",
    "representation",
    "rotation_from_quaternion",
    "rotation_from_vector",
    "rotation_grid",
    "schatten_norm",
    "semidirect_product",
    "skew",
    "sphere_frame",
    "split_parity",
    "squared_length",
    "symmetric",
    "tetrahedral_rotations",
    "to_ambient",
    "vector_from_rotation",
    "wigner_blocks",
    "wrap_angle",
]
