"""Spaces, cosets and orbits of pairs against brute force; parameters against double cosets and Burnside."""

import itertools
import math

import numpy as np
import pytest
import torch

from geomeq.groups import (
    HomogeneousSpace,
    burnside_count,
    convolution,
    coset_space,
    cyclic,
    dihedral,
    icosahedral,
    icosahedron_space,
    orbits_of_pairs,
    plane_group,
    quaternion,
    regular_space,
    rotation_grid,
    symmetric,
)
from geomeq.harmonics import spherical_harmonics
from tests.groups._finite_groups import GROUPS, each_group, own_cache, random_functions  # noqa: F401


def pairs_by_brute_force(target, source):
    """The set of orbits, each a frozen set of pairs."""
    y, x, n = target.action, source.action, target.group.order
    pairs = itertools.product(range(target.size), range(source.size))
    return {frozenset((int(y[g, b]), int(x[g, a])) for g in range(n)) for b, a in pairs}


def double_cosets(group, left, right):
    """How many sets H g K there are."""
    table = group.cayley
    return len({frozenset(table[table[left, g]][:, right].flatten().tolist()) for g in range(group.order)})


def union(group, *spaces):
    offsets = [sum(s.size for s in spaces[:i]) for i in range(len(spaces))]
    return HomogeneousSpace(group, torch.cat([s.action + o for s, o in zip(spaces, offsets, strict=True)], dim=1))


@each_group
def test_coset_spaces(group):
    members = group.subgroup(group.generators[:1])
    space = coset_space(group, members)
    assert space.size * members.numel() == group.order
    assert space.is_transitive
    assert torch.equal(space.stabiliser(0), members)
    sets = [frozenset(group.cayley[r, members].tolist()) for r in space.representatives.tolist()]
    for g in range(group.order):
        assert g in sets[space.coset[g]]
    g, u = group.random(30, seed=0), group.random(30, seed=1)
    assert torch.equal(space.coset[group.compose(g, u)], space.action[g, space.coset[u]])
    again = HomogeneousSpace(group, space.action)  # passes every check
    assert torch.equal(space.action[space.movers, 0], torch.arange(space.size))
    assert again.num_orbits == 1


def test_stabilisers_are_conjugate_and_count_the_orbit():
    group = GROUPS["A5"]
    space = coset_space(group, group.subgroup([1]))
    for point in range(space.size):
        members = space.stabiliser(point)
        assert group.is_subgroup(members)
        g = space.movers[point]
        moved = group.compose(group.compose(g, space.stabiliser(0)), group.inverse(g))
        assert torch.equal(moved.sort().values, members)
    with pytest.raises(ValueError, match=r"point must be one of 0\.\."):
        space.stabiliser(space.size)


@pytest.mark.parametrize("name", ["C12", "S3", "D4", "A4", "Q8", "S4"])
def test_orbits_of_pairs_are_those_of_brute_force(name):
    group = GROUPS[name]
    spaces = [regular_space(group), coset_space(group, group.subgroup(group.generators[:1])), coset_space(group, [0])]
    spaces.append(union(group, spaces[1], coset_space(group, range(group.order))))  # with two orbits
    for target, source in itertools.product(spaces, spaces):
        types, number = orbits_of_pairs(target, source)
        expected = pairs_by_brute_force(target, source)
        found = {frozenset(tuple(p) for p in (types == t).nonzero().tolist()) for t in range(number)}
        assert found == expected
        assert number == burnside_count(target, source)
        firsts = [int((types.flatten() == t).nonzero()[0]) for t in range(number)]
        assert firsts == sorted(firsts)


@each_group
def test_parameters_are_double_cosets_and_burnside_counts(group):
    one, other = group.subgroup(group.generators[:1]), group.subgroup(group.generators[-1:])
    target, source = coset_space(group, one), coset_space(group, other)
    _, number = orbits_of_pairs(target, source)
    assert number == double_cosets(group, one, other) == burnside_count(target, source)
    _, in_all = orbits_of_pairs(regular_space(group), source)
    assert in_all == source.size  # any filter on the source
    assert burnside_count(source) == 1


@each_group
def test_on_the_group_itself_the_type_is_the_relative_element(group):
    space = regular_space(group)
    types, number = orbits_of_pairs(space, space)
    assert number == group.order
    assert torch.equal(types, group.cayley[group.inv])


