"""Digits on the sphere: the projection, the same pictures under every rotation and sampling, masks, several items."""

import math

import numpy as np
import pytest
import torch

from geomeq import spheres
from geomeq.datasets import Digits, FashionMNIST, SphericalDigits
from geomeq.datasets.spherical_digits import project
from geomeq.groups import S2


def lift(q):
    """The point of the sphere whose ray from (0, 0, 1.001) meets the plane z = -1 at q, by intersection."""
    origin, on_plane = np.array([0, 0, 1.001]), np.append(q, -1.0)
    d = on_plane - origin
    a, b, c = d @ d, 2 * origin @ d, origin @ origin - 1
    return origin + d * (-b + math.sqrt(b * b - 4 * a * c)) / (2 * a)  # the farther of the two points


def test_the_projection_is_a_ray_from_beyond_the_north_pole():
    for q in ([0.0, 0.0], [1.4, -0.2], [-0.6, 1.49]):
        p = lift(np.array(q))
        assert np.linalg.norm(p) == pytest.approx(1)
        got, seen = project(torch.from_numpy(p)[None])
        np.testing.assert_allclose(got[0].numpy() * 1.5, q, atol=1e-12)
        assert bool(seen)
    got, seen = project(torch.from_numpy(lift(np.array([1.51, 0.0])))[None])
    assert not bool(seen)


def test_the_canvas_lies_in_the_south_and_the_north_pole_is_black():
    points = S2.random(20_000, seed=0)
    _, seen = project(points)
    assert points[seen][:, 2].max() < 0.1
    assert seen[points[:, 2] < -0.5].all()
    poles = torch.tensor([[0, 0, 1], [1e-4, 0, 1], [0, 0, -1]], dtype=torch.float64)
    q, seen = project(poles)
    assert seen.tolist() == [False, False, True]
    assert q[0].abs().max() == 0  # the formula alone shows the middle of the canvas at the north pole
    data = SphericalDigits(spheres.equiangular(33), samples=20)
    assert (data.x.view(20, 33, 64)[:, 0] == 0).all()
    assert (data.x.view(20, 33, 64)[:, -1] > 0).any()


def pixels(size):
    """The points whose rays meet the centres of the pixels of a canvas."""
    centre = 3 * (torch.arange(size, dtype=torch.float64) + 0.5) / size - 1.5
    return torch.from_numpy(np.stack([lift(np.array([c, r])) for r in centre for c in centre]))


@pytest.mark.parametrize(("source", "items"), [("digits", 1), ("fashion", 1), ("digits", 3)])
def test_values_at_the_pixels_are_the_pixels(source, items):
    size = 28 if items == 1 else 60
    s = spheres.scattered(pixels(size), torch.ones(size**2))
    data = SphericalDigits(s, "test", source, "segmentation", items, samples=3)
    torch.testing.assert_close(data.x[..., 0].view(3, size, size), data.canvas, rtol=0, atol=1e-5)
    above = data.canvas.flatten(1) > data.threshold
    assert torch.equal(data.y > 0, above)
    if source == "digits" and items == 1:
        image = Digits("test", size=20, pad=4)
        assert any(torch.equal(data.canvas[0], other) for other in image.images[:, 0])


@pytest.mark.parametrize("items", [1, 2, 4, 5])
def test_several_items_do_not_overlap_and_keep_their_labels(items):
    data = SphericalDigits(spheres.healpix(32), source="fashion", task="segmentation", num_items=items, samples=12)
    images = FashionMNIST().images.sum((1, 2, 3))
    for k in range(12):
        found = set(data.y[k].unique().tolist()) - {0}
        assert found == set((data.labels[k] + 1).tolist())
        total = float(data.canvas[k].sum())
        assert total == pytest.approx(float(_sums(data, k, images)), rel=1e-5)
    assert data.labels.shape == (12, items)


def _sums(data, k, images):
    """The total of the images that were pasted: nothing is hidden by another."""
    order = np.random.RandomState([0, 0]).permutation(len(images))
    items = data.labels.size(1)
    return images[torch.from_numpy(order[k * items : (k + 1) * items])].sum()


