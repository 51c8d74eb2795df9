"""Pooling over children and copies to them."""

import pytest
import torch

from geomeq.nn import SpherePool, SphereUnpool
from geomeq.spheres import healpix_children, healpix_parent


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pooling_is_over_the_children(levels, dtype):
    x = torch.randn(2, 192, 3, dtype=dtype)
    family = x[:, healpix_children(torch.arange(192 // 4**levels), levels)]
    torch.testing.assert_close(SpherePool("mean", levels)(x), family.mean(dim=2))
    torch.testing.assert_close(SpherePool("sum", levels)(x), family.sum(dim=2))
    assert torch.equal(SpherePool("max", levels)(x), family.max(dim=2).values)
    assert torch.equal(SpherePool("max", levels)(x[0]), SpherePool("max", levels)(x)[0])
    assert not torch.allclose(SpherePool("mean", levels)(x), SpherePool("mean", levels)(x.roll(1, 1)))


def test_areas_weigh_and_masks_leave_out():
    x, area = torch.randn(2, 48, 3, dtype=torch.float64), torch.rand(48, dtype=torch.float64)
    area[:4] = 0
    pooled = SpherePool()(x, area)
    wanted = (x[:, 4:8] * area[4:8, None]).sum(dim=1) / area[4:8].sum()
    torch.testing.assert_close(pooled[:, 1], wanted)
    assert torch.equal(pooled[:, 0], torch.zeros(2, 3, dtype=torch.float64))
    torch.testing.assert_close(SpherePool("sum")(x, area).sum(dim=1), (x * area[:, None]).sum(dim=1))
    torch.testing.assert_close(SpherePool()(x, torch.full((48,), 0.3)), SpherePool()(x))


def test_unpooling_copies_to_the_children_and_is_undone_by_pooling():
    x = torch.randn(2, 12, 3)
    fine = SphereUnpool(2)(x)
    assert torch.equal(fine, x[:, healpix_parent(torch.arange(192), 2)])
    assert torch.equal(SpherePool("max", 2)(fine), x)
    torch.testing.assert_close(SpherePool("mean", 2)(fine), x)
    assert torch.equal(SphereUnpool(2)(x[0]), fine[0])


def test_gradients_and_compilation(compiled):
    x = torch.randn(1, 16, 2, dtype=torch.float64, requires_grad=True)
    for layer in (SpherePool("mean"), SpherePool("max"), SphereUnpool()):
        assert torch.autograd.gradcheck(layer, (x,))
        assert torch.equal(compiled(layer, backend="aot_eager")(x), layer(x))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="mode must be one of"):
        SpherePool("median")
    for levels in (0, 1.5, True):
        with pytest.raises(ValueError, match="levels"):
            SpherePool(levels=levels)
        with pytest.raises(ValueError, match="levels"):
            SphereUnpool(levels)
    with pytest.raises(ValueError, match="multiple of 16 pixels"):
        SpherePool(levels=2)(torch.zeros(1, 12, 3))
    with pytest.raises(ValueError, match="no weights"):
        SpherePool("max")(torch.zeros(48, 3), torch.ones(48))
    with pytest.raises(ValueError, match="area"):
        SpherePool()(torch.zeros(48, 3), torch.ones(12))
