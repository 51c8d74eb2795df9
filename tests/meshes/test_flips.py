"""flip_to_delaunay: the Delaunay property, what flips must leave alone, and planar triangulations by qhull."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from geomeq.meshes import (
    corner_angles,
    cotangent_laplacian,
    edge_lengths,
    euler_characteristic,
    face_areas,
    flip_to_delaunay,
    gaussian_curvature,
    half_edges,
    load,
    mollify,
)

from ._shapes import REAL, annulus, bow_tie, grid, klein, moebius, real_path, sphere, t_edge, torus, two_parts


def angle_sums(face, length, num):
    out = torch.zeros(num, dtype=torch.float64)
    return out.index_add_(0, face.t().reshape(-1), corner_angles(length))


def excess(face, length, num):
    """By how much opposite angles exceed pi, at inner edges that can be told apart."""
    he = half_edges(face, num)
    paired = he.twin >= 0
    opposite = corner_angles(length)[he.prev]
    return (opposite[paired] + opposite[he.twin[paired]] - math.pi), he


def random_plane(points, seed):
    """Points of the plane with a triangulation that is Delaunay for other, stretched coordinates."""
    pos = np.random.default_rng(seed).random((points, 2))
    face = Delaunay(pos * [1.0, 9.0]).simplices.T.copy()
    flat = torch.from_numpy(np.c_[pos, np.zeros(points)])
    face = torch.from_numpy(face.astype(np.int64))
    a, b, c = flat[face]
    up = torch.linalg.cross(b - a, c - a)[:, 2] > 0
    return flat, torch.where(up, face, face[[0, 2, 1]]), pos


def triangles(face):
    return {tuple(sorted(f)) for f in face.t().tolist()}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_in_the_plane_it_gives_the_delaunay_triangulation_of_qhull(seed, dtype, tol):
    pos, face, plane = random_plane(150, seed)
    if dtype == torch.float32:
        pos = pos.float()
        plane = pos[:, :2].double().numpy()
    out, length, flips = flip_to_delaunay(face, edge_lengths(pos, face))
    assert flips > 30
    expected = triangles(torch.from_numpy(Delaunay(plane).simplices.T.astype(np.int64)))
    assert len(triangles(face) ^ expected) > 30
    # slivers along the hull differ: the two triangulations of stretched points may not reach quite the same hull
    assert len(triangles(out) ^ expected) <= 4
    torch.testing.assert_close(length, edge_lengths(pos, out), atol=tol, rtol=0)  # flat: true distances


@pytest.mark.parametrize("name", REAL)
def test_real_meshes_become_delaunay_and_keep_their_geometry(name):
    mesh = load(real_path(name))
    num, before = mesh.pos.size(0), edge_lengths(mesh.pos, mesh.face)
    face, length, flips = flip_to_delaunay(mesh.face, before)
    over, he = excess(face, length, num)
    refused = int((over > 1e-8).sum()) // 2
    assert refused <= 1  # thin spots where the other diagonal is already there
    assert he.is_oriented_manifold
    assert torch.equal(length[he.twin >= 0], length[he.twin[he.twin >= 0]])
    check_geometry(mesh.face, before, face, length, num)
    again, _, more = flip_to_delaunay(face, length)
    assert more == 0
    assert torch.equal(again, face)
    every, exact, all_flips = flip_to_delaunay(mesh.face, before, simple=False)
    check_geometry(mesh.face, before, every, exact, num)
    assert all_flips >= flips
    weights = cotangent_laplacian(every, exact, num).tocoo()
    rim = half_edges(mesh.face, num).boundary_vertex.numpy()  # edges of one triangle cannot be flipped
    inner = (weights.row != weights.col) & ~(rim[weights.row] & rim[weights.col])
    assert weights.data[inner].max() < 1e-6 * abs(weights.data).max()  # no negative weight is left


def check_geometry(face, length, new_face, new_length, num):
    area = face_areas(length).sum()
    torch.testing.assert_close(face_areas(new_length).sum(), area, rtol=1e-10, atol=0)
    torch.testing.assert_close(angle_sums(new_face, new_length, num), angle_sums(face, length, num), atol=1e-7, rtol=0)
    assert new_face.shape == face.shape


@pytest.mark.parametrize("mesh", [sphere(2), grid(5, 5)])
def test_a_delaunay_mesh_stays_as_it_is(mesh):
    length = edge_lengths(mesh.pos, mesh.face)
    face, same, flips = flip_to_delaunay(mesh.face, length)
    assert flips == 0
    assert torch.equal(face, mesh.face)
    assert torch.equal(same, length)


@pytest.mark.parametrize(
    "mesh", [torus(40, 6), annulus(30, 4), moebius(20, 4), klein(), two_parts(), t_edge(), bow_tie()]
)
def test_stretched_shapes_keep_curvature_and_boundary(mesh):
    pos, num = mesh.pos * torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64), mesh.pos.size(0)
    before = edge_lengths(pos, mesh.face)
    face, length, _ = flip_to_delaunay(mesh.face, before)
    torch.testing.assert_close(
        gaussian_curvature(face, length, num), gaussian_curvature(mesh.face, before, num), atol=1e-9, rtol=0
    )
    old, new = half_edges(mesh.face, num), half_edges(face, num)
    assert torch.equal(old.edges[:, old.edge_count != 2], new.edges[:, new.edge_count != 2])
    assert torch.equal(old.edges[:, old.inconsistent_edge], new.edges[:, new.inconsistent_edge])
    assert euler_characteristic(face) == euler_characteristic(mesh.face)


def test_a_flat_tetrahedron_needs_an_edge_that_is_there_already():
    pos = torch.tensor([[-2, 0, 0.1], [2, 0, 0.1], [0, -1, -0.1], [0, 1, -0.1]], dtype=torch.float64)
    face = torch.tensor([[0, 0, 0, 1], [1, 3, 2, 2], [3, 2, 1, 3]])
    before = edge_lengths(pos, face)
    assert half_edges(face, 4).is_oriented_manifold
    exact, length, flips = flip_to_delaunay(face, before, simple=False)
    assert flips == 1
    assert sorted(exact.t().tolist()) == [[0, 2, 3], [0, 3, 2], [1, 2, 3], [1, 3, 2]]  # two edges from 2 to 3
    check_geometry(face, before, exact, length, 4)
    weights = cotangent_laplacian(exact, length, 4)
    weights.setdiag(0)
    assert weights.max() < 1e-12
    same, _, none = flip_to_delaunay(face, before)
    assert none == 0
    assert torch.equal(same, face)
    assert float(excess(face, before, 4)[0].max()) > 1  # and the simple one had to stop short


lengths = st.lists(st.floats(0.0, 1.0), min_size=30, max_size=30)


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(0, 2**20), st.booleans(), st.booleans())
def test_random_lengths_on_random_soups_end_and_keep_areas(values, seed, simple, mollified):
    random = torch.Generator().manual_seed(seed)
    face = torch.stack([torch.randperm(8, generator=random)[:3] for _ in range(20)], dim=1)
    he = half_edges(face, 8)
    per_edge = torch.tensor(values, dtype=torch.float64)[torch.arange(he.num_edges) % 30]
    length, _ = mollify(per_edge[he.edge], 1e-3 if mollified else 0.0)
    out, new, flips = flip_to_delaunay(face, length, simple=simple)
    assert torch.isfinite(new).all()
    assert (new >= 0).all()
    assert flips >= 0
    torch.testing.assert_close(face_areas(new).sum(), face_areas(length).sum(), atol=1e-7, rtol=1e-7)
    if simple:
        seen = half_edges(out, 8)
        assert int(seen.edge_count.max()) <= max(int(he.edge_count.max()), 2)
    if mollified:
        torch.testing.assert_close(angle_sums(out, new, 8), angle_sums(face, length, 8), atol=1e-5, rtol=0)


def test_bad_input_is_named():
    mesh = grid()
    length = edge_lengths(mesh.pos, mesh.face)
    uneven = length.clone()
    uneven[half_edges(mesh.face, 20).twin.argmax()] *= 2
    with pytest.raises(ValueError, match="equal on both sides"):
        flip_to_delaunay(mesh.face, uneven)
    pos, face, _ = random_plane(40, 0)
    with pytest.raises(RuntimeError, match="after 1 rounds"):
        flip_to_delaunay(face, edge_lengths(pos, face), max_rounds=1)
    assert flip_to_delaunay(torch.empty(3, 0, dtype=torch.long), torch.empty(0))[2] == 0
