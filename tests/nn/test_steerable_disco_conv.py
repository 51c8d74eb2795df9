"""Steerable DISCO: the formula with both azimuths, rotations without interpolation, ownership of the geometry."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from geomeq import groups, spheres
from geomeq.nn import DiscoConv, GaugeConv, NormGate, SteerableDiscoConv
from geomeq.transforms import SphereGauge


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def azimuths(s_out, s):
    """``[out, in]``: distance, azimuth of the source at the target, and of the target at the source."""

    def seen(a, b):
        frame = groups.sphere_frame(a)  # columns south, east, up
        return torch.atan2(frame[..., 1] @ b.T, frame[..., 0] @ b.T)

    r = 2 * torch.atan2((s_out.pos[:, None] - s.pos).norm(dim=-1), (s_out.pos[:, None] + s.pos).norm(dim=-1))
    return r, seen(s_out.pos, s.pos), seen(s.pos, s_out.pos).T


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 1), (1, 0), (1, 2), (2, 1)])
def test_equals_the_formula_with_both_azimuths(n, m):
    s, s_out, cutoff = spheres.fibonacci(60), spheres.healpix(2), 0.9
    conv = SteerableDiscoConv(f"1x{n}", f"1x{m}", s, cutoff, s_out, rings=1).double()
    x = normal(60, 1 + (n > 0))
    z = torch.complex(x[:, 0], x[:, 1] if n else torch.zeros(60, dtype=torch.float64))
    r, at_target, at_source = azimuths(s_out, s)
    u = r / cutoff
    profile = torch.where(u < 1, (math.pi / 2 * u).cos().square(), 0.0) * s.area / (math.pi * cutoff**2)

    def functions(source):
        """What the layer can give, ``[N_out, 1 or 2]`` flat, in columns."""

        def term(z, n):
            phase = m * at_target - n * source
            return (profile * u ** abs(m - n) * torch.polar(torch.ones_like(phase), phase)) @ z

        parts = [part for t in (term(z, n), term(z.conj(), -n)) for part in (t, 1j * t)]
        return torch.stack([torch.view_as_real(p)[:, : 1 + (m > 0)].flatten() for p in parts], dim=1)

    y = conv(x).detach().flatten()

    def left(basis):
        solution = torch.linalg.lstsq(basis, y[:, None], driver="gelsd").solution
        return float((y - basis @ solution[:, 0]).norm() / y.norm())

    assert left(functions(at_source + math.pi)) < 1e-10
    if n > 0:  # without the azimuth at the source it does not fit
        assert left(functions(0 * at_source)) > 0.1


def test_is_the_gauge_layer_on_the_graph_of_the_sphere():
    s = spheres.gauss_legendre(6)
    conv = SteerableDiscoConv("2x0+1x1", "3x0+2x1", s, 0.8, self_interaction=True).double()
    graph = spheres.sphere_graph(s, cutoff=0.8, loops=True, dtype=torch.float64)
    plain = GaugeConv("2x0+1x1", "3x0+2x1", rings=3, cutoff=0.8, weight="integral", basis="smooth").double()
    plain.load_state_dict(conv.conv.state_dict())
    x = normal(2, s.num_nodes, 4)
    want = plain(x, graph.edge_index, graph.polar, graph.transport, graph.area)
    torch.testing.assert_close(conv(x), want, atol=1e-13, rtol=0)
    made = SphereGauge(cutoff=0.8, loops=True)(s)
    assert torch.equal(made.edge_index, graph.edge_index)


def union_of_nodes(conv):
    """The same layer on the nodes of both samplings, of which those of the output receive and do not send."""
    s, s_out = conv.s, conv.s_out
    both = spheres.scattered(torch.cat([s.pos, s_out.pos]), torch.cat([s.area, s_out.area]))
    graph = spheres.sphere_graph(both, cutoff=conv.cutoff, loops=True, dtype=torch.float64)
    across = (graph.edge_index[0] < s.num_nodes) & (graph.edge_index[1] >= s.num_nodes)
    area = graph.area.where(torch.arange(both.num_nodes) < s.num_nodes, 0.0)
    plain = GaugeConv(conv.conv.types_in, conv.conv.types_out, 3, conv.cutoff, "integral", "smooth", False).double()
    plain.load_state_dict(conv.conv.state_dict())
    plan = plain.plan(graph.edge_index[:, across], graph.polar[across], graph.transport[across], area)

    def run(x):
        return plain(torch.nn.functional.pad(x, (0, 0, 0, s_out.num_nodes)), plan)[..., s.num_nodes :, :]

    return plain, run


@pytest.mark.parametrize(("nside", "other"), [(4, 2), (2, 4), (2, 2)])
@pytest.mark.parametrize("types", [("2x0+1x1", "3x0+2x1+1x2"), ("2x1+1x0+1x1", "1x2+2x0")])
def test_between_samplings_it_is_the_layer_on_the_nodes_of_both(nside, other, types):
    """Coincident nodes too, those of a sampling and its copy."""
    s = spheres.healpix(nside)
    s_out = spheres.healpix(other) if other != nside else spheres.scattered(s.pos, s.area)
    conv = SteerableDiscoConv(types[0], types[1], s, 0.9, s_out).double()
    assert (conv.plan.num_nodes, conv.plan.num_targets) == (s.num_nodes, s_out.num_nodes)
    plain, union = union_of_nodes(conv)
    x = normal(2, s.num_nodes, conv.conv.types_in.dim).requires_grad_()
    toward = normal(2, s_out.num_nodes, conv.conv.types_out.dim, seed=1)
    found, wanted = conv(x), union(x)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    ours = torch.autograd.grad(found, [x, *conv.conv.parameters()], toward)
    theirs = torch.autograd.grad(wanted, [x, *plain.parameters()], toward)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, atol=1e-11, rtol=1e-12)
    conv.conv.path = "edge"
    torch.testing.assert_close(conv(x), wanted, atol=1e-12, rtol=0)
    batched = torch.func.vmap(conv)(x)  # by the plain formula
    torch.testing.assert_close(batched, wanted, atol=1e-12, rtol=0)
    assert float((found - conv(x.flip(1))).detach().abs().max()) > 0.1


def random_field(degree, seed=0):
    """A real function of degree below ``degree`` with a white spectrum, at any places."""
    rng = torch.Generator().manual_seed(seed)
    coef = torch.randn(degree, 2 * degree, generator=rng, dtype=torch.float64).numpy()

    def value(pos):
        x, y, z = pos.numpy().T
        theta, phi = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
        total = np.zeros(len(x))
        for deg in range(degree):
            for m in range(deg + 1):
                h = sph_harm_y(deg, m, theta, phi)
                total += coef[deg, 2 * m] * h.real + coef[deg, 2 * m + 1] * h.imag
        return torch.from_numpy(total)

    return value


def rotation_error(make, s):
    """Relative error of a map to scalars at any places, for a generic rotation, without interpolation."""
    field, places = random_field(8), groups.S2.random(150, seed=1)
    turn = groups.SO3.random(1, seed=5)[0] @ torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64))
    area = torch.full((150,), 4 * math.pi / 150, dtype=torch.float64)
    before = make(s, spheres.Sampling("places", places, area))(field(s.pos)[:, None])
    after = make(s, spheres.Sampling("places", places @ turn.T, area))(field(s.pos @ turn)[:, None])
    return float(((after - before).norm() / before.norm()).detach())


def test_steerable_filters_commute_with_rotations_and_directional_ones_do_not():
    s, cutoff = spheres.gauss_legendre(16), 6 * math.pi / 8

    def steerable(s_in, s_out):
        torch.manual_seed(0)
        first = SteerableDiscoConv("1x0", "2x1", s_in, cutoff).double()
        gate, last = NormGate("2x1").double(), SteerableDiscoConv("2x1", "1x0", s_in, cutoff, s_out).double()
        return lambda x: last(gate(first(x)))

    def directional(s_in, s_out):
        torch.manual_seed(0)
        conv = DiscoConv(1, 1, s_in, s_out, cutoff=cutoff, norm="none", bias=False).double()
        with torch.no_grad():
            conv.weight[..., conv.geometry.basis.isotropic] = 0
        return conv

    def isotropic(s_in, s_out):
        torch.manual_seed(0)
        return DiscoConv(1, 1, s_in, s_out, kernel_shape=1, cutoff=cutoff, norm="none", bias=False).double()

    assert rotation_error(steerable, s) < 2e-3
    assert rotation_error(isotropic, s) < 2e-3
    assert rotation_error(directional, s) > 1.0  # the size of the signal and more: no equivariance at all


def test_owns_and_shares_its_geometry():
    s = spheres.healpix(2)
    one, other = (SteerableDiscoConv("2x0", f"{n}x0+1x1", s, 0.9) for n in (1, 3))
    assert one.plan is other.plan
    assert set(one.state_dict()) == {"conv.weight", "conv.bias"}
    x = normal(48, 2)
    wide = copy.deepcopy(one).double()
    assert one.plan.radial.dtype == torch.float32
    torch.testing.assert_close(wide(x).float(), one(x.float()), atol=1e-5, rtol=0)
    for twin in (copy.deepcopy(wide), pickle.loads(pickle.dumps(wide))):
        assert torch.equal(twin(x), wide(x))
        assert twin.plan is wide.plan


def test_gradients_reach_input_and_weights():
    conv = SteerableDiscoConv("1x0+1x1", "1x0+1x1", spheres.healpix(1), 1.5, spheres.icosphere(0), rings=2).double()
    assert torch.autograd.gradcheck(conv, (normal(12, 3).requires_grad_(),))
    assert torch.autograd.gradgradcheck(conv, (normal(12, 3).requires_grad_(),))
    conv(normal(12, 3)).sum().backward()
    assert all(p.grad is not None for p in conv.parameters())


@pytest.mark.slow
def test_compiles():
    conv = SteerableDiscoConv("1x0", "2x0+1x1", spheres.healpix(2), 0.9, spheres.healpix(1)).double()
    x = normal(48, 1)
    torch.testing.assert_close(torch.compile(conv, fullgraph=True)(x), conv(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"s": 3}, TypeError, "s must be a spheres.Sampling, got int"),
        ({"cutoff": 7.0}, ValueError, "at most pi, got 7.0"),
        ({"cutoff": 0.01}, ValueError, "caps of radius cutoff=0.01 hold no node of .* take a cutoff of more than 0.29"),
        ({"s_out": None, "cutoff": 0.01}, ValueError, "48 of 48 nodes .* nearest to node 0 is 0.5.* larger cutoff$"),
        ({"self_interaction": True}, ValueError, "self_interaction needs the nodes"),
        ({"rings": 0}, ValueError, "rings must be"),
    ],
)
def test_bad_arguments(change, error, message):
    settings = {"s": spheres.healpix(2), "cutoff": 0.9, "s_out": spheres.fibonacci(20)}
    with pytest.raises(error, match=message):
        SteerableDiscoConv("1x0", "1x0", **{**settings, **change})


def test_bad_features():
    conv = SteerableDiscoConv("1x0", "1x1", spheres.healpix(2), 0.9, spheres.healpix(1))
    with pytest.raises(ValueError, match="x must have shape"):
        conv(torch.zeros(12, 1))
