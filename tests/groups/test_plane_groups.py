"""Plane groups on a torus against rolled, turned and flipped pictures."""

import itertools

import pytest
import torch

from geomeq.groups import HomogeneousSpace, cyclic, dihedral, plane_group

KINDS = {"p1": 1, "p2": 2, "p3": 3, "p4": 4, "pm": 2, "pmm": 4, "p3m1": 6, "p4m": 8, "p6": 6, "p6m": 12}


@pytest.mark.parametrize(("kind", "points"), KINDS.items())
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_acts_on_the_cells(kind, points, size):
    group = plane_group(kind, size)
    assert group.order == points * size**2
    assert group.point_group.order == points
    space = HomogeneousSpace(group, group.pixel_action())  # checks that it is an action
    assert space.is_transitive
    assert torch.equal(group.pixel_generators(), group.pixel_action()[group.generators])
    matrices = group.point_matrices
    assert torch.equal(matrices[group.point_group.cayley], matrices[:, None] @ matrices[None])


@pytest.mark.parametrize("size", [4, 5])
def test_elements_are_numbered_as_memory_and_move_pictures(size):
    """Element h n^2 + iy n + ix turns and flips about cell 0, then shifts by (ix, iy)."""
    group = plane_group("p4m", size)
    space = HomogeneousSpace.from_generators(group, group.pixel_generators())
    picture = torch.randn(size, size)

    def about_zero(h, x):  # rot90 and flip(-1) turn about the centre of the array: one roll more
        x = torch.flip(x, (-1,)).roll(1, -1) if h >= 4 else x
        for _ in range(h % 4):
            x = torch.rot90(x, 1, (-2, -1)).roll(1, -2)
        return x

    for h, iy, ix in itertools.product(range(8), range(size), range(size)):
        expected = about_zero(h, picture).roll((iy, ix), (-2, -1))
        moved = space.act(h * size**2 + iy * size + ix, picture.flatten()).view(size, size)
        assert torch.equal(moved, expected)


def test_the_turn_of_an_array_is_an_element():
    for size in (4, 5):
        group = plane_group("p4", size)
        space = HomogeneousSpace.from_generators(group, group.pixel_generators())
        picture = torch.randn(size, size)
        turned = torch.rot90(picture, 1, (-2, -1))
        element = size**2 + (size - 1) * size  # h = R, shift (0, n - 1)
        assert torch.equal(space.act(element, picture.flatten()).view(size, size), turned)


@pytest.mark.parametrize("kind", ["p6", "p6m", "p3", "p3m1"])
def test_hexagonal_symmetries_keep_lengths(kind):
    group = plane_group(kind, 3)
    lattice = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]], dtype=torch.float64)
    cells = torch.randn(20, 2, dtype=torch.float64)
    for matrix in group.point_matrices.double():
        torch.testing.assert_close((cells @ matrix.T @ lattice).norm(dim=1), (cells @ lattice).norm(dim=1))
    skewed = torch.tensor([[1.0, 0.0], [0.4, 0.8]], dtype=torch.float64)
    matrix = group.point_matrices[1].double()
    assert not torch.allclose((cells @ matrix.T @ skewed).norm(dim=1), (cells @ skewed).norm(dim=1))


def test_the_sample_is_in_the_order_of_a_group_graph():
    sample = plane_group("p4m", 3).sample()
    assert (sample.num_orientations, sample.num_spatial, sample.grid) == (8, 9, (3, 3))
    assert sample.pos[9 * 2 + 3 * 1 + 2].tolist() == [2, 1, 2]
    assert plane_group("p4m", 3).sample((3, 3)).grid == (3, 3)
    with pytest.raises(ValueError, match="leave size out"):
        plane_group("p4m", 3).sample((4, 4))


def test_factors_of_a_plane_group():
    group = plane_group("p6m", 4)
    assert torch.equal(group.point_group.cayley, dihedral(6).cayley)
    t, h = group.split(torch.arange(group.order))
    assert torch.equal(group.join(t, h), torch.arange(group.order))
    assert group.is_subgroup(t[h == 0])  # the translations
    assert torch.equal(plane_group("p4", 4).point_group.cayley, cyclic(4).cayley)


def test_kinds_and_sizes_that_do_not_exist():
    with pytest.raises(ValueError, match=r"one of p1, p2, .*, got 'p5'"):
        plane_group("p5", 4)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        plane_group("p4", 0)
