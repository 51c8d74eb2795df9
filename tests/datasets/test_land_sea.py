"""Land and sea: fields on the earth, values between cells, what the inputs give away, and scores by area."""

import math
import re

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from geomeq.datasets import LandSea, _earth, land_mask, topography
from geomeq.groups import SO3, icosphere

CITIES_AND_SEAS = [  # latitude, longitude, land
    (48.5, 2.5, True),  # Paris
    (39.5, 116.5, True),  # Beijing
    (-15.5, -47.5, True),  # Brasilia
    (-25.5, 133.5, True),  # central Australia
    (-85.5, 60.5, True),  # Antarctica
    (86.5, 10.5, False),  # Arctic Ocean
    (0.5, -30.5, False),  # Atlantic
    (-30.5, 80.5, False),  # Indian Ocean
    (0.5, 179.5, False),  # Pacific
]


def point(latitude, longitude):
    a, b = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)], -1)


def grid_points():
    latitude, longitude = np.meshgrid(89.5 - np.arange(180), np.arange(360) - 179.5, indexing="ij")
    return point(latitude, longitude)


def test_the_map_is_the_right_way_round():
    land, height = land_mask(), topography()
    assert land.shape == height.shape == (180, 360)
    for latitude, longitude, expected in CITIES_AND_SEAS:
        row, column = int(89.5 - latitude), int(longitude + 179.5)
        assert bool(land[row, column]) is expected
        assert bool(height[row, column] > 0) is expected
    row, column = np.unravel_index(int(height.argmax()), height.shape)
    assert (89.5 - row, column - 179.5) == pytest.approx((33, 85), abs=8)  # Tibet
    weight = torch.from_numpy(np.cos(_earth.latitudes()))[:, None].expand(180, 360)
    assert float((land * weight).sum() / weight.sum()) == pytest.approx(0.29, abs=0.005)


def test_raw_access_gives_copies():
    land_mask().fill_(False)
    topography().zero_()
    assert land_mask().any()
    assert topography().any()


def test_sampling_gives_cell_values_at_cell_centres():
    field = np.random.RandomState(0).standard_normal((2, 180, 360))
    np.testing.assert_allclose(_earth.sample(field, grid_points()), field, atol=1e-9)


def test_sampling_is_bilinear_between_cells_and_across_the_date_line():
    field = np.random.RandomState(0).standard_normal((1, 180, 360))
    middle = _earth.sample(field, point(np.array([40.0]), np.array([20.0])))[0, 0]
    assert middle == pytest.approx(field[0, 49:51, 199:201].mean(), abs=2e-3)  # bilinear between chords of the rings
    seam = _earth.sample(field, point(np.array([10.5, 10.5]), np.array([180.0, -180.0])))[0]
    np.testing.assert_allclose(seam, field[0, 79, [359, 0]].mean(), atol=2e-3)
    quarter = _earth.sample(field, point(np.array([10.5]), np.array([179.75])))[0, 0]
    assert quarter == pytest.approx(0.75 * field[0, 79, 359] + 0.25 * field[0, 79, 0], abs=2e-3)


def test_sampling_is_continuous_at_the_poles():
    field = np.random.RandomState(0).standard_normal((1, 180, 360))
    longitude = np.linspace(-180, 180, 13)
    for sign, row in ((1, 0), (-1, -1)):
        near = _earth.sample(field, point(np.full(13, sign * (90 - 1e-7)), longitude))[0]
        np.testing.assert_allclose(near, field[0, row].mean(), atol=1e-5)
        exact = _earth.sample(field, np.array([[0.0, 0.0, sign], [-0.0, 0.0, sign]]))[0]
        np.testing.assert_allclose(exact, field[0, row].mean(), atol=1e-12)
        between = _earth.sample(field, point(np.array([sign * 89.75]), np.array([0.5])))[0, 0]
        assert between == pytest.approx((field[0, row].mean() + field[0, row, 180]) / 2)


def test_sampling_a_smooth_function_has_small_error_everywhere():
    def smooth_function(p):
        return p[..., 0] * p[..., 1] + 0.5 * p[..., 2] ** 3 - p[..., 0]

    random = np.random.RandomState(0).standard_normal((5000, 3))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    got = _earth.sample(smooth_function(grid_points())[None], random)[0]
    assert np.abs(got - smooth_function(random)).max() < 3e-4  # h^2 / 8 times second derivatives, h = 1 degree


def test_smoothing_agrees_with_the_sum_over_all_cells():
    field = np.random.RandomState(0).standard_normal((2, 180, 360))
    width, points, area = 0.1, grid_points(), np.cos(_earth.latitudes())[:, None]
    got = _earth.smooth(field, width)
    for row, column in ((0, 0), (1, 200), (57, 359), (90, 17), (179, 120)):
        angle = np.arccos(np.clip(points @ points[row, column], -1, 1))
        weight = np.exp(-0.5 * (angle / width) ** 2) * area
        np.testing.assert_allclose(got[:, row, column], (field * weight).sum((1, 2)) / weight.sum(), atol=1e-6)
    np.testing.assert_allclose(_earth.smooth(np.ones((180, 360)), width), 1, atol=1e-12)


