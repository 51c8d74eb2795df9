"""Winds: the map is the right way round, vectors survive poles and rotations, no forecast sees the future."""

import math

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from geomeq import groups, spheres
from geomeq.datasets import SharedGraphLoader, Winds, _wind_grid, list_bundled, verify_bundled
from geomeq.transforms import SphereGauge


def point(latitude, longitude):
    a, b = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)], -1)


def components(vectors, points):
    """East and north of vectors of space."""
    x, y, _ = points.T
    east = np.stack([-y, x, 0 * x], -1) / np.hypot(x, y)[:, None]
    return np.stack([(vectors * east).sum(-1), (vectors * np.cross(points, east)).sum(-1)], 1)


def globe(dtype=torch.float64, **options):
    return SphereGauge(cutoff=0.6, **options)(spheres.fibonacci(300).to_data(dtype))


def test_the_bundled_file_is_whole():
    (verdict,) = [verdict for verdict in verify_bundled() if verdict.file.name == "winds/winds.npz"]
    assert verdict.ok
    assert sum(file.name.startswith("winds") for file in list_bundled()) == 1
    winds = _wind_grid.read_winds()
    assert winds.shape == (132, 2, 35, 72)
    assert np.isfinite(winds).all()
    assert 15 < np.abs(winds).max() < 30


def test_winds_blow_where_they_blow():
    mean = _wind_grid.read_winds().mean(axis=(0, 3))  # component, latitude
    latitude = 85 - 5 * np.arange(35)
    assert mean[0, latitude == -50] > 6  # westerlies of the southern ocean
    assert mean[0, latitude == 15] < -2  # trades
    assert mean[1, latitude == -15] > 0.5 > -0.5 > mean[1, latitude == 15]  # both towards the equator
    monsoon = _wind_grid.read_winds()[:, :, latitude == 10, 12][:, :, 0]  # Arabian sea, 60 east
    assert monsoon[6::12, 0].mean() > 5 > -3 > monsoon[0::12, 0].mean()  # July against January


def test_values_at_grid_points_and_between():
    winds = _wind_grid.read_winds()
    latitude, longitude = np.meshgrid(85 - 5 * np.arange(35), 5 * np.arange(72), indexing="ij")
    points = point(latitude.ravel(), longitude.ravel())
    got = components(_wind_grid.wind_at(points), points)
    np.testing.assert_allclose(got.reshape(132, 2, 35, 72), winds, atol=1e-9)
    middle = point(np.array([0.0, 0.0]), np.array([2.5, -2.5]))
    got = components(_wind_grid.wind_at(middle), middle)
    np.testing.assert_allclose(got[:, 1], (winds[:, 1, 17][:, [0, 0]] + winds[:, 1, 17][:, [1, 71]]) / 2, atol=1e-9)


def test_winds_are_tangent_and_continuous_over_the_poles():
    for sign in (1, -1):
        near = _wind_grid.wind_at(point(np.full(9, sign * (90 - 1e-7)), np.linspace(0, 360, 9)))
        np.testing.assert_allclose(near, near[:, :1].repeat(9, 1), atol=1e-5)
        exact = _wind_grid.wind_at(np.array([[0.0, 0.0, sign], [-0.0, 0.0, sign]]))
        np.testing.assert_allclose(exact, near[:, :2], atol=1e-5)
        assert np.abs(exact[..., 2]).max() == 0
    points = groups.S2.random(50, seed=0).numpy()
    assert np.abs((_wind_grid.wind_at(points) * points).sum(-1)).max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_inputs_and_targets_are_what_they_say(dtype):
    graph = globe(dtype)
    data = Winds(graph, "test", history=2, climatology=True)
    assert data.types_in == "4x0+6x1"
    assert data.x.dtype == data.y.dtype == dtype
    wind = torch.from_numpy(_wind_grid.wind_at(graph.pos.double().numpy()))
    wind = torch.einsum("nak,tnk->tna", graph.frame[:, :2].double(), wind) / 5
    tol = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 1e-5}
    torch.testing.assert_close(data.y.double(), wind[108:], **tol)
    torch.testing.assert_close(data.x[..., 4:6].double(), wind[107:131], **tol)
    torch.testing.assert_close(data.x[..., 6:8].double(), wind[106:130], **tol)
    torch.testing.assert_close(data.x[..., 2].double(), graph.pos[:, 2].double().expand(24, -1), **tol)
    north = torch.einsum("nak,k->na", graph.frame[:, :2], torch.tensor([0, 0, 1.0], dtype=dtype))
    torch.testing.assert_close(data.x[..., 8:10].double(), north.double().expand(24, -1, -1), **tol)
    normal = torch.stack([wind[m:96:12].mean(0) for m in range(12)])
    torch.testing.assert_close(data.x[..., 10:12].double(), normal[torch.arange(24) % 12], **tol)
    torch.testing.assert_close(data.x[..., 12:14].double(), normal[torch.arange(-1, 23) % 12], **tol)
    torch.testing.assert_close(data.climatology().double(), normal[torch.arange(24) % 12], **tol)
    torch.testing.assert_close(data.persistence().double(), wind[107:131], **tol)
    assert (int(data.year[0]), int(data.month[0])) == (1991, 0)


def test_splits_follow_time_and_do_not_overlap():
    months = [list(zip(d.year.tolist(), d.month.tolist(), strict=True)) for d in map(_split, ("train", "val", "test"))]
    assert months[0][0] == (1982, 3)
    assert months[0][-1] == (1989, 11)
    assert [len(part) for part in months] == [93, 12, 24]
    every = [*months[0], *months[1], *months[2]]
    assert every == sorted(set(every))


