"""Spherical channel block: equal to its formulas, its symmetries and where they end, both paths, bad input."""

import pytest
import torch
from torch import Tensor

from geomeq.nn import SphericalChannelBlock
from tests.nn._plain_scn import plain_block

F64 = torch.float64


def graph(nodes: int = 5, dtype: torch.dtype = F64, seed: int = 0, spread: float = 2.0):
    """Every pair connected: positions, edge_index sorted by target, vectors, elements."""
    rng = torch.Generator().manual_seed(seed)
    pos = (torch.randn(nodes, 3, generator=rng, dtype=F64) * spread).to(dtype)
    target, source = torch.meshgrid(torch.arange(nodes), torch.arange(nodes), indexing="ij")
    edge_index = torch.stack([source, target])[:, source != target]
    z = torch.randint(1, 10, (nodes,), generator=rng)
    return pos, z, edge_index


def vectors(pos: Tensor, edge_index: Tensor) -> Tensor:
    return pos[edge_index[0]] - pos[edge_index[1]]


def build(dtype: torch.dtype = F64, seed: int = 0, **options) -> SphericalChannelBlock:
    torch.manual_seed(seed)
    settings = {"channels": 3, "lmax": 3, "hidden_channels": 8, "num_basis": 10, "edge_channels": 7, "cutoff": 9.0}
    return SphericalChannelBlock(**(settings | options)).to(dtype)


VARIANTS = {
    "m0": {"mmax": 0},
    "one tap": {"taps": 1},
    "four taps": {"taps": 4},
    "m2": {"mmax": 2, "average_degree": 3.0},
    "m2, one tap": {"mmax": 2, "taps": 1},
    "m3": {"mmax": 3, "envelope": None},
    "bands": {"bands": 2},
    "many bands": {"bands": 4},
    "two resolutions": {"num_resolutions": 2, "near": 2, "lmax": 5, "bands": 2},
    "reduced": {"reduced_channels": 2},
    "no grid": {"grid": False},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("path", ["nodes", "edges"])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (F64, 1e-10)])
def test_equals_the_formulas(variant, path, dtype, tol):
    block = build(dtype, path=path, **VARIANTS[variant])
    pos, z, edge_index = graph(dtype=dtype)
    x = torch.randn(5, (block.lmax + 1) ** 2, 3, dtype=dtype)
    vec = vectors(pos, edge_index)
    want = plain_block(build(F64, **VARIANTS[variant]), x.double(), z, edge_index, vec.double())
    got = block(x, z, edge_index, vec)
    assert (got.double() - want).abs().max() < tol * want.abs().max()
