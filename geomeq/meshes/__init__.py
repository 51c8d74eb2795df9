"""Triangle meshes: reading, repair, half-edges, areas, normals, Laplacians, curvature, coarsening.

A mesh is a PyG ``Data`` with ``pos`` ``[N, 3]`` and ``face`` ``[3, F]``. Most quantities depend on the lengths of the
edges alone: such functions take ``face`` and ``length`` ``[3 F]``, the length of every half-edge (half-edge
``h = 3 f + c`` runs from ``face[c, f]`` to ``face[(c + 1) % 3, f]``). That pair is an *intrinsic triangulation*; edge
flips and mollification change it without moving a vertex. Geometry is computed in float64.
"""

from ._half_edges import HalfEdges, half_edges

__all__ = ["HalfEdges", "half_edges"]