def _split(name):
    return Winds(globe(), name)


def test_inputs_do_not_depend_on_targets_or_what_follows(monkeypatch):
    before = {name: Winds(globe(), name, climatology=True) for name in ("train", "test")}
    changed = _wind_grid.wind_at
    monkeypatch.setattr(_wind_grid, "wind_at", lambda points: _bump(changed(points), 120))
    after = Winds(globe(), "test", climatology=True)
    assert torch.equal(after.x[:13], before["test"].x[:13])  # up to the target of January 1992 itself
    assert not torch.equal(after.x[13], before["test"].x[13])
    monkeypatch.setattr(_wind_grid, "wind_at", lambda points: _bump(changed(points), 50))
    train = Winds(globe(), "train", climatology=True)
    torch.testing.assert_close(train.x[47], before["train"].x[47], rtol=0, atol=1e-12)  # its target is month 50
    assert not torch.allclose(train.x[47 + 12], before["train"].x[47 + 12])  # whose climatology it belongs to


def _bump(wind, month):
    wind = wind.copy()
    wind[month] += 1
    return wind


def test_other_frames_turn_the_vectors_and_nothing_else():
    plain, turned = globe(), globe(frames="random", seed=4)
    a, b = Winds(plain, "val"), Winds(turned, "val")
    assert torch.equal(a.x[..., :4], b.x[..., :4])
    space = [
        torch.einsum("nak,snva->snvk", g.frame[:, :2], d.x[..., 4:].unflatten(-1, (-1, 2)))
        for g, d in ((plain, a), (turned, b))
    ]
    torch.testing.assert_close(space[0], space[1], rtol=0, atol=1e-12)
    assert not torch.allclose(a.y, b.y, atol=0.1)
    assert a.baselines() == pytest.approx(b.baselines(), rel=1e-12)


def test_a_rotated_globe_on_rotated_nodes_is_the_same():
    graph, rotation = globe(), groups.SO3.random(1, seed=3)[0]
    moved = Data(pos=graph.pos @ rotation.T, area=graph.area, frame=graph.frame @ rotation.T)
    moved = SphereGauge(cutoff=0.6, frames="given")(moved)
    a, b = Winds(graph, "val", climatology=True), Winds(moved, "val", climatology=True, rotation=rotation)
    torch.testing.assert_close(a.x, b.x, rtol=0, atol=1e-9)
    torch.testing.assert_close(a.y, b.y, rtol=0, atol=1e-9)
    assert not torch.allclose(a.y, Winds(moved, "val").y, atol=0.1)  # the globe was not turned here


def test_baselines():
    data = Winds(split="test")
    scores = data.baselines()
    assert scores["climatology"] < scores["persistence"]
    assert data.rmse(data.anomaly_persistence(0.3)) < scores["climatology"]
    assert data.rmse(data.anomaly_persistence(0.0)) == scores["climatology"]
    assert data.rmse(data.y) == 0
    off = data.y.clone()
    off[..., 0] += 1
    assert data.rmse(off) == pytest.approx(5.0)


def test_samples_load_on_the_shared_graph():
    data = Winds(globe(torch.float32), "val", places=False)
    assert data.types_in == "2x0+3x1"
    batch = next(iter(SharedGraphLoader(data, batch_size=5)))
    assert batch.x.shape == (5, 300, 8)
    assert batch.y.shape == (5, 300, 2)
    assert batch.edge_index is data.graph.edge_index
    assert math.isclose(float(batch.x[0, 0, 0]), 1.0)  # January


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "all"}, "split"),
        ({"history": 0}, "history must be from 1 to 36 months, got 0"),
        ({"history": 1.5}, "history must be"),
        ({"unit": 0.0}, "unit must be a positive speed"),
        ({"rotation": torch.eye(2)}, r"rotation must have shape \[3, 3\]"),
        ({"rotation": -torch.eye(3)}, "must be a rotation matrix"),
        ({"rotation": 2 * torch.eye(3)}, "must be a rotation matrix"),
        ({"graph": Data(pos=torch.eye(3))}, "the graph has no frame, only"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        Winds(**arguments)


def test_a_forecast_of_another_shape():
    with pytest.raises(ValueError, match=r"forecast must have shape \[12, 768, 2\]"):
        Winds(split="val").rmse(torch.zeros(12, 768, 3))


def test_the_climatology_of_a_year_ago_does_not_hold_the_target(monkeypatch):
    graph = globe()
    before = Winds(graph, history=24, places=False, climatology=True)
    given = _wind_grid.wind_at

    def other(points):
        wind = given(points).copy()
        wind[50] += 3.0  # a month of training
        return wind

    monkeypatch.setattr(_wind_grid, "wind_at", other)
    after = Winds(graph, history=24, places=False, climatology=True)
    sample = 50 - 24
    torch.testing.assert_close(after.signals[sample], before.signals[sample], rtol=0, atol=1e-12)
    assert (after.y[sample] - before.y[sample]).abs().max() > 0.1
    assert (after.signals[sample + 12] - before.signals[sample + 12]).abs().max() > 0.1  # a year later it is known


def test_the_domain_is_the_unit_sphere():
    graph = globe()
    graph.pos = 2 * graph.pos
    with pytest.raises(ValueError, match="unit sphere"):
        Winds(graph)


def test_a_graph_and_a_rotation_are_tensors():
    with pytest.raises(TypeError, match="graph must be a Data"):
        Winds(3)
    with pytest.raises(TypeError, match="rotation must be a torch.Tensor"):
        Winds(globe(), rotation=[1, 0, 0])
