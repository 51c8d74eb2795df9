"""SpinNet: frames, rotations exact and sampled, levels, batches, and what it refuses."""

import json
import math
from dataclasses import asdict

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq import groups, spheres
from geomeq.groups import SO2Irreps
from geomeq.models import SpinNet, SpinNetConfig
from geomeq.transforms import MultiScale, SphereGauge

CUTOFF, TYPES = 0.7, "2x0+1x1"
DTYPES = pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
SMALL = {"types_hidden": "4x0+4x1+2x2", "num_blocks": 1, "rings": 2}
CONFIGS = {
    "fourier": SpinNetConfig(TYPES, "1x0+2x1+1x2", CUTOFF, **SMALL),
    "gates": SpinNetConfig(TYPES, "1x0+2x1+1x2", CUTOFF, **SMALL, nonlinearity="gate", norm="batch"),
    "norm gates": SpinNetConfig(TYPES, "1x1", CUTOFF, **SMALL, nonlinearity="norm", residual=False),
    "norm relu": SpinNetConfig(TYPES, "1x0", CUTOFF, **SMALL, nonlinearity="normrelu", self_interaction=False),
    "linear": SpinNetConfig(TYPES, "1x0+1x1", CUTOFF, **SMALL, nonlinearity="none"),
    "graph": SpinNetConfig(TYPES, "3x0", CUTOFF, **SMALL, task="graph"),
    "levels": SpinNetConfig(TYPES, "1x0+1x1", (CUTOFF, 1.2), **SMALL, levels=2),
}
each = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def globe(config, dtype=torch.float64, rotation=None, frames="meridian", kind="gauss_legendre"):
    """A sampled sphere with a smooth signal: functions and a vector field of space, turned by ``rotation``."""
    sampling = {
        "gauss_legendre": lambda: spheres.gauss_legendre(8),
        "icosphere": lambda: spheres.icosphere(2),
        "equiangular": lambda: spheres.equiangular(9),
    }[kind]()
    data = Data(pos=sampling.pos if rotation is None else sampling.pos @ rotation.T, area=sampling.area)
    return with_signal(data, config, dtype, rotation, frames)


def with_signal(data, config, dtype, rotation=None, frames="meridian"):
    turn = torch.eye(3).double() if rotation is None else rotation
    place = data.pos @ turn
    if frames == "turned":
        data.frame = groups.sphere_frame(place).transpose(1, 2) @ turn.T
        data.frame[:, 2] = data.pos
    gauge = SphereGauge(CUTOFF, frames="given" if frames == "turned" else frames, loops=True)
    data = MultiScale((0.3,), gauge, radii=(1.2,))(data) if config.levels > 1 else gauge(data)
    x, y, z = place.T
    v = torch.stack([y + z**2, torch.sin(3 * x) - z, x * y], dim=1) @ turn.T
    scalars = torch.stack([torch.sin(2 * x) + y * z, torch.cos(3 * z + y)], dim=1)
    data.x = torch.cat([scalars, torch.einsum("nak,nk->na", data.frame[:, :2], v)], dim=1)
    return data.apply(lambda t: t.to(dtype) if t.is_floating_point() else t)


def network(config, dtype=torch.float64):
    torch.manual_seed(1)
    return SpinNet(config).to(dtype).eval()


def in_frames_of(types, y, before, after):
    """Features in the frames of one graph, written in those of another with the same points (up to a rotation)."""
    e1 = torch.einsum("nak,nk->na", after.frame[:, :2], before.frame[:, 0])  # e1 of before, seen from after
    return SO2Irreps(types).rotate(y, torch.atan2(e1[:, 1], e1[:, 0]))


@each
@DTYPES
def test_frames_do_not_matter(config, dtype, tol):
    plain, other = globe(config, dtype), globe(config, dtype, frames="random")
    model = network(config, dtype)
    y, z = model(plain), model(other)
    if config.task == "node":
        y = in_frames_of(config.types_out, y, plain, other)
    scale = float(y.detach().abs().max())
    assert float((z - y).detach().abs().max()) < tol * scale
    wrong = other.clone()
    wrong.transport = plain.transport
    assert float((model(wrong) - y).detach().abs().max()) > 1e-3 * scale  # transport forgotten


