"""Channels to children and back."""

import pytest
import torch

from geomeq.nn import SphereShuffle, SphereUnshuffle


@pytest.mark.parametrize("factor", [4, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_each_group_of_channels_becomes_a_child(factor, dtype):
    x = torch.randint(100, (2, 12, 3 * factor)).to(dtype)
    y = SphereShuffle(factor)(x)
    assert y.shape == (2, 12 * factor, 3)
    for q in range(factor):
        assert torch.equal(y[:, q::factor], x[..., 3 * q : 3 * q + 3])
    assert torch.equal(SphereUnshuffle(factor)(y), x)
    assert torch.equal(SphereShuffle(factor)(x[0]), y[0])
    assert y.data_ptr() == x.data_ptr()  # nothing is moved


def test_unshuffle_then_shuffle_is_exact_as_well():
    x = torch.randn(2, 48, 5)
    assert torch.equal(SphereShuffle()(SphereUnshuffle()(x)), x)
    assert not torch.equal(SphereShuffle()(x[..., :4].contiguous()), SphereShuffle()(x[..., :4].flip(-1)))


def test_it_compiles_in_one_graph(compiled):
    x = torch.randn(2, 12, 8)
    assert torch.equal(compiled(SphereShuffle(), backend="aot_eager")(x), SphereShuffle()(x))


def test_bad_input_is_refused():
    for factor in (0, 1, 2, 8, 4.0, True):
        with pytest.raises(ValueError, match="power of 4"):
            SphereShuffle(factor)
        with pytest.raises(ValueError, match="power of 4"):
            SphereUnshuffle(factor)
    with pytest.raises(ValueError, match="multiple of 4 channels"):
        SphereShuffle()(torch.zeros(12, 6))
    with pytest.raises(ValueError, match="multiple of 4 pixels"):
        SphereUnshuffle()(torch.zeros(10, 6))
