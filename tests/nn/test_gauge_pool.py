"""Pooling between levels with transport, against the definition; without transport it breaks the symmetry."""

import pytest
import torch

from geomeq.nn import GaugePool, GaugeUnpool
from tests.nn._gauge import DTYPES, features, relative, turned, turns

TYPES = "2x0+3x1+1x2"
FINE, COARSE = 20, 5


def clusters(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """A cluster for each fine node (the last coarse node has none) and the angle into its frame."""
    return torch.randint(COARSE - 1, (FINE,)), turns(FINE).to(dtype)


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
def test_both_commute_with_frames_of_both_levels(dtype, tol):
    index, angle = clusters()
    fine, coarse = turns(FINE), turns(COARSE)
    # components: fine -> e^{-i m fine}, coarse -> e^{-i m coarse}
    moved = (angle + fine - coarse[index]).to(dtype)
    angle = angle.to(dtype)
    pool, unpool = GaugePool(TYPES), GaugeUnpool(TYPES)
    x, y = features(TYPES, FINE, dtype=dtype), features(TYPES, COARSE, dtype=dtype)
    area = torch.rand(FINE, dtype=dtype)
    after = pool(turned(TYPES, x, fine), index, moved, COARSE, area)
    assert relative(after, turned(TYPES, pool(x, index, angle, COARSE, area), coarse)) < tol
    after = unpool(turned(TYPES, y, coarse), index, moved)
    assert relative(after, turned(TYPES, unpool(y, index, angle), fine)) < tol
    still = torch.zeros_like(angle)  # a plain mean of components
    wrong = pool(turned(TYPES, x, fine), index, still, COARSE)
    assert relative(wrong, turned(TYPES, pool(x, index, still, COARSE), coarse)) > 0.05


def test_pool_is_the_mean_over_clusters_in_the_coarse_frame():
    index, angle = clusters()
    x, area = features("1x0+1x2", FINE), torch.rand(FINE, dtype=torch.float64)
    for weight, given in ((torch.ones_like(area), None), (area, area)):
        y = GaugePool("1x0+1x2")(x, index, angle, COARSE, given)
        for c in range(COARSE):
            members = (index == c).nonzero().squeeze(1).tolist()
            if not members:
                assert bool((y[c] == 0).all())
                continue
            total = sum(weight[f] for f in members)
            scalar = sum(weight[f] * x[f, 0] for f in members) / total
            z = sum(weight[f] * torch.complex(x[f, 1], x[f, 2]) * torch.exp(2j * angle[f]) for f in members) / total
            torch.testing.assert_close(y[c], torch.stack([scalar, z.real, z.imag]))


def test_pooling_what_was_unpooled_changes_nothing():
    index, angle = clusters()
    y = features(TYPES, COARSE)
    again = GaugePool(TYPES)(GaugeUnpool(TYPES)(y, index, angle, COARSE), index, angle, COARSE)
    torch.testing.assert_close(again[: COARSE - 1], y[: COARSE - 1])


def test_static_graphs_gradients_and_compile(compiled):
    index, angle = clusters()
    pool, unpool = GaugePool(TYPES), GaugeUnpool(TYPES)
    x = features(TYPES, 2, FINE)
    torch.testing.assert_close(pool(x, index, angle, COARSE)[1], pool(x[1], index, angle, COARSE))
    y = pool(x, index, angle, COARSE)
    torch.testing.assert_close(unpool(y, index, angle)[1], unpool(y[1], index, angle))
    fast = compiled(lambda x: unpool(pool(x, index, angle, COARSE), index, angle), backend="aot_eager")
    torch.testing.assert_close(fast(x), unpool(y, index, angle))
    assert torch.autograd.gradcheck(lambda x: pool(x, index, angle, COARSE), x[0].requires_grad_())
    assert torch.autograd.gradcheck(lambda a: pool(x[0].detach(), index, a, COARSE), angle.requires_grad_())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pool_index": torch.zeros(3, dtype=torch.long)}, "pool_index must have shape"),
        ({"pool_transport": torch.zeros(3)}, "pool_transport must have shape"),
        ({"num_coarse": 2}, "names coarse nodes"),
        ({"area": torch.ones(3)}, "area must have shape"),
        ({"x": torch.zeros(FINE, 4)}, "built for types"),
    ],
)
def test_bad_input(change, message):
    index, angle = torch.arange(FINE) % COARSE, torch.zeros(FINE)
    given = {"x": features(TYPES, FINE), "pool_index": index, "pool_transport": angle, "num_coarse": COARSE}
    with pytest.raises(ValueError, match=message):
        GaugePool(TYPES)(**{**given, **change})
    with pytest.raises(TypeError, match="pool_index must hold integers"):
        GaugePool(TYPES)(**{**given, "pool_index": index.float()})