def test_samples_are_views_of_one_earth_turned():
    data = LandSea(level=3, samples=4, noise=0.0, holdout=False)
    pos = icosphere(3).pos
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(data.rotation @ data.rotation.mT, identity.expand(4, 3, 3))
    for s in range(4):
        for latitude, longitude, expected in CITIES_AND_SEAS:
            place = data.rotation[s] @ torch.from_numpy(point(latitude, longitude))
            node = int((pos @ place).argmax())
            if expected is False:  # no island near these; land near coasts is smoothed away
                assert data.y[s, node] == 0
    interior = data.rotation[0] @ torch.from_numpy(point(45.0, 90.0))
    assert data.y[0, int((pos @ interior).argmax())] == 1
    land = torch.tensor([float((data.area * (data.y[s] == 1)).sum()) for s in range(4)]) / (4 * math.pi)
    assert ((land - 0.28).abs() < 0.03).all()


def test_a_symmetry_of_the_icosphere_permutes_the_sample():
    # turning the earth by a symmetry of the nodes gives the same values at permuted nodes
    sphere, turn = icosphere(2), torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    index = (sphere.pos @ turn.T @ sphere.pos.T).argmax(1)
    torch.testing.assert_close(sphere.pos[index], sphere.pos @ turn.T)
    rotation = SO3.random(seed=0)
    fields = _earth.read_earth()[1][None]
    before = _earth.sample(fields, (sphere.pos @ rotation).numpy())[0]
    after = _earth.sample(fields, (sphere.pos @ turn @ rotation).numpy())[0]
    np.testing.assert_allclose(after[index.numpy()], before, rtol=1e-9)


def test_rotations_cover_the_sphere():
    data = LandSea(level=1, samples=2000, holdout=False)
    assert data.rotation.mean(0).abs().max() < 0.06  # Haar: mean 0, standard deviation 1 / sqrt(3)
    torch.testing.assert_close(data.rotation.square().mean(0), torch.full((3, 3), 1 / 3).double(), atol=0.04, rtol=0)


def test_training_and_test_count_different_places():
    train, test, both = (
        LandSea(3, split, 8, holdout=h) for split, h in (("train", True), ("test", True), ("train", False))
    )
    assert torch.equal(train.y[train.y >= 0], both.y[train.y >= 0])
    assert torch.equal(train.x, both.x)
    assert (both.y >= 0).all()
    pos = icosphere(3).pos
    for data, wanted in ((train, False), (test, True)):
        place = torch.einsum("nj,sji->sni", pos, data.rotation)
        sector = torch.floor((torch.rad2deg(torch.atan2(place[..., 1], place[..., 0])) + 180) / 30) % 3 == 2
        assert torch.equal(data.y >= 0, sector == wanted)
    share = float((test.area * (test.y >= 0)).sum()) / 8 / (4 * math.pi)
    assert share == pytest.approx(1 / 3, abs=0.01)
    assert not torch.equal(train.rotation, test.rotation)


def best_of_one_number(value, y):
    """The best F1 of a threshold on one number, either way, equal areas."""
    order = value.argsort()
    hits = torch.cat([torch.zeros(1), (y[order] == 1).cumsum(0)])
    count, total = torch.arange(len(y) + 1), int((y == 1).sum())
    below = 2 * hits / (count + total)
    above = 2 * (total - hits) / (len(y) - count + total)
    return float(torch.maximum(below, above).max())


def test_a_node_by_itself_does_not_tell_its_label():
    data = LandSea(level=3, samples=20, noise=0.0, holdout=False)
    y = data.y.flatten()
    place = torch.einsum("nj,sji->sni", icosphere(3).pos, data.rotation).numpy()
    height = torch.from_numpy(_earth.sample(_earth.read_earth()[1][None], place)[0]).flatten()
    assert best_of_one_number(height, y) > 0.9  # what the task must not give away
    for channel in range(2):
        assert best_of_one_number(data.x[..., channel].flatten(), y) < 0.72
    trivial = best_of_one_number(torch.rand(len(y)), y)  # everything is land
    assert trivial == pytest.approx(0.45, abs=0.03)


def sphere_graph(level, orientations):
    nodes = (10 * 4**level + 2) * orientations
    return Data(pos=torch.zeros(nodes, 3), edge_index=torch.zeros(2, 0).long(), num_orientations=orientations)


@pytest.mark.parametrize("orientations", [1, 4])
def test_on_a_graph_every_orientation_sees_the_relief(orientations):
    data = LandSea(level=2, samples=3)
    lifted = data.on(sphere_graph(2, orientations))
    assert lifted[1].x.shape == (162 * orientations, 2)
    for k in range(orientations):
        assert torch.equal(lifted[1].x[162 * k : 162 * (k + 1)], data.x[1])
    assert torch.equal(lifted[1].y, data.y[1])
    assert lifted.signals.data_ptr() == data.x.data_ptr()
    with pytest.raises(ValueError, match=r"must have the 162 places of an icosphere of level 2, got 642"):
        data.on(sphere_graph(3, orientations))


def test_content_is_seeded():
    one, again, other = (LandSea(2, samples=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.x, again.x)
    assert not torch.equal(one.x, other.x)
    assert one.x.dtype == torch.float32
    assert float(one.area.sum()) == pytest.approx(4 * math.pi)
    assert len(list(one)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 0}, "level must be from 1 (42 nodes) to 6 (40,962 nodes), got 0"),
        ({"split": "valid"}, "split must be one of 'train', 'test', got 'valid'"),
        ({"samples": 0}, "samples must be positive and noise finite"),
        ({"noise": -1.0}, "samples must be positive and noise finite and not negative, got 64 and -1.0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        LandSea(**arguments)
