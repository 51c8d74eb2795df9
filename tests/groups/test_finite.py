"""Tables, named groups, groups from generators, subgroups; what is no group."""

import copy
import math
import pickle
import time

import numpy as np
import pytest
import torch

from geomeq.groups import (
    FiniteGroup,
    Group,
    GroupSample,
    alternating,
    cyclic,
    dihedral,
    direct_product,
    from_cayley,
    from_matrices,
    from_permutations,
    icosahedral,
    icosahedral_rotations,
    octahedral,
    quaternion,
    semidirect_product,
    symmetric,
)
from tests.groups._finite_groups import GROUPS, each_group, frobenius


@each_group
def test_axioms_on_all_triples(group):
    table, n = group.cayley, group.order
    a = torch.arange(n)[: min(n, 64)]
    left = table[table[a[:, None, None], a[None, :, None]], a]
    right = table[a[:, None, None], table[a[None, :, None], a]]
    assert torch.equal(left, right)
    every = torch.arange(n)
    assert torch.equal(table[0], every)
    assert torch.equal(table[:, 0], every)
    assert bool((table[every, group.inv] == 0).all())
    assert bool((table[group.inv, every] == 0).all())
    assert table.dtype == torch.int64


@each_group
def test_products_are_those_of_the_table(group):
    a, b = group.random(50, seed=0), group.random(50, seed=1)
    assert torch.equal(group.compose(a, b), group.cayley[a, b])
    assert torch.equal(group.inverse(a), group.inv[a])
    assert torch.equal(group.compose(a[:, None], b).diagonal(), group.compose(a, b))


@each_group
def test_generators_generate_and_are_needed_for_it(group):
    assert group.subgroup(group.generators).numel() == group.order
    if group.generators.numel():
        assert group.subgroup(group.generators[:-1]).numel() < group.order


@each_group
def test_has_the_interface_of_all_groups(group):
    assert isinstance(group, Group)
    a, b = group.random(7, seed=0), group.random(7, seed=1)
    assert torch.equal(group.exp(torch.zeros(7, 0)), group.identity(7))
    assert group.log(a).shape == (7, 0)
    assert group.local_log(a, b).shape == (7, 0)
    assert group.adjoint(a).shape == (7, 0, 0)
    sample = group.sample()
    assert isinstance(sample, GroupSample)
    assert sample.num_nodes == group.order
    assert sample.element.tolist() == list(range(group.order))
    assert float(sample.weight.sum()) == pytest.approx(1, abs=1e-14)
    assert group.sample(group.order).num_orientations == sample.num_orientations
    with pytest.raises(ValueError, match="leave size out"):
        group.sample(group.order + 1)


@each_group
def test_distance_counts_generators_and_is_invariant_from_the_left(group):
    a, b, g = (group.random(40, seed=seed) for seed in range(3))
    distance = group.distance(a, b)
    assert torch.equal(group.distance(group.compose(g, a), group.compose(g, b)), distance)
    assert torch.equal(group.distance(b, a), distance)
    assert bool((group.distance(a, a) == 0).all())
    assert bool((group.distance(a, g) <= group.distance(a, b) + group.distance(b, g)).all())
    s = group.generators
    assert bool((group.distance(group.identity(len(s)), s) == 1).all())


@each_group
def test_copies_and_pickles(group):
    for again in (copy.deepcopy(group), pickle.loads(pickle.dumps(group))):
        assert torch.equal(again.cayley, group.cayley)
        assert again.fingerprint == group.fingerprint


@pytest.mark.parametrize(
    ("group", "order", "class_sizes"),
    [
        (cyclic(5), 5, [1] * 5),
        (dihedral(5), 10, [1, 2, 2, 5]),
        (dihedral(6), 12, [1, 1, 2, 2, 3, 3]),
        (symmetric(4), 24, [1, 3, 6, 6, 8]),
        (symmetric(6), 720, [1, 15, 15, 40, 40, 45, 90, 90, 120, 120, 144]),
        (alternating(4), 12, [1, 3, 4, 4]),
        (alternating(5), 60, [1, 12, 12, 15, 20]),
        (alternating(6), 360, [1, 40, 40, 45, 72, 72, 90]),
        (quaternion(), 8, [1, 1, 2, 2, 2]),
        (quaternion(16), 16, [1, 1, 2, 2, 2, 4, 4]),
        (octahedral(), 24, [1, 3, 6, 6, 8]),
        (icosahedral(), 60, [1, 12, 12, 15, 20]),
        (frobenius(), 21, [1, 3, 3, 7, 7]),
        (direct_product(cyclic(2), symmetric(3)), 12, [1, 1, 2, 2, 3, 3]),
    ],
    ids=lambda value: repr(value) if isinstance(value, FiniteGroup) else "",
)
def test_order_and_conjugacy_classes(group, order, class_sizes):
    assert group.order == order
    classes = group.conjugacy_classes
    assert sorted(classes.bincount().tolist()) == class_sizes
    assert classes[0] == 0
    g, h = group.random(100, seed=0), group.random(100, seed=1)
    conjugate = group.compose(group.compose(h, g), group.inverse(h))
    assert torch.equal(classes[conjugate], classes[g])
    assert group.is_abelian == (max(class_sizes) == 1)


