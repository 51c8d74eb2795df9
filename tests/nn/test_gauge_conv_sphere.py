"""GaugeConv on the sphere is the spin convolution: its spectral twin, complex fields, constants, symmetries."""

import math

import pytest
import torch
from torch_geometric.data import Data

from geomeq import groups, spheres
from geomeq.nn import FourierNonlinearity, GaugeConv
from geomeq.transforms import SphereGauge

from ._spin_harmonics import kernel_coefficient, spin_harmonic, wigner_d

CUTOFF = 1.2
PAIRS = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (0, 2), (-1, 1), (-2, 1), (2, 2)]


@pytest.fixture(scope="module")
def grid():
    """A fine grid, 12 places of area zero, and the edges that end there."""
    sampling = spheres.gauss_legendre(32)
    places = groups.S2.random(12, seed=1)
    area = torch.cat([sampling.area, torch.zeros(12).double()])
    data = SphereGauge(cutoff=CUTOFF, loops=True)(Data(pos=torch.cat([sampling.pos, places]), area=area))
    keep = data.edge_index[1] >= sampling.num_nodes
    for name in ("edge_index", "polar", "transport"):
        value = data[name]
        data[name] = value[:, keep] if name == "edge_index" else value[keep]
    return data


def profile(spin_in, spin_out):
    """The kernel of one smooth ring, with its power of r and its normalisation."""
    power = abs(spin_out - spin_in)
    return lambda beta: (
        torch.cos(beta * (math.pi / 2 / CUTOFF)).square() * (beta / CUTOFF) ** power / (math.pi * CUTOFF**2)
    )


def one_pair(spin_in, spin_out):
    """The layer whose only kernel is that between two spins, with coefficient 1; a negative spin is a conjugate."""
    conv = GaugeConv(
        f"1x{abs(spin_in)}", f"1x{spin_out}", 1, CUTOFF, "integral", "smooth", self_interaction=False, bias=False
    ).double()
    matrix = torch.diag(torch.tensor([1.0, -1.0 if spin_in < 0 else 1.0]))
    with torch.no_grad():
        conv.weight.copy_(matrix[: 2 if spin_out else 1, : 2 if spin_in else 1])
    return conv


def stored(field, order):
    """A complex field as the layer stores it."""
    return torch.view_as_real(field) if order else field.real[:, None]


@pytest.mark.parametrize(("spin_in", "spin_out"), PAIRS)
@pytest.mark.parametrize(("degree", "m"), [(0, 0), (1, 1), (2, -1), (3, 2), (4, 0), (5, -3)])
def test_spectral_twin(grid, spin_in, spin_out, degree, m):
    """A harmonic comes out as the harmonic of the new spin, times one number per degree."""
    field = spin_harmonic(spin_in, degree, m, grid.pos)
    stored_field = field.conj().resolve_conj() if spin_in < 0 else field  # order |s| holds the conjugate of spin -|s|
    conv = one_pair(spin_in, spin_out)
    got = conv(stored(stored_field, spin_in), grid.edge_index, grid.polar, grid.transport, grid.area)[-12:].detach()
    number = kernel_coefficient(profile(spin_in, spin_out), spin_in, spin_out, degree, CUTOFF)
    wanted = number * spin_harmonic(spin_out, degree, m, grid.pos[-12:])
    if spin_in == 0:  # the layer saw the real part, half of two harmonics
        wanted = (wanted + (-1) ** m * number * spin_harmonic(spin_out, degree, -m, grid.pos[-12:])) / 2
    torch.testing.assert_close(got, stored(wanted, spin_out), rtol=0, atol=1e-5)
    if degree >= max(abs(spin_in), spin_out):
        assert float(wanted.abs().max()) > 1e-4  # so that the check has teeth
    else:
        assert float(got.abs().max()) < 1e-5  # no degree below the spins


def test_the_other_sign_convention_would_fail(grid):
    field = spin_harmonic(-1, 3, 2, grid.pos)  # as if f -> e^{+i psi} f
    got = one_pair(1, 1)(torch.view_as_real(field), grid.edge_index, grid.polar, grid.transport, grid.area).detach()[
        -12:
    ]
    ratio = torch.view_as_complex(got) / spin_harmonic(-1, 3, 2, grid.pos[-12:])
    assert float((ratio - ratio.mean()).abs().max()) > 0.1 * float(ratio.abs().mean())


