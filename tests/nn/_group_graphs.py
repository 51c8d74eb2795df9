"""Graphs for the Chebyshev tests: random ones, and the roto-translation group written out from its formulas."""

import math

import torch
from torch import Tensor

from geomeq.ops import SparseOperator, rescaled_laplacian


def random_graph(nodes: int = 30, extra: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A connected undirected graph without self loops or repeats: ``edge_index`` and weights in float64."""
    rng = torch.Generator().manual_seed(seed)
    path = torch.arange(nodes - 1)
    pairs = torch.cat([torch.stack([path, path + 1]), torch.randint(nodes, (2, extra), generator=rng)], dim=1)
    pairs = pairs[:, pairs[0] != pairs[1]].sort(dim=0).values.unique(dim=1)
    weight = torch.rand(pairs.size(1), generator=rng, dtype=torch.float64) + 0.1
    return torch.cat([pairs, pairs.flip(0)], dim=1), torch.cat([weight, weight])


def dense_laplacian(edge_index: Tensor, weight: Tensor, nodes: int, normalization: str | None = "sym") -> Tensor:
    """The definition."""
    w = weight.new_zeros(nodes, nodes)
    w[edge_index[1], edge_index[0]] = weight
    w.fill_diagonal_(0.0)
    degree = w.sum(1)
    if normalization is None:
        return torch.diag(degree) - w
    linked = (degree > 0).to(w.dtype)
    if normalization == "rw":
        return torch.diag(linked) - w / degree.clamp(min=1e-300)[:, None]
    root = linked / degree.clamp(min=1e-300).sqrt()
    return torch.diag(linked) - root[:, None] * w * root


def se2_graph(
    n: int, orientations: int, eps2: float = 0.2, xi2: float | None = None, k: int = 8
) -> tuple[Tensor, Tensor]:
    """All pairs of SE(2) on an ``n`` x ``n`` grid closer than the k-th neighbour of the centre; Gaussian weights."""
    xi2 = orientations / n**2 if xi2 is None else xi2
    axis = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / n
    theta = -math.pi / 2 + torch.arange(orientations, dtype=torch.float64) * math.pi / orientations
    t, y, x = (g.reshape(-1) for g in torch.meshgrid(theta, axis, axis, indexing="ij"))
    dx, dy = x[:, None] - x, y[:, None] - y  # row i, column j: j - i is minus this, which the square forgets
    distances = []
    for turn in (0.0, math.pi):
        dt = torch.remainder(t[:, None] - t + turn + math.pi, 2 * math.pi) - math.pi
        c, s = t.cos()[None], t.sin()[None]
        local_x, local_y = c * dx + s * dy, c * dy - s * dx
        half = dt / 2
        a = torch.where(half.abs() < 1e-9, 1.0, half / half.tan().where(half.abs() > 1e-9, 1.0))
        c1, c2 = a * local_x + half * local_y, a * local_y - half * local_x
        distances.append(c1**2 + c2**2 / eps2 + xi2 * dt**2)
    d2 = torch.minimum(*distances)
    centre = (orientations // 2) * n * n + (n // 2) * n + n // 2
    near = (d2 <= d2[centre].sort().values[k] * (1 + 1e-9)) & ~torch.eye(len(d2), dtype=torch.bool)
    near = near & near.T
    target, source = near.nonzero(as_tuple=True)
    square = d2[target, source]
    square = 0.5 * (square + d2[source, target])
    return torch.stack([source, target]), torch.exp(-square / (0.8 * square.mean()))


def quarter_turn(n: int, orientations: int) -> Tensor:
    """Node permutation of a turn by 90 degrees: ``x[quarter_turn]`` is the turned signal."""
    s = torch.arange(n * n).view(n, n)
    turned = torch.rot90(s, 1, (0, 1)).reshape(-1)
    layers = (torch.arange(orientations) + orientations // 2) % orientations
    return (layers[:, None] * n * n + turned).reshape(-1)


def operator_of(graph: tuple[Tensor, Tensor], nodes: int, dtype: torch.dtype = torch.float64) -> SparseOperator:
    """Its rescaled Laplacian."""
    return rescaled_laplacian(graph[0], graph[1].to(dtype), nodes)
