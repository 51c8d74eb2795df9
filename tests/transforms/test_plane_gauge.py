"""Points and pixels of the plane: edges, polar coordinates, areas, and how they follow a turn."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull, Voronoi
from torch_geometric.data import Batch, Data

from geomeq.transforms import PlaneGauge

DTYPES = [(torch.float32, 2e-6), (torch.float64, 1e-12)]


def cloud(count=40, seed=0, dtype=torch.float64):
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def turned(pos, angle, centre=(0.3, -0.2)):
    c, s = math.cos(angle), math.sin(angle)
    centre = pos.new_tensor(centre, dtype=torch.float64)
    return ((pos.double() - centre) @ torch.tensor([[c, s], [-s, c]], dtype=torch.float64) + centre).to(pos.dtype)


def same_angles(a, b):
    return torch.remainder(a - b + math.pi, 2 * math.pi) - math.pi


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
def test_polar_coordinates_are_those_of_the_source_seen_from_the_target(dtype, tol):
    data = PlaneGauge(0.4)(Data(pos=cloud(dtype=dtype)))
    assert data.polar.dtype == data.area.dtype == data.frame.dtype == dtype
    source, target = data.edge_index
    wanted = data.pos[source] - data.pos[target]
    r, angle = data.polar.unbind(1)
    torch.testing.assert_close(torch.stack([r * angle.cos(), r * angle.sin()], 1), wanted, atol=tol, rtol=0)
    distance = torch.cdist(data.pos, data.pos)
    assert data.num_edges == int((distance <= 0.4).sum()) - 40  # both ways, none lost, no loops
    assert torch.equal(torch.argsort(target * 40 + source), torch.arange(data.num_edges))
    assert data.transport.shape == (data.num_edges,)
    assert not data.transport.any()
    assert torch.equal(data.frame, torch.eye(3, dtype=dtype).repeat(40, 1, 1))
    assert (data.polar[:, 1] > -math.pi).all()


@pytest.mark.parametrize("angle", [0.1, math.pi / 4, 2.0, 3.0, 5.5])
def test_a_turn_of_the_points_adds_its_angle_and_changes_nothing_else(angle):
    data = PlaneGauge(0.4)(Data(pos=cloud()))
    moved = PlaneGauge(0.4)(Data(pos=turned(cloud(), angle)))
    assert torch.equal(moved.edge_index, data.edge_index)
    torch.testing.assert_close(moved.polar[:, 0], data.polar[:, 0], atol=1e-12, rtol=0)
    torch.testing.assert_close(moved.area, data.area, atol=1e-12, rtol=0)
    assert same_angles(moved.polar[:, 1], data.polar[:, 1] + angle).abs().max() < 1e-12
    assert same_angles(moved.polar[:, 1], data.polar[:, 1] - angle).abs().max() > 0.1  # the sign matters


def test_points_in_space_must_lie_in_the_plane():
    flat = torch.nn.functional.pad(cloud(), (0, 1))
    data = PlaneGauge(0.4)(Data(pos=flat))
    assert torch.equal(data.polar, PlaneGauge(0.4)(Data(pos=cloud())).polar)
    flat[3, 2] = 1e-3
    with pytest.raises(ValueError, match="point 3 is at"):
        PlaneGauge(0.4)(Data(pos=flat))


def test_areas_are_those_of_voronoi_cells():
    pos = cloud(200)
    area, cells = PlaneGauge(0.3)(Data(pos=pos)).area, Voronoi(pos.numpy())
    compared = 0
    for i, p in enumerate(pos.numpy()):
        region = cells.regions[cells.point_region[i]]
        corners = cells.vertices[[c for c in region if c >= 0]]
        if -1 not in region and np.linalg.norm(corners - p, axis=1).max() < 0.15:
            assert float(area[i]) == pytest.approx(ConvexHull(corners).volume, abs=1e-12)
            compared += 1
    assert compared > 100


def test_areas_at_the_border_are_clipped_to_a_disc():
    pos, radius = cloud(12, seed=3), 0.15
    area = PlaneGauge(2 * radius)(Data(pos=pos)).area
    line = torch.linspace(-0.2, 1.2, 1401, dtype=torch.float64)
    place = torch.cartesian_prod(line, line)
    distance, nearest = torch.cdist(place, pos).min(1)
    counted = torch.bincount(nearest[distance < radius], minlength=12).double() * 1e-6
    torch.testing.assert_close(area, counted, atol=2e-4, rtol=0)
    assert area.max() < math.pi * radius**2 + 1e-12


def test_areas_of_few_points():
    disc = math.pi * 0.25
    assert PlaneGauge(1.0)(Data(pos=torch.zeros(1, 2).double())).area.tolist() == pytest.approx([disc])
    line = torch.tensor([[0.0, 0], [1, 0], [2, 0], [9, 0]], dtype=torch.float64)  # one touches, one is alone
    assert PlaneGauge(1.0)(Data(pos=line)).area.tolist() == pytest.approx([disc] * 4)
    corners = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0)).double()
    assert float(PlaneGauge(3.0)(Data(pos=corners)).area[4]) == pytest.approx(1.0)  # four cells meet in each corner
    assert PlaneGauge(1.0)(Data(pos=torch.zeros(0, 2))).edge_index.shape == (2, 0)


def test_areas_do_not_depend_on_the_size_of_chunks(monkeypatch):
    wanted = PlaneGauge(0.4)(Data(pos=cloud())).area
    monkeypatch.setattr("geomeq.transforms._voronoi._TRIPLES", 50)
    torch.testing.assert_close(PlaneGauge(0.4)(Data(pos=cloud())).area, wanted, atol=1e-14, rtol=0)


@pytest.mark.parametrize("cutoff", [1.0, 1.5, 2.0, 2.5, 3.6])
def test_grids_are_the_graphs_of_their_points(cutoff):
    pixels = PlaneGauge(cutoff, grid=(6, 5), dtype=torch.float64)(Data())
    points = PlaneGauge(cutoff)(Data(pos=pixels.pos))
    assert torch.equal(pixels.edge_index, points.edge_index)
    torch.testing.assert_close(pixels.polar, points.polar, atol=1e-14, rtol=0)
    assert torch.equal(pixels.area, torch.ones(30).double())
    again = PlaneGauge(cutoff, dtype=torch.float64)(Data(grid=(6, 5)))
    assert torch.equal(again.edge_index, pixels.edge_index)
    assert again.grid == pixels.grid == (6, 5)


def test_pixels_are_where_images_have_them():
    data = PlaneGauge(1.0, grid=(4, 3))(Data())
    assert data.pos[0].tolist() == [-1.5, 1.0]  # the first pixel is on the left, above
    assert data.pos[1].tolist() == [-0.5, 1.0]
    assert data.pos[4].tolist() == [-1.5, 0.0]
    assert data.pos.mean(0).tolist() == [0.0, 0.0]
    square = PlaneGauge(1.0, grid=5, dtype=torch.float64)(Data())
    image = torch.arange(25).view(5, 5)
    came_from = torch.rot90(image, 1, (-2, -1)).flatten()  # which pixel stands at each place now
    torch.testing.assert_close(turned(square.pos, math.pi / 2, (0, 0))[came_from], square.pos, atol=1e-12, rtol=0)
    assert not torch.allclose(turned(square.pos, -math.pi / 2, (0, 0))[came_from], square.pos)


def test_batches_join_no_points_of_different_clouds():
    parts = [Data(pos=cloud(20, seed=1)), Data(pos=cloud(30, seed=2))]
    batch = PlaneGauge(0.4)(Batch.from_data_list([part.clone() for part in parts]))
    alone = Batch.from_data_list([PlaneGauge(0.4)(part) for part in parts])
    for name in ("edge_index", "polar", "area", "frame", "transport"):
        assert torch.equal(batch[name], alone[name])
    assert torch.equal(batch[1].polar, PlaneGauge(0.4)(parts[1]).polar)


def test_given_areas_stay_and_old_edges_go():
    area = torch.rand(40).double()
    data = PlaneGauge(0.4, area="given")(Data(pos=cloud(), area=area, edge_attr=torch.rand(7), shift=torch.rand(7, 3)))
    assert torch.equal(data.area, area)
    assert "edge_attr" not in data
    assert "shift" not in data


@pytest.mark.parametrize("bad", [None, torch.ones(39), -torch.ones(40), torch.full((40,), math.nan)])
def test_bad_areas(bad):
    with pytest.raises(ValueError, match=r"area='given' needs data.area \[40\]"):
        PlaneGauge(0.4, area="given")(Data(pos=cloud(), area=bad))


def test_bad_input():
    with pytest.raises(ValueError, match="cutoff must be positive"):
        PlaneGauge(0.0)
    with pytest.raises(ValueError, match="cutoff must be positive"):
        PlaneGauge(math.nan)
    with pytest.raises(ValueError, match="area must be one of"):
        PlaneGauge(1.0, area="mean")
    for grid in (0, (3, -1), (3, 3, 3), 2.5):
        with pytest.raises(ValueError, match="grid must be a positive integer"):
            PlaneGauge(1.0, grid=grid)
    with pytest.raises(ValueError, match="PlaneGauge reads pos"):
        PlaneGauge(1.0)(Data(x=torch.ones(3)))
    with pytest.raises(ValueError, match=r"pos must be \[N, 2\]"):
        PlaneGauge(1.0)(Data(pos=torch.ones(3, 4)))
    with pytest.raises(ValueError, match="points 1 and 4 coincide"):
        PlaneGauge(0.4)(Data(pos=cloud()[[0, 1, 2, 3, 1]]))
    with pytest.raises(ValueError, match="NaN|finite"):
        PlaneGauge(0.4)(Data(pos=torch.tensor([[0.0, 0.0], [math.nan, 1.0]])))
    with pytest.raises(ValueError, match="a grid is one graph"):
        PlaneGauge(0.4, grid=3)(Batch.from_data_list([Data(pos=cloud())]))
    with pytest.raises(TypeError, match="PlaneGauge needs"):
        PlaneGauge(0.4)(cloud())


def test_repr_names_every_argument():
    shown = "PlaneGauge(cutoff=1.5, grid=(4, 3), area='voronoi', dtype=torch.float64)"
    assert repr(PlaneGauge(1.5, (4, 3), dtype=torch.float64)) == shown
