"""Convolutions in a row, merged."""

import pytest
import torch

from geomeq.nn import SphereAggregation
from geomeq.spheres import healpix_neighbours


@pytest.mark.parametrize("merge", ["sum", "max", "concat"])
@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("activation", [None, torch.relu])
@pytest.mark.parametrize("nside", [8, None])
def test_it_merges_the_results_of_a_chain(merge, stride, activation, nside):
    block = SphereAggregation(3, 4, nside, hops=3, merge=merge, stride=stride, activation=activation).double()
    x = torch.randn(2, 768, 3, dtype=torch.float64, requires_grad=True)
    found, h = [], x
    for conv in block.convs:
        full = type(conv)(conv.in_channels, 4, 8).double()
        full.load_state_dict(conv.state_dict())
        h = full(h)
        found.append(h[:, ::stride])
        h = h if activation is None else activation(h)
    stacked = torch.stack(found)
    wanted = {"sum": stacked.sum(0), "max": stacked.max(0).values, "concat": torch.cat(found, dim=-1)}[merge]
    out = block(x)
    torch.testing.assert_close(out, wanted, atol=1e-12, rtol=0)
    assert out.size(-1) == block.out_channels
    to = torch.randn(out.shape, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(out, x, to)[0], torch.autograd.grad(wanted, x, to)[0], atol=1e-12, rtol=0
    )
    torch.testing.assert_close(block(x[0]), out[0], atol=1e-12, rtol=0)


def test_it_sees_as_many_hops_as_it_has_convolutions():
    x = torch.zeros(768, 1, dtype=torch.float64)
    x[300] = 1
    near = healpix_neighbours(8)
    reached = torch.tensor([300])
    for hops in (1, 2, 3):
        around = near[reached].flatten()
        reached = torch.cat([reached, around[around >= 0]]).unique()
        block = SphereAggregation(1, 2, 8, hops=hops, bias=False).double()
        seen = block(x).detach().abs().sum(dim=1).nonzero()[:, 0]
        assert torch.equal(seen, reached)  # being a neighbour is mutual
    weights = sum(p.numel() for p in SphereAggregation(4, 4, 8, hops=2, bias=False).parameters())
    assert weights == 2 * 9 * 16


def test_order_of_pixels_inside_does_not_show(compiled):
    block = SphereAggregation(3, 4, 8, hops=2, missing="average")
    x = torch.randn(2, 768, 3)
    table = SphereAggregation(3, 4, 8, hops=2, missing="average", path="gather")
    table.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(x), table(x), atol=1e-5, rtol=0)
    torch.testing.assert_close(compiled(block, backend="aot_eager")(x), block(x), atol=1e-5, rtol=0)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="merge must be one of"):
        SphereAggregation(3, 4, 8, merge="mean")
    with pytest.raises(ValueError, match="hops"):
        SphereAggregation(3, 4, 8, hops=0)
    with pytest.raises(ValueError, match="stride"):
        SphereAggregation(3, 4, 8, stride=2)
    with pytest.raises(ValueError, match="x must have shape"):
        SphereAggregation(3, 4, 8)(torch.zeros(767, 3))
