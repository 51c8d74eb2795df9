"""MultiScale: levels, assignment and transport on meshes, planes and spheres; batches; what moves and what not."""

import math

import pytest
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from geomeq import spheres
from geomeq.groups import wrap_angle
from geomeq.meshes import project, projected_transport
from geomeq.nn import GaugePool, GaugeUnpool
from geomeq.transforms import (
    CutoffGraph,
    GaugeRandomize,
    MeshGauge,
    MultiScale,
    MultiScaleData,
    PlaneGauge,
    SphereGauge,
)

from ..meshes._shapes import F64, bow_tie, grid, sphere, torus, two_parts
from .test_mesh_gauge import bumpy, moved

GAUGES = [MeshGauge(), MeshGauge(rings=2), MeshGauge(radius=0.5), MeshGauge("projected")]
KEYS = ("pos", "edge_index", "polar", "transport", "area", "frame", "radius", "pool_index", "pool_transport")


def lengths(mesh):
    """Shortest paths along edges between all vertices."""
    num, (j, i) = mesh.num_nodes, mesh.edge_index.numpy()
    return torch.from_numpy(dijkstra(csr_array((mesh.polar[:, 0].double().numpy(), (i, j)), shape=(num, num))))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("gauge", GAUGES, ids=str)
def test_levels_have_the_contract(gauge, dtype):
    mesh = bumpy(dtype)
    data = MultiScale((0.25, 0.3), gauge)(mesh)
    fine = gauge(mesh)
    assert isinstance(data, MultiScaleData)
    assert data.num_levels == 3
    level = data.level(0)
    for key in ("edge_index", "polar", "transport", "area", "frame", "pos"):
        assert torch.equal(level[key], fine[key])
    assert set(level.keys()) == set(fine.keys())
    assert [data.level(k).num_nodes for k in range(3)] == [162, 41, 13]
    for k in (1, 2):
        below, level = data.level(k - 1), data.level(k)
        num, (j, i) = level.num_nodes, level.edge_index
        assert set(level.keys()) == set(KEYS)
        for key in ("pos", "polar", "transport", "area", "frame", "pool_transport"):
            assert level[key].dtype == dtype
        key = i * num + j
        assert bool((key[1:] > key[:-1]).all())
        assert torch.equal((j * num + i).sort().values, key)
        assert bool((i != j).all())
        assert float(level.polar[:, 0].max()) <= float(level.radius) * 1.001
        assert level.pool_index.shape == level.pool_transport.shape == (below.num_nodes,)
        assert torch.equal(level.pool_index.unique(), torch.arange(num))
        own = torch.cdist(level.pos.double(), below.pos.double()).argmin(dim=1)
        assert torch.equal(level.pool_index[own], torch.arange(num))  # a coarse node stands for itself
        assert float(level.pool_transport[own].abs().max()) < 1e-6
        assert torch.equal(level.frame, below.frame[own])
        area = torch.zeros(num, dtype=dtype).index_add_(0, level.pool_index, below.area)
        torch.testing.assert_close(level.area, area)
    with pytest.raises(IndexError, match="levels run from 0 to 2, got 3"):
        data.level(3)


def test_nearest_along_the_surface_not_through_space():
    # a sheet folded over: its two halves lie 0.05 apart
    sheet = grid(5, 21)
    x, y, _ = sheet.pos.t()
    fold = Data(pos=torch.stack([(x - 10).abs(), y, 0.05 * (x > 10)], dim=1), face=sheet.face)
    data = MultiScale((0.2,))(fold)
    level, path = data.level(1), lengths(data.level(0))
    nodes = torch.cdist(level.pos, fold.pos).argmin(dim=1)
    reached = path[torch.arange(105), nodes[level.pool_index]]
    torch.testing.assert_close(reached, path[:, nodes].min(dim=1).values)
    in_space = torch.cdist(fold.pos, level.pos).argmin(dim=1)
    assert float((path[torch.arange(105), nodes[in_space]] - reached).max()) > 2  # what a k-d tree would do
    j, i = level.edge_index
    far = path[nodes[j], nodes[i]]
    assert bool((level.polar[:, 0] > 0.5 * far).all())


@pytest.mark.parametrize("gauge", GAUGES, ids=str)
def test_on_a_sphere_pooling_carries_vectors_along_great_circles(gauge):
    mesh = sphere(3)
    data = MultiScale((0.25, 0.25), gauge)(mesh)
    for k in (1, 2):
        below, level = data.level(k - 1), data.level(k)
        exact = projected_transport(below.frame, level.frame[level.pool_index])
        worst = float(wrap_angle(level.pool_transport - exact).abs().max())
        assert worst < (0.03 if k == 1 else 0.15)
        assert float(wrap_angle(level.pool_transport + exact).abs().max()) > 1
        flat = project(level.pos, level.frame, level.edge_index)
        assert float(wrap_angle(level.transport - flat.transport).abs().max()) < 0.3
        assert float(wrap_angle(level.polar[:, 1] - flat.polar[:, 1]).abs().max()) < 0.3


