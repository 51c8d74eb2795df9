"""Who is near whom: radius, nearest and periodic neighbours, farthest point sampling.

Every function returns edges as the rest of the package wants them: ``edge_index[0]`` is the source ``j``,
``edge_index[1]`` the target ``i``, sorted by target and then by source. Distances are decided in float64, whatever
the dtype of the positions, by the same formula on every path (KD-tree, grid, dense) and device. No neighbour is ever
dropped to bound memory.

**Distances that tie.** On lattices and in symmetric molecules many distances agree exactly, and rounding would decide
between them differently after each rotation. So a distance counts as *equal* to another within a relative tolerance
(:func:`tie_tolerance`: 1e-9 for float64 positions, 1e-6 for float32), and

- a pair exactly at the cutoff is connected (``r <= cutoff``, up to that tolerance);
- :func:`knn_edges` keeps every point that ties with the k-th, or on request takes the lowest index among them;
- :func:`farthest_points` takes the lowest index among points that tie.

None of these rules looks at a direction, so edges do not change when the points are turned or mirrored.
"""

from ._farthest import farthest_points
from ._nearest import knn_edges
from ._periodic import periodic_radius_edges
from ._points import tie_tolerance
from ._radius import radius_edges

__all__ = ["farthest_points", "knn_edges", "periodic_radius_edges", "radius_edges", "tie_tolerance"]
