"""Irreps against closed forms and against every relation they must satisfy; the cache on disk."""

import math
import os
import warnings

import numpy as np
import pytest
import torch

from geomeq.groups import (
    _irreps,
    _irreps_cache,
    alternating,
    cyclic,
    dihedral,
    direct_product,
    plane_group,
    quaternion,
    semidirect_product,
    symmetric,
)
from tests.groups._finite_groups import GROUPS, KNOWN_CHARACTERS, each_group, own_cache  # noqa: F401

TOL = 1e-12


@pytest.fixture
def _forgotten(monkeypatch):
    """Nothing in memory."""
    monkeypatch.setattr(_irreps_cache, "_MEMORY", {})


def fresh(group):
    """The same group without what it has computed."""
    return type(GROUPS["S3"])(group.cayley, name=group.name)


@each_group
def test_homomorphism_on_all_pairs_and_unitarity(group):
    for irrep in [*group.irreps, *group.real_irreps]:
        product = irrep[:, None] @ irrep[None]
        torch.testing.assert_close(irrep[group.cayley], product, atol=TOL, rtol=0)
        unit = torch.eye(irrep.size(-1), dtype=irrep.dtype).expand_as(irrep)
        torch.testing.assert_close(irrep @ irrep.mH, unit, atol=TOL, rtol=0)
        torch.testing.assert_close(irrep[0], unit[0], atol=TOL, rtol=0)


@each_group
def test_squared_dimensions_sum_to_the_order_and_there_is_one_irrep_a_class(group):
    dims = [irrep.size(-1) for irrep in group.irreps]
    assert sum(d * d for d in dims) == group.order
    assert len(dims) == int(group.conjugacy_classes.max()) + 1
    assert dims == sorted(dims)
    assert bool((group.irreps[0] == 1).all())
    assert all(group.order % d == 0 for d in dims)
    assert all(irrep.dtype == torch.complex128 for irrep in group.irreps)
    assert all(irrep.dtype == torch.float64 for irrep in group.real_irreps)


@each_group
def test_schur_orthogonality(group):
    rows = torch.cat([irrep.flatten(1) * math.sqrt(irrep.size(-1) / group.order) for irrep in group.irreps], dim=1)
    identity = torch.eye(group.order, dtype=rows.dtype)
    torch.testing.assert_close(rows.mH @ rows, identity, atol=TOL, rtol=0)
    characters = group.characters / math.sqrt(group.order)
    torch.testing.assert_close(characters @ characters.mH, torch.eye(len(characters)).to(rows), atol=TOL, rtol=0)


@each_group
def test_type_is_the_frobenius_schur_indicator(group):
    square = group.cayley.diagonal()
    indicator = group.characters[:, square].mean(dim=1).real.round().tolist()
    assert group.irrep_types == [{1: "real", 0: "complex", -1: "quaternionic"}[int(i)] for i in indicator]
    for character, kind in zip(group.characters, group.irrep_types, strict=True):
        assert (float(character.imag.abs().max()) > 1e-9) == (kind == "complex")


@each_group
def test_real_irreps_hold_the_complex_ones(group):
    left = list(group.characters)
    for real, kind in zip(group.real_irreps, group.real_irrep_types, strict=True):
        character = real.diagonal(dim1=1, dim2=2).sum(-1)
        parts = {"real": 1, "complex": 1, "quaternionic": 2}[kind]
        inside = [c for c in left if abs(float((c.conj() * character).mean().real) - parts) < 1e-9]
        assert len(inside) == (2 if kind == "complex" else 1)
        torch.testing.assert_close(parts * sum(inside), character.to(torch.complex128), atol=TOL, rtol=0)
        left = [c for c in left if not any(c is i for i in inside)]
    assert left == []


@pytest.mark.parametrize("name", KNOWN_CHARACTERS)
def test_characters_known_in_closed_form(name):
    def as_list(values):
        return sorted(round(v, 9) + 0.0 for v in values)

    computed = sorted(as_list(c.real.tolist()) for c in GROUPS[name].characters)
    known = sorted(as_list([v for v, number in row for _ in range(number)]) for row in KNOWN_CHARACTERS[name])
    assert computed == known


