"""half_edges: next, prev, twin and edge numbers against dictionaries."""

import pytest
import torch

from geomeq.meshes import half_edges

from ._brute import brute_half_edges, brute_twins
from ._shapes import bow_tie, grid, klein, moebius, sphere, t_edge, torus, two_parts

SHAPES = [sphere(1), grid(), torus(8, 6), moebius(), klein(), bow_tie(), t_edge(), two_parts()]


def random_soup(vertices=9, faces=25):
    face = torch.stack([torch.randperm(vertices)[:3] for _ in range(faces)], dim=1)
    return face, vertices


@pytest.mark.parametrize("mesh", SHAPES)
def test_equals_dictionaries(mesh):
    check(mesh.face, mesh.pos.size(0))


@pytest.mark.parametrize("seed", range(5))
def test_equals_dictionaries_on_soups(seed):
    torch.manual_seed(seed)
    check(*random_soup())


def check(face, n):
    he = half_edges(face, n)
    corners = face.t().tolist()
    assert he.source.tolist() == [v for f in corners for v in f]
    assert he.target.tolist() == [f[(c + 1) % 3] for f in corners for c in range(3)]
    assert he.face.tolist() == [f for f in range(len(corners)) for _ in range(3)]
    assert torch.equal(he.source[he.next], he.target)
    assert torch.equal(he.target[he.prev], he.source)
    assert torch.equal(he.next[he.prev], torch.arange(3 * len(corners)))
    assert he.twin.tolist() == brute_twins(face)
    _, undirected = brute_half_edges(face)
    keys = sorted(undirected)
    assert he.edges.t().tolist() == [list(k) for k in keys]
    assert he.edge_count.tolist() == [len(undirected[k]) for k in keys]
    assert all(he.edge[h] == e for e, k in enumerate(keys) for h in undirected[k])
    assert (he.num_half_edges, he.num_faces, he.num_edges) == (3 * len(corners), len(corners), len(keys))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_masks_of_known_shapes(dtype):
    he = half_edges(grid(3, 4).face.to(dtype), 12)
    assert he.source.dtype == torch.int64
    assert int(he.boundary_edge.sum()) == int(he.boundary_half_edge.sum()) == 10
    assert (~he.boundary_vertex).nonzero().flatten().tolist() == [5, 6]
    assert he.is_oriented_manifold
    t = half_edges(t_edge().face, 5)
    assert t.edges[:, t.nonmanifold_edge].tolist() == [[0], [1]]
    assert not t.is_oriented_manifold
    assert not t.inconsistent_edge.any()
    alone = half_edges(two_parts().face, 85)
    assert alone.isolated_vertex.nonzero().flatten().tolist() == [84]


@pytest.mark.parametrize("mesh", [moebius(), klein()])
def test_a_one_sided_mesh_has_edges_that_run_twice_the_same_way(mesh):
    he = half_edges(mesh.face, mesh.pos.size(0))
    assert he.inconsistent_edge.any()
    assert not he.is_oriented_manifold
    assert not half_edges(torus().face, 24 * 12).inconsistent_edge.any()


def test_no_faces_and_no_vertices():
    he = half_edges(torch.empty(3, 0, dtype=torch.long), 0)
    assert he.edges.shape == (2, 0)
    assert he.num_edges == he.num_faces == 0
    assert half_edges(torch.empty(3, 0, dtype=torch.long), 4).isolated_vertex.all()


def test_bad_faces_are_named():
    good = grid().face
    with pytest.raises(TypeError, match="integers"):
        half_edges(good.float(), 20)
    with pytest.raises(ValueError, match=r"\[3, F\]"):
        half_edges(good.t(), 20)
    with pytest.raises(ValueError, match="0..19, but there are only 19"):
        half_edges(good, 19)
    with pytest.raises(ValueError, match=r"-1\.\."):
        half_edges(good - 1, 20)
    with pytest.raises(ValueError, match=r"face 1: \[4, 4, 5\]; apply geomeq.meshes.clean"):
        half_edges(torch.tensor([[0, 4], [1, 4], [2, 5]]), 6)