def complex_convolution(data, fields, kernels, cutoff):
    """Spins -S..S as complex fields: for each target and pair of spins the sum over edges, as the formula says.

    ``kernels[s_out, s_in]`` is a complex number; the azimuth of the target in the source's frame is read off transport.
    """
    (j, i), (r, a_ij) = data.edge_index, data.polar.T
    a_ji = a_ij - data.transport - math.pi
    out = {}
    for (spin_out, spin_in), number in kernels.items():
        shape = torch.cos(r * (math.pi / 2 / cutoff)).square() * (r / cutoff) ** abs(spin_out - spin_in)
        phase = torch.polar(data.area[j] * shape, spin_out * a_ij - spin_in * (a_ji + math.pi))
        sums = torch.zeros(data.num_nodes, dtype=phase.dtype).index_add_(0, i, phase * fields[spin_in][j])
        out[spin_out] = out.get(spin_out, 0) + number * sums / (math.pi * cutoff**2)
    return out


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_real_storage_is_the_pairing_of_opposite_spins(dtype, tol):
    """k_{-s',-s} = conj(k_{s's}): the complex layer with all spins equals ours, and scalars stay real."""
    data = SphereGauge(cutoff=0.8, frames="random")(spheres.fibonacci(150).to_data(dtype))
    conv = GaugeConv("1x0+1x1+1x2", "1x0+1x1+1x2", 1, 0.8, "integral", "smooth", self_interaction=False, bias=False)
    conv = conv.to(dtype)
    x = torch.randn(150, 5, dtype=dtype)
    fields = {0: x[:, 0] + 0j, 1: torch.view_as_complex(x[:, 1:3].clone()), 2: torch.view_as_complex(x[:, 3:].clone())}
    fields |= {-1: fields[1].conj(), -2: fields[2].conj()}
    kernels = pair_kernels(conv.weight[0].detach())
    out = complex_convolution(data, fields, kernels, 0.8)
    got = conv(x, data.edge_index, data.polar, data.transport, data.area)
    wanted = torch.cat([out[0].real[:, None], torch.view_as_real(out[1]), torch.view_as_real(out[2])], dim=1)
    torch.testing.assert_close(got, wanted, rtol=0, atol=tol)
    assert float(out[0].imag.abs().max()) < tol / 10
    assert float((out[-2] - out[2].conj()).abs().max()) < tol
    kernels[0, 0] = kernels[0, 0] + 1j  # complex weights between scalars break reality
    assert float(complex_convolution(data, fields, kernels, 0.8)[0].imag.abs().max()) > 1e-3


def pair_kernels(b):
    """The complex numbers k_{s's}, s and s' from -2 to 2, that a matrix B on 1x0+1x1+1x2 stands for."""
    place = {0: slice(0, 1), 1: slice(1, 3), 2: slice(3, 5)}
    kernels = {}
    for m in range(3):
        for n in range(3):
            block = b[place[m], place[n]]
            if m and n:
                (p, q), (r, s) = block.tolist()
                plus, minus = complex(p + s, r - q) / 2, complex(p - s, r + q) / 2
            elif m:
                plus = minus = complex(*block[:, 0].tolist())
            elif n:
                plus = complex(block[0, 0], -block[0, 1]) / 2
                minus = plus.conjugate()
            else:
                plus = minus = complex(block[0, 0])
            kernels[m, n], kernels[-m, -n] = plus, plus.conjugate()
            if n:
                kernels[m, -n], kernels[-m, n] = minus, minus.conjugate()
    return kernels


@torch.no_grad()
@pytest.mark.parametrize("name", ["gauss_legendre", "healpix"])
def test_a_constant_stays_constant_and_has_no_direction(name):
    sampling = spheres.gauss_legendre(20) if name == "gauss_legendre" else spheres.healpix(8, "ring")
    data = SphereGauge(cutoff=0.6, loops=True)(sampling.to_data(torch.float64))
    x = torch.ones(data.num_nodes, 1, dtype=torch.float64)
    geometry = data.edge_index, data.polar, data.transport, data.area

    def conv(order):
        return GaugeConv("1x0", f"1x{order}", 1, 0.6, "integral", "smooth", False, bias=False).double()

    scalar = conv(0)
    beta = (torch.arange(4000).double() + 0.5) * 0.6 / 4000
    bump = torch.cos(beta * (math.pi / 1.2)).square() / (math.pi * 0.36)
    integral = scalar.weight.item() * float(2 * math.pi * (bump * beta.sin()).sum() * 0.6 / 4000)
    assert float((scalar(x, *geometry) - integral).abs().max()) < 2e-3 * abs(integral)
    for order in (1, 2):
        layer = conv(order)
        assert float(layer(x, *geometry).norm(dim=1).max()) < 5e-3 * float(layer.weight.norm())
        assert float(layer(data.pos[:, 2:], *geometry).norm(dim=1).max()) > (0.05 if order == 1 else 1e-9)


def test_loops_complete_the_quadrature():
    """Without the node itself the sum misses a cell, a larger share near the pole of a grid of rings or less."""
    sampling = spheres.gauss_legendre(20)
    x, spread = torch.ones(800, 1, dtype=torch.float64), {}
    layer = GaugeConv("1x0", "1x0", 1, 0.6, "integral", "smooth", self_interaction=False, bias=False).double()
    for loops in (False, True):
        data = SphereGauge(cutoff=0.6, loops=loops)(sampling.to_data(torch.float64))
        y = layer(x, data.edge_index, data.polar, data.transport, data.area).detach()
        spread[loops] = float(y.std() / y.mean().abs())
    assert spread[True] < 0.2 * spread[False]


