"""DiscoUNet: any chain of samplings, rotations with and without direction, sizes, and what it refuses."""

import json
from dataclasses import asdict

import pytest
import torch

from geomeq import groups, spheres
from geomeq.models import DiscoUNet, DiscoUNetConfig
from geomeq.nn._sphere_edges import spin_edges
from geomeq.spheres import Sampling, scattered
from geomeq.transforms import SphereGauge

CHAINS = {
    "healpix": (("healpix", 4, "ring"), ("healpix", 2, "ring")),
    "icosphere": (("icosphere", 2), ("icosphere", 1), ("icosphere", 0)),
    "rings": (("gauss_legendre", 12, 24), ("gauss_legendre", 6, 12)),
    "mixed": (("equiangular", 13, 24), ("cubed", 5), ("fibonacci", 40)),
}
FILTERS = ("isotropic", "directional", "steerable")
each_chain = pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
each_filter = pytest.mark.parametrize("filters", FILTERS)
TOLERANCES = {torch.float64: 1e-11, torch.float32: 5e-4}
each_dtype = pytest.mark.parametrize("dtype", TOLERANCES, ids=["float64", "float32"])


def config(chain, filters, **options):
    options = {
        "channels": (4, 6, 8)[: len(chain)],
        "kernel_shape": (2, 3) if filters == "steerable" else (3, 3),
    } | options
    return DiscoUNetConfig(chain, 2, 3, filters=filters, **options)


def network(chain, filters, dtype=torch.float64, **options):
    torch.manual_seed(1)
    model = DiscoUNet(config(chain, filters, **options)).to(dtype)
    for module in model.modules():
        if hasattr(module, "momentum"):
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.randn(3, model.num_nodes, 2, dtype=dtype))  # running averages of the usual size
    return model.eval()


def signal(pos):
    x, y, z = pos.T
    return torch.stack([torch.sin(2 * x) + y * z, torch.cos(2 * z - y) + x], dim=-1)


def relative(got, wanted):
    return float((got - wanted).detach().norm() / (wanted - wanted.mean(-2, keepdim=True)).detach().norm())


@each_chain
@each_filter
def test_shapes_batches_and_gradients(chain, filters):
    model = network(chain, filters)
    x = torch.randn(2, model.num_nodes, 2, dtype=torch.float64)
    y = model(x)
    assert y.shape == (2, model.num_nodes, 3)
    torch.testing.assert_close(model(x[1]), y[1], atol=1e-11, rtol=0)
    model.train()
    model(x).square().sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert silent == []
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@each_dtype
@pytest.mark.parametrize("filters", ["isotropic", "steerable"])
def test_sixty_rotations_of_the_icosphere_are_exact(filters, dtype):
    model, s = network(CHAINS["icosphere"], filters, dtype), spheres.icosphere(2)
    x = torch.randn(162, 2, dtype=dtype)
    moved_to = torch.cdist(s.pos @ groups.icosahedral_rotations(), s.pos).argmin(dim=2)
    y = model(x).detach()
    difference = (model(x[moved_to]).detach() - y[moved_to]).abs().max()
    assert float(difference) < TOLERANCES[dtype] * float(y.abs().max())
    shuffled = torch.randperm(162)
    assert float((model(x[shuffled]) - y[shuffled]).detach().abs().max()) > 1e-2


def test_directional_filters_know_only_turns_about_the_poles():
    model, s = network(CHAINS["icosphere"], "directional"), spheres.icosphere(2)
    x = torch.randn(162, 2, dtype=torch.float64)
    moved_to = torch.cdist(s.pos @ groups.icosahedral_rotations(), s.pos).argmin(dim=2)
    y = model(x).detach()
    error = (model(x[moved_to]).detach() - y[moved_to]).flatten(1).norm(dim=1) / y.norm()
    assert float(error.sort().values[10]) > 0.1  # of the 60, few leave the direction north alone


@each_filter
def test_turns_of_a_ring_grid_by_two_columns_are_exact(filters):
    model, x = network(CHAINS["rings"], filters), torch.randn(12, 24, 2, dtype=torch.float64)
    y = model(x.reshape(-1, 2)).view(12, 24, 3)
    errors = [model(x.roll(step, 1).reshape(-1, 2)).view(12, 24, 3) - y.roll(step, 1) for step in (2, 1)]
    assert float(errors[0].detach().abs().max()) < 1e-11
    assert float(errors[1].detach().abs().max()) > 1e-6  # a step that the coarser level does not have


