"""GEM-CNN as a whole: frames, rigid motions, batches, levels; and mistakes that the report names."""

import json
from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from geomeq.groups import SO3, SO2Irreps, icosahedral_rotations, icosphere
from geomeq.models import GEMCNN, GEMCNNConfig
from geomeq.nn import GaugeLinear, GaugePlan
from geomeq.testing import assert_equivariant, equivariance_error, equivariance_report
from geomeq.transforms import GaugeFeatures, GaugeRandomize, MeshGauge, MultiScale

DTYPES = pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
TYPES = "2x0+2x1"
LEVELS = {"num_levels": 3, "num_blocks": 1, "channels": 6}
CONFIGS = {
    "node": GEMCNNConfig(TYPES, "5x0", channels=8, rings=2, cutoff=0.9),
    "graph": GEMCNNConfig(TYPES, "5x0", task="graph", channels=8, num_blocks=2),
    "fields": GEMCNNConfig(TYPES, "2x0+1x1+1x2", channels=(8,), num_blocks=2),
    "attention": GEMCNNConfig(TYPES, "5x0", channels=8, num_blocks=2, layer="attention", heads=4),
    "U-Net": GEMCNNConfig(TYPES, "5x0", **LEVELS, rings=2, cutoff=(0.6, 1.2, 2.0), norm="samples"),
    "U-Net of fields": GEMCNNConfig(TYPES, "3x1", **LEVELS, nonlinearity="norm_gate", norm="batch"),
    "graph of three levels": GEMCNNConfig(TYPES, "5x0", task="graph", **LEVELS),
}
each = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def shape(seed: int = 0, level: int = 1) -> Data:
    """A sphere with smooth bumps, float64."""
    rng = torch.Generator().manual_seed(seed)
    sphere = icosphere(level)
    waves = torch.randn(4, 3, generator=rng, dtype=torch.float64)
    bumps = 0.15 * torch.sin(2 * sphere.pos @ waves.T).sum(1, keepdim=True)
    return Data(pos=sphere.pos * (1 + bumps), face=sphere.face)


def prepared(config: GEMCNNConfig, mesh: Data, dtype: torch.dtype) -> Data:
    """Geometry in float64, stored in ``dtype``; features that need no frame of space."""
    mesh = mesh.clone()
    mesh = MultiScale(ratios=(0.3, 0.3))(mesh) if config.num_levels > 1 else MeshGauge()(mesh)
    mesh = GaugeFeatures(("curvature", "tangents"), powers=(0.7, 2.0))(mesh)
    return mesh.apply(lambda t: t.to(dtype) if t.is_floating_point() else t)


def network(config: GEMCNNConfig, dtype: torch.dtype) -> GEMCNN:
    """A network whose biases and scales are not those of the start."""
    model = GEMCNN(config).to(dtype)
    for name, p in model.named_parameters():
        if "bias" in name or p.dim() == 1:
            nn.init.normal_(p, mean=float("norm" in name and "weight" in name), std=0.3)
    return model.eval()


def turned_output(config: GEMCNNConfig, y: torch.Tensor, before: Data, after: Data) -> torch.Tensor:
    """Outputs of the first graph in the frames of the second."""
    if config.task == "graph":
        return y
    e1 = torch.einsum("nij,nj->ni", before.frame, after.frame[:, 0])
    return SO2Irreps(config.types_out).rotate(y, -torch.atan2(e1[:, 1], e1[:, 0]))


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - b).abs().max() / b.abs().max()).detach())


@each
@DTYPES
def test_frames_of_all_levels_may_turn(config, dtype, tol):
    data, model = prepared(config, shape(), dtype), network(config, dtype)
    other = GaugeRandomize(TYPES)(data.clone())
    y = model(data)
    assert relative(model(other), turned_output(config, y, data, other)) < tol
    assert y.std() > 1e-3 * y.abs().max()
    half = data.clone()
    half.x = other.x  # features in new frames, geometry in the old ones
    assert relative(model(half), y) > 100 * tol
    model.train()  # batch statistics do not see the frames either
    assert relative(model(other), turned_output(config, model(data), data, other)) < tol


