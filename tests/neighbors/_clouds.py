"""Point clouds that hypothesis draws."""

import torch
from hypothesis import strategies as st

SEARCHES = ["tree", "dense", "grid"]


@st.composite
def clouds(draw, max_points=24):
    """Points on a coarse lattice, so that ties, duplicates and pairs exactly at the cutoff are common, or anywhere."""
    n, dim = draw(st.integers(0, max_points)), draw(st.integers(1, 4))
    seed, scale = draw(st.integers(0, 2**31)), draw(st.sampled_from([1e-6, 1.0, 1e6]))
    generator = torch.Generator().manual_seed(seed)
    if draw(st.booleans()):
        pos = torch.randint(-2, 3, (n, dim), generator=generator).double()
    else:
        pos = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    batch = torch.randint(0, 4, (n,), generator=generator) * draw(st.sampled_from([1, 1000])) if n % 2 else None
    return pos * scale, batch, scale, generator