@pytest.mark.parametrize("case", ["G to G", "G/H to G", "G to G/K", "G/H to G/K"])
@pytest.mark.parametrize("name", ["S4", "D15", "A4"])
def test_the_relational_form_is_lift_convolve_project(name, case):
    """y(b) = sum_a w(type(b, a)) f(a) is f lifted to G, convolved there and projected to the target."""
    group = GROUPS[name]
    h = group.subgroup(group.generators[-1:]) if case.startswith("G/H") else torch.tensor([0])
    k = group.subgroup(group.generators[:1]) if case.endswith("G/K") else torch.tensor([0])
    source, target = coset_space(group, h), coset_space(group, k)
    types, number = orbits_of_pairs(target, source)
    w = torch.randn(number, dtype=torch.float64)
    f = torch.randn(source.size, dtype=torch.float64)
    relational = w[types] @ f

    lifted = f[source.coset]
    # y(u K) = sum_v f(v) chi(v^-1 u) with chi(v^-1 u) = w(type(u K, v H)) / |H|
    chi = w[types[target.coset, 0]] / len(h)
    on_group = convolution(group, lifted, chi)
    projected = torch.zeros(target.size, dtype=torch.float64).index_add(0, target.coset, on_group) / len(k)
    torch.testing.assert_close(projected, relational, atol=1e-12 * group.order, rtol=0)
    torch.testing.assert_close(on_group, relational[target.coset], atol=1e-12 * group.order, rtol=0)


def test_permutation_matrices_and_the_action_on_functions():
    space = coset_space(GROUPS["S4"], GROUPS["S4"].subgroup([1]))
    group = space.group
    a, b = group.random(10, seed=0), group.random(10, seed=1)
    assert torch.equal(space.permutation(a) @ space.permutation(b), space.permutation(group.compose(a, b)))
    f = torch.randn(3, space.size, dtype=torch.float64)
    torch.testing.assert_close(space.act(a[0], f), f @ space.permutation(a[0]).T)
    torch.testing.assert_close(space.act(a[0], f.T, dim=0), space.act(a[0], f).T)
    assert torch.equal(space.fixed_points[a], torch.stack([p.trace() for p in space.permutation(a)]).long())
    with pytest.raises(ValueError, match="points along axis"):
        space.act(0, f, dim=0)


@pytest.mark.parametrize(("kind", "size", "fixes"), [("vertices", 12, 5), ("faces", 20, 3), ("edges", 30, 2)])
def test_the_icosahedron(kind, size, fixes):
    group = icosahedral()
    space = icosahedron_space(group, kind)
    assert (space.size, space.is_transitive, space.stabiliser(0).numel()) == (size, True, fixes)
    torch.testing.assert_close(space.pos.norm(dim=1), torch.ones(size, dtype=torch.float64))
    for g in group.random(10, seed=0).tolist():
        torch.testing.assert_close(space.pos[space.action[g]], space.pos @ group.matrices[g].T, atol=1e-14, rtol=0)
    HomogeneousSpace(group, space.action)
    # every pair of orbits is seen by the distance of its points, or by the side it lies on
    types, number = orbits_of_pairs(space, space)
    distance = torch.cdist(space.pos, space.pos)
    for t in range(number):
        values = distance[types == t]
        assert float(values.max() - values.min()) < 1e-12


def test_orbits_on_the_icosahedron_in_closed_form():
    spaces = {kind: icosahedron_space(icosahedral(), kind) for kind in ("vertices", "faces", "edges")}
    counts = {(a, b): orbits_of_pairs(spaces[a], spaces[b])[1] for a in spaces for b in spaces}
    assert counts["vertices", "vertices"] == 4  # the distances 0, 1, 2, 3
    assert counts["faces", "faces"] == 8  # stabiliser of order 3: 2 fixed faces, 18 others in threes
    assert counts["edges", "edges"] == 16  # stabiliser of order 2: 2 fixed edges, 28 others in twos
    assert counts["vertices", "faces"] == 4
    assert counts["faces", "edges"] == 10


def test_plane_groups_on_cells():
    group = plane_group("p4m", 6)
    cells = HomogeneousSpace.from_generators(group, group.pixel_generators())
    assert torch.equal(cells.action, group.pixel_action())
    types, number = orbits_of_pairs(cells, cells)
    assert number == 10  # offsets (x, y) with 0 <= y <= x <= 3
    dx, dy = torch.arange(36) % 6, torch.arange(36) // 6
    dx, dy = torch.minimum(dx, 6 - dx), torch.minimum(dy, 6 - dy)
    offset = torch.maximum(dx, dy) * 10 + torch.minimum(dx, dy)
    for t in range(number):
        assert len(offset[types[0] == t].unique()) == 1


