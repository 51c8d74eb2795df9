"""Triangle meshes: reading, repair, half-edges, areas, normals, Laplacians, curvature, coarsening.

A mesh is a PyG ``Data`` with ``pos`` ``[N, 3]`` and ``face`` ``[3, F]``. Most quantities depend on the lengths of the
edges alone: such functions take ``face`` and ``length`` ``[3 F]``, the length of every half-edge (half-edge
``h = 3 f + c`` runs from ``face[c, f]`` to ``face[(c + 1) % 3, f]``). That pair is an *intrinsic triangulation*; edge
flips and mollification change it without moving a vertex. Geometry is computed in float64.
"""

from ._half_edges import HalfEdges, half_edges
from ._io import from_trimesh, load, save, to_trimesh
from ._lengths import corner_angles, cotangents, edge_lengths, face_areas, mollify
from ._vertices import face_normals, vertex_area, vertex_normals

__all__ = [
    "HalfEdges",
    "corner_angles",
    "cotangents",
    "edge_lengths",
    "face_areas",
    "face_normals",
    "from_trimesh",
    "half_edges",
    "load",
    "mollify",
    "save",
    "to_trimesh",
    "vertex_area",
    "vertex_normals",
]