@DTYPES
def test_other_frames_on_a_coarse_level_only(dtype, tol):
    config = CONFIGS["U-Net"]
    data, model = prepared(config, shape(), dtype), network(config, dtype)
    other = GaugeRandomize(TYPES, seed=0)(data.clone())
    for name in ("edge_index", "polar", "transport"):
        other[name] = data[name]
    other.x = data.x  # the fine level is as before, so its transport to the coarse one no longer fits
    assert relative(model(other), model(data)) > 100 * tol


@each
@DTYPES
def test_rigid_motions_change_nothing_and_a_mirror_does(config, dtype, tol):
    mesh, model = shape(), network(config, dtype)
    y = model(prepared(config, mesh, dtype))
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    rotation = rotation * torch.linalg.det(rotation)
    moved = Data(pos=mesh.pos @ rotation.T + torch.tensor([1.0, -2.0, 0.5]), face=mesh.face)
    assert relative(model(prepared(config, moved, dtype)), y) < tol
    mirrored = Data(pos=mesh.pos * torch.tensor([-1.0, 1, 1]), face=mesh.face.flip(0))
    assert relative(model(prepared(config, mirrored, dtype)), y) > 1e-3


@pytest.mark.parametrize("name", ["node", "graph", "fields", "attention"])
def test_positions_rounded_to_single_precision_after_a_motion(name):
    """A mesh as files hold it: both copies are rounded, differently."""
    config, mesh = CONFIGS[name], shape()
    turn = SO3.random(seed=1)
    places = [mesh.pos, mesh.pos @ turn.T + torch.tensor([0.7, -1.1, 0.4], dtype=torch.float64)]
    still, moved = (MeshGauge()(Data(pos=pos.float(), face=mesh.face)) for pos in places)
    assert (moved.polar != still.polar).any()
    model, x = network(config, torch.float32), torch.randn(mesh.num_nodes, SO2Irreps(TYPES).dim)
    still.x = moved.x = x
    assert relative(model(moved), model(still)) < 1e-5


@each
def test_a_batch_is_its_parts(config):
    model, meshes = network(config, torch.float64), [prepared(config, shape(s), torch.float64) for s in range(2)]
    both = model(Batch.from_data_list(meshes))
    torch.testing.assert_close(both, torch.cat([model(mesh) for mesh in meshes]), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("name", ["node", "graph", "U-Net of fields"])
def test_many_signals_on_one_surface(name):
    config = CONFIGS[name]
    data, model = prepared(config, shape(), torch.float64), network(config, torch.float64)
    x = torch.randn(3, *data.x.shape, dtype=torch.float64)
    data.x = x
    y = model(data)
    for k in range(3):
        data.x = x[k]
        alone = model(data)
        torch.testing.assert_close(y[k], alone[0] if config.task == "graph" else alone)


def test_gradients_of_weights_do_not_see_the_frames():
    config = CONFIGS["node"]
    data, model = prepared(config, shape(), torch.float64), network(config, torch.float64)
    target = torch.randn(data.num_nodes, 5, dtype=torch.float64)
    other = GaugeRandomize(TYPES)(data.clone())

    def gradient(data):
        return torch.autograd.grad((model(data) - target).square().mean(), list(model.parameters()))

    first, second = gradient(data), gradient(other)
    largest = max(float(g.abs().max()) for g in first)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10 * largest, rtol=1e-9)
    other.polar = data.polar
    assert max(float((a - b).abs().max()) for a, b in zip(first, gradient(other), strict=True)) > 1e-3 * largest


