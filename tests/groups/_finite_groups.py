"""Finite groups for the tests, their known classes and characters, and a cache folder of the tests' own."""

import math

import pytest
import torch

from geomeq.groups import (
    alternating,
    cyclic,
    dihedral,
    direct_product,
    from_permutations,
    icosahedral,
    octahedral,
    plane_group,
    quaternion,
    semidirect_product,
    symmetric,
)


def frobenius(p=7, q=3, root=2):
    """The group of maps x -> a x + b of Z_p with a a power of root: two irreps of complex type and dimension q."""
    powers = torch.tensor([root**i for i in range(q)])
    return semidirect_product(cyclic(p), cyclic(q), powers[:, None] * torch.arange(p) % p, name=f"C{p}:C{q}")


GROUPS = {
    "C1": cyclic(1),
    "C2": cyclic(2),
    "C12": cyclic(12),
    "S3": symmetric(3),
    "D1": dihedral(1),
    "D2": dihedral(2),
    "D4": dihedral(4),
    "D15": dihedral(15),
    "Q8": quaternion(),
    "Q12": quaternion(12),
    "A4": alternating(4),
    "A5": alternating(5),
    "S4": symmetric(4),
    "O": octahedral(),
    "I": icosahedral(),
    "Z2xZ4": direct_product(cyclic(2), cyclic(4)),
    "Q8xC3": direct_product(quaternion(), cyclic(3)),
    "Q8xQ8": direct_product(quaternion(), quaternion()),
    "C7:C3": frobenius(),
    "p4(3)": plane_group("p4", 3),
    "p4m(2)": plane_group("p4m", 2),
    "p6(2)": plane_group("p6", 2),
    "S5": from_permutations([[1, 2, 3, 4, 0], [1, 0, 2, 3, 4]], name="S5"),
}
each_group = pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS.keys())
PHI = (1 + math.sqrt(5)) / 2

#: name: characters, one row an irrep, as a list of (value, number of elements) that any order of classes gives
KNOWN_CHARACTERS = {
    "S3": [[(1, 6)], [(1, 3), (-1, 3)], [(2, 1), (0, 3), (-1, 2)]],
    "D4": [[(1, 8)], *[[(1, 4), (-1, 4)]] * 3, [(2, 1), (-2, 1), (0, 6)]],
    "Q8": [[(1, 8)], *[[(1, 4), (-1, 4)]] * 3, [(2, 1), (-2, 1), (0, 6)]],
    "A5": [
        [(1, 60)],
        *[[(3, 1), (-1, 15), (0, 20), (PHI, 12), (1 - PHI, 12)]] * 2,
        [(4, 1), (0, 15), (1, 20), (-1, 24)],
        [(5, 1), (1, 15), (-1, 20), (0, 24)],
    ],
    "S4": [
        [(1, 24)],
        [(1, 12), (-1, 12)],
        [(2, 1), (2, 3), (-1, 8), (0, 12)],
        *[[(3, 1), (-1, 9), (1, 6), (0, 8)]] * 2,
    ],
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Irreps are written to a folder that belongs to one test."""
    monkeypatch.setenv("GEOMEQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def random_functions(group, *lead, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*lead, group.order, dtype=torch.float64, generator=generator).to(dtype)
