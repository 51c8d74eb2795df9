"""Triangle meshes: reading, repair, half-edges, areas, normals, Laplacians, curvature, coarsening.

A mesh is a PyG ``Data`` with ``pos`` ``[N, 3]`` and ``face`` ``[3, F]``. Most quantities depend on the lengths of the
edges alone: such functions take ``face`` and ``length`` ``[3 F]``, the length of every half-edge (half-edge
``h = 3 f + c`` runs from ``face[c, f]`` to ``face[(c + 1) % 3, f]``). That pair is an *intrinsic triangulation*; edge
flips and mollification change it without moving a vertex. Geometry is computed in float64.
"""

from ._clean import clean
from ._coarsen import Coarsening, coarsen
from ._connect import euler_characteristic
from ._curvature import gaussian_curvature, mean_curvature, principal_curvatures, shape_operator
from ._fans import Fans, fan_angles, fans, one_ring
from ._flips import flip_to_delaunay
from ._frames import any_frames, project, projected_frames, projected_transport, tangent_frames, turn_frames
from ._geodesic import nearest_nodes, path_log
from ._half_edges import HalfEdges, half_edges
from ._io import from_trimesh, load, save, to_trimesh
from ._laplacian import cotangent_laplacian, mass_matrix, tufted_laplacian
from ._lengths import corner_angles, cotangents, edge_lengths, face_areas, mollify
from ._log_map import LogMap
from ._orient import orient
from ._report import MeshReport, inspect
from ._vector_heat import vector_heat_log
from ._vertices import face_normals, vertex_area, vertex_normals

__all__ = [
    "Coarsening",
    "Fans",
    "HalfEdges",
    "LogMap",
    "MeshReport",
    "any_frames",
    "clean",
    "coarsen",
    "corner_angles",
    "cotangent_laplacian",
    "cotangents",
    "edge_lengths",
    "euler_characteristic",
    "face_areas",
    "face_normals",
    "fan_angles",
    "fans",
    "flip_to_delaunay",
    "from_trimesh",
    "gaussian_curvature",
    "half_edges",
    "inspect",
    "load",
    "mass_matrix",
    "mean_curvature",
    "mollify",
    "nearest_nodes",
    "one_ring",
    "orient",
    "path_log",
    "principal_curvatures",
    "project",
    "projected_frames",
    "projected_transport",
    "save",
    "shape_operator",
    "tangent_frames",
    "to_trimesh",
    "tufted_laplacian",
    "turn_frames",
    "vector_heat_log",
    "vertex_area",
    "vertex_normals",
]
