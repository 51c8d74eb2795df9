"""The cubed sphere: six square faces, projected from the centre."""

import math

import torch
from torch import Tensor

from .sampling import Sampling, check_count

# Of each face: outward normal, east (columns), south (rows). Faces 0 to 3 go around the equator, eastward from
# longitude 0; the columns of face 4 (north) and 5 (south) run east as seen from face 0.
FACES = torch.tensor(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, -1]],
        [[0, 1, 0], [-1, 0, 0], [0, 0, -1]],
        [[-1, 0, 0], [0, -1, 0], [0, 0, -1]],
        [[0, -1, 0], [1, 0, 0], [0, 0, -1]],
        [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
        [[0, 0, -1], [0, 1, 0], [-1, 0, 0]],
    ],
    dtype=torch.float64,
)


def cubed(n: int) -> Sampling:
    r"""The equiangular cubed sphere: ``n`` by ``n`` cells on each of six faces, with their exact solid angles.

    Node ``(face * n + row) * n + column``. Faces 0 to 3 are centred on the equator at longitudes 0, 90, 180 and 270
    degrees, rows from north to south, columns eastward; face 4 holds the north pole, its last row beside face 0, and
    face 5 the south pole, its first row beside face 0. Lines of cells are equal steps of the angle, so that the largest
    cell has at most 1.42 times the area of the smallest. The node of a cell lies in the middle of its angles.

    Args:
        n: Cells along the side of a face; ``6 n^2`` nodes.

    Raises:
        ValueError: If ``n`` is no positive integer.

    Example:
        >>> cubed(8)
        Sampling('cubed', num_nodes=384)

    Source: Ronchi, Iacono and Paolucci (1996), https://doi.org/10.1006/jcph.1996.0047
    """
    check_count("n", n, 1)
    with torch.device("cpu"):  # whatever the default is
        edge = (math.pi / 2 * (torch.arange(n + 1, dtype=torch.float64) / n - 0.5)).tan()
        middle = (math.pi / 2 * ((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5)).tan()
        down, right = torch.meshgrid(middle, middle, indexing="ij")
        local = torch.stack([torch.ones_like(down), right, down], dim=-1).flatten(0, 1)
        pos = torch.einsum("pa,fad->fpd", local / local.norm(dim=1, keepdim=True), FACES)
        corner = _solid_angle(edge[:, None], edge[None])
        area = corner[1:, 1:] - corner[1:, :-1] - corner[:-1, 1:] + corner[:-1, :-1]
        return Sampling("cubed", pos.flatten(0, 1), area.flatten().repeat(6))


def _solid_angle(x: Tensor, y: Tensor) -> Tensor:
    """Of the rectangle from (0, 0) to (x, y) on the plane at distance 1."""
    return torch.atan2(x * y, (1 + x.square() + y.square()).sqrt())