def test_element_orders():
    assert cyclic(12).element_orders.tolist() == [12 // math.gcd(12, k) if k else 1 for k in range(12)]
    assert sorted(quaternion().element_orders.tolist()) == [1, 2, 4, 4, 4, 4, 4, 4]
    assert alternating(5).element_orders.bincount().tolist() == [0, 1, 15, 20, 0, 24]


def test_permutations_and_matrices_multiply_as_the_elements_do():
    for group in (symmetric(5), alternating(5), GROUPS["S5"]):
        a, b = group.random(30, seed=0), group.random(30, seed=1)
        product = group.permutations[a].gather(1, group.permutations[b])
        assert torch.equal(group.permutations[group.compose(a, b)], product)
    for group in (cyclic(7), dihedral(5), octahedral(), icosahedral()):
        a, b = group.random(30, seed=0), group.random(30, seed=1)
        product = group.matrices[a] @ group.matrices[b]
        torch.testing.assert_close(group.matrices[group.compose(a, b)], product, atol=1e-14, rtol=0)
    assert torch.equal(icosahedral().matrices, icosahedral_rotations())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_acting_in_turn_is_acting_by_the_product(dtype):
    for group in (dihedral(4), icosahedral(), symmetric(4)):
        a, b = group.random(20, seed=0), group.random(20, seed=1)
        x = torch.randn(20, group.space_dim, dtype=dtype)
        moved = group.act(a, group.act(b, x))
        assert moved.dtype == dtype
        torch.testing.assert_close(group.act(group.compose(a, b), x), moved, atol=1e-5, rtol=0)
        assert not torch.allclose(group.act(group.compose(b, a), x), moved)
    with pytest.raises(ValueError, match="does not act on points"):
        quaternion().act(torch.tensor(1), torch.zeros(3))
    with pytest.raises(TypeError, match="x must be floating point, got torch.int64"):
        octahedral().act(torch.tensor(1), torch.tensor([1, 2, 3]))


def test_dihedral_elements_are_quarter_turns_and_flips_of_pictures():
    group = dihedral(4)
    picture = torch.randn(5, 5)

    def move(h, x):
        return torch.rot90(torch.flip(x, (-1,)) if h >= 4 else x, k=int(h) % 4, dims=(-2, -1))

    for a in range(8):
        for b in range(8):
            assert torch.equal(move(a, move(b, picture)), move(int(group.cayley[a, b]), picture))
    assert not torch.equal(move(1, move(4, picture)), move(4, move(1, picture)))


def test_quaternions_multiply_as_hamilton_wrote():
    group = quaternion()
    one, i, minus, j = 0, 1, 2, 4
    k = int(group.compose(torch.tensor(i), torch.tensor(j)))
    square = group.cayley.diagonal()
    assert [int(square[x]) for x in (i, j, k)] == [minus] * 3
    assert int(group.cayley[k, i]) == j
    assert int(group.cayley[j, k]) == i
    assert int(group.cayley[j, i]) == int(group.cayley[minus, k])
    assert int(square[minus]) == one


def test_groups_from_generators_have_the_elements_that_brute_force_finds():
    known = {tuple(range(5))}
    steps = [(1, 2, 3, 4, 0), (0, 2, 1, 3, 4)]
    while True:
        grown = known | {tuple(s[i] for i in p) for s in steps for p in known}
        if grown == known:
            break
        known = grown
    group = from_permutations(steps)
    assert {tuple(p) for p in group.permutations.tolist()} == known
    assert group.permutations[0].tolist() == [0, 1, 2, 3, 4]
    again = from_matrices(icosahedral().matrices[icosahedral().generators])
    assert again.order == 60
    assert sorted(again.conjugacy_classes.bincount().tolist()) == [1, 12, 12, 15, 20]
    pauli = torch.tensor([[[0, 1j], [1j, 0]], [[0, 1], [-1, 0]]], dtype=torch.complex128)
    assert sorted(from_matrices(pauli).element_orders.tolist()) == sorted(quaternion().element_orders.tolist())
    assert from_permutations([[0, 1, 2]]).order == 1
    assert from_matrices(icosahedral().matrices[[1, 2]].float()).order == 60


def test_products_of_groups():
    group = direct_product(cyclic(2), cyclic(4))
    for a in range(8):
        for b in range(8):
            expected = (a // 4 + b // 4) % 2 * 4 + (a + b) % 4
            assert int(group.cayley[a, b]) == expected
    affine = frobenius()
    n, h = affine.split(torch.arange(21))
    moved = (2 ** h[:, None, None] * torch.arange(7) + n[:, None, None]) % 7  # x -> 2^h x + n
    assert torch.equal(moved[affine.cayley][..., 0, :], moved[:, 0][torch.arange(21)[:, None, None], moved[None, :, 0]])
    assert torch.equal(affine.join(n, h), torch.arange(21))


def test_a_large_group_needs_no_table():
    from geomeq.groups import plane_group

    start = time.perf_counter()
    group = plane_group("p4m", 28)
    a, b = group.random(1000, seed=0), group.random(1000, seed=1)
    product = group.compose(a, group.inverse(b))
    assert time.perf_counter() - start < 2  # 0.03 s on a quiet core; a loop over pairs takes minutes
    assert group._table is None
    assert group.order == 6272
    assert torch.equal(group.compose(product, b), a)


# --- subgroups


def test_subgroups_are_closed_and_their_order_divides():
    group = alternating(5)
    for seed in range(20):
        members = group.subgroup(group.random(2, seed=seed))
        assert group.order % members.numel() == 0
        assert group.is_subgroup(members)
        assert members[0] == 0
    assert group.subgroup([]).tolist() == [0]


def test_a_subgroup_as_a_group_of_its_own():
    group = symmetric(4)
    even = torch.tensor([i for i, p in enumerate(group.permutations) if np.linalg.det(np.eye(4)[p]) > 0])
    alone = group.restrict(even)
    assert alone.order == 12
    assert sorted(alone.conjugacy_classes.bincount().tolist()) == [1, 3, 4, 4]
    product = even[alone.cayley[3, 5]]
    assert product == group.cayley[even[3], even[5]]
    assert torch.equal(alone.permutations, group.permutations[even])


def test_sets_that_are_no_subgroups():
    group = dihedral(4)
    assert not group.is_subgroup([0, 1])
    assert not group.is_subgroup([])
    assert not group.is_subgroup([4])
    with pytest.raises(ValueError, match=r"no subgroup .*: 1 \* 1 = 2 is not among them; group.subgroup"):
        group.check_subgroup([0, 1])
    with pytest.raises(ValueError, match=r"0\.\.7"):
        group.subgroup([8])
    with pytest.raises(TypeError, match="torch.float32"):
        group.is_subgroup(torch.zeros(2))


# --- what is no group


def loop_of_five():
    """A Latin square with identity that is not associative."""
    return torch.tensor([[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]])


def test_a_table_that_is_not_associative_names_the_triple():
    table = loop_of_five()
    with pytest.raises(ValueError, match=r"\((\d) \* (\d)\) \* (\d) = (\d), but") as caught:
        from_cayley(table)
    message = str(caught.value)
    a, s, b = (int(message.split("(")[1][0]), int(message.split("* ")[1][0]), int(message.split("* ")[2][0]))
    assert table[table[a, s], b] != table[a, table[s, b]]


@pytest.mark.parametrize("seed", range(5))
def test_any_two_exchanged_products_are_found(seed):
    """Light's test looks at generators only; brute force over all triples agrees with it on damaged tables."""
    group = dihedral(5)
    table = group.cayley.clone()
    generator = torch.Generator().manual_seed(seed)
    a, b, c = (torch.randperm(9, generator=generator)[:3] + 1).tolist()
    table[[a, a], [b, c]] = table[[a, a], [c, b]]
    with pytest.raises(ValueError, match=r"cayley is (no group|not associative)"):
        FiniteGroup(table)


def test_tables_that_are_no_group():
    good = cyclic(3).cayley
    with pytest.raises(ValueError, match=r"square table \[n, n\].*got \[2, 3\]"):
        from_cayley(good[:2])
    with pytest.raises(ValueError, match="square table"):
        from_cayley(torch.zeros(0, 0, dtype=torch.long))
    with pytest.raises(TypeError, match="integers"):
        from_cayley(good.float())
    with pytest.raises(ValueError, match=r"elements 1\.\.3, but they must be 0\.\.2"):
        from_cayley(good + 1)
    with pytest.raises(ValueError, match="the identity is element 2: renumber"):
        from_cayley((torch.arange(3)[:, None] + torch.arange(3) + 1) % 3)
    monoid = torch.tensor([[0, 1], [1, 1]])
    with pytest.raises(ValueError, match="element 1 has no inverse"):
        from_cayley(monoid)
    with pytest.raises(ValueError, match="do not generate"):
        FiniteGroup(dihedral(4).cayley, generators=[1])
    with pytest.raises(ValueError, match="must multiply as the elements do"):
        FiniteGroup(cyclic(3).cayley, matrices=dihedral(3).matrices[[0, 1, 3]])
    with pytest.raises(ValueError, match="one for each of the 3 elements"):
        FiniteGroup(cyclic(3).cayley, matrices=cyclic(4).matrices)


def test_generators_that_generate_no_finite_group():
    turn = torch.tensor([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]], dtype=torch.float64)
    with pytest.raises(ValueError, match="more than 500 elements"):
        from_matrices([turn], max_order=500)
    with pytest.raises(ValueError, match="more than 100 elements"):
        from_permutations([[1, 2, 3, 4, 0], [1, 0, 2, 3, 4]], max_order=100)
    with pytest.raises(ValueError, match=r"generator 0 must hold each of 0\.\.2 once"):
        from_permutations([[0, 0, 1]])
    with pytest.raises(ValueError, match=r"\[k, d, d\]"):
        from_matrices(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="finite"):
        from_matrices(torch.full((1, 2, 2), math.nan))
    with pytest.raises(ValueError, match="no finite group of matrices that differ by more than atol=0.001"):
        from_matrices([turn.float()])  # 710 radians are 113 turns, nearly
    with pytest.raises(ValueError, match="no finite group .* invertible"):
        from_matrices([torch.tensor([[1.0, 0.0], [0.0, 0.0]])])


def test_sizes_that_no_group_has():
    for make, size in [(cyclic, 0), (dihedral, 0), (symmetric, 7), (alternating, 8), (quaternion, 6), (cyclic, 2.0)]:
        with pytest.raises(ValueError, match=r"needs"):
            make(size)


def test_actions_that_make_no_semidirect_product():
    five, two = cyclic(5), cyclic(2)
    still = torch.arange(5)
    with pytest.raises(ValueError, match=r"shape \[2, 5\]"):
        semidirect_product(five, two, still[None])
    with pytest.raises(ValueError, match="row 1 of action is no automorphism"):
        semidirect_product(five, two, torch.stack([still, torch.tensor([0, 2, 1, 3, 4])]))
    with pytest.raises(ValueError, match="row 1 of action must hold each"):
        semidirect_product(five, two, torch.stack([still, still * 0]))
    with pytest.raises(ValueError, match="must multiply as the group does"):
        semidirect_product(five, two, torch.stack([still, 2 * still % 5]))  # of order 4, not 2


def test_elements_that_do_not_exist():
    group = cyclic(4)
    with pytest.raises(ValueError, match=r"b names elements 4\.\.4"):
        group.compose(torch.tensor(0), torch.tensor(4))
    with pytest.raises(TypeError, match="numbers of elements"):
        group.inverse(torch.tensor(0.0))
    with pytest.raises(ValueError, match=r"v must have shape \[\.\.\., 0\]"):
        group.exp(torch.zeros(1))


def test_random_elements_are_uniform_and_repeatable():
    group = dihedral(4)
    counts = group.random(8000, seed=0).bincount(minlength=8)
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 30  # chi squared, 7 degrees of freedom: once in 10,000 seeds
    assert torch.equal(group.random(9, seed=3), group.random(9, seed=3))
    assert group.random(2, 3).shape == (2, 3)
