"""Filters with a parity along the rings: recognised where they are, and equal to the dense matrix."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from geomeq.ops import RingFilters, _ring_kernel, _ring_plan, ring_conv, ring_conv_transpose
from geomeq.ops._ring_parity import parities
from geomeq.ops._ring_plan import RingTable
from tests.ops._rings import definition, dense

SIZE = (9, 12)
KINDS = {"even": 2, "odd": 0, "both": 1, "pair": 1, "all": 4}  # number of even filters after turning


def mirrored(kind: str, columns: int = 12, seed: int = 0) -> list[Tensor]:
    """Entries of filters that are even, odd, both or mirror images of each other."""
    rng = torch.Generator().manual_seed(seed)
    row_out = torch.arange(SIZE[0]).repeat_interleave(4)
    row_in = (row_out + torch.randint(-1, 2, row_out.shape, generator=rng)).clamp(0, SIZE[0] - 1)
    offset = torch.randint(columns, row_out.shape, generator=rng)
    p, q, r, s = torch.randn(4, len(row_out), generator=rng, dtype=torch.float64)
    zero = torch.zeros_like(p)
    there, back = {
        "even": ([p, q], [p, q]),
        "odd": ([p, q], [-p, -q]),
        "both": ([p, q], [-p, q]),
        "pair": ([p, zero], [zero, p]),
        "all": ([p, q, r, zero, s, q], [p, -q, zero, r, s, q]),
    }[kind]
    coef = torch.cat([torch.stack(there, 1), torch.stack(back, 1)])
    return [row_out.repeat(2), row_in.repeat(2), torch.cat([offset, -offset]), coef]


@pytest.mark.parametrize("kind", KINDS)
def test_turned_filters_are_even_and_then_odd(kind):
    row_out, row_in, offset, coef = mirrored(kind)
    turn, even = parities(RingTable(row_out, row_in, offset, coef), 12)
    assert even == KINDS[kind]
    turn = torch.eye(coef.size(1), dtype=torch.float64) if turn is None else turn
    torch.testing.assert_close(turn @ turn.t(), torch.eye(len(turn), dtype=torch.float64))
    here = dense([row_out, row_in, offset, coef @ turn.t()], SIZE, SIZE)
    there = dense([row_out, row_in, -offset, coef @ turn.t()], SIZE, SIZE)
    torch.testing.assert_close(here[:even], there[:even])
    torch.testing.assert_close(here[even:], -there[even:])


@pytest.mark.parametrize("column", [0, 1, 3])
def test_what_is_nearly_even_is_not_taken_for_it(column):
    parts = mirrored("all")
    parts[3][0, column] += 1e-8
    assert parities(RingTable(*parts), 12) == (None, None)
    x, weight = torch.randn(1, 108, 2, dtype=torch.float64), torch.randn(3, 2, 6, dtype=torch.float64)
    filters = RingFilters(*parts, SIZE, SIZE, dtype=torch.float64)
    wanted = definition(dense(parts, SIZE, SIZE), x, weight)
    torch.testing.assert_close(ring_conv(x, filters, weight), wanted, atol=1e-12, rtol=1e-12)


def test_a_mirror_image_that_is_missing_is_missed():
    one = torch.zeros(1, dtype=torch.long)
    alone = RingTable(one, one, one + 1, torch.ones(1, 1, dtype=torch.float64))
    assert parities(alone, 12) == (None, None)
    assert parities(alone, 2) == (None, 1)  # column 1 of 2 is its own image


@pytest.fixture(params=["together", "apart", "pieces", "a window for each row"])
def cut(request, monkeypatch):
    monkeypatch.setattr(_ring_kernel, "_SMALL", 10**9 if request.param == "together" else 0)
    if request.param == "pieces":
        monkeypatch.setattr(_ring_plan, "_BLOCK", 1)
        monkeypatch.setattr(_ring_plan, "_BAND", 1)
        monkeypatch.setattr(_ring_plan, "_DENSE", 1)
        monkeypatch.setattr(_ring_kernel, "_CHUNK", 1)
        monkeypatch.setattr(_ring_kernel, "_ROWS", 1)
    if request.param.startswith("a window"):
        monkeypatch.setattr(_ring_plan, "_STORED", 0)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_equals_the_dense_matrix(kind, dtype, tol, reverse, cut):
    parts = mirrored(kind)
    filters = RingFilters(*parts, SIZE, SIZE, dtype=dtype)
    matrix = dense(parts, SIZE, SIZE)
    call, matrix = (ring_conv_transpose, matrix.transpose(1, 2)) if reverse else (ring_conv, matrix)
    for channels, outputs, groups in ((3, 5, 1), (4, 2, 2)):
        x = torch.randn(2, 108, channels, dtype=dtype, requires_grad=True)
        weight = torch.randn(outputs, channels // groups, matrix.size(0), dtype=dtype, requires_grad=True)
        out, wanted = call(x, filters, weight), definition(matrix, x, weight)
        toward = torch.randn_like(out)
        found = torch.autograd.grad(out, (x, weight), toward)
        right = torch.autograd.grad(wanted, (x, weight), toward.double())
        for got, want in ((out, wanted), *zip(found, right, strict=True)):
            scale = max(1.0, float(want.detach().abs().max()))
            torch.testing.assert_close(got.double(), want.double(), atol=tol * scale, rtol=0)


@pytest.mark.parametrize("kind", ["both", "all"])
def test_derivatives_and_function_transforms(kind, cut):
    filters = RingFilters(*mirrored(kind), SIZE, SIZE, dtype=torch.float64)
    x = torch.randn(1, 108, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, filters.num_filters, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x, w: ring_conv(x, filters, w), (x, weight), fast_mode=True)
    assert gradgradcheck(lambda x, w: ring_conv(x, filters, w).sin(), (x, weight), fast_mode=True)
    fixed, along = x.detach(), torch.randn_like(x)
    out, slope = torch.func.jvp(lambda x: ring_conv(x, filters, weight.detach()), (fixed,), (along,))
    torch.testing.assert_close(out, ring_conv(x, filters, weight))
    torch.testing.assert_close(slope, ring_conv(along, filters, weight))


def test_digits_survive_a_change_of_precision():
    parts = mirrored("all")
    filters = RingFilters(*parts, SIZE, SIZE).double()
    x, weight = torch.randn(1, 108, 2, dtype=torch.float64), torch.randn(3, 2, 6, dtype=torch.float64)
    wanted = definition(dense(parts, SIZE, SIZE), x, weight)
    torch.testing.assert_close(ring_conv(x, filters, weight), wanted, atol=1e-12, rtol=1e-12)


def test_filters_with_a_parity_take_half_the_memory():
    def numbers(parts):
        filters = RingFilters(*parts, SIZE, SIZE)
        return sum(t.numel() for t in filters.tensors() if t.dtype == torch.float32)

    parts = mirrored("all")
    other = [*parts[:3], parts[3] + torch.randn_like(parts[3])]
    assert numbers(parts) == numbers(other) / 2
