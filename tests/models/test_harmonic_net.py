"""Harmonic networks on images, points and meshes: what turns do to logits, and what breaks that."""

import json
import math
from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from geomeq.models import HarmonicNet, HarmonicNetConfig
from geomeq.nn import GaugeConv, GaugeConv2d
from geomeq.transforms import GaugeRandomize, MeshGauge, MultiScale, PlaneGauge
from tests.nn._plane_waves import waves

DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-12)]
SMALL = {"channels": (4, 6), "convs": 1, "num_classes": 3}


def settled(model, data):
    """Parameters and running statistics as after training, so that nothing is 0 or 1 by accident."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    model.train()(data)
    return model.eval()


def cloud(count, seed=0):
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turned(pos, angle, centre=(0.3, -0.2)):
    c, s = math.cos(angle), math.sin(angle)
    centre = torch.tensor(centre, dtype=torch.float64)
    return (pos - centre) @ torch.tensor([[c, s], [-s, c]], dtype=torch.float64) + centre


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (9, 9)),
        ({"mask": True}, (9, 8)),
        ({"antialias": True, "norm": "block", "convs": 2, "pool": "mean"}, (8, 12)),
        ({"basis": "hat", "pool": "none", "max_order": 2}, (7, 7)),
    ],
)
def test_logits_do_not_see_quarter_turns_of_images(options, size, dtype, tol):
    images = torch.randn(4, 1, *size, dtype=torch.float64).to(dtype)
    model = settled(HarmonicNet(HarmonicNetConfig(**SMALL | options)).to(dtype), images)
    logits = model(images)
    for k in range(1, 4):
        torch.testing.assert_close(model(images.rot90(k, (-2, -1))), logits, atol=tol, rtol=tol)
    assert (model(images.flip(-1)) - logits).abs().max() > 1e-3  # mirrors are seen
    assert logits.std(0).min() > 1e-3  # and so are images
    plain = nn.Conv2d(1, 18, 5, padding=2, dtype=dtype)  # a first layer that knows no harmonics
    broken = HarmonicNet(HarmonicNetConfig(**SMALL | options)).to(dtype).eval()
    broken.blocks[0].convs[0] = nn.Sequential(plain, nn.Conv2d(18, broken.blocks[0].acts[0].types.dim, 1, dtype=dtype))
    assert (broken(images.rot90(1, (-2, -1))) - broken(images)).abs().max() > 1e-3


def change_of_logits(options, degrees=45, size=33):
    """How much a turn of smooth images about their centre moves logits, relative to their spread."""
    torch.manual_seed(0)
    images = [waves(size, 0.5, math.radians(a)) for a in (0, degrees)]
    line = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    bump = (-(line[:, None] ** 2 + line**2) / 50).exp()
    model = settled(HarmonicNet(HarmonicNetConfig(**options)).double(), images[0] * bump)
    with torch.no_grad():
        still, moved = (model(x * bump) for x in images)
    return float((moved - still).square().mean().sqrt() / (still - still.mean(0)).square().mean().sqrt())


def test_other_turns_of_smooth_images_move_logits_little():
    assert change_of_logits(SMALL | {"mask": True}) < 0.03


def test_seven_layers_and_two_pools_do_not_lose_it_and_the_mask_is_why():
    deep = {"channels": (4, 4, 6), "convs": 2, "num_classes": 3}
    error = change_of_logits(deep | {"mask": True}, size=17)
    assert error < 0.05
    assert change_of_logits(deep, size=17) > 2 * error  # the sides of the square are seen
    assert change_of_logits(deep | {"mask": True}, degrees=90, size=17) < 1e-10


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
@pytest.mark.parametrize("training", [False, True])
def test_logits_of_points_do_not_see_any_turn(training, dtype, tol):
    config = HarmonicNetConfig.graph(0.5, **SMALL, max_order=2)

    def batch(angle):
        points = [turned(cloud(20, seed), angle) for seed in range(4)]
        graphs = [PlaneGauge(0.5)(Data(pos=p, x=torch.ones(20, 1, dtype=dtype))) for p in points]
        for graph in graphs:
            for name in ("polar", "transport", "area"):
                graph[name] = graph[name].to(dtype)
        return Batch.from_data_list(graphs)

    model = settled(HarmonicNet(config).to(dtype), batch(0.0)).train(training)
    wanted = model(batch(0.0))
    for angle in (0.1, math.pi / 4, 2.0, 4.4):
        torch.testing.assert_close(model(batch(angle)), wanted, atol=tol, rtol=tol)
    assert wanted.std(0).min() > 1e-3
    moved = batch(0.0)
    moved.polar[:, 1] *= -1  # mirrored
    assert (model(moved) - wanted).abs().max() > 1e-3
    frames = batch(0.0)
    frames.transport = frames.transport + 0.3  # not the plane: every edge turns
    assert (model(frames) - wanted).abs().max() > 1e-3


def test_levels_of_points_do_not_see_any_turn():
    transform = MultiScale(ratios=(0.3,), gauge=PlaneGauge(0.4))
    logits = []
    model = HarmonicNet(HarmonicNetConfig.graph((0.4, 0.8), **SMALL, pool="levels")).double()
    for angle in (0.0, 0.7, 2.5):
        data = transform(Data(pos=turned(cloud(60), angle), x=torch.ones(60, 1).double()))
        model = settled(model, data) if not logits else model
        logits.append(model(data))
    torch.testing.assert_close(torch.cat(logits[1:]), torch.cat(logits[:1] * 2), atol=1e-12, rtol=1e-12)


def test_features_of_points_turn_with_them():
    graph, moved = (PlaneGauge(0.5)(Data(pos=turned(cloud(30), a))) for a in (0.0, 0.7))
    conv = GaugeConv("1x0", "2x0+2x1+2x2", rings=2, cutoff=0.5).double()
    x = torch.randn(30, 1, dtype=torch.float64)
    still, after = (conv(x, g.edge_index, g.polar, g.transport, g.area) for g in (graph, moved))
    types, angle = conv.types_out, torch.tensor(0.7, dtype=torch.float64)
    torch.testing.assert_close(after, types.rotate(still, angle), atol=1e-12, rtol=0)
    assert (after - types.rotate(still, -angle)).abs().max() > 0.1


@pytest.mark.parametrize("level", ["one", "levels"])
def test_logits_of_meshes_do_not_see_frames(level, icosphere_mesh):
    gauge = MeshGauge()
    pool = "none" if level == "one" else "levels"
    transform = gauge if level == "one" else MultiScale(ratios=(0.3,), gauge=gauge)
    data = transform(icosphere_mesh)
    config = HarmonicNetConfig.graph(2.0, **SMALL, pool=pool, weight="mean")
    data.x = data.pos[:, :1] ** 2
    model = settled(HarmonicNet(config).double(), data)
    wanted = model(data)
    other = GaugeRandomize(types="1x0")(data)
    assert (other.transport - data.transport).abs().max() > 0.1
    torch.testing.assert_close(model(other), wanted, atol=1e-11, rtol=1e-11)
    other.polar = data.polar  # angles in former frames
    assert (model(other) - wanted).abs().max() > 1e-3


@pytest.fixture
def icosphere_mesh():
    from geomeq.groups import icosphere

    sphere = icosphere(2)
    pos = torch.as_tensor(sphere.pos, dtype=torch.float64)
    pos = pos * (1 + 0.2 * pos[:, :1] * pos[:, 1:2])  # not a sphere: nothing is zero by symmetry
    return Data(pos=pos, face=torch.as_tensor(sphere.face))


def test_a_network_of_images_runs_on_points():
    config = HarmonicNetConfig(**SMALL, pool="none")
    images = torch.randn(3, 1, 7, 6, dtype=torch.float64)
    model = settled(HarmonicNet(config).double(), images)
    assert isinstance(model.blocks[0].convs[0], GaugeConv2d)
    graph = HarmonicNet(HarmonicNetConfig.graph(2.5, **SMALL, weight="integral")).double().eval()
    graph.load_state_dict(model.state_dict())
    grid = PlaneGauge(2.5, grid=(6, 7), dtype=torch.float64)(Data())
    logits = []
    for image in images:
        grid.x = image.flatten(1).T
        logits.append(graph(grid))
    torch.testing.assert_close(torch.cat(logits), model(images), atol=1e-12, rtol=1e-12)


def test_a_batch_of_points_equals_its_parts():
    graphs = [PlaneGauge(0.5)(Data(pos=cloud(n, n), x=torch.randn(n, 1).double())) for n in (5, 17, 1)]
    model = settled(HarmonicNet(HarmonicNetConfig.graph(0.5, **SMALL)).double(), Batch.from_data_list(graphs))
    parts = torch.cat([model(g) for g in graphs])
    torch.testing.assert_close(model(Batch.from_data_list(graphs)), parts, atol=1e-12, rtol=0)


def test_the_published_network():
    model = HarmonicNet(HarmonicNetConfig.mnist_rot())
    convs = [m for m in model.modules() if isinstance(m, GaugeConv2d)]
    assert len(convs) == 7
    assert all(c.kernel_size == 5 and c.antialias for c in convs)
    assert [str(c.types_out) for c in convs] == [
        *["8x0+8x1"] * 2,
        *["16x0+16x1"] * 2,
        *["32x0+32x1"] * 2,
        "10x0+10x1",
    ]
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_images_of_zeros_have_finite_gradients():
    for options in ({}, {"antialias": True, "norm": "block"}):
        model = HarmonicNet(HarmonicNetConfig(**SMALL | options))
        images = torch.zeros(2, 1, 8, 8, requires_grad=True)
        model(images).sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in [images, *model.parameters()] if p.grad is not None)


def test_logits_of_pixels_and_nodes():
    images = torch.randn(2, 1, 8, 8)
    assert HarmonicNet(HarmonicNetConfig(**SMALL, readout="none"))(images).shape == (2, 3, 4, 4)
    graph = PlaneGauge(0.5)(Data(pos=cloud(9).float(), x=torch.ones(9, 1)))
    model = HarmonicNet(HarmonicNetConfig.graph(0.5, **SMALL, readout="none"))
    assert model(graph).shape == (9, 3)


def test_a_config_is_plain_and_images_come_in_data():
    config = HarmonicNetConfig.mnist_rot(cutoff=(2.0, 2.5, 2.5))
    again = json.loads(json.dumps(asdict(config)))
    assert HarmonicNetConfig(**again) == config
    model = settled(HarmonicNet(HarmonicNetConfig(**SMALL)), torch.randn(2, 1, 8, 8))
    images = torch.randn(2, 1, 8, 8)
    batch = Batch.from_data_list([Data(image=x[None]) for x in images])
    torch.testing.assert_close(model(batch), model(images))
    torch.testing.assert_close(model(Data(image=images[0])), model(images[:1]))


@pytest.mark.slow
def test_compiled_equals_eager(compiled):
    images = torch.randn(2, 1, 8, 8)
    model = settled(HarmonicNet(HarmonicNetConfig(channels=(2,), convs=1, num_classes=2)), images)
    torch.testing.assert_close(compiled(model)(images), model(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain": "sphere"}, "domain must be one of"),
        ({"norm": "batch"}, "norm must be one of"),
        ({"pool": "max"}, "pool must be one of"),
        ({"pool": "levels"}, "pool='levels' does not go with domain='image'"),
        ({"domain": "graph"}, "pool='antialiased' does not go with domain='graph'"),
        ({"domain": "graph", "pool": "none"}, "domain='graph' needs cutoff"),
        ({"domain": "graph", "pool": "none", "cutoff": 1.0, "mask": True}, "mask=False"),
        ({"cutoff": (1.0, 2.0)}, r"one per block \(3\)"),
        ({"channels": ()}, "channels must hold positive numbers"),
        ({"max_order": -1}, "max_order at least 0"),
    ],
)
def test_bad_configs(options, message):
    with pytest.raises(ValueError, match=message):
        HarmonicNetConfig(**options)


def test_bad_data():
    model = HarmonicNet(HarmonicNetConfig(**SMALL))
    with pytest.raises(ValueError, match="the model has 1 channels in"):
        model(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="data has no image"):
        model(Data(x=torch.zeros(3, 1)))
    points = HarmonicNet(HarmonicNetConfig.graph(0.5, **SMALL))
    with pytest.raises(TypeError, match="reads a Data or Batch"):
        points(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="data has no edge_index; apply transforms.PlaneGauge"):
        points(Data(x=torch.zeros(3, 1)))
    with pytest.raises(ValueError, match=r"data.x must have shape \[N, 1\]"):
        points(PlaneGauge(0.5)(Data(pos=cloud(5), x=torch.zeros(5, 2).double())))
    with pytest.raises(TypeError, match="data.x must be a torch.Tensor"):
        points(PlaneGauge(0.5)(Data(pos=cloud(5))))
    levels = HarmonicNet(HarmonicNetConfig.graph(0.5, **SMALL, pool="levels"))
    with pytest.raises(ValueError, match="data has no level 1; apply transforms.MultiScale"):
        levels(PlaneGauge(0.5)(Data(pos=cloud(5).float(), x=torch.zeros(5, 1))))
