"""Random graphs and the definition of the stencil, for the tests of this folder."""

import torch
from hypothesis import strategies as st
from torch import Tensor


def definition(x: Tensor, edge_index: Tensor, coef: Tensor, num_targets: int) -> Tensor:
    """``out[.., i, k] = sum_e coef[e, k] x[.., j]``, edge by edge: ``[..., N_dst, K, C]``."""
    out = x.new_zeros(*x.shape[:-2], num_targets, coef.size(1), x.size(-1))
    for e, (j, i) in enumerate(edge_index.T.tolist()):
        out[..., i, :, :] += coef[e, :, None] * x[..., j, None, :]
    return out


def random_edges(num_edges: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Edges in no order, with repeats."""
    rng = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(n, (num_edges,), generator=rng) for n in size])


@st.composite
def problems(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)) -> dict:
    """A random stencil problem: graph, coefficients, features, from empty to a few dozen edges."""
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    num_edges, num_coefs = draw(st.integers(0, 40)), draw(st.sampled_from([None, 0, 1, 2, 5]))
    lead = draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,)]))
    dtype, channels = draw(st.sampled_from(dtypes)), draw(st.sampled_from([0, 1, 3, 17]))
    seed = draw(st.integers(0, 2**16))
    rng = torch.Generator().manual_seed(seed)
    shape = (num_edges,) if num_coefs is None else (num_edges, num_coefs)
    return {
        "edge_index": random_edges(num_edges, size, seed),
        "size": size,
        "coef": torch.randn(shape, generator=rng, dtype=dtype),
        "x": torch.randn(*lead, size[0], channels, generator=rng, dtype=dtype),
    }