@pytest.mark.parametrize("config", [CONFIGS[name] for name in CONFIGS if name != "levels"])
@DTYPES
def test_turned_points_and_frames_give_the_same(config, dtype, tol):
    """Not with levels: all points of a sphere tie for the outermost, with which coarser levels begin."""
    rotation = groups.SO3.random(1, seed=4)[0]
    model = network(config, dtype)
    plain, moved = globe(config, dtype), globe(config, dtype, rotation, "turned")
    torch.testing.assert_close(moved.x, plain.x, rtol=0, atol=2 * tol)
    y, z = model(plain), model(moved)
    assert float((z - y).detach().abs().max()) < tol * float(y.detach().abs().max())


def test_sixty_rotations_of_the_icosphere_are_exact():
    config = CONFIGS["fourier"]
    model, types = network(config), SO2Irreps(config.types_out)
    plain = globe(config, kind="icosphere")
    y = model(plain)
    rotation = groups.icosahedral_rotations()
    # the signal is turned, the points and their meridian frames stay
    place = plain.pos @ rotation
    moved_to = torch.cdist(place, plain.pos).argmin(dim=2)  # node at rotation^T pos
    carried = plain.frame[moved_to, 0] @ rotation.transpose(1, 2)  # frames that came along
    e1 = torch.einsum("nak,rnk->arn", plain.frame[:, :2], carried)
    angle = torch.atan2(e1[1], e1[0])
    moved = plain.clone()
    moved.x = SO2Irreps(TYPES).rotate(plain.x[moved_to], angle)
    assert moved.x.shape == (60, 162, 4)
    assert float((model(moved) - types.rotate(y[moved_to], angle)).detach().abs().max()) < 1e-12
    generic = groups.SO3.random(1, seed=0)[0]
    assert float(((plain.pos @ generic)[:, None] - plain.pos).norm(dim=-1).amin(dim=1).max()) > 0.05


def rotation_error(config, sampling, frames="meridian", seed=3):
    """Relative error of a scalar output for a function of low degree and a rotation, at nodes of area zero."""
    model, turn, at = network(config), groups.SO3.random(1, seed=seed)[0], groups.S2.random(40, seed=1)
    outputs = []
    for rotation in (torch.eye(3).double(), turn):
        pos = torch.cat([sampling.pos, at @ rotation.T])
        area = torch.cat([sampling.area, at.new_zeros(len(at))])
        data = SphereGauge(config.cutoff, frames=frames, loops=True)(Data(pos=pos, area=area))
        x, y, z = (pos @ rotation).T
        data.x = (torch.sin(3 * x) + y * z * x + torch.cos(2 * y - z))[:, None]
        outputs.append(model(data)[-len(at) :].detach())
    return float((outputs[1] - outputs[0]).norm() / outputs[0].norm())


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("frames", ["meridian", "random"])
@pytest.mark.parametrize("kind", ["gauss_legendre", "healpix"])
def test_any_rotation_to_the_error_of_the_quadrature(order, frames, kind):
    config = SpinNetConfig("1x0", "1x0", 1.2, f"3x{order}", 0, 1, "norm", self_interaction=False)
    sampling = spheres.gauss_legendre(20) if kind == "gauss_legendre" else spheres.healpix(8, "ring")
    assert rotation_error(config, sampling, frames) < (1e-3 if order == 1 else 5e-3)


def test_the_error_falls_as_grids_become_finer():
    config = SpinNetConfig("1x0", "1x0", 1.0, "2x0+2x1", 0, 2)
    errors = [rotation_error(config, spheres.gauss_legendre(n)) for n in (8, 12, 18)]
    assert errors[1] < errors[0] / 2.25  # faster than the square of the spacing
    assert errors[2] < errors[1] / 2.25