def test_on_a_plane_everything_is_exact():
    sheet = grid(9, 9)
    data = MultiScale((0.25,), MeshGauge())(sheet)
    fine, coarse = data.level(0), data.level(1)
    exact = project(coarse.pos, coarse.frame, coarse.edge_index)
    torch.testing.assert_close(coarse.polar[:, 0], exact.polar[:, 0])
    assert float(wrap_angle(coarse.polar[:, 1] - exact.polar[:, 1]).abs().max()) < 1e-9
    pooled = projected_transport(fine.frame, coarse.frame[coarse.pool_index])
    assert float(wrap_angle(coarse.pool_transport - pooled).abs().max()) < 1e-9
    # a constant field of the plane stays constant when pooled and comes back
    v = torch.tensor([1.0, 2.0, 0.0], dtype=F64)
    x = fine.frame[:, :2] @ v
    up = GaugePool("1x1")(x, coarse.pool_index, coarse.pool_transport, coarse.num_nodes)
    torch.testing.assert_close(up, coarse.frame[:, :2] @ v)
    back = GaugeUnpool("1x1")(up, coarse.pool_index, coarse.pool_transport)
    torch.testing.assert_close(back, x)


@pytest.mark.parametrize("gauge", GAUGES, ids=str)
def test_motions_and_frames_do_not_matter(gauge):
    transform = MultiScale((0.3, 0.3), gauge)
    mesh = bumpy()
    other, turn = moved(mesh)
    a, b = transform(mesh), transform(other)
    for k in (1, 2):
        for key in ("edge_index", "pool_index"):
            assert torch.equal(a[f"{key}_{k}"], b[f"{key}_{k}"])
        torch.testing.assert_close(a[f"polar_{k}"], b[f"polar_{k}"], atol=1e-9, rtol=0)
        assert float(wrap_angle(a[f"transport_{k}"] - b[f"transport_{k}"]).abs().max()) < 1e-9
        assert float(wrap_angle(a[f"pool_transport_{k}"] - b[f"pool_transport_{k}"]).abs().max()) < 1e-9
        torch.testing.assert_close(a[f"frame_{k}"] @ turn.T, b[f"frame_{k}"])


def test_pieces_keep_their_nodes_and_never_mix():
    data = MultiScale((0.05, 0.5))(two_parts())
    for k in (1, 2):
        below, level = data.level(k - 1), data.level(k)
        side, coarse = below.pos[:, 0] > 3, level.pos[:, 0] > 3
        assert torch.equal(coarse[level.pool_index], side)
    assert data.level(2).num_nodes >= 3  # two spheres and an isolated vertex
    fallen = MultiScale((0.5,), MeshGauge(fallback="projected"))(bow_tie())
    assert fallen.num_levels == 2


def test_all_vertices_at_one_place():
    mesh = sphere(1)
    mesh.pos = 0 * mesh.pos
    data = MultiScale((0.5, 0.5))(mesh)
    for k in (1, 2):
        level = data.level(k)
        assert bool((level.pool_index >= 0).all() and (level.pool_index < level.num_nodes).all())
        assert bool(torch.isfinite(level.polar).all() and torch.isfinite(level.pool_transport).all())


@pytest.mark.parametrize("frames", ["meridian", "random", "given"])
def test_spheres(frames):
    points = spheres.fibonacci(400).to_data(F64)
    if frames == "given":
        points.frame = SphereGauge(cutoff=0.4, frames="random", seed=5)(points).frame
    data = MultiScale((0.25, 0.3), SphereGauge(cutoff=0.25, frames=frames))(points)
    assert [data.level(k).num_nodes for k in range(3)] == [400, 100, 30]
    assert float(data.radius_1) == pytest.approx(0.5)
    for k in (1, 2):
        below, level = data.level(k - 1), data.level(k)
        nearest = torch.cdist(below.pos, level.pos).argmin(dim=1)
        assert torch.equal(level.pool_index, nearest)
        exact = projected_transport(below.frame, level.frame[nearest])
        assert float(wrap_angle(level.pool_transport - exact).abs().max()) < 1e-9
        assert float(level.area.sum()) == pytest.approx(4 * math.pi)
        own = torch.cdist(level.pos, below.pos).argmin(dim=1)
        torch.testing.assert_close(level.frame, below.frame[own])
        again = SphereGauge(cutoff=float(level.radius), frames="given")(Data(pos=level.pos, frame=level.frame))
        assert torch.equal(level.edge_index, again.edge_index)
        assert float(wrap_angle(level.polar[:, 1] - again.polar[:, 1]).abs().max()) < 1e-9


