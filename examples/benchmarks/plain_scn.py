"""The spherical channel block as published codes write it: what the case ``scn_block`` compares with.

Written from the formulas, in the manner of the published implementation: Wigner matrices by Euler angles and constant
matrices J (several times faster than matrix exponentials), kept dense [E, B, (L+1)^2]; a rotation by a dense matrix for
every tap; tensors collected in lists and concatenated; the grid's matrices built in every forward pass. Two things are
not as published, so that results can be compared: a fixed roll, and a true quadrature (Gauss-Legendre).
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from e3nn import o3
from torch import Tensor, nn

from geomeq.nn import SphericalChannelBlock


def j_matrices(lmax: int, dtype: torch.dtype) -> list[Tensor]:
    """Constant matrices: D(alpha, beta, gamma) = Z(alpha) J Z(beta) J Z(gamma)."""
    # J exchanges the axes x and y: a half turn about their bisector makes of a turn about y one about x
    axis = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64) / math.sqrt(2)
    half_turn = 2 * torch.outer(axis, axis) - torch.eye(3, dtype=torch.float64)
    points = torch.randn(400, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = []
    for degree in range(lmax + 1):
        y = o3.spherical_harmonics([degree], points, normalize=True)
        turned = o3.spherical_harmonics([degree], points @ half_turn.T, normalize=True)
        out.append(torch.linalg.lstsq(y, turned).solution.T.to(dtype))
    return out


def z_rotation(angle: Tensor, degree: int) -> Tensor:
    """Dense matrix of a turn about y, ``[E, 2l+1, 2l+1]``."""
    m = torch.arange(-degree, degree + 1, dtype=angle.dtype)
    out = angle.new_zeros(angle.numel(), 2 * degree + 1, 2 * degree + 1)
    row = torch.arange(2 * degree + 1)
    out[:, row, row.flip(0)] = torch.sin(-m * angle[:, None])
    out[:, row, row] = torch.cos(m * angle[:, None])
    return out


def dense_wigner(rotation: Tensor, lmax: int, mmax: int, js: list[Tensor]) -> Tensor:
    """Rows of order up to mmax of the matrices of all degrees, ``[E, B, (L+1)^2]``."""
    alpha, beta, gamma = o3.matrix_to_angles(rotation)
    wigner = rotation.new_zeros(rotation.size(0), (lmax + 1) ** 2, (lmax + 1) ** 2)
    for degree in range(lmax + 1):
        block = z_rotation(alpha, degree) @ js[degree] @ z_rotation(beta, degree) @ js[degree]
        block = block @ z_rotation(gamma, degree)
        rows = slice(degree**2, (degree + 1) ** 2)
        wigner[:, rows, rows] = block
    return wigner[:, kept_rows(lmax, mmax)].detach()


def kept_rows(lmax: int, mmax: int) -> list[int]:
    keep = []
    for degree in range(lmax + 1):
        for m in range(-min(degree, mmax), min(degree, mmax) + 1):
            keep.append(degree**2 + degree + m)
    return keep


def tap_rotation(angle: float, lmax: int, mmax: int, like: Tensor) -> Tensor:
    """Dense matrix of a roll on the kept rows, ``[B, B]``."""
    keep = kept_rows(lmax, mmax)
    full = like.new_zeros((lmax + 1) ** 2, (lmax + 1) ** 2)
    for degree in range(lmax + 1):
        rows = slice(degree**2, (degree + 1) ** 2)
        full[rows, rows] = z_rotation(like.new_tensor([angle]), degree)[0]
    return full[keep][:, keep]


def grid_matrices(lmax: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """To the grid ``[P, (L+1)^2]`` and back, made anew."""
    nlat, nlon = 2 * (lmax + 1), 2 * (lmax + 1) + 1
    cosine, weight = np.polynomial.legendre.leggauss(nlat)
    cosine, weight = torch.from_numpy(cosine[::-1].copy()), torch.from_numpy(weight[::-1].copy())
    sine = (1 - cosine**2).sqrt()[:, None]
    phi = 2 * math.pi * torch.arange(nlon, dtype=torch.float64) / nlon
    points = torch.stack([sine * phi.sin(), cosine[:, None].expand(-1, nlon), sine * phi.cos()], dim=-1).flatten(0, 1)
    to_grid = o3.spherical_harmonics(list(range(lmax + 1)), points, normalize=True, normalization="component")
    area = (weight[:, None] / (2 * nlon)).expand(-1, nlon).reshape(-1)
    return to_grid.to(like), (to_grid * area[:, None]).to(like)


class PlainBlock(nn.Module):
    """A block with the weights of ours."""

    def __init__(self, block: SphericalChannelBlock) -> None:
        super().__init__()
        self.block = block
        message = block.messages[0]
        self.lmax, self.mmax, self.taps = message.lmax, message.mmax, message.taps
        self.first = nn.Linear(message.weight_in[..., 0].numel(), message.hidden)
        self.last = nn.Linear(message.hidden, message.bias_out.numel())
        for weight in (message.weight_in, message.bias_in, message.weight_out, message.bias_out):
            weight.requires_grad_(False)  # copied into linear layers
        with torch.no_grad():
            self.first.weight.copy_(message.weight_in.permute(3, 1, 2, 0).flatten(1))
            self.first.bias.copy_(message.bias_in)
            self.last.weight.copy_(message.weight_out.T)
            self.last.bias.copy_(message.bias_out)
        self.js = j_matrices(self.lmax, torch.float64)

    def forward(self, x: Tensor, z: Tensor, edge_index: Tensor, length: Tensor, rotation: Tensor) -> Tensor:
        return self.layer(x, z, edge_index, length, self.wigner(rotation))

    def wigner(self, rotation: Tensor) -> Tensor:
        """Dense rows of all edges, ``[E, B, (L+1)^2]``."""
        return dense_wigner(rotation, self.lmax, self.mmax, [j.to(rotation.dtype) for j in self.js])

    def layer(self, x: Tensor, z: Tensor, edge_index: Tensor, length: Tensor, wigner: Tensor) -> Tensor:
        block, message = self.block, self.block.messages[0]
        source, target = edge_index
        centre = torch.linspace(0, block.cutoff, block.num_basis, dtype=x.dtype)
        width = block.basis_width * (centre[1] - centre[0])
        basis = torch.exp(-0.5 * ((length[:, None] - centre) / width) ** 2)
        s = block.scalars
        scalars = s.source(z - 1)[source] + s.target(z - 1)[target] + s.distance(basis)
        scalars = F.silu(s.last(F.silu(scalars)))
        x_source = torch.bmm(wigner, x[source])
        x_target = torch.bmm(wigner, x[target])
        results = []
        for k in range(self.taps):
            angle = 2 * math.pi * k / self.taps
            roll = tap_rotation(angle, self.lmax, self.mmax, x)
            roll = roll.expand(len(source), *roll.shape)
            parts = [torch.bmm(roll, x_source), torch.bmm(roll, x_target)] if k else [x_source, x_target]
            u = torch.cat(parts, dim=1).flatten(1)
            h = F.silu(self.first(u)) * F.silu(message.edge(scalars))
            h = F.silu(message.middle(h))
            out = F.silu(self.last(h)).view(len(source), -1, x.size(2))
            results.append(torch.bmm(roll.mT, out) if k else out)
        out = torch.stack(results).mean(dim=0)
        out = torch.bmm(wigner.mT, out)
        total = torch.zeros_like(x).index_add(0, target, out)
        return self.aggregate(x, total)

    def aggregate(self, x: Tensor, total: Tensor) -> Tensor:
        aggregate, parts = self.block.aggregate, []
        to_grid, from_grid = grid_matrices(self.lmax, x)
        for band in range(aggregate.bands):
            count = (self.lmax - band + 1) ** 2
            for values in (x, total):
                parts.append(torch.einsum("pa,nac->npc", to_grid[:, :count], values[:, :count]))
        points = torch.cat(parts, dim=2)
        points = aggregate.third(F.silu(aggregate.second(F.silu(aggregate.first(points)))))
        return torch.einsum("pa,npc->nac", from_grid, points)
