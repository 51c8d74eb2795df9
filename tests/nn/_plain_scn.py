"""A spherical channel network written out from its formulas, edge by edge, with dense matrices: the oracle of ours."""

import math

import torch
import torch.nn.functional as F
from e3nn import o3
from torch import Tensor

from geomeq.harmonics import edge_frames, polynomial_envelope
from geomeq.nn import SphericalChannelBlock


def harmonics(points: Tensor, lmax: int) -> Tensor:
    return o3.spherical_harmonics(list(range(lmax + 1)), points, normalize=True, normalization="component")


def dense_wigner(rotation: Tensor, lmax: int) -> Tensor:
    """D with ``Y(R r) = D Y(r)``, ``[(L+1)^2, (L+1)^2]``, by solving just that at many points."""
    points = torch.randn(4 * (lmax + 1) ** 2, 3, dtype=rotation.dtype, generator=torch.Generator().manual_seed(1))
    return torch.linalg.lstsq(harmonics(points, lmax), harmonics(points @ rotation.T, lmax)).solution.T


def roll_matrix(lmax: int, mmax: int, angle: float, dtype: torch.dtype) -> Tensor:
    """Z(angle) on the kept rows, by degree and order, ``[B, B]``."""
    rows = [(degree, m) for degree in range(lmax + 1) for m in range(-min(degree, mmax), min(degree, mmax) + 1)]
    z = torch.zeros(len(rows), len(rows), dtype=dtype)
    for (degree, m), row in zip(rows, range(len(rows)), strict=True):
        z[row, row] += math.cos(m * angle)
        if m:
            z[row, rows.index((degree, -m))] += math.sin(m * angle)
    return z


def kept(lmax: int, mmax: int) -> list[int]:
    return [
        degree**2 + degree + m for degree in range(lmax + 1) for m in range(-min(degree, mmax), min(degree, mmax) + 1)
    ]


def messages(layer, x: Tensor, scalars: Tensor, weight: Tensor, edges: list[int], edge_index: Tensor, frames: Tensor):
    lmax, mmax = layer.lmax, layer.mmax
    total = torch.zeros(x.size(0), (lmax + 1) ** 2, x.size(2), dtype=x.dtype)
    x = x[:, : (lmax + 1) ** 2]
    first = layer.weight_in.permute(1, 2, 0, 3).flatten(0, 2)  # rows of u: end, row, channel
    for e in edges:
        source, target = edge_index[:, e].tolist()
        d = dense_wigner(frames[e], lmax)[kept(lmax, mmax)]
        mean = 0
        for k in range(layer.taps):
            roll = roll_matrix(lmax, mmax, 2 * math.pi * k / layer.taps, x.dtype)
            u = torch.cat([(roll @ d @ x[source]).flatten(), (roll @ d @ x[target]).flatten()])
            h = F.silu(u @ first + layer.bias_in) * F.silu(layer.edge(scalars[e]))
            h = F.silu(layer.middle(h))
            m = F.silu(h @ layer.weight_out + layer.bias_out).view(-1, x.size(2))
            mean = mean + roll.T @ m / layer.taps
        total = total.index_add(0, torch.tensor([target]), weight[e] * (d.T @ mean)[None])
    return total


def plain_block(block: SphericalChannelBlock, x, z, edge_index, vec, angles=None) -> Tensor:
    """The whole block; ``angles`` turns the frame of each edge further about its axis."""
    length = vec.norm(dim=1)
    frames = edge_frames(vec)
    if angles is not None:
        zero = torch.zeros_like(angles)
        frames = o3.angles_to_matrix(-angles, zero, zero) @ frames
    centre = torch.linspace(0, block.cutoff, block.num_basis, dtype=x.dtype)
    width = block.basis_width * (centre[1] - centre[0])
    basis = torch.exp(-0.5 * ((length[:, None] - centre) / width) ** 2)
    s = block.scalars
    scalars = s.source.weight[z[edge_index[0]] - 1] + s.target.weight[z[edge_index[1]] - 1] + s.distance(basis)
    scalars = F.silu(s.last(F.silu(scalars)))
    weight = torch.ones_like(length)
    if block.envelope is not None:
        weight = polynomial_envelope(length, block.cutoff, block.envelope)
    weight = weight / math.sqrt(block.average_degree)
    inner = x if block.down is None else x @ block.down.weight.T
    total = torch.zeros_like(inner)
    for k, layer in enumerate(block.messages):
        chosen = list(range(length.numel()))
        if len(block.messages) == 2:
            near = []
            for i in range(x.size(0)):
                own = sorted((e for e in chosen if edge_index[1, e] == i), key=lambda e: (float(length[e]), e))
                near += own[: block.near]
            chosen = [e for e in chosen if (e in near) == (k == 0)]
        own = messages(layer, inner, scalars, weight, chosen, edge_index, frames)
        total = total + F.pad(own, (0, 0, 0, total.size(1) - own.size(1)))
    if block.up is not None:
        total = total @ block.up.weight.T
    return total if block.aggregate is None else plain_aggregation(block.aggregate, x, total)


def plain_aggregation(aggregate, x: Tensor, message: Tensor) -> Tensor:
    grid, lmax = aggregate.grid, aggregate.lmax
    points, area = grid.points().to(x.dtype).flatten(0, 1), grid.area().to(x.dtype).flatten()
    y = harmonics(points, lmax)
    bands = []
    for k in range(aggregate.bands):
        keep = torch.zeros((lmax + 1) ** 2, 1, dtype=x.dtype)
        keep[: (lmax - k + 1) ** 2] = 1
        bands += [y @ (x * keep), y @ (message * keep)]
    values = F.silu(aggregate.first(torch.cat(bands, dim=-1)))
    values = aggregate.third(F.silu(aggregate.second(values)))
    return torch.einsum("p,pa,npc->nac", area / (4 * math.pi), y, values)