@DTYPES
def test_rotations_of_the_icosahedron_permute_the_output(dtype, tol):
    sphere = icosphere(2)
    config = GEMCNNConfig("1x0", "3x0", channels=4, num_blocks=2)
    data, model = MeshGauge()(Data(pos=sphere.pos.to(dtype), face=sphere.face)), network(config, dtype)
    x = torch.randn(sphere.pos.size(0), 1, dtype=dtype)
    data.x = x
    y = model(data)
    rotations = icosahedral_rotations().double()
    turned = torch.einsum("gij,nj->gni", rotations, sphere.pos)
    order = torch.cdist(sphere.pos.expand(60, -1, -1), turned).argmin(2)  # vertex k is vertex order[g, k] moved by g
    data.x = x[order]  # all 60 at once, on one graph
    assert relative(model(data), y[order]) < tol
    data.x = x.roll(1, 0)
    assert relative(model(data), y.roll(1, 0)) > 0.01


def test_order_zero_is_isotropic_and_higher_orders_are_not():
    data = prepared(CONFIGS["node"], shape(), torch.float64)
    data.x = data.x[:, :2]
    spun = data.clone()
    spun.polar = spun.polar + torch.stack(
        [torch.zeros_like(spun.transport), torch.rand(spun.num_edges, dtype=torch.float64)], 1
    )
    for order, sees in ((0, False), (1, True)):
        model = network(GEMCNNConfig("2x0", "3x0", channels=4, max_order=order), torch.float64)
        assert (relative(model(spun), model(data)) > 1e-3) is sees


@pytest.mark.parametrize(
    "name", ["fields", "graph", pytest.param("attention", marks=pytest.mark.slow), "U-Net of fields"]
)
def test_the_testing_tools_say_so_too(name):
    config = CONFIGS[name]
    data, model = prepared(config, shape(), torch.float64), network(config, torch.float64)
    report = equivariance_report(model, data, symmetries=["frames", "permutation", "rotation"])
    assert report.passed, str(report)
    assert all(m.declared for m in report.modules if m.kind.startswith(("Gauge", "Fourier", "SO2", "GEM")))
    for group in ("frames", "permutation", "batching"):
        assert_equivariant(model, data if group != "batching" else Batch.from_data_list([data, data.clone()]), group)


class BiasedMixer(GaugeLinear):
    """The published skip: a bias on every component."""

    def forward(self, x):
        return super().forward(x) + 0.1


class ReLU(nn.ReLU):
    """A function of each component."""


def test_the_report_names_a_planted_skip():
    config = CONFIGS["node"]
    data, model = prepared(config, shape(), torch.float64), network(config, torch.float64)
    model.down[0].blocks[0].skip = BiasedMixer(TYPES, config.types_of(0)).double()
    report = equivariance_report(model, data)
    assert report.culprits == {"frames": "down.0.blocks.0.skip"}
    assert equivariance_error(model, data, "frames") > 1e-3


@pytest.mark.parametrize("name", ["down.1.blocks.0.acts.0", "up.0.blocks.0.acts.1"])
def test_the_report_names_a_planted_activation_on_every_level(name):
    config = CONFIGS["U-Net of fields"]
    data, model = prepared(config, shape(), torch.float64), network(config, torch.float64)
    parent, _, last = name.rpartition(".")
    model.get_submodule(parent)[int(last)] = ReLU()
    report = equivariance_report(model, GaugeRandomize(TYPES)(data), symmetries=["frames"])
    if name.startswith("up"):
        assert report.culprits == {"frames": name}
    else:  # the report turns the frames of the finest level, where coarser ones see nothing
        assert report.passed
        other = GaugeRandomize(TYPES)(data.clone())
        assert relative(model(other), turned_output(config, model(data), data, other)) > 1e-3


def test_the_report_names_a_layer_that_is_given_raw_geometry():
    class Raw(nn.Module):
        types_in, types_out = SO2Irreps(TYPES), SO2Irreps("2x0")

        def __init__(self, biased):
            super().__init__()
            from geomeq.nn import GaugeConv

            self.conv = GaugeConv(TYPES, TYPES, rings=1)
            self.spoil = BiasedMixer(TYPES, TYPES) if biased else GaugeLinear(TYPES, TYPES)
            self.last = GaugeConv(TYPES, "2x0", rings=1)

        def forward(self, data):
            t = (data.edge_index, data.polar, data.transport, data.area)
            return self.last(self.spoil(self.conv(data.x, *t)), *t)

    data = prepared(CONFIGS["node"], shape(), torch.float64)
    assert equivariance_report(Raw(False).double(), data).passed
    assert equivariance_report(Raw(True).double(), data).culprits == {"frames": "spoil"}