def test_irreps_of_a5_turn_the_icosahedron():
    group = GROUPS["I"]
    turns = group.matrices.diagonal(dim1=1, dim2=2).sum(-1)
    matches = [bool((c.real - turns).abs().max() < TOL) for c in group.characters]
    assert matches.count(True) == 1
    assert group.irreps[matches.index(True)].size(-1) == 3


def test_dihedral_irreps_by_the_formula():
    n = 15
    found = GROUPS["D15"].characters.real
    k = torch.arange(n, dtype=torch.float64)
    turns = torch.stack([2 * torch.cos(2 * math.pi * j * k / n) for j in range(1, 8)])
    formula = torch.cat([turns, torch.zeros_like(turns)], dim=1)  # reflections have trace 0
    gaps = torch.cdist(formula, found[2:])
    assert float(gaps.min(dim=1).values.max()) < 1e-12
    assert float(gaps.min(dim=0).values.max()) < 1e-12


@pytest.mark.parametrize("group", [cyclic(12), direct_product(cyclic(2), cyclic(4)), plane_group("p1", 6)], ids=repr)
def test_commutative_groups_by_formula_and_by_numbers(group):
    exact, numerical = _irreps.from_real(*_irreps._abelian(group)), _irreps.from_real(*_irreps._numerical(group))
    _irreps_cache.verify(group, exact)
    _irreps_cache.verify(group, numerical)
    a, b = (torch.stack([irrep[:, 0, 0] for irrep in found.complex]) for found in (exact, numerical))
    overlap = (a.conj() @ b.T).abs() / group.order
    torch.testing.assert_close(overlap.sum(dim=0), torch.ones(group.order).double(), atol=1e-10, rtol=0)
    torch.testing.assert_close(overlap.max(dim=0).values, torch.ones(group.order).double(), atol=1e-10, rtol=0)


def test_characters_of_a_cyclic_group_are_roots_of_unity():
    found = cyclic(12).characters
    k = torch.arange(12, dtype=torch.float64)
    roots = torch.polar(torch.ones(12, 12).double(), 2 * math.pi * k[:, None] * k / 12)
    overlap = (found.conj() @ roots.T).abs() / 12
    assert sorted(overlap.round(decimals=9).argmax(dim=1).tolist()) == list(range(12))
    assert set(found[:, 6].real.tolist()) == {1.0, -1.0}  # exact where the root is


@pytest.mark.usefixtures("_forgotten")
def test_the_same_irreps_every_time():
    torch.manual_seed(1)
    first = fresh(GROUPS["A5"]).irreps
    _irreps_cache._MEMORY.clear()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = _irreps.decompose(fresh(GROUPS["A5"])).complex
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(torch.get_rng_state(), state)  # leaves the user's random numbers alone


@pytest.mark.parametrize("group", [alternating(6), symmetric(5), plane_group("p4m", 6)], ids=repr)
def test_larger_groups(group):
    found = _irreps.decompose(group)
    _irreps_cache.verify(group, found)
    assert len(found.complex) == int(group.conjugacy_classes.max()) + 1