def test_coincident_nodes_of_a_pole_agree():
    """Copies of a pole have different frames and get the same vector."""
    sampling = spheres.equiangular(9)
    data = SphereGauge(cutoff=0.9, loops=True, frames="random")(sampling.to_data(torch.float64))
    layer = GaugeConv("1x0+1x1", "1x0+1x1", 2, 0.9, "integral", "smooth").double()
    v = torch.stack([data.pos[:, 1], -data.pos[:, 0], data.pos[:, 2] ** 2], dim=1)  # any smooth field of vectors
    x = torch.cat([data.pos[:, :1], torch.einsum("nak,nk->na", data.frame[:, :2], v)], dim=1)
    y = layer(x, data.edge_index, data.polar, data.transport, data.area).detach()[:16]
    space = torch.einsum("nak,na->nk", data.frame[:16, :2], y[:, 1:])
    torch.testing.assert_close(space, space[:1].expand(16, -1), rtol=0, atol=1e-13)
    torch.testing.assert_close(y[:, 0], y[:1, 0].expand(16), rtol=0, atol=1e-13)
    assert not torch.allclose(y[:, 1:], y[:1, 1:].expand(16, -1), atol=1e-3)  # the frames do differ


@pytest.mark.parametrize(("order_in", "order_out", "dim"), [(0, 0, 1), (0, 1, 2), (1, 0, 2), (1, 1, 4), (1, 2, 4)])
def test_kernels_are_all_there_are(order_in, order_out, dim):
    """Against the null space of the constraint rho_out(t) K(a) rho_in(-t) = K(a + t) on a circle of angles."""
    steps = 7
    turn = 2 * math.pi / steps

    def rho(order):
        cos, sin = math.cos(order * turn), math.sin(order * turn)
        return torch.tensor([[cos, -sin], [sin, cos]] if order else [[1.0]], dtype=torch.float64)

    move = torch.kron(rho(order_out), rho(order_in))  # on K as a vector: rho_out K rho_in^T, and rho(-t) = rho^T
    size = len(move)
    constraint = torch.zeros(steps * size, steps * size, dtype=torch.float64)
    for k in range(steps):
        after = (k + 1) % steps
        constraint[k * size : (k + 1) * size, k * size : (k + 1) * size] = move
        constraint[k * size : (k + 1) * size, after * size : (after + 1) * size] -= torch.eye(size)
    assert steps * size - int(torch.linalg.matrix_rank(constraint)) == dim
    layer = GaugeConv(f"1x{order_in}", f"1x{order_out}", 1, 1.0, "sum", "smooth", False, bias=False).double()
    assert layer.weight.numel() == dim
    angle = torch.arange(steps).double() * turn
    edges = torch.stack([torch.zeros(steps), torch.arange(1, steps + 1)]).long()
    polar = torch.stack([torch.full((steps,), 0.5).double(), angle], dim=1)
    columns = []
    for entry in torch.eye(dim).double():
        with torch.no_grad():
            layer.weight.copy_(entry.view_as(layer.weight))
            x = torch.zeros(2 if order_in else 1, steps + 1, 2 if order_in else 1, dtype=torch.float64)
            x[:, 0] = torch.eye(len(x)).double()
            columns.append(layer(x, edges, polar, torch.zeros(steps).double())[:, 1:].flatten())
    assert int(torch.linalg.matrix_rank(torch.stack(columns))) == dim  # no two weights do the same


@pytest.mark.parametrize("spin", [0, 1, 2])
def test_a_lifted_field_has_one_column_of_coefficients(spin):
    """F(phi, theta, gamma) = f(theta, phi) e^{-i s gamma}: all its Wigner coefficients off n = s are zero."""
    sampling, degree, steps = spheres.gauss_legendre(6, 12), 4, 9
    field = torch.complex(torch.randn(72), torch.randn(72)).to(torch.complex128)
    gamma = 2 * math.pi / steps * torch.arange(steps).double()
    lifted = field[:, None] * torch.polar(torch.ones(steps).double(), -spin * gamma)
    x, y, z = sampling.pos.T
    theta, phi = torch.atan2(torch.hypot(x, y), z), torch.atan2(y, x)
    weighted = lifted * sampling.area[:, None] / steps
    inside, outside = 0.0, 0.0
    for n in range(-degree, degree + 1):
        over_gamma = weighted @ torch.polar(torch.ones(steps).double(), n * gamma)  # conj of e^{-i n gamma}
        for m in range(-degree, degree + 1):
            d = wigner_d(degree, m, n, theta)
            energy = float((over_gamma * torch.polar(torch.ones(72).double(), m * phi) * d).sum().abs() ** 2)
            inside, outside = (inside + energy, outside) if n == spin else (inside, outside + energy)
    assert outside < 1e-28 * inside
    # and the projection after any pointwise function of the lifted field is a field of that type again
    types = FourierNonlinearity("1x0+1x1+1x2")
    assert types(torch.randn(5, 5)).shape == (5, 5)