def test_a_large_space_waits_with_its_table():
    group = plane_group("p4m", 28)
    space = regular_space(group)
    assert space._action is None
    assert space.is_transitive
    assert torch.equal(group.compose(space.movers, torch.tensor(0)), torch.arange(group.order))


def test_on_the_sphere_a_convolution_multiplies_each_degree_by_a_number():
    r"""S2 = SO(3)/SO(2) to itself: orbits of pairs are angles, kernels zonal, and the numbers Legendre coefficients."""
    rotations, weight = rotation_grid(24)
    points = rotations[:, :, 1]  # where the polar axis y goes

    def kernel(cosine):
        return torch.exp(2 * cosine)

    t, w = np.polynomial.legendre.leggauss(40)
    targets = torch.nn.functional.normalize(torch.randn(7, 3, dtype=torch.float64), dim=1)
    for degree in range(5):
        harmonics = spherical_harmonics(points, lmax=degree)[:, degree**2 :]
        filtered = 4 * math.pi * (kernel(targets @ points.T) * weight) @ harmonics
        legendre = np.polynomial.legendre.Legendre.basis(degree)(t)
        number = 2 * math.pi * float((w * legendre * np.exp(2 * t)).sum())
        expected = number * spherical_harmonics(targets, lmax=degree)[:, degree**2 :]
        torch.testing.assert_close(filtered, expected, atol=1e-6, rtol=0)
        skewed = 4 * math.pi * (kernel(targets @ points.T) * points[:, 0] * weight) @ harmonics  # not zonal
        assert not torch.allclose(skewed, expected, atol=1e-2)


# --- bad input


@pytest.mark.parametrize("g", [-1, 6])
def test_elements_that_do_not_exist(g):
    space = regular_space(symmetric(3))
    with pytest.raises(ValueError, match=f"g names elements {g}..{g}, but .* has 0..5"):
        space.act(g, torch.zeros(6))
    with pytest.raises(ValueError, match=f"g names elements {g}..{g}, but .* has 0..5"):
        space.permutation(g)


def test_actions_that_are_none():
    group = dihedral(3)
    good = coset_space(group, group.subgroup([3])).action
    with pytest.raises(ValueError, match=r"a row for each element of the group, \[6, m\], got \[2, 3\]"):
        HomogeneousSpace(group, good[:2])
    with pytest.raises(TypeError, match="integers"):
        HomogeneousSpace(group, good.float())
    with pytest.raises(ValueError, match=r"row 1 of the action must hold each of 0\.\.2 once"):
        HomogeneousSpace(group, good.index_fill(0, torch.tensor([1]), 0))
    with pytest.raises(ValueError, match="element 0, the identity, must leave every point, but it sends 0 to 2"):
        HomogeneousSpace(group, good.roll(1, dims=0))
    with pytest.raises(ValueError, match=r"the action is none: \(\d \* \d\) sends point \d to \d, but"):
        HomogeneousSpace(group, good[[0, 1, 2, 4, 3, 5]])
    with pytest.raises(ValueError, match="relations of the generators"):
        HomogeneousSpace.from_generators(group, torch.tensor([[1, 0, 2], [0, 1, 2]]))
    with pytest.raises(ValueError, match=r"pos must have shape"):
        HomogeneousSpace(group, good, pos=torch.zeros(2, 3))


def test_cosets_of_what_is_no_subgroup():
    with pytest.raises(ValueError, match=r"no subgroup of .*D3.*: 1 \* 1 = 2 is not among them"):
        coset_space(dihedral(3), [0, 1])


def test_spaces_of_two_groups():
    with pytest.raises(ValueError, match="one group"):
        orbits_of_pairs(regular_space(dihedral(4)), regular_space(quaternion()))
    with pytest.raises(ValueError, match="one group"):
        burnside_count(regular_space(dihedral(4)), regular_space(quaternion()))
    orbits_of_pairs(regular_space(cyclic(4)), regular_space(cyclic(4)))  # equal tables are one group


def test_polyhedra_of_other_groups():
    with pytest.raises(ValueError, match=r"'vertices', 'faces' or 'edges', got 'corners'"):
        icosahedron_space(icosahedral(), "corners")
    with pytest.raises(ValueError, match=r"rotations \[n, 3, 3\] as .matrices"):
        icosahedron_space(symmetric(3))
    with pytest.raises(ValueError, match="does not map the icosahedron"):
        icosahedron_space(GROUPS["O"])
    assert icosahedron_space(icosahedral().restrict([0])).num_orbits == 12