def test_the_group_of_order_200_in_the_paper_on_implicit_bias():
    """(C5 x C5) : Q8, the quaternions as matrices over the field of five elements."""
    five, q8 = cyclic(5), quaternion()
    i, j = torch.tensor([[2, 0], [0, 3]]), torch.tensor([[0, 1], [4, 0]])
    powers = [(torch.linalg.matrix_power(i, a), torch.linalg.matrix_power(j, b)) for b in range(2) for a in range(4)]
    matrices = [one @ other % 5 for one, other in powers]
    point = torch.stack([torch.arange(25) // 5, torch.arange(25) % 5])
    images = torch.stack([(m @ point % 5)[0] * 5 + (m @ point % 5)[1] for m in matrices])
    group = semidirect_product(direct_product(five, five), q8, images)
    assert [irrep.size(-1) for irrep in group.irreps] == [1, 1, 1, 1, 2, 8, 8, 8]


@pytest.mark.slow
@pytest.mark.parametrize("group", [dihedral(1000), plane_group("p4", 22), symmetric(6)], ids=repr)
def test_two_thousand_elements(group):
    found = _irreps.decompose(group)
    _irreps_cache.verify(group, found)


# --- what verification finds


def test_verification_finds_what_is_wrong():
    group = GROUPS["S3"]
    good = _irreps.decompose(group)
    _irreps_cache.verify(group, good)

    def damaged(change):
        return _irreps.Representations(good.real, good.real_types, change(list(good.complex)), good.types)

    with pytest.raises(RuntimeError, match="squared dimensions sum to 2, not to 6"):
        _irreps_cache.verify(group, damaged(lambda irreps: irreps[:2]))
    with pytest.raises(RuntimeError, match=r"rho\(s\) rho\(g\) is not rho\(s g\)"):
        _irreps_cache.verify(group, damaged(lambda irreps: [irreps[0], irreps[1], irreps[2] + 1e-9]))
    with pytest.raises(RuntimeError, match="characters are not orthogonal"):
        _irreps_cache.verify(group, damaged(lambda irreps: [irreps[0], irreps[0], irreps[2]]))
    doubled = [good.real[0], *good.real[:2], good.real[2]]
    twice = _irreps.Representations(doubled, ["real"] * 4, good.complex, good.types)
    with pytest.raises(RuntimeError, match="matrix coefficients are not orthogonal"):
        _irreps_cache.verify(group, twice)


def test_a_group_that_does_not_split_is_reported(monkeypatch):
    monkeypatch.setattr(_irreps, "_attempt", lambda group, attempt: None)
    with pytest.raises(RuntimeError, match="did not split"):
        _irreps.decompose(GROUPS["S4"])


# --- the cache


@pytest.mark.usefixtures("_forgotten")
def test_irreps_are_read_from_disk(own_cache, monkeypatch):  # noqa: F811
    first = fresh(GROUPS["Q8xC3"]).irreps
    (path,) = own_cache.rglob("*.npz")
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing half-written
    assert path.stat().st_mode & 0o777 == 0o644
    _irreps_cache._MEMORY.clear()
    monkeypatch.setattr(_irreps, "decompose", None)  # would fail if it were called
    again = fresh(GROUPS["Q8xC3"])
    assert all(torch.equal(a, b) for a, b in zip(first, again.irreps, strict=True))
    assert again.irrep_types == GROUPS["Q8xC3"].irrep_types


@pytest.mark.usefixtures("_forgotten")
def test_equal_tables_share_irreps_in_memory():
    assert fresh(GROUPS["A4"]).irreps[0] is fresh(GROUPS["A4"]).irreps[0]


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.parametrize("damage", ["cut", "pickle", "wrong numbers", "wrong shape"])
def test_a_damaged_file_is_made_again_with_a_warning(own_cache, damage):  # noqa: F811
    group = fresh(GROUPS["A4"])
    good = group.irreps
    (path,) = own_cache.rglob("*.npz")
    with np.load(path) as stored:
        arrays = dict(stored)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "pickle":
        np.savez(path, **{**arrays, "types": np.array([object()])})
    elif damage == "wrong numbers":
        np.savez(path, **{**arrays, "real2": arrays["real2"] + 1e-6})
    else:
        np.savez(path, **{**arrays, "real2": arrays["real2"][:3]})
    _irreps_cache._MEMORY.clear()
    with pytest.warns(UserWarning, match=r"is damaged .*computing it again"):
        again = fresh(GROUPS["A4"]).irreps
    assert all(torch.equal(a, b) for a, b in zip(good, again, strict=True))
    _irreps_cache._MEMORY.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _ = fresh(GROUPS["A4"]).irreps  # whole again


@pytest.mark.usefixtures("_forgotten")
def test_a_folder_that_cannot_be_written_costs_a_warning_only(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GEOMEQ_CACHE", str(tmp_path / "file" / "inside"))
    with pytest.warns(UserWarning, match="cannot be written"):
        assert len(fresh(GROUPS["A4"]).irreps) == 4


@pytest.mark.usefixtures("_forgotten")
def test_the_default_folder(monkeypatch):
    monkeypatch.delenv("GEOMEQ_CACHE")
    path = _irreps_cache.cache_file(GROUPS["A4"])
    assert str(path).startswith(os.path.expanduser("~/.cache/geomeq/irreps/v"))
