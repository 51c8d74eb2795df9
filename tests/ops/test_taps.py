"""Tiled gathers with a matrix per place, against the sum written out."""

import pytest
import torch

from geomeq.ops import taps, taps_linear, taps_transposed


def problem(dtype=torch.float64, weighted=True):
    rng = torch.Generator().manual_seed(0)
    table = torch.randint(7, (11, 3), generator=rng)
    scale = torch.rand(11, 3, generator=rng, dtype=torch.float64) if weighted else None
    x = torch.randn(2, 7, 4, generator=rng, dtype=dtype, requires_grad=True)
    weight = torch.randn(3, 4, 5, generator=rng, dtype=dtype, requires_grad=True)
    y = torch.randn(2, 11, 5, generator=rng, dtype=dtype, requires_grad=True)
    return x, weight, y, table, scale


def written_out(x, weight, table, scale):
    out = x.new_zeros(x.size(0), len(table), weight.size(2))
    for m in range(len(table)):
        for t in range(table.size(1)):
            factor = 1 if scale is None else scale[m, t].to(x.dtype)
            out[:, m] += factor * x[:, table[m, t]] @ weight[t]
    return out


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("tile", [1, 1 << 20])  # several tiles, the last one short; one tile
def test_it_is_the_sum_and_its_gradients(dtype, tol, weighted, tile, monkeypatch):
    monkeypatch.setattr("geomeq.ops.taps._TILE", tile)
    monkeypatch.setattr("geomeq.ops.taps._LEAST", 4)
    x, weight, y, table, scale = problem(dtype, weighted)
    assert len(list(taps._tiles(table, 12))) == (3 if tile == 1 else 1)
    wanted = written_out(x, weight, table, scale)
    found = taps_linear(x, weight, table, scale)
    torch.testing.assert_close(found, wanted, atol=tol, rtol=0)
    for one, other in zip(
        torch.autograd.grad(found, (x, weight), y), torch.autograd.grad(wanted, (x, weight), y), strict=True
    ):
        torch.testing.assert_close(one, other, atol=tol, rtol=0)
    back = taps_transposed(y, weight, table, 7, scale)
    torch.testing.assert_close(
        back, torch.autograd.grad(written_out(x, weight, table, scale), x, y)[0], atol=tol, rtol=0
    )
    assert not torch.allclose(found, written_out(x, weight.flip(0), table, scale))  # the check has teeth


@pytest.mark.parametrize("weighted", [True, False])
def test_gradients_of_any_order(weighted):
    x, weight, y, table, scale = problem(weighted=weighted)
    assert torch.autograd.gradcheck(lambda x, w: taps_linear(x, w, table, scale), (x, weight))
    assert torch.autograd.gradgradcheck(lambda x, w: taps_linear(x, w, table, scale), (x, weight))
    assert torch.autograd.gradcheck(lambda y, w: taps_transposed(y, w, table, 7, scale), (y, weight))
    assert torch.autograd.gradgradcheck(lambda y, w: taps_transposed(y, w, table, 7, scale), (y, weight))


def test_transforms_of_functions_take_the_plain_way():
    x, weight, y, table, scale = (t.detach() for t in problem())
    many = torch.stack([x, 2 * x])
    out = torch.func.vmap(lambda x: taps_linear(x, weight, table, scale))(many)
    torch.testing.assert_close(out[1], 2 * taps_linear(x, weight, table, scale))
    _, tangent = torch.func.jvp(lambda y: taps_transposed(y, weight, table, 7, scale), (y,), (y,))
    torch.testing.assert_close(tangent, taps_transposed(y, weight, table, 7, scale))


def test_autocast_runs_in_half_precision():
    x, weight, _, table, _ = problem(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = taps_linear(x, weight, table)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), taps_linear(x, weight, table), atol=0.2, rtol=0.05)


def test_wrong_shapes_and_dtypes_are_refused():
    x, weight, y, table, _ = problem()
    with pytest.raises(ValueError, match="one matrix for each column"):
        taps_linear(x, weight[:2], table)
    with pytest.raises(ValueError, match="x must have shape"):
        taps_linear(x[..., :2], weight, table)
    with pytest.raises(ValueError, match="y must have shape"):
        taps_transposed(y[:, :3], weight, table, 7)
    with pytest.raises(TypeError, match="one dtype"):
        taps_linear(x.float(), weight, table)
    assert taps_linear(x[:0], weight, table).shape == (0, 11, 5)
