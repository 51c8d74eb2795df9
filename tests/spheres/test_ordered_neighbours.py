"""Neighbours by compass on every sampling, against positions and against the table of HEALPix."""

import math

import pytest
import torch
from torch import Tensor

from geomeq import spheres
from geomeq.groups import random_rotations
from geomeq.spheres import healpix_neighbours, order_by_azimuth, ordered_edges, ordered_neighbours


def compass(pos: Tensor, table: Tensor) -> Tensor:
    """Direction of every neighbour, degrees eastward from south, ``[N, K]``."""
    north = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    east = torch.nn.functional.normalize(torch.linalg.cross(north.expand_as(pos), pos), dim=1)
    south = torch.linalg.cross(pos, east).neg()
    away = pos[table.clamp(min=0)] - pos[:, None]
    return torch.atan2((away * east[:, None]).sum(-1), (away * south[:, None]).sum(-1)).rad2deg()


def pairs(table: Tensor) -> set[tuple[int, int]]:
    target, k = (table >= 0).nonzero().T
    return set(zip(target.tolist(), table[target, k].tolist(), strict=True))


def test_icosphere_has_six_neighbours_and_twelve_pentagons():
    s = spheres.icosphere(2)
    table = ordered_neighbours(s)
    lacking = (table < 0).sum(dim=1)
    assert lacking.tolist().count(1) == 12
    assert int(lacking.max()) == 1
    edges = {(int(a), int(b)) for f in s.face.T for a, b in zip(f, f.roll(1), strict=True)}
    assert pairs(table) == edges | {(b, a) for a, b in edges}
    middle = s.pos[:, 2].abs() < 0.99
    wanted = -60.0 * (torch.arange(6, dtype=torch.float64) + 1)
    apart = ((compass(s.pos, table) - wanted + 180) % 360 - 180).abs()
    assert float(apart[middle & (lacking == 0)].max()) < 45  # half a place, and what the triangles lean


def test_cubed_sphere_lacks_one_at_the_corners_of_the_cube():
    s = spheres.cubed(6)
    table = ordered_neighbours(s)
    lacking = (table < 0).sum(dim=1)
    assert table.size(1) == 8
    assert lacking.tolist().count(1) == 24
    assert int(lacking.max()) == 1
    assert pairs(table) == {(b, a) for a, b in pairs(table)}
    assert len(pairs(table)) == 6 * 36 * 8 - 24
    near = s.pos[table.clamp(min=0)] - s.pos[:, None]
    assert float(near.norm(dim=-1)[table >= 0].max()) < 2.1 * s.spacing
    equator = (s.pos[:, 2].abs() < 0.5) & (s.pos[:, :2].abs().max(dim=1).values > 0.8)
    wanted = -45.0 * (torch.arange(8, dtype=torch.float64) + 1)
    apart = ((compass(s.pos, table) - wanted + 180) % 360 - 180).abs()
    assert float(apart[equator].max()) < 20
    assert lacking.nonzero()[:, 0].tolist() == sorted(lacking.nonzero()[:, 0].tolist())


@pytest.mark.parametrize("n", [1, 2, 3])
def test_small_cubes_are_graphs_as_well(n):
    table = ordered_neighbours(spheres.cubed(n))
    assert pairs(table) == {(b, a) for a, b in pairs(table)}
    assert len(pairs(table)) == {1: 6 * 4, 2: 24 * 7, 3: 54 * 8 - 24}[n]


def test_tables_of_longitude_go_on_over_the_pole():
    table = ordered_neighbours(spheres.gauss_legendre(4, 8))
    assert table[8 + 3].tolist() == [18, 10, 2, 3, 4, 12, 20, 19]
    assert table[0].tolist() == [15, 7, 3, 4, 5, 1, 9, 8]  # the opposite meridian
    assert table[31].tolist() == [26, 30, 22, 23, 16, 24, 28, 27]
    assert bool((table >= 0).all())
    assert pairs(table) == {(b, a) for a, b in pairs(table)}


def test_rows_at_the_pole_and_odd_rows_end_there():
    lobatto = ordered_neighbours(spheres.lobatto(5, 8))
    assert lobatto[0].tolist() == [15, 7, -1, -1, -1, 1, 9, 8]
    odd = ordered_neighbours(spheres.gauss_legendre(4, 7))
    assert odd[0].tolist() == [13, 6, -1, -1, -1, 1, 8, 7]


def test_compass_gives_back_the_order_of_healpix_in_the_belt():
    s = spheres.healpix(8)
    table = healpix_neighbours(8)
    assert torch.equal(ordered_neighbours(s), table)
    target, k = (table >= 0).nonzero().T
    shuffled = torch.randperm(len(target), generator=torch.Generator().manual_seed(0))
    found = order_by_azimuth(s.pos, torch.stack([table[target, k], target])[:, shuffled], 8)
    belt = s.pos[:, 2].abs() < 2 / 3 - 0.01
    assert torch.equal(found[belt & (table >= 0).all(dim=1)], table[belt & (table >= 0).all(dim=1)])
    assert pairs(found) == pairs(table)
    assert not torch.equal(found, table)  # in the caps compass and faces part


def test_turning_about_the_axis_changes_nothing_other_turns_do():
    s = spheres.icosphere(2)
    edges = torch.stack([torch.tensor(list(c)) for c in zip(*pairs(ordered_neighbours(s)), strict=True)]).flip(0)
    c, sn = math.cos(0.3), math.sin(0.3)
    about = torch.tensor([[c, -sn, 0], [sn, c, 0], [0, 0, 1]], dtype=torch.float64)
    off_pole = s.pos[:, 2].abs() < 1 - 1e-9
    same = order_by_azimuth(s.pos @ about.T, edges) == order_by_azimuth(s.pos, edges)
    assert bool(same[off_pole].all())
    turn = random_rotations(seed=1)
    assert not torch.equal(order_by_azimuth(s.pos @ turn.T, edges), order_by_azimuth(s.pos, edges))


def test_edges_of_a_table():
    table = healpix_neighbours(4)
    edge_index, edge_type = ordered_edges(table)
    source, target = edge_index
    assert edge_index.size(1) == 8 * 192 - 24
    assert torch.equal(table[target, edge_type - 1], source)
    key = target * 192 + source
    assert bool((key.diff() > 0).all())  # sorted by target, then source
    assert ordered_edges(torch.full((3, 2), -1))[0].shape == (2, 0)


def test_bad_input_is_refused():
    s = spheres.icosphere(1)
    edges = torch.tensor([[1, 2, 3], [0, 0, 0]])
    with pytest.raises(ValueError, match="more than degree=2"):
        order_by_azimuth(s.pos, edges, 2)
    with pytest.raises(ValueError, match="no order to speak of"):
        order_by_azimuth(s.pos, torch.stack([torch.arange(1, 12), torch.zeros(11).long()]), 20)
    with pytest.raises(ValueError, match="whole spheres"):
        ordered_neighbours(s.part(torch.arange(5)))
    isolated = order_by_azimuth(s.pos, edges)
    assert int((isolated >= 0).sum()) == 3
    assert order_by_azimuth(s.pos, edges[:, :0]).shape == (42, 0)
