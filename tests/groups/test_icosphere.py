"""Icospheres: counts, nesting, symmetries, areas."""

import math

import pytest
import torch

from geomeq.groups import icosahedral_rotations, icosphere


def as_rows(points):
    return {tuple(row) for row in (points + 0.0).tolist()}  # + 0.0: no negative zeros


@pytest.mark.parametrize("level", [0, 1, 2, 3, 5])
def test_counts_orientation_and_degrees(level):
    mesh = icosphere(level)
    vertices, faces = len(mesh.pos), mesh.face.size(1)
    assert vertices == 10 * 4**level + 2
    assert faces == 20 * 4**level
    assert mesh.edge.size(1) == 30 * 4**level  # Euler: V - E + F = 2
    degree = torch.bincount(mesh.edge.flatten())
    assert int((degree == 5).sum()) == 12
    assert int((degree == 6).sum()) == vertices - 12
    a, b, c = mesh.pos[mesh.face]
    assert bool((torch.linalg.det(torch.stack([a, b, c], dim=1)) > 0).all())  # counter-clockwise from outside
    half = torch.cat([mesh.face[[0, 1]], mesh.face[[1, 2]], mesh.face[[2, 0]]], dim=1)
    assert len(torch.unique(half, dim=1).T) == half.size(1)  # no directed edge in two faces: a closed surface


def test_vertices_have_unit_length_and_exact_antipodes():
    pos = icosphere(4).pos
    assert float((pos.norm(dim=1) - 1).abs().max()) < 3e-16
    assert as_rows(pos) == as_rows(-pos)


@pytest.mark.parametrize("level", [0, 1, 2, 4])
def test_axes_may_be_negated_and_cycled_exactly(level):
    pos = icosphere(level).pos
    assert as_rows(pos) == as_rows(pos.roll(1, dims=1))
    for axis in range(3):
        mirror = torch.ones(3, dtype=torch.float64)
        mirror[axis] = -1
        assert as_rows(pos) == as_rows(pos * mirror)
    assert as_rows(pos) != as_rows(pos[:, [1, 0, 2]])  # swapping two axes is no symmetry of the icosahedron


def test_icosahedral_rotations_permute_the_vertices():
    pos = icosphere(2).pos
    for rotation in icosahedral_rotations():
        distance, image = torch.cdist(pos @ rotation.T, pos).min(dim=1)
        assert len(image.unique()) == len(pos)
        gap = (pos @ rotation.T - pos[image]).abs().max()
        assert float(gap) < 1e-15
        assert float(distance.max()) < 1e-7  # cdist itself is that rough


@pytest.mark.parametrize("level", [1, 2, 4])
def test_old_vertices_come_first_and_new_ones_lie_between_their_parents(level):
    coarse, fine = icosphere(level - 1), icosphere(level)
    old = len(coarse.pos)
    assert torch.equal(fine.pos[:old], coarse.pos)
    assert torch.equal(fine.parents[:old], torch.arange(old)[:, None].expand(-1, 2))
    first, second = fine.parents[old:].T
    assert bool((first < second).all())
    assert int(second.max()) < old
    assert as_rows(fine.parents[old:]) == as_rows(coarse.edge.T)
    middle = fine.pos[first] + fine.pos[second]
    torch.testing.assert_close(fine.pos[old:], middle / middle.norm(dim=1, keepdim=True), atol=1e-15, rtol=0)


@pytest.mark.parametrize("level", [0, 1, 3])
def test_areas_tile_the_sphere_and_share_its_symmetry(level):
    mesh = icosphere(level)
    assert float(mesh.area.sum()) == pytest.approx(4 * math.pi, rel=1e-14)
    rotation = icosahedral_rotations()[7]
    image = torch.cdist(mesh.pos @ rotation.T, mesh.pos).argmin(dim=1)
    torch.testing.assert_close(mesh.area[image], mesh.area, atol=1e-14, rtol=0)
    assert float(mesh.area.max() / mesh.area.min()) < 1.7


def test_mean_edge_halves_with_each_level():
    assert icosphere(0).mean_edge == pytest.approx(math.atan(2))  # the angle between neighbours of the icosahedron
    assert icosphere(4).mean_edge / icosphere(3).mean_edge == pytest.approx(0.5, abs=0.01)


def test_a_result_may_be_changed_without_harm():
    icosphere(1).pos.zero_()
    assert float(icosphere(1).pos.norm(dim=1).min()) > 0.9


@pytest.mark.parametrize("level", [-1, 1.0, "2", True])
def test_bad_levels_are_refused(level):
    with pytest.raises(ValueError, match="level must be an integer from 0"):
        icosphere(level)
