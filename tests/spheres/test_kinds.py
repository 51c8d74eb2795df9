"""Samplings by name, their resolutions, parts and content keys."""

import copy
import dataclasses
import math
import pickle

import pytest
import torch

from geomeq import groups, spheres
from geomeq.spheres.kinds import KINDS

LEAST = {
    "cubed": 1,
    "driscoll_healy": 1,
    "equiangular": 2,
    "fibonacci": 1,
    "gauss_legendre": 1,
    "healpix": 1,
    "icosphere": 0,
    "lobatto": 2,
    "random": 4,
    "reduced_gauss_legendre": 2,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_by_its_name(kind):
    resolution = max(LEAST[kind], 4)
    by_name, direct = spheres.sampling(kind, resolution), getattr(spheres, kind)(resolution)
    assert torch.equal(by_name.pos, direct.pos)
    assert by_name.kind == kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nodes", [1, 7, 100, 1000])
def test_the_least_resolution_with_so_many_nodes(kind, nodes):
    resolution = spheres.resolution_for(kind, nodes=nodes)
    assert spheres.sampling(kind, resolution).num_nodes >= nodes
    below = {"healpix": resolution // 2, "reduced_gauss_legendre": resolution - 2}.get(kind, resolution - 1)
    if resolution > LEAST[kind]:
        assert spheres.sampling(kind, below).num_nodes < nodes


@pytest.mark.parametrize("kind", ["equiangular", "gauss_legendre", "lobatto", "driscoll_healy"])
def test_the_least_resolution_exact_to_a_degree(kind):
    for degree in range(12):
        resolution = spheres.resolution_for(kind, degree=degree)
        assert spheres.sampling(kind, resolution).exact_degree >= degree
        if resolution > LEAST[kind]:
            assert spheres.sampling(kind, resolution - 1).exact_degree < degree


def test_the_least_resolution_with_small_cells():
    nside = spheres.resolution_for("healpix", spacing=0.05)
    assert spheres.healpix(nside).spacing <= 0.05 < spheres.healpix(nside // 2).spacing
    exactly = spheres.healpix(8).spacing
    assert spheres.resolution_for("healpix", spacing=exactly) == 8


@pytest.mark.parametrize(
    ("kind", "demand", "message"),
    [
        ("globe", {"nodes": 5}, "kind must be one of .*'cubed'.* got 'globe'"),
        ("healpix", {"degree": 5}, "'healpix' integrates no degree exactly"),
        ("healpix", {}, "give one of nodes, spacing and degree"),
        ("healpix", {"nodes": 5, "spacing": 0.1}, "give one of nodes, spacing and degree"),
        ("healpix", {"nodes": 0}, "nodes must be an integer of at least 1"),
        ("healpix", {"spacing": -1.0}, "spacing is an angle in radians and must be positive, got -1.0"),
    ],
)
def test_impossible_demands(kind, demand, message):
    with pytest.raises(ValueError, match=message):
        spheres.resolution_for(kind, **demand)


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind must be one of"):
        spheres.sampling("globe", 3)


def test_grids_know_their_table():
    assert spheres.gauss_legendre(5, 7).grid == (5, 7)
    assert spheres.equiangular(5).grid == (5, 8)
    assert spheres.healpix(4).grid is None
    assert spheres.reduced_gauss_legendre(4).grid is None
    assert spheres.gauss_legendre(5).rotated(torch.eye(3)).grid is None
    assert spheres.healpix(4).nside == 4
    assert spheres.icosphere(2).nside is None


def test_keys_name_the_content():
    one, same, other = spheres.healpix(4), spheres.healpix(4), spheres.healpix(4, "ring")
    assert one.key == same.key != other.key
    turned = one.rotated(groups.SO3.random(1, seed=0)[0])
    assert len({one.key, other.key, turned.key, one.part(torch.arange(192)).key, spheres.healpix(2).key}) == 5
    # the same points, once as rings and once without
    grid = spheres.gauss_legendre(4)
    assert grid.key != spheres.scattered(grid.pos, grid.area).key


def test_points_of_any_precision_are_kept_in_float64_and_out_of_graphs():
    s = spheres.healpix(1)
    made = spheres.Sampling("mine", s.pos.float().requires_grad_(), s.area.float().requires_grad_())
    assert made.pos.dtype == made.area.dtype == torch.float64
    assert not made.pos.requires_grad
    assert not made.area.requires_grad
    assert spheres.resample(torch.ones(12), made, spheres.fibonacci(5)).tolist() == [1.0] * 5
    assert spheres.Sampling("mine", s.pos, s.area).pos is s.pos  # nothing is copied without need


def test_a_change_in_place_changes_the_key_and_what_caches_give():
    ball = spheres.fibonacci(40)
    s, target = spheres.Sampling("mine", ball.pos.clone(), ball.area.clone()), spheres.fibonacci(9)
    before, values = s.key, ball.pos[:, :1].clone()
    assert s.key == before
    assert pickle.loads(pickle.dumps(s)).key == copy.deepcopy(s).key == before
    first = spheres.resample(values, s, target, method="nearest")
    s.pos[:] = s.pos.flip(0)
    assert s.key == spheres.Sampling("mine", ball.pos.flip(0), ball.area).key != before
    second = spheres.resample(values, s, target, method="nearest")
    torch.testing.assert_close(second, spheres.resample(values.flip(0), ball, target, method="nearest"))
    assert not torch.equal(first, second)
    with torch.inference_mode():  # tensors without a count of changes
        assert spheres.Sampling("mine", ball.pos.clone(), ball.area.clone()).key == before


def test_another_weight_makes_another_sampling():
    s = spheres.healpix(1)
    assert dataclasses.replace(s, area=2 * s.area).key != s.key


def test_parts_keep_areas_and_remember_their_nodes():
    whole = spheres.healpix(4)
    north = whole.part(whole.pos[:, 2] > 0)
    assert not north.is_whole
    assert whole.is_whole
    assert north.nside is None
    assert north.rings is None
    assert torch.equal(whole.pos[north.node], north.pos)
    assert float(north.area.sum()) == pytest.approx(float(whole.area[whole.pos[:, 2] > 0].sum()))
    assert north.spacing == pytest.approx(whole.spacing)
    again = north.part(torch.tensor([5, 2]))
    assert again.node.tolist() == north.node[[5, 2]].tolist()
    assert torch.equal(again.pos, whole.pos[again.node])


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (torch.tensor([0.5]), TypeError, "index must hold integers or booleans"),
        ([0, 1], TypeError, "index must be a torch.Tensor, got list"),
        (torch.tensor([], dtype=torch.long), ValueError, "a part needs at least one node"),
        (torch.zeros(12, dtype=torch.bool), ValueError, "a part needs at least one node"),
        (torch.zeros(5, dtype=torch.bool), ValueError, "index"),
        (torch.tensor([0, 12]), ValueError, "different numbers of the 12 nodes"),
        (torch.tensor([-1]), ValueError, "different numbers of the 12 nodes"),
        (torch.tensor([3, 3]), ValueError, "different numbers of the 12 nodes"),
    ],
)
def test_illegal_parts(index, error, message):
    with pytest.raises(error, match=message):
        spheres.healpix(1).part(index)


def test_spacing_is_the_side_of_a_cell():
    assert spheres.fibonacci(100).spacing == pytest.approx(math.sqrt(4 * math.pi / 100))