def test_geometry_is_prepared_once_per_surface(monkeypatch):
    made = []
    build = GaugePlan.__init__
    monkeypatch.setattr(GaugePlan, "__init__", lambda self, *a, **k: (made.append(1), build(self, *a, **k))[1])
    config = CONFIGS["U-Net"]
    data, model = prepared(config, shape(), torch.float64), network(config, torch.float64)
    first = model(data)
    assert len(made) == 3  # one for each level, though six layers and more read it
    assert torch.equal(model(data), first)
    assert len(made) == 3


def test_saved_weights_give_the_same_and_configs_are_plain(tmp_path):
    config = CONFIGS["U-Net"]
    data, model = prepared(config, shape(), torch.float32), network(config, torch.float32)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    (tmp_path / "c.json").write_text(json.dumps(asdict(config)))
    again = GEMCNN(GEMCNNConfig(**json.loads((tmp_path / "c.json").read_text()))).eval()
    again.load_state_dict(torch.load(tmp_path / "w.pt"))
    assert again.config == config
    torch.testing.assert_close(again(data), model(data))


def test_published_networks():
    direct = GEMCNNConfig.faust_direct(num_vertices=162)
    model = GEMCNN(direct)
    assert [str(b.types_out) for b in model.down[0].blocks] == ["16x0+16x1+16x2"] * 3
    assert (direct.samples, direct.act, direct.rings) == (7, "relu", 2)
    data = MeshGauge()(shape(level=2))
    data = data.apply(lambda t: t.float() if t.is_floating_point() else t)
    data.x = data.pos
    assert model(data).shape == (162, 162)
    unet = GEMCNNConfig.faust_unet(num_vertices=50, cutoff=(0.6, 1.0, 2.0))
    data = GaugeFeatures("matrix")(MultiScale(ratios=(0.25, 0.25))(shape(level=2)))
    assert data.types == unet.types_in
    assert GEMCNN(unet).double()(data).shape == (162, 50)


def test_the_published_non_linearity_misses_the_gauge_error_by_far():
    config = GEMCNNConfig(TYPES, "5x0", channels=8, act="relu", samples=7)
    data, model = prepared(config, shape(), torch.float64), network(config, torch.float64)
    assert relative(model(GaugeRandomize(TYPES)(data.clone())), model(data)) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "edge"}, "task must be one of"),
        ({"layer": "mlp"}, "layer must be one of"),
        ({"types_in": "3x0e"}, "parity"),
        ({"types_out": "1x1", "task": "graph"}, "frame of a node"),
        ({"num_blocks": 0}, "at least 1"),
        ({"channels": 0}, "channels must be at least 1"),
        ({"num_levels": 2, "cutoff": (1.0, 2.0, 3.0)}, "one per level"),
    ],
)
def test_bad_configs(options, message):
    with pytest.raises(ValueError, match=message):
        GEMCNNConfig(**{"types_in": "3x0", "types_out": "2x0", **options})


def test_bad_data():
    config = CONFIGS["U-Net"]
    data, model = prepared(config, shape(), torch.float64), network(config, torch.float64)
    plain = prepared(CONFIGS["node"], shape(), torch.float64)
    with pytest.raises(ValueError, match="apply transforms.MultiScale"):
        model(plain)
    with pytest.raises(ValueError, match="apply transforms.MeshGauge"):
        network(CONFIGS["node"], torch.float64)(Data(x=plain.x))
    data.x = None
    with pytest.raises(ValueError, match="GaugeFeatures"):
        model(data)
    data.x = torch.zeros(42, 3)
    with pytest.raises(ValueError, match="types_in of the config is 2x0"):
        model(data)
