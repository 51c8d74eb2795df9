"""Messages of taps in slices: equal to their definition, with all derivatives."""

import math

import pytest
import torch
import torch.nn.functional as F

from geomeq.ops import tap_message as module
from geomeq.ops.tap_message import plain_tap_message, tap_message

CASES = {"one tap": ([1, 3, 3], 1, 1), "m1": ([1, 3, 3], 3, 4), "m2": ([1, 3, 5, 5], 4, 4), "m3": ([1, 3, 5, 7], 4, 4)}


def problem(case: str, dtype=torch.float64, edges: int = 11, hidden: int = 5, channels: int = 2):
    rows, parts, taps = CASES[case]
    wide = sum(rows) * channels
    shapes = [(edges, parts, hidden), (edges, hidden), (hidden, hidden), (hidden,), (hidden, wide), (wide,)]
    return [torch.randn(s, dtype=dtype).requires_grad_() for s in shapes], rows, taps


def by_hand(first, gate, weights, rows, taps):
    """Each tap from its roll: parts by m modulo 4, rows rolled back by cosines and sines."""
    total = 0
    for k in range(taps):
        p = first[:, 0]
        if first.size(1) > 1:
            p = p + math.cos(k * math.pi / 2) * first[:, 1] + math.sin(k * math.pi / 2) * first[:, 2]
        if first.size(1) > 3:
            p = p + math.cos(k * math.pi) * first[:, 3]
        h = F.silu((F.silu(p) * gate) @ weights[0] + weights[1])
        s = F.silu(h @ weights[2] + weights[3]).view(len(first), sum(rows), -1)
        back, at = [], 0
        for count in rows:
            for m in range(-(count // 2), count // 2 + 1):
                middle = at + count // 2
                angle = m * k * math.pi / 2
                back.append(math.cos(angle) * s[:, middle + m] - math.sin(angle) * s[:, middle - m])
            at += count
        total = total + torch.stack(back, dim=1) / taps
    return total


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_equals_each_tap_by_hand(case, recompute, dtype, tol, monkeypatch):
    monkeypatch.setattr(module, "_SLICE", 200)  # several slices, the last one short
    inputs, rows, taps = problem(case, dtype)
    got = tap_message(inputs[0], inputs[1], inputs[2:], rows, taps, recompute)
    want = by_hand(inputs[0], inputs[1], inputs[2:], rows, taps)
    grad = torch.randn_like(got)
    for a, b in zip(
        (got, *torch.autograd.grad(got, inputs, grad)), (want, *torch.autograd.grad(want, inputs, grad)), strict=True
    ):
        assert (a - b).abs().max() < tol * b.abs().max()
    assert not torch.allclose(got, by_hand(inputs[0].flip(1), inputs[1], inputs[2:], rows, taps)) or taps == 1


@pytest.mark.parametrize("case", CASES)
def test_derivatives_of_both_orders(case, monkeypatch):
    monkeypatch.setattr(module, "_SLICE", 100)
    inputs, rows, taps = problem(case, edges=3, hidden=3, channels=1)
    run = lambda *a: tap_message(a[0], a[1], a[2:], rows, taps)  # noqa: E731
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def test_function_transforms_take_the_definition():
    inputs, rows, taps = problem("m2")
    run = lambda p: tap_message(p, inputs[1], inputs[2:], rows, taps)  # noqa: E731
    direction = torch.randn_like(inputs[0])
    _, got = torch.func.jvp(run, (inputs[0],), (direction,))
    _, want = torch.func.jvp(
        lambda p: plain_tap_message(p, inputs[1], inputs[2:], rows, taps), (inputs[0],), (direction,)
    )
    torch.testing.assert_close(got, want)
    assert got.abs().max() > 0


def test_no_edges():
    inputs, rows, taps = problem("m1", edges=0)
    assert tap_message(inputs[0], inputs[1], inputs[2:], rows, taps).shape == (0, 7, 2)


@pytest.mark.parametrize(("taps", "parts"), [(4, 1), (1, 3), (2, 3)])
def test_other_numbers_of_taps_and_parts_are_refused(taps, parts):
    inputs, rows, _ = problem("m1")
    first = torch.randn(11, parts, 5, dtype=torch.float64)
    with pytest.raises(ValueError, match="one tap has 1 part and four taps have 3 or 4"):
        tap_message(first, inputs[1], inputs[2:], rows, taps)