@pytest.mark.parametrize("data", [Data(), Data(pos=torch.rand(64, 2, dtype=F64) * 8)])
def test_planes(data):
    gauge = PlaneGauge(cutoff=1.5, grid=8 if data.pos is None else None)
    out = MultiScale((0.25,), gauge)(data)
    level = out.level(1)
    assert level.num_nodes == 16
    assert float(level.transport.abs().max()) == float(level.pool_transport.abs().max()) == 0
    j, i = level.edge_index
    step = level.pos[j] - level.pos[i]
    torch.testing.assert_close(level.polar[:, 1].cos() * level.polar[:, 0], step[:, 0])
    torch.testing.assert_close(level.polar[:, 1].sin() * level.polar[:, 0], step[:, 1])
    torch.testing.assert_close(level.area.sum(), out.area.sum())
    assert float(level.radius) == pytest.approx(3.0)


def test_points_with_normals():
    mesh = bumpy()
    points = Data(pos=mesh.pos, normal=MeshGauge()(mesh).frame[:, 2])
    data = MultiScale((0.25,), MeshGauge("projected", knn=6))(points)
    assert "area_1" not in data
    exact = projected_transport(data.frame, data.frame_1[data.pool_index_1])
    torch.testing.assert_close(data.pool_transport_1, exact)
    degree = torch.bincount(data.edge_index_1[1], minlength=41)
    assert 4 < float(degree.double().mean()) < 16


def test_batches_are_their_parts():
    transform = MultiScale((0.3, 0.3))
    meshes = [bumpy(torch.float32), torus(9, 7, dtype=torch.float32), two_parts(torch.float32)]
    parts = [transform(mesh) for mesh in meshes]
    batch = next(iter(DataLoader(parts, batch_size=3)))
    assert batch.num_levels == 3
    for made, part in zip(batch.to_data_list(), parts, strict=True):
        assert set(made.keys()) == set(part.keys())
        assert all(torch.equal(made[key], part[key]) for key in part.keys())  # noqa: SIM118
    for k in range(3):
        level = batch.level(k)
        counts = torch.tensor([part.level(k).num_nodes for part in parts])
        assert torch.equal(torch.bincount(level.batch), counts)
        assert torch.equal(level.batch[level.edge_index[0]], level.batch[level.edge_index[1]])
        if k:
            assert torch.equal(level.batch[level.pool_index], batch.level(k - 1).batch)
        first = level.edge_index[:, level.edge_index[0] < counts[0]]
        assert torch.equal(first, parts[0].level(k).edge_index)
        second = level.edge_index[:, level.batch[level.edge_index[0]] == 1] - counts[0]
        assert torch.equal(second, parts[1].level(k).edge_index)
    joint = transform(Batch.from_data_list(meshes))
    assert torch.equal(joint.edge_index_2, batch.edge_index_2)
    assert torch.equal(joint.pool_index_1, batch.pool_index_1)
    turned = GaugeRandomize(seed=0)(batch)
    assert not torch.equal(turned.pool_transport_1, batch.pool_transport_1)


def test_radii_can_be_given():
    data = MultiScale((0.25, 0.25), MeshGauge(), radii=(0.5, 0.9))(sphere(3))
    assert [float(data[f"radius_{k}"]) for k in (1, 2)] == [0.5, 0.9]
    path = project(data.pos_1, data.frame_1, data.edge_index_1).polar[:, 0]
    assert float(path.max()) <= 0.5
    default = MultiScale((0.25,), MeshGauge(radius=0.3))(sphere(3))
    assert float(default.radius_1) == pytest.approx(0.6, rel=0.01)


def test_vector_heat_levels():
    pytest.importorskip("potpourri3d")
    data = MultiScale((0.2,), MeshGauge("vector_heat"))(sphere(3))
    flat = project(data.pos_1, data.frame_1, data.edge_index_1)
    assert float(wrap_angle(data.transport_1 - flat.transport).abs().max()) < 0.01
    paths = MultiScale((0.2,), MeshGauge())(sphere(3))
    assert torch.equal(paths.pool_index_1, data.pool_index_1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratios": ()}, "at least one"),
        ({"ratios": (0.5, 1.5)}, r"must lie in \(0, 1\]"),
        ({"ratios": (0.0,)}, r"must lie in \(0, 1\]"),
        ({"ratios": (0.5,), "radii": (0.1, 0.2)}, "radii must be 1 positive lengths"),
        ({"ratios": (0.5,), "radii": (-0.1,)}, "radii must be 1 positive lengths"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiScale(**arguments)


def test_gauges_that_are_none():
    with pytest.raises(ValueError, match=r"CutoffGraph.* wrote no polar and no transport and no frame"):
        MultiScale(gauge=CutoffGraph(1.0))(sphere(1))
    assert repr(MultiScale((0.5,), PlaneGauge(2.0))) == (
        "MultiScale(ratios=(0.5,), gauge=PlaneGauge(cutoff=2.0, grid=None, area='voronoi', dtype=None), radii=None)"
    )
