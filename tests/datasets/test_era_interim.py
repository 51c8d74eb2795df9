"""Winds and heights: right places and signs, winds that follow the contours, frames and rotations."""

import math

import numpy as np
import pytest
import torch

from geomeq import spheres
from geomeq.datasets import EraInterim

real = pytest.mark.usefixtures("sphere_data")


def still(s, **arguments):
    return EraInterim(s, rotation="none", rotations=1, holdout=False, **arguments)


def ring(latitude, count=90):
    lon = np.linspace(-np.pi, np.pi, count, endpoint=False)
    lat = np.radians(latitude)
    pos = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.full(count, np.sin(lat))], -1)
    return spheres.scattered(torch.from_numpy(pos), torch.full((count,), 4 * math.pi / count))


@real
def test_heights_and_winds_are_plausible():
    data = still(ring(35))
    assert data.month.tolist() == [1, 7]
    assert data.height.shape == (2, 90, 3)
    assert data.wind.shape == (2, 90, 3, 2)
    height = data.height.mean(1)
    assert 11_000 < height[0, 0] < height[1, 0] < 13_000  # 200 hPa, higher in summer
    assert 1_300 < height[0, 2] < 1_700
    east = data.wind[..., 1].mean(1)
    assert east[0, 0] > 25 > 5 < east[1, 0]  # the jet of January
    trades = still(ring(-15)).wind[..., 2, 1].mean()
    assert trades < -2  # from the east
    torch.testing.assert_close(data.y * 10, data.wind[:, :, 1])
    assert torch.equal(still(ring(35), level=200, unit=1.0).y, data.wind[:, :, 0])


@real
def test_winds_follow_the_contours_to_the_left_of_the_low():
    """The geostrophic balance in the middle latitudes of both hemispheres, by differences along a meridian."""
    for latitude in (45, -45):
        north, here, south = (still(ring(latitude + d)) for d in (1.5, 0.0, -1.5))
        slope = (north.height - south.height)[..., 1] / (2 * np.radians(1.5) * 6.371e6)
        coriolis = 2 * 7.2921e-5 * math.sin(math.radians(latitude))
        east = -9.80665 / coriolis * slope
        got = here.wind[..., 1, 1]
        assert torch.corrcoef(torch.stack([east.flatten(), got.flatten()]))[0, 1] > 0.97
        assert float((east - got).abs().mean()) < 0.25 * float(got.abs().mean())


@real
def test_winds_survive_the_poles():
    near = still(ring(89.9))
    frame = near.graph.frame
    vectors = torch.einsum("nak,mna->mnk", frame[:, :2], near.wind[:, :, 1])
    assert (vectors - vectors.mean(1, keepdim=True)).abs().max() < 0.4  # one vector, seen from all sides
    assert near.wind[0, :, 1].std(0).min() > 0.3  # whose components are not one
    pole = still(spheres.scattered(torch.tensor([[0.0, 0, 1], [0, 0, -1], [1, 0, 0]]), torch.ones(3)))
    torch.testing.assert_close(pole.wind[:, 0, 1].norm(dim=-1), vectors.mean(1).norm(dim=-1), rtol=0, atol=0.1)


@pytest.mark.usefixtures("made_sphere_data")
def test_a_rotating_atmosphere_is_found_everywhere():
    """Winds of rigid rotation, of which each month and level has a multiple, on a turned globe."""
    graph = spheres.equiangular(31).to_data(torch.float64)
    data = EraInterim(graph, rotation="random", rotations=2, level=200, unit=1.0)
    axis = data.rotation @ torch.tensor([3.0, -2.0, 10.0], dtype=torch.float64)  # turned along
    expected = torch.linalg.cross(axis[:, None].expand(-1, graph.num_nodes, -1), graph.pos.expand(4, -1, -1))
    scale = torch.tensor([1.0, 4.0, 1.0, 4.0], dtype=torch.float64)[:, None, None]
    components = torch.einsum("nak,snk->sna", data.graph.frame[:, :2], scale * expected)
    torch.testing.assert_close(data.y, components, rtol=0, atol=0.02)
    assert data.graph.frame[:, 2].allclose(graph.pos)
    place = torch.einsum("nj,sji->sni", graph.pos, data.rotation)
    height = 5_000 + 100 * place[..., 0] * place[..., 1] - 300 * place[..., 2] ** 2
    torch.testing.assert_close(data.height[..., 0], scale[..., 0] * height, rtol=0, atol=1.0)
    torch.testing.assert_close(data.x[..., 3], place[..., 2])


@pytest.mark.usefixtures("made_sphere_data")
def test_frames_turn_the_components_only():
    s = spheres.fibonacci(200)
    plain, turned = (spheres.sphere_graph(s, cutoff=0.5, frames=f, dtype=torch.float64) for f in ("meridian", "random"))
    a, b = still(plain), still(turned)
    assert torch.equal(a.x, b.x)
    assert not torch.allclose(a.y, b.y, atol=0.1)
    space = [torch.einsum("nak,sna->snk", d.graph.frame[:, :2], d.y) for d in (a, b)]
    torch.testing.assert_close(*space, rtol=0, atol=1e-10)
    assert a.rmse(torch.zeros_like(a.y)) == pytest.approx(b.rmse(torch.zeros_like(b.y)))


@real
def test_inputs_are_normalised_and_the_score_is_in_metres_per_second():
    data = still(spheres.healpix(16))
    mean, square = data.x[..., :3].mean((0, 1)), data.x[..., :3].square().mean((0, 1))
    torch.testing.assert_close(mean, torch.zeros(3), rtol=0, atol=2e-3)
    torch.testing.assert_close(square, torch.ones(3), rtol=0, atol=2e-2)
    torch.testing.assert_close(data.x[0, :, 3], data.graph.pos[:, 2], rtol=0, atol=1e-6)
    assert data.rmse(data.y + torch.tensor([0.3, 0.4])) == pytest.approx(5.0, rel=1e-5)


@pytest.mark.usefixtures("made_sphere_data")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"level": 300}, "level must be 200, 500 or 850 hPa, got 300"), ({"unit": 0.0}, "unit must be a positive speed")],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        EraInterim(spheres.healpix(1), **arguments)
