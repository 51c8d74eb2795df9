"""The symmetries a check can draw from, as float64 matrices, translations, node orders and frame turns."""

import functools
from dataclasses import dataclass

import torch
from e3nn import o3
from torch import Tensor
from torch_geometric.data import Data

#: What users may write for a group, lower case and without brackets, and the name used from there on.
_NAMES = {
    "so3": "SO(3)",
    "rotation": "SO(3)",
    "rotations": "SO(3)",
    "o3": "O(3)",
    "reflection": "reflection",
    "reflections": "reflection",
    "inversion": "inversion",
    "translation": "translation",
    "translations": "translation",
    "t3": "translation",
    "se3": "SE(3)",
    "e3": "E(3)",
    "permutation": "permutation",
    "permutations": "permutation",
    "frames": "frames",
    "frame": "frames",
    "gauge": "frames",
    "batching": "batching",
    "batch": "batching",
}
GROUPS = (
    "SO(3)",
    "O(3)",
    "reflection",
    "inversion",
    "translation",
    "SE(3)",
    "E(3)",
    "permutation",
    "frames",
    "batching",
)


@dataclass(frozen=True)
class Element:
    """One symmetry. What is ``None`` stays as it is.

    Attributes:
        matrix: Orthogonal matrix acting on column vectors, ``[3, 3]``, float64.
        shift: Translation of the positions, in their unit, ``[d]``, float64.
        order: New node ``k`` is the old node ``order[k]``, ``[N]``.
        turn: Angle from ``e1`` towards ``e2`` by which the frame at each node turns, radians, ``[N]``, float64.
    """

    matrix: Tensor | None = None
    shift: Tensor | None = None
    order: Tensor | None = None
    turn: Tensor | None = None


def group_name(group: str) -> str:
    """Returns the one name of a group, whichever way it was written (``"so3"``, ``"SO(3)"``, ``"rotation"``)."""
    key = group.lower().replace("(", "").replace(")", "").replace(" ", "")
    if key not in _NAMES:
        raise ValueError(f"group must be one of {', '.join(GROUPS)}, got {group!r}")
    return _NAMES[key]


def random_elements(group: str, data: Data, samples: int, generator: torch.Generator) -> list[Element]:
    """Draws elements of a group that fit one graph.

    Args:
        group: A name from ``GROUPS`` (not ``"batching"``, which is no group acting on one graph).
        data: The graph: its nodes are permuted, its spread sets the length of the translations.
        samples: How many elements; for ``"O(3)"`` and ``"E(3)"`` every second one has determinant -1.
        generator: Source of randomness, on the CPU.
    """
    return [_random_element(group, data, mirrored=k % 2 == 0, generator=generator) for k in range(samples)]


def _random_element(group: str, data: Data, mirrored: bool, generator: torch.Generator) -> Element:
    if group == "permutation":
        return Element(order=_random_order(data, generator))
    if group == "frames":
        return Element(turn=torch.rand(_num_nodes(data), dtype=torch.float64, generator=generator) * 2 * torch.pi)
    if group == "translation":
        return Element(shift=_random_shift(data, generator))
    if group == "reflection":
        return Element(matrix=random_mirror(generator))
    if group == "inversion":
        return Element(matrix=-torch.eye(3, dtype=torch.float64))
    matrix = random_rotation(generator)
    if group in ("O(3)", "E(3)") and mirrored:
        matrix = -matrix
    return Element(matrix=matrix, shift=_random_shift(data, generator) if group in ("SE(3)", "E(3)") else None)


def random_rotation(generator: torch.Generator) -> Tensor:
    """Draws a rotation from the Haar measure, ``[3, 3]``, float64."""
    q, r = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))
    q = q * r.diagonal().sign()  # without this the distribution depends on LAPACK's sign convention
    return q * torch.linalg.det(q).sign()


def random_mirror(generator: torch.Generator) -> Tensor:
    """Draws the reflection at a plane with a uniformly random normal, ``[3, 3]``, float64."""
    normal = torch.nn.functional.normalize(torch.randn(3, dtype=torch.float64, generator=generator), dim=0)
    return torch.eye(3, dtype=torch.float64) - 2 * torch.outer(normal, normal)


def _random_shift(data: Data, generator: torch.Generator) -> Tensor:
    pos = data.get("pos")
    if pos is None:
        raise ValueError("a translation needs data.pos, which is missing")
    # About twice the spread of the points: far enough to see, near enough to keep float32 rounding small.
    centred = pos.detach().double().cpu() - pos.detach().double().cpu().mean(dim=0)
    spread = float(centred.square().sum(dim=-1).mean().sqrt()) if pos.size(0) else 0.0
    direction = torch.randn(pos.size(-1), dtype=torch.float64, generator=generator)
    return 2 * (spread or 1.0) * torch.nn.functional.normalize(direction, dim=0)


def _random_order(data: Data, generator: torch.Generator) -> Tensor:
    nodes = _num_nodes(data)
    if nodes < 2:
        raise ValueError(f"a permutation needs a graph with at least 2 nodes, got {nodes}")
    batch = data.get("batch")
    batch = torch.zeros(nodes, dtype=torch.long) if batch is None else batch.cpu()
    # Sorting by (graph, random key) shuffles the nodes inside each graph and keeps the graphs in place.
    shuffled = torch.randperm(nodes, generator=generator)
    return shuffled[torch.argsort(batch[shuffled], stable=True)]


def _num_nodes(data: Data) -> int:
    nodes = data.num_nodes
    if nodes is None:
        raise ValueError("the number of nodes is unknown; set data.pos, data.x or data.num_nodes")
    return int(nodes)


def irrep_matrix(degree: int, p: int, matrix: Tensor) -> Tensor:
    """Returns the matrix of an irrep of O(3) in e3nn's basis, ``[2 * degree + 1, 2 * degree + 1]``, float64.

    ``Irrep.D_from_matrix`` of e3nn 0.6 rounds to float32 (2e-7 at l = 1, 3e-6 at l = 8), too coarse for
    a float64 check. So the proper part is solved from its definition, ``Y_l(R x) = D_l(R) Y_l(x)``, on
    points spread over the sphere. Not taken from ``geomeq.groups`` either, because layers
    build on those matrices: a check should not share its mistakes with what it checks.

    Args:
        degree: ``l``.
        p: Parity, 1 or -1.
        matrix: Orthogonal matrix, ``[3, 3]``, float64.
    """
    improper = bool(torch.linalg.det(matrix) < 0)
    sign = p if improper else 1
    proper = -matrix if improper else matrix
    if degree == 0:
        return torch.full((1, 1), float(sign), dtype=torch.float64)
    if degree == 1:
        return sign * proper
    points, inverse = _sphere_points(degree)
    return sign * (inverse @ o3.spherical_harmonics(degree, points @ proper.T, normalize=True)).T


@functools.cache
def _sphere_points(degree: int) -> tuple[Tensor, Tensor]:
    count = 4 * (2 * degree + 1)
    height = 1 - (2 * torch.arange(count, dtype=torch.float64) + 1) / count  # Fibonacci spiral
    angle = torch.arange(count, dtype=torch.float64) * torch.pi * (3 - 5**0.5)
    radius = (1 - height**2).sqrt()
    points = torch.stack([radius * angle.cos(), height, radius * angle.sin()], dim=-1)
    return points, torch.linalg.pinv(o3.spherical_harmonics(degree, points, normalize=True))