def turned_error(filters, nside, seed=3, **options):
    """Relative error at places that join the finest level without area, for a turned smooth signal."""
    turn, at = groups.SO3.random(1, seed=seed)[0], groups.S2.random(60, seed=1)
    fine, coarse = (spheres.healpix(n, "ring") for n in (nside, nside // 2))
    outputs, state = [], None
    for rotation in (torch.eye(3, dtype=torch.float64), turn):
        pos = torch.cat([fine.pos, at @ rotation.T])
        places = Sampling("with places", pos, torch.cat([fine.area, torch.zeros(60).double()]))
        if state is None:
            state = network((places, coarse), filters, cutoff=4.0, **options).state_dict()
        model = DiscoUNet(config((places, coarse), filters, cutoff=4.0, **options)).double()
        model.load_state_dict(state)
        outputs.append(model.eval()(signal(pos @ rotation))[-60:])
    return relative(outputs[1], outputs[0])


@pytest.mark.parametrize("filters", ["isotropic", "steerable"])
def test_any_rotation_to_the_error_of_the_quadrature(filters):
    errors = [turned_error(filters, nside) for nside in (4, 8)]
    assert errors[1] < 0.05
    assert errors[1] < errors[0]


def test_directional_filters_fail_a_generic_rotation():
    assert turned_error("directional", 8) > 0.2


def test_steerable_geometry_is_that_of_the_transform():
    s = spheres.equiangular(7, 12)  # with coincident nodes at the poles
    edge_index, polar, transport = spin_edges(s, None, 0.7)
    wanted = SphereGauge(0.7, loops=True)(s.to_data(torch.float64))
    assert torch.equal(edge_index, wanted.edge_index)
    torch.testing.assert_close(polar[:, 0], wanted.polar[:, 0], atol=1e-12, rtol=0)
    for got, right in ((polar[:, 1], wanted.polar[:, 1]), (transport, wanted.transport)):
        turn = got - right
        far = torch.ones_like(turn) if got is transport else (polar[:, 0] > 1e-9).double()
        assert float((far * torch.stack([turn.cos() - 1, turn.sin()]).abs().amax(0)).max()) < 1e-9


def test_steerable_edges_between_samplings_are_those_of_both_together():
    a, b = spheres.healpix(2), spheres.gauss_legendre(5, 10)
    edge_index, polar, transport = spin_edges(a, b, 0.8)
    both = scattered(torch.cat([a.pos, b.pos]), torch.cat([a.area, b.area]))
    all_edges, all_polar, all_transport = spin_edges(both, None, 0.8)
    keep = (all_edges[0] < 48) & (all_edges[1] >= 48)
    assert torch.equal(edge_index, all_edges[:, keep] - torch.tensor([[0], [48]]))
    torch.testing.assert_close(polar, all_polar[keep], atol=1e-12, rtol=0)
    torch.testing.assert_close(transport, all_transport[keep], atol=1e-12, rtol=0)


@each_filter
def test_double_is_exact_after_a_detour_through_float(filters):
    torch.set_default_dtype(torch.float32)
    model = network(CHAINS["healpix"], filters)
    x, state = torch.randn(192, 2, dtype=torch.float64), model.state_dict()
    other = DiscoUNet(model.config).float().double().eval()
    other.load_state_dict(state)
    torch.testing.assert_close(other(x), model(x), atol=1e-12, rtol=0)
    assert not any("edge" in name or "plan" in name for name in state)  # geometry is no parameter
    assert model.float()(x.float()).dtype == torch.float32


@pytest.mark.parametrize(
    "options",
    [{"norm": None}, {"act": "gelu"}, {"depth": (0, 2)}, {"upsampling": "interpolation"}, {"basis": "zernike"}],
)
def test_options_of_scalar_filters(options):
    options = {"kernel_shape": (3, 3)} | options
    filters = "directional" if options.get("basis") else "isotropic"
    model = network(CHAINS["healpix"], filters, **options)
    y = model(torch.randn(192, 2, dtype=torch.float64))
    assert y.shape == (192, 3)
    assert float(y.detach().std()) > 0


@pytest.mark.parametrize("options", [{"nonlinearity": "gate"}, {"nonlinearity": "norm"}, {"spins": (0, 1, 2)}])
def test_options_of_steerable_filters(options):
    model, s = network(CHAINS["icosphere"][1:], "steerable", **options), spheres.icosphere(1)
    x = torch.randn(42, 2, dtype=torch.float64)
    moved_to = torch.cdist(s.pos @ groups.icosahedral_rotations(), s.pos).argmin(dim=2)
    torch.testing.assert_close(model(x[moved_to]), model(x)[moved_to], atol=1e-10, rtol=0)


def test_numbers_of_weights():
    """By hand: stem, two blocks on each side, one step down and up, one mixing, norms, head."""
    model = DiscoUNet(DiscoUNetConfig(CHAINS["healpix"], 2, 3, (4, 6), kernel_shape=(3, 3)))
    k = 2  # a bump and a ring
    convs = [(2, 4), *[(4, 4)] * 4, (4, 6), *[(6, 6)] * 2, (6, 4), (4, 3)]
    weights = sum(a * b * k + b for a, b in convs)
    norms = 2 * (4 * 4 + 2 * 6 + 4 + 6 + 4)
    assert sum(p.numel() for p in model.parameters()) == weights + norms + 2 * 16


@pytest.mark.slow
def test_published_size():
    model = DiscoUNet(DiscoUNetConfig.published(3, 13, rows=64))
    assert sum(p.numel() for p in model.parameters()) == 8_520_333
    assert DiscoUNetConfig.published(3, 13).samplings[0] == ("equiangular", 256, 512)


@pytest.mark.parametrize("filters", [pytest.param(f, marks=[pytest.mark.slow] * (f != "isotropic")) for f in FILTERS])
def test_compiled_equals_eager(compiled, filters):
    model = network(CHAINS["healpix"], filters, torch.float32, depth=(0, 1), act="relu", nonlinearity="norm")
    x = torch.randn(2, 192, 2)
    torch.testing.assert_close(compiled(model, backend="aot_eager")(x), model(x), atol=1e-4, rtol=1e-4)


def test_config_as_json_and_weights_back():
    model = network(CHAINS["rings"], "steerable", depth=(0, 1))
    again = DiscoUNetConfig(**json.loads(json.dumps(asdict(model.config))))
    assert again == model.config
    other = DiscoUNet(again).double().eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(288, 2, dtype=torch.float64)
    assert torch.equal(other(x), model(x))
    assert "channels=(4, 6), filters='steerable', nodes=288" in repr(model)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"samplings": (("healpix", 2), ("healpix", 4))}, ValueError, "must become coarser, but level 1"),
        ({"samplings": ()}, ValueError, "at least, finest first, got none"),
        ({"samplings": (("mollweide", 2), ("healpix", 1))}, ValueError, "one of the kinds cubed.*got 'mollweide'"),
        ({"channels": (8,)}, ValueError, "one entry for each of 2 levels"),
        ({"channels": (8, 0)}, ValueError, "must be positive integers"),
        ({"depth": -1}, ValueError, "depth must be a number from 0"),
        ({"depth": (1, 1, 1)}, ValueError, "depth must be a number from 0, or one for each of 2 levels"),
        ({"cutoff": -1.0}, ValueError, "cutoff must be positive"),
        ({"filters": "axial"}, ValueError, "filters must be one of"),
        ({"norm": "layer"}, ValueError, "norm must be one of"),
        ({"act": "swish"}, ValueError, "act must be one of"),
        ({"upsampling": "nearest"}, ValueError, "upsampling must be one of"),
        ({"filters": "steerable", "spins": (1, 2)}, ValueError, "spins must hold 0"),
        ({"filters": "steerable", "spins": (0, 1, 1)}, ValueError, "spins must differ"),
        ({"filters": "steerable", "upsampling": "interpolation"}, ValueError, "use upsampling='transpose'"),
        ({"samplings": (("healpix", 4), ("random", 20, 0)), "cutoff": 0.7}, ValueError, "have no node of"),
        (
            {"samplings": (("healpix", 4), ("random", 20, 0)), "cutoff": 0.7, "filters": "steerable"},
            ValueError,
            "no neighbour within",
        ),
        ({"basis": "daubechies"}, ValueError, "basis must be one of"),
        ({"filter_norm": "max"}, ValueError, "norm must be one of"),
    ],
)
def test_configs_that_make_no_sense(options, error, message):
    options = {"samplings": (("healpix", 2), ("healpix", 1)), "channels": (4, 4)} | options
    with pytest.raises(error, match=message):
        DiscoUNet(DiscoUNetConfig(in_channels=2, out_channels=3, **options))


def test_signals_that_do_not_fit():
    model = network(CHAINS["healpix"], "isotropic")
    with pytest.raises(ValueError, match=r"x must have shape \[..., 192, 2\], got \[48, 2\]; the finest level is"):
        model(torch.randn(48, 2))
    with pytest.raises(ValueError, match=r"x must be \[N, C\] or \[B, N, C\]"):
        model(torch.randn(2, 2, 192, 2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_filter
def test_on_cuda_as_on_the_cpu(filters):
    model, x = network(CHAINS["mixed"], filters), torch.randn(2, 312, 2, dtype=torch.float64)
    wanted = model(x).detach()
    torch.testing.assert_close(model.cuda()(x.cuda()).detach().cpu(), wanted, atol=1e-9, rtol=0)