def test_a_batch_of_signals_on_one_sphere_and_of_spheres():
    for name in ("fourier", "graph", "levels"):
        config = CONFIGS[name]
        model, graph = network(config), globe(config)
        x = torch.randn(3, *graph.x.shape, dtype=torch.float64)
        alone = []
        for signal in x:
            sample = graph.clone()
            sample.x = signal
            alone.append(sample)
        wanted = [model(sample) for sample in alone]
        together = graph.clone()
        together.x = x
        stacked = torch.stack(wanted) if config.task == "node" else torch.cat(wanted)
        torch.testing.assert_close(model(together), stacked, rtol=0, atol=1e-12)
        batch = model(Batch.from_data_list(alone))
        torch.testing.assert_close(batch, torch.cat(wanted), rtol=0, atol=1e-12)


def test_poles_of_an_equiangular_grid_are_ordinary_nodes():
    config = CONFIGS["fourier"]
    graph = globe(config, kind="equiangular")
    y = network(config)(graph).detach()
    assert bool(torch.isfinite(y).all())
    pole = slice(0, 16)  # one place, one frame: one answer
    torch.testing.assert_close(y[pole], y[:1].expand(16, -1), rtol=0, atol=1e-13)


@each
def test_every_weight_has_a_gradient(config):
    model = network(config).train()
    model(globe(config)).square().sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert silent == []


def test_config_as_json_and_weights_back(tmp_path):
    config = CONFIGS["levels"]
    again = SpinNetConfig(**json.loads(json.dumps(asdict(config))))
    assert again == config
    model, other = network(config), SpinNet(again).double().eval()
    other.load_state_dict(model.state_dict())
    graph = globe(config)
    assert torch.equal(other(graph), model(graph))
    assert "hidden=4x0+4x1+2x2, blocks=1" in repr(model)
    assert SpinNetConfig("1x0", "1x0", 0.3, levels=3).cutoffs == (0.3, 0.6, 1.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nonlinearity": "relu"}, "nonlinearity must be one of"),
        ({"norm": "layer"}, "norm must be one of"),
        ({"task": "edge"}, "task must be one of"),
        ({"num_blocks": -1}, "num_blocks must not be negative"),
        ({"levels": 0}, "levels must be at least 1"),
        ({"cutoff": (0.3, 0.6)}, "one entry for each of 1 levels"),
        ({"cutoff": -0.3}, "cutoff"),
        ({"task": "graph", "types_out": "1x1"}, "outputs must be scalars, got 1x1"),
        ({"types_in": "1x-1"}, "negative|1x-1"),
    ],
)
def test_configs_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        SpinNet(SpinNetConfig(**({"types_in": "1x0", "types_out": "1x0", "cutoff": 0.5} | options)))


def test_data_that_lacks_something():
    config = CONFIGS["fourier"]
    model, graph = network(config), globe(config)
    bare = graph.clone()
    del bare.transport
    with pytest.raises(ValueError, match="data has no transport, only .* apply transforms.SphereGauge"):
        model(bare)
    with pytest.raises(ValueError, match="pool_index_1|edge_index_1"):
        network(CONFIGS["levels"])(graph)
    graph.x = graph.x[:, :3]
    with pytest.raises(ValueError, match=r"data.x must have shape .*4\], got .*types_in=2x0\+1x1"):
        model(graph)


def test_a_network_without_places_cannot_tell_north_from_south():
    """A constant input has a constant output, to the error of the quadrature."""
    config = SpinNetConfig("1x0", "1x0+1x1", 0.9, **SMALL)
    graph = SphereGauge(0.9, loops=True)(spheres.gauss_legendre(14).to_data(torch.float64))
    graph.x = torch.ones(graph.num_nodes, 1).double()
    y = network(config)(graph).detach()
    assert float(y[:, 0].std()) < 2e-3
    assert float(y[:, 1:].abs().max()) < 5e-3
    assert math.isfinite(float(y.sum()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each
def test_on_cuda_as_on_the_cpu(config):
    graph, model = globe(config), network(config)
    wanted = model(graph).detach()
    got = model.cuda()(graph.cuda())
    torch.testing.assert_close(got.detach().cpu(), wanted, rtol=0, atol=1e-10)
    again = SphereGauge(CUTOFF, loops=True)(Data(pos=graph.pos, area=graph.area))
    assert again.polar.device.type == again.edge_index.device.type == again.frame.device.type == "cuda"
