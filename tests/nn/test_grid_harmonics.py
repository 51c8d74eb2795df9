"""Circular harmonics on pixels: what every table must satisfy, and that all equivariant kernels are there."""

import itertools
import math

import pytest
import torch

from geomeq.groups import SO2Irreps
from geomeq.nn._grid_harmonics import GridKernel, Window, harmonics, ring_harmonics, window_pixels

WINDOWS = [
    Window(k, rings, k / 2, basis, antialias)
    for k, rings in ((3, 1), (5, 2), (7, 3))
    for basis, antialias in (("hat", False), ("smooth", False), ("hat", True))
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("frequency", [0, 1, 2, 3])
def test_a_quarter_turn_multiplies_by_a_power_of_i(window, frequency):
    table = torch.view_as_complex(harmonics(window, frequency)).unflatten(1, (window.kernel_size, -1))
    turned = torch.rot90(table, 1, (1, 2))  # the value at p is that of the point which p came from: e^{i f (a - 90)}
    torch.testing.assert_close(turned, (-1j) ** frequency * table, atol=1e-14, rtol=0)
    if frequency % 2 and table.abs().max() > 0:
        assert (turned - (1j) ** frequency * table).abs().max() > 0.1 * table.abs().max()
    down = table.flip(1)  # the mirror y -> -y conjugates: W_{-m} is the conjugate of W_m
    torch.testing.assert_close(down, table.conj(), atol=1e-14, rtol=0)


@pytest.mark.parametrize("window", WINDOWS)
def test_only_frequency_zero_reaches_the_centre(window):
    centre = window.kernel_size**2 // 2
    for frequency in range(1, 5):
        assert not harmonics(window, frequency)[:, centre].any()
    reaches = harmonics(window, 0)[:, centre].abs().max() > 0
    assert bool(reaches) == window.antialias  # elsewhere the centre is the self interaction


def test_circles_hold_no_frequency_that_they_cannot_resolve():
    pixels = window_pixels(7)
    for frequency in range(1, 10):
        table = ring_harmonics(pixels, 3, 3.0, frequency)
        for radius, ring in zip((1.0, 2.0, 3.0), table, strict=True):
            assert bool(ring.any()) == (frequency <= math.pi * radius)  # two pixels per wave


def test_ring_harmonics_are_the_sum_of_their_definition():
    pixels = window_pixels(5)
    table = ring_harmonics(pixels, 2, 2.0, 1)[1]
    wanted = torch.zeros(25, 2, dtype=torch.float64)
    for s in range(104):
        a = 2 * math.pi * s / 104
        place = pixels.new_tensor([2 * math.cos(a), 2 * math.sin(a)])
        share = torch.exp(-(pixels - place).square().sum(1) / (2 * 0.25))
        wanted += (share / share.sum())[:, None] * pixels.new_tensor([math.cos(a), math.sin(a)]) / 104
    torch.testing.assert_close(table, wanted, atol=1e-14, rtol=0)


def brute_kernel(window, weight, types_in, types_out):
    """rho_out(angle) B(r) rho_in(-angle) at every pixel, with rotation matrices written out."""

    def rho(types, angle):
        blocks = []
        for order in types.orders:
            c, s = math.cos(order * angle), math.sin(order * angle)
            blocks.append(torch.tensor([[c, -s], [s, c]] if order else [[1.0]], dtype=torch.float64))
        return torch.block_diag(*blocks)

    kernel = torch.zeros(types_out.dim, types_in.dim, window.kernel_size**2, dtype=torch.float64)
    for p, (x, y) in enumerate(window_pixels(window.kernel_size).tolist()):
        r, angle = math.hypot(x, y), math.atan2(y, x)
        if 0 < r <= window.cutoff:
            knots = [k * window.cutoff / (window.rings - 1) for k in range(window.rings)]
            hats = [max(0.0, 1 - abs(r - knot) * (window.rings - 1) / window.cutoff) for knot in knots]
            matrix = sum(h * b for h, b in zip(hats, weight, strict=True))
            kernel[:, :, p] = rho(types_out, angle) @ matrix @ rho(types_in, -angle)
    return kernel.unflatten(2, (window.kernel_size, -1))


@pytest.mark.parametrize("window", [Window(5, 2, 2.5, "hat", False), Window(5, 3, 2.9, "hat", False)])
def test_kernels_are_the_formula(window):
    types_in, types_out = SO2Irreps("2x1+1x0+1x2"), SO2Irreps("1x2+2x0+1x1+1x0")  # not sorted, one order twice
    weight = torch.randn(window.rings, types_out.dim, types_in.dim, dtype=torch.float64)
    kernel = GridKernel(window, types_in, types_out, torch.device("cpu")).expand(weight)
    torch.testing.assert_close(kernel, brute_kernel(window, weight, types_in, types_out), atol=1e-14, rtol=0)


@pytest.mark.parametrize("window", WINDOWS)
def test_fold_is_the_transpose_of_expand(window):
    types_in, types_out = SO2Irreps("2x1+1x0+1x2"), SO2Irreps("1x2+2x0+1x1")
    rule = GridKernel(window, types_in, types_out, torch.device("cpu"))
    weight = torch.randn(window.rings, types_out.dim, types_in.dim, dtype=torch.float64, requires_grad=True)
    kernel = rule.expand(weight)
    grad = torch.randn_like(kernel)
    (wanted,) = torch.autograd.grad(kernel, weight, grad)
    torch.testing.assert_close(rule.fold(grad), wanted, atol=1e-13, rtol=0)


def solutions(m, n, radius, count=48):
    """All kernels on a ring of ``count`` points with K(a + t) = rho_m(t) K(a) rho_n(-t), by brute force."""

    def rho(order, t):
        c, s = math.cos(order * t), math.sin(order * t)
        return torch.tensor([[c, -s], [s, c]], dtype=torch.float64) if order else torch.ones(1, 1).double()

    rows, columns = rho(m, 0.0).size(0), rho(n, 0.0).size(0)
    entries = rows * columns
    t = 2 * math.pi / count
    act = torch.kron(rho(m, t), rho(n, t))  # on K(a) flattened; the generator is enough
    constraint = torch.zeros(count * entries, count * entries, dtype=torch.float64)
    for a in range(count):
        here, there = slice(a * entries, (a + 1) * entries), ((a + 1) % count) * entries
        constraint[here, there : there + entries] += torch.eye(entries)
        constraint[here, here] -= act
    _, values, vectors = torch.linalg.svd(constraint)
    return vectors[values < 1e-9].view(-1, count, rows, columns)


@pytest.mark.parametrize(("m", "n"), list(itertools.product(range(4), range(3))))
def test_kernels_span_all_solutions_of_the_steerability_constraint(m, n):
    found = solutions(m, n, 1.0)
    assert len(found) == (2 if m else 1) * (2 if n else 1)  # as many as entries of B
    # our kernels at the same points of a ring: a window with one profile, evaluated off the grid by the same formula
    angle = 2 * math.pi * torch.arange(48, dtype=torch.float64) / 48
    types_in, types_out = SO2Irreps([(1, n)]), SO2Irreps([(1, m)])
    basis = []
    for entry in torch.eye(types_out.dim * types_in.dim, dtype=torch.float64):
        matrix = entry.view(types_out.dim, types_in.dim)
        columns = torch.eye(types_in.dim, dtype=torch.float64)
        turned = types_in.rotate(columns.expand(48, -1, -1), -angle[:, None]) @ matrix.T
        basis.append(types_out.rotate(turned, angle[:, None]).mT)
    ours, wanted = torch.stack(basis).flatten(1), found.flatten(1)
    rank = torch.linalg.matrix_rank(torch.cat([ours, wanted]), rtol=1e-9)
    assert int(rank) == len(ours) == len(wanted) == int(torch.linalg.matrix_rank(ours, rtol=1e-9))
    if m and n:  # harmonic networks without the conjugate part: half of them
        assert int(torch.linalg.matrix_rank(ours[:1] + ours[3:], rtol=1e-9)) == 1


@pytest.mark.parametrize("antialias", [False, True])
def test_no_number_of_the_weight_is_wasted_on_pixels(antialias):
    window = Window(5, 2, 2.5, "hat", antialias)
    for m, n in itertools.product(range(3), range(3)):
        types = SO2Irreps([(1, n)]), SO2Irreps([(1, m)])
        rule = GridKernel(window, *types, torch.device("cpu"))
        numbers = types[0].dim * types[1].dim
        weights = torch.eye(2 * numbers, dtype=torch.float64).view(-1, 2, types[1].dim, types[0].dim)
        kernels = torch.stack([rule.expand(w) for w in weights]).flatten(1)
        # but for frequencies that a circle cannot hold: 4 on that of radius 1, twice the half of B that conjugates
        lost = 2 if antialias and m + n == 4 else 0
        assert int(torch.linalg.matrix_rank(kernels, rtol=1e-9)) == 2 * numbers - lost