def test_rotated_and_unrotated_sets_show_the_same_pictures():
    sets = {r: SphericalDigits(spheres.healpix(16), rotation=r, samples=40, seed=3) for r in ("none", "z", "random")}
    for other in ("z", "random"):
        assert torch.equal(sets[other].labels, sets["none"].labels)
        assert torch.equal(sets[other].canvas, sets["none"].canvas)
        area = sets[other].area
        brightness = (sets[other].x[..., 0] @ area.float()) / (sets["none"].x[..., 0] @ area.float())
        assert (brightness - 1).abs().max() < 0.05
    assert sets["random"].x[:, sets["random"].graph.pos[:, 2] > 0.5].max() > 0.5
    assert sets["none"].x[:, sets["none"].graph.pos[:, 2] > 0.5].max() == 0


def test_rotation_is_exact_on_any_sampling():
    s = spheres.random(300, seed=2)
    turned = SphericalDigits(s.to_data(torch.float64), task="segmentation", rotation="random", samples=3)
    for k in range(3):
        still = SphericalDigits(s.rotated(turned.rotation[k].T).to_data(torch.float64), task="segmentation", samples=3)
        torch.testing.assert_close(turned.x[k], still.x[k], rtol=0, atol=1e-11)
        assert torch.equal(turned.y[k], still.y[k])


def test_items_are_the_right_way_round_from_outside():
    """Seen from below with x to the right, y points down: so do columns and rows."""
    image = SphericalDigits(spheres.healpix(64), samples=1)
    pos, value = image.graph.pos, image.x[0, :, 0]
    right, below = (pos[:, 0] > 0.2) & (value > 0), (pos[:, 1] > 0.2) & (value > 0)
    canvas, middle = image.canvas[0], 14
    columns = canvas[:, middle:].sum() / canvas[:, :middle].sum()
    rows = canvas[middle:].sum() / canvas[:middle].sum()
    seen = value[right].sum() / value[(pos[:, 0] < -0.2)].sum(), value[below].sum() / value[pos[:, 1] < -0.2].sum()
    assert math.copysign(1, float(columns) - 1) == math.copysign(1, float(seen[0]) - 1)
    assert math.copysign(1, float(rows) - 1) == math.copysign(1, float(seen[1]) - 1)


def test_sizes_seeds_and_classes():
    s = spheres.healpix(2)
    assert len(SphericalDigits(s)) == 1_297
    assert len(SphericalDigits(s, "test", "fashion", "segmentation", 4)) == 250
    more = SphericalDigits(s, "test", samples=700)
    assert len(more) == 700
    assert torch.bincount(more.labels[:500, 0]).tolist() == [50] * 10  # every image once before one comes again
    assert SphericalDigits(s, task="segmentation", samples=1).classes[:2] == ("background", "0")
    assert SphericalDigits(s, source="fashion", samples=1).classes[0] == "T-shirt/top"
    assert not torch.equal(SphericalDigits(s, samples=9, seed=1).labels, SphericalDigits(s, samples=9).labels)


def test_the_score_leaves_the_background_out():
    data = SphericalDigits(spheres.gauss_legendre(24), "test", task="segmentation", samples=60)
    assert data.miou(data.y) == 1
    assert data.miou(torch.zeros_like(data.y)) == 0
    half = torch.where(torch.arange(60)[:, None] % 2 == 0, data.y, 0)
    assert 0.3 < data.miou(half) < 0.7
    assert data.miou(half) != data.miou(half, weighted=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "cifar"}, "source must be 'digits' or 'fashion', got 'cifar'"),
        ({"task": "count"}, "task must be 'classification' or 'segmentation'"),
        ({"num_items": 0}, "num_items must be from 1 to 16, got 0"),
        ({"num_items": 2}, "classification needs one item on each sphere, got num_items=2"),
        ({"threshold": 1.5}, "threshold must be a grey value from 0 to 1"),
        ({"samples": -1}, "samples must be a positive number"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        SphericalDigits(spheres.healpix(1), **arguments)
