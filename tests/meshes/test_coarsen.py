"""coarsen: a map onto every coarse vertex, clusters that hang together, surfaces that stay where they were."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from geomeq.groups import random_orthogonal
from geomeq.meshes import clean, coarsen, edge_lengths, euler_characteristic, face_areas, half_edges, inspect, load
from geomeq.neighbors import farthest_points

from ._brute import parts
from ._shapes import REAL, annulus, bow_tie, grid, klein, moebius, real_path, sphere, t_edge, torus, two_parts
from .test_report import soups

METHODS = ["farthest", "quadric"]


def volume(mesh):
    a, b, c = mesh.pos.double()[mesh.face]
    return float((a * torch.linalg.cross(b, c)).sum()) / 6


def check_map(mesh, out):
    fine, coarse = mesh.pos.size(0), out.mesh.pos.size(0)
    assert out.pool_index.shape == (fine,)
    assert out.pool_index.unique().tolist() == list(range(coarse))
    assert out.pool_index[out.centre].tolist() == list(range(coarse))
    assert out.mesh.pos.dtype == mesh.pos.dtype
    if out.mesh.face.numel():
        assert int(out.mesh.face.max()) < coarse


def check_clusters(mesh, out):
    """Every cluster hangs together along edges."""
    same = out.pool_index[mesh.face]
    links = {
        (a, b)
        for f, p in zip(mesh.face.t().tolist(), same.t().tolist(), strict=True)
        for a, b, q, r in ((f[0], f[1], p[0], p[1]), (f[1], f[2], p[1], p[2]), (f[2], f[0], p[2], p[0]))
        if q == r
    }
    label = parts(range(mesh.pos.size(0)), links)
    assert len(set(label.values())) == out.mesh.pos.size(0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "mesh", [sphere(3), torus(24, 12), grid(12, 12), annulus(24, 6), moebius(24, 6), klein(24, 16)]
)
def test_surfaces_keep_topology_and_place(mesh, method, dtype):
    mesh = Data(pos=mesh.pos.to(dtype), face=mesh.face)
    out = coarsen(mesh, 0.3, method)
    check_map(mesh, out)
    check_clusters(mesh, out)
    assert out.mesh.pos.size(0) == math.ceil(0.3 * mesh.pos.size(0))
    report, before = inspect(out.mesh), inspect(mesh)
    assert report.euler_characteristic == before.euler_characteristic
    assert report.boundary_loops == before.boundary_loops
    assert report.orientable == before.orientable
    assert report.nonmanifold_edges == report.nonmanifold_vertices == 0
    area = [float(face_areas(edge_lengths(m.pos, m.face)).sum()) for m in (mesh, out.mesh)]
    assert area[1] == pytest.approx(area[0], rel=0.25 if method == "farthest" else 0.05)


@pytest.mark.parametrize("name", ["spot", "hand", "goathead"])
@pytest.mark.parametrize("method", METHODS)
def test_real_meshes(name, method):
    mesh = load(real_path(name))
    out = coarsen(mesh, 0.25, method)
    check_map(mesh, out)
    check_clusters(mesh, out)
    assert inspect(out.mesh).ok
    assert euler_characteristic(out.mesh.face) == euler_characteristic(mesh.face)
    if name != "hand":
        assert volume(out.mesh) == pytest.approx(volume(mesh), rel=0.1 if method == "farthest" else 0.02)


def test_farthest_points_are_kept_and_clusters_are_nearest_along_edges():
    mesh = torus(16, 8)
    out = coarsen(mesh, 20)
    assert torch.equal(out.centre, farthest_points(mesh.pos, 20))
    assert torch.equal(out.mesh.pos, mesh.pos[out.centre])
    he = half_edges(mesh.face, 128)
    distance = torch.full((128, 128), torch.inf, dtype=torch.float64).fill_diagonal_(0)
    length = (mesh.pos[he.edges[0]] - mesh.pos[he.edges[1]]).norm(dim=1)
    distance[he.edges[0], he.edges[1]] = distance[he.edges[1], he.edges[0]] = length
    for k in range(128):  # Floyd and Warshall
        distance = torch.minimum(distance, distance[:, k : k + 1] + distance[k : k + 1])
    nearest = distance[:, out.centre].amin(dim=1)
    own = distance[torch.arange(128), out.centre[out.pool_index]]
    torch.testing.assert_close(own, nearest)


def test_clusters_do_not_jump_across_a_thin_gap():
    # two sheets 0.1 apart that hang together at one far end only
    top, bottom = grid(3, 30), grid(3, 30)
    bottom.pos[:, 2] = -0.1
    join = torch.tensor([[29, 119, 59, 149], [119, 59, 149, 89], [59, 149, 89, 179]])
    face = torch.cat([top.face, bottom.face.flip(0) + 90, join], dim=1)
    mesh = Data(pos=torch.cat([top.pos, bottom.pos]), face=face)
    out = coarsen(mesh, 30)
    sheet = (torch.arange(180) >= 90).long()
    far = mesh.pos[:, 0] < 20  # away from the join
    assert (sheet[out.centre[out.pool_index]] == sheet)[far].all()
    nearest = torch.cdist(mesh.pos, mesh.pos[out.centre]).argmin(dim=1)
    assert not (sheet[out.centre[nearest]] == sheet)[far].all()  # straight distances do jump


@pytest.mark.parametrize("method", METHODS)
def test_every_part_keeps_a_vertex(method):
    mesh = two_parts()
    out = coarsen(mesh, 0.2, method)
    check_map(mesh, out)
    assert inspect(out.mesh).components == 2
    assert out.mesh.pos[out.pool_index[84]].tolist() == [9, 9, 9]  # the isolated one
    few = coarsen(mesh, 1)
    assert few.mesh.pos.size(0) == 3
    check_clusters(mesh, few)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mesh", [bow_tie(), t_edge(), two_parts(), sphere(0)])
@pytest.mark.parametrize("amount", [1, 3, 0.5, 1.0, 1000])
def test_small_and_bad_meshes_give_a_map(mesh, method, amount):
    out = coarsen(mesh, amount, method)
    check_map(mesh, out)
    assert torch.isfinite(out.mesh.pos).all()
    if amount == 1000 or (isinstance(amount, float) and amount == 1.0):
        assert out.mesh.pos.size(0) == mesh.pos.size(0)


def test_quadrics_keep_flat_sheets_flat_and_sharp_edges_sharp():
    mesh = grid(10, 10)
    out = coarsen(mesh, 0.2, "quadric")
    assert float(out.mesh.pos[:, 2].abs().max()) < 1e-6
    fold = grid(9, 17)
    fold.pos[:, 2] = (fold.pos[:, 0] - 8).abs()
    out = coarsen(fold, 0.2, "quadric")
    assert float((out.mesh.pos[:, 2] - (out.mesh.pos[:, 0] - 8).abs()).abs().max()) < 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_turning_the_mesh_turns_the_result(method):
    mesh = sphere(3)
    mesh.pos = mesh.pos * torch.tensor([1.0, 1.37, 0.71], dtype=torch.float64) + 0.01 * torch.rand(642, 3).double()
    turn = random_orthogonal(seed=5)
    before = coarsen(mesh, 0.25, method)
    after = coarsen(Data(pos=mesh.pos @ turn.T, face=mesh.face), 0.25, method)
    if method == "farthest":
        assert torch.equal(before.pool_index, after.pool_index)
        assert torch.equal(before.mesh.face, after.mesh.face)
    assert abs(volume(after.mesh)) == pytest.approx(abs(volume(before.mesh)), rel=0.01)


def test_bad_input_is_named():
    mesh = grid()
    with pytest.raises(ValueError, match="'farthest', 'quadric', got 'voxel'"):
        coarsen(mesh, 0.5, "voxel")
    for method in METHODS:
        with pytest.raises(ValueError, match="at least 1"):
            coarsen(mesh, 0, method)
        with pytest.raises(ValueError, match=r"\(0, 1\]"):
            coarsen(mesh, 1.5, method)
        with pytest.raises(TypeError, match="an int"):
            coarsen(mesh, "half", method)
        with pytest.raises(ValueError, match="names? a vertex twice"):
            coarsen(Data(pos=mesh.pos, face=torch.tensor([[0], [0], [1]])), 0.5, method)
        with pytest.raises(ValueError, match="row 2 holds"):
            coarsen(Data(pos=mesh.pos.index_fill(0, torch.tensor([2]), torch.nan), face=mesh.face), 0.5, method)
        with pytest.raises(ValueError, match="must have a vertex"):
            coarsen(Data(pos=mesh.pos[:0], face=mesh.face[:, :0]), 0.5, method)


@settings(max_examples=40, deadline=None)
@given(soups, st.sampled_from([0.3, 0.6, 2]), st.sampled_from(METHODS))
def test_random_soups_give_finite_meshes_and_a_map(soup, amount, method):
    points, corners = soup
    mesh = Data(pos=torch.tensor(points), face=torch.tensor(corners, dtype=torch.long).view(-1, 3).t())
    mesh, _ = clean(mesh)
    if mesh.pos.size(0) == 0:
        return
    out = coarsen(mesh, amount, method)
    check_map(mesh, out)
    assert torch.isfinite(out.mesh.pos).all()
    after, before = inspect(out.mesh), inspect(mesh)
    assert after.degenerate_faces == after.duplicate_faces == 0
    if method == "quadric":  # no collapse changes the topology, whatever else is wrong with the mesh
        assert after.euler_characteristic == before.euler_characteristic
        assert after.boundary_loops == before.boundary_loops
        assert after.components == before.components
        assert after.nonmanifold_edges == before.nonmanifold_edges


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_quadrics_keep_the_topology_of_every_mesh_of_the_set(name):
    mesh = load(real_path(name))
    out = coarsen(mesh, 0.25, "quadric")
    check_map(mesh, out)
    report = inspect(out.mesh)
    assert report.ok
    assert report.vertices == math.ceil(0.25 * mesh.pos.size(0))
    assert (report.euler_characteristic, report.boundary_loops) == (REAL[name][0], int(REAL[name][1] > 0))
