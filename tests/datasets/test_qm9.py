"""QM9: values molecule by molecule, units, bonds, splits, PyG's habits, damaged and missing files."""

import re
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch_geometric.data import InMemoryDataset
from torch_geometric.datasets import QM9 as PyGQM9
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Distance

from geomeq.datasets import QM9, _qm9_source, _registry
from geomeq.datasets._bonds import covalent_bonds

HARTREE = 27.211386246
# from QM9's own files; Hartree, converted below. gdb number: SMILES, targets 0-11, rotational constants A, B, C
PUBLISHED = {
    1: (
        *("C", [0.0, 13.21, -0.3877, 0.1171, 0.5048, 35.3641, 0.044749]),
        *([-40.47893, -40.476062, -40.475117, -40.498597, 6.469], [157.7118, 157.70997, 157.70699]),
    ),
    3: (
        *("O", [1.8511, 6.31, -0.2928, 0.0687, 0.3615, 19.0002, 0.021375]),
        *([-76.404702, -76.401867, -76.400922, -76.422349, 6.002], [799.58812, 437.90386, 282.94545]),
    ),
    25: (
        *("N#CC#N", [0.0023, 27.7, -0.3696, -0.0926, 0.277, 242.9308, 0.015951]),
        *([-185.648533, -185.644825, -185.64388, -185.667652, 10.398], [0.0, 4.73269, 4.73269]),
    ),
    18135: (
        *("CC1C2CC(C#N)C12", [4.1684, 71.81, -0.2765, 0.0287, 0.3052, 888.8617, 0.143229]),
        *([-326.714419, -326.707008, -326.706063, -326.745942, 28.173], [3.23287, 1.8878, 1.49575]),
    ),
    115697: (
        *("NC(=O)N1CCC1CO", [5.5089, 73.38, -0.2353, 0.0444, 0.2797, 1211.1996, 0.160383]),
        *([-456.371747, -456.362652, -456.361708, -456.405971, 33.531], [2.05437, 1.64822, 0.96516]),
    ),
}
MASS = {1: 1.00782503, 6: 12.0, 7: 14.0030740, 8: 15.9949146, 9: 18.9984032}


@pytest.fixture(scope="module")
def subset():
    return QM9(subset=True)


@pytest.fixture(scope="module")
def full(qm9pack):
    return QM9()


def find(dataset, gdb):
    return dataset[int((dataset._data.idx == gdb - 1).nonzero())]


def assert_published(data, gdb):
    """Every attribute of a molecule against the numbers in QM9's own files."""
    smiles, electronic, thermal, rotational = PUBLISHED[gdb]
    first = np.array(electronic + thermal)
    first[[2, 3, 4, 6, 7, 8, 9, 10]] *= HARTREE
    np.testing.assert_allclose(data.y[0, :12], first, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(data.y[0, 16:], rotational, rtol=1e-6)
    free = {1: -0.500273, 6: -37.846772, 7: -54.583861, 8: -75.064579, 9: -99.718730}
    atomization = (thermal[0] - sum(free[int(z)] for z in data.z)) * HARTREE
    assert data.y[0, 12].item() == pytest.approx(atomization, abs=1e-5)
    assert (data.smiles, data.name, data.idx.tolist()) == (smiles, f"gdb_{gdb}", [gdb - 1])


@pytest.mark.parametrize("gdb", [25, 18135, 115697])
def test_molecules_of_the_subset_number_by_number(subset, gdb):
    assert_published(find(subset, gdb), gdb)


def test_cyanogen_by_hand(subset):
    data = find(subset, 25)
    assert data.z.tolist() == [7, 6, 6, 7]
    assert data.x.tolist() == [[0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]]
    assert data.pos[0].tolist() == pytest.approx([0.0174573422, -1.1613421749, -0.0041534236], rel=1e-6)
    assert data.edge_index.tolist() == [[1, 0, 2, 1, 3, 2], [0, 1, 1, 2, 2, 3]]


def test_shapes_and_types_are_those_of_pyg(subset):
    data = subset[7]
    n = data.num_nodes
    kinds = {k: (tuple(v.shape), v.dtype) for k, v in data.to_dict().items() if torch.is_tensor(v)}
    assert kinds == {
        "x": ((n, 5), torch.float32),
        "z": ((n,), torch.int64),
        "pos": ((n, 3), torch.float32),
        "y": ((1, 19), torch.float32),
        "edge_index": ((2, data.num_edges), torch.int64),
        "idx": ((1,), torch.int64),
    }
    assert len(QM9.targets) == len(QM9.units) == 19


def test_means_and_deviations_of_the_subset(subset):
    assert len(subset) == 5000
    assert subset.mean("mu") == pytest.approx(2.6696, abs=1e-4)
    assert subset.std("mu") == pytest.approx(1.5006, abs=1e-4)
    assert subset.mean("gap") == pytest.approx(6.8468, abs=1e-4)
    assert subset.std("gap") == pytest.approx(1.2951, abs=1e-4)
    assert subset.mean(1) == pytest.approx(75.329, abs=1e-3)
    part = subset[:10]
    assert part.mean("mu") == pytest.approx(np.mean([d.y[0, 0].item() for d in part]), rel=1e-6)


def test_targets_agree_with_each_other(subset):
    y = subset._data.y.double()
    column = {name: y[:, k] for k, name in enumerate(subset.targets)}
    torch.testing.assert_close(column["gap"], column["lumo"] - column["homo"], atol=3e-3, rtol=0)  # rounded to 1e-4 Ha
    assert ((column["H"] - column["U"]) / HARTREE).sub(0.000944).abs().max() < 2e-4 / 2  # k T at 298.15 K
    for k, name in ((7, "U0"), (8, "U"), (9, "H"), (10, "G")):
        of_atoms = subset.atomref(name).double()[subset._data.z, 0]
        start = subset.slices["z"]
        sums = torch.stack([of_atoms[a:b].sum() for a, b in pairwise(start)])
        torch.testing.assert_close(column[f"{name}_atom"], y[:, k] - sums, atol=2e-3, rtol=0)  # float32 of 1e4 eV


def test_rotational_constants_follow_from_the_geometry(subset):
    for data in subset[:200]:
        mass = np.array([MASS[int(z)] for z in data.z])
        x = data.pos.double().numpy()
        x = x - mass @ x / mass.sum()
        inertia = np.einsum(
            "n,nij->ij", mass, np.einsum("nk,nk->n", x, x)[:, None, None] * np.eye(3) - x[:, :, None] * x[:, None]
        )
        b, c = 505.379009 / np.linalg.eigvalsh(inertia)[1:]  # GHz amu A^2
        np.testing.assert_allclose(data.y[0, 17:], [b, c], rtol=2e-5)


def test_atom_references():
    for target in range(7, 11):
        ours, theirs = (cls.atomref(object.__new__(cls), target) for cls in (QM9, PyGQM9))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    dataset = object.__new__(QM9)
    assert dataset.atomref("Cv")[[1, 6, 7, 8, 9], 0].tolist() == pytest.approx([2.981] * 5)
    assert dataset.atomref("zpve").abs().sum() == 0
    assert dataset.atomref("mu") is None


def test_bonds_are_those_of_a_search_over_all_pairs(subset):
    radius = {1: 0.31, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57}
    for data in subset[::500]:
        expected = [
            (j, i)
            for i in range(data.num_nodes)
            for j in range(data.num_nodes)
            if i != j and (data.pos[i] - data.pos[j]).norm() < 1.15 * (radius[int(data.z[i])] + radius[int(data.z[j])])
        ]
        assert [tuple(edge) for edge in data.edge_index.T.tolist()] == expected


def test_bonds_agree_with_the_smiles(subset):
    """A connected molecule of n atoms has n - 1 bonds, and one more for every ring; a hydrogen has one bond."""
    wrong = 0
    for k in range(len(subset)):
        data = subset.get(k)
        rings = len(re.findall(r"\d", re.sub(r"\[[^]]*\]", "X", data.smiles))) // 2
        wrong += data.num_edges != 2 * (data.num_nodes - 1 + rings)
    assert wrong <= 5
    z = subset._data.z
    start = subset.slices["z"][:-1].repeat_interleave(subset.slices["edge_index"].diff())
    degree = torch.bincount(subset._data.edge_index[1] + start, minlength=len(z))
    assert (degree[z == 1] == 1).float().mean() > 0.9999


def test_a_molecule_may_have_one_atom_or_no_bond():
    pos = np.array([[0, 0, 0], [0, 0, 0.96], [0, 0.96, 0], [0, 0, 0]])
    edges, count = covalent_bonds(np.array([8, 1, 1, 6]), pos, np.array([3, 1]))
    assert edges.tolist() == [[1, 2, 0, 0], [0, 0, 1, 2]]
    assert count.tolist() == [4, 0]


def test_direct_collation_equals_pygs(subset):
    samples = [subset.get(k) for k in range(40)]
    data, slices = InMemoryDataset.collate(samples)
    for key in data.keys():  # noqa: SIM118
        end = int(slices[key][-1])
        ours = subset._data[key][:, :end] if key == "edge_index" else subset._data[key][:end]
        assert torch.equal(ours, data[key]) if torch.is_tensor(ours) else list(ours) == list(data[key])
        assert torch.equal(subset.slices[key][:41], slices[key])


def test_batches_and_pre_transform(subset, tmp_path):
    batch = next(iter(DataLoader(subset, batch_size=64)))
    assert batch.y.shape == (64, 19)
    assert len(batch.smiles) == 64
    few = QM9(tmp_path, subset=True, pre_filter=lambda d: int(d.idx) < 2000, pre_transform=Distance(norm=False))
    assert 0 < len(few) < 200
    data = few[3]
    source, target = data.edge_index
    torch.testing.assert_close(data.edge_attr[:, 0], (data.pos[source] - data.pos[target]).norm(dim=-1))
    train, valid, test = few.split("random")
    assert len(train) + len(valid) + len(test) == len(few)


@pytest.mark.parametrize("name", ["published", "random"])
def test_splits_of_the_subset(subset, name):
    parts = subset.split(name)
    sizes = [len(part) for part in parts]
    assert sizes == {"published": [3819, 692, 489], "random": [4000, 500, 500]}[name]
    places = np.concatenate([np.array(part.indices()) for part in parts])
    assert sorted(places) == list(range(5000))
    again = subset.split(name)
    assert all(list(a.indices()) == list(b.indices()) for a, b in zip(parts, again, strict=True))
    assert abs(parts[0].mean("alpha") - parts[2].mean("alpha")) < 1.0


def test_random_splits_follow_their_seed(subset):
    assert list(subset.split("random", seed=1)[0].indices()) != list(subset.split("random", seed=2)[0].indices())


def test_a_wrong_name_is_named(subset):
    with pytest.raises(ValueError, match="name must be 'published' .* got 'anything'"):
        subset.split("anything")
    with pytest.raises(ValueError, match="target must be one of mu, alpha, .*, got 'energy'"):
        subset.mean("energy")
    with pytest.raises(ValueError, match="target must be a name or an index from 0 to 18, got 19"):
        subset.std(19)


def test_a_reduced_y_is_named(tmp_path):
    def only_gap(data):
        data.y = data.y[:, 4]
        return data

    dataset = QM9(tmp_path, subset=True, pre_filter=lambda d: int(d.idx) < 500, pre_transform=only_gap)
    with pytest.raises(ValueError, match=r"y must have shape \[M, 19\], got .*; pre_transform changed it"):
        dataset.mean("gap")


def test_a_missing_full_set_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(_qm9_source, "package_folder", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps qm9pack==1\.0\.3.*QM9\(subset=True\)"):
        QM9(tmp_path)
    assert len(QM9(tmp_path, subset=True)) == 5000  # does not need the package


def test_a_damaged_full_set_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_qm9_source, "package_folder", lambda name: None)
    (tmp_path / "raw").mkdir()
    for name in _qm9_source.CSV_SHA256:
        (tmp_path / "raw" / name).write_text("Index,SMILES\n")
    with pytest.raises(ValueError, match=r"qm9_part1\.csv .* is damaged, truncated .*force-reinstall"):
        QM9(tmp_path)


def test_a_damaged_subset_is_refused(tmp_path, monkeypatch):
    (tmp_path / "qm9").mkdir()
    whole = (_registry.bundled_folder() / "qm9" / "qm9_subset.npz").read_bytes()
    (tmp_path / "qm9" / "qm9_subset.npz").write_bytes(whole[:-1])
    monkeypatch.setattr(_registry, "bundled_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match=r"qm9_subset\.npz .*sha256 must be .*; install geomeq again"):
        QM9(tmp_path, subset=True)


@pytest.mark.slow
class TestFullSet:
    def test_reading_takes_under_a_minute_once_and_under_three_seconds_later(self, qm9pack, tmp_path):
        begin = time.perf_counter()
        QM9(tmp_path)
        once = time.perf_counter() - begin
        begin = time.perf_counter()
        QM9(tmp_path)
        later = time.perf_counter() - begin
        assert once < 60
        assert later < 3

    @pytest.mark.parametrize("gdb", sorted(PUBLISHED))
    def test_molecules_number_by_number(self, full, gdb):
        assert_published(find(full, gdb), gdb)

    def test_methane_as_pyg_has_it(self, full):
        expected = [0, 13.21, -10.5499, 3.1865, 13.7363, 35.3641, 1.2177, -1101.4878, -1101.4098, -1101.3840]
        expected += [-1102.0229, 6.4690, -17.1722, -17.2868, -17.3897, -16.1519, 157.7118, 157.7100, 157.7070]
        np.testing.assert_allclose(full[0].y[0], expected, atol=6e-5)

    def test_size_means_and_deviations(self, full):
        assert len(full) == 130_831
        assert full._data.num_nodes == 2_359_210
        count = full.slices["z"].diff()
        assert (int(count.min()), int(count.max())) == (3, 29)
        expected = {
            **{"mu": (2.673, 1.503), "alpha": (75.281, 8.174), "homo": (-6.5365, 0.5977), "lumo": (0.3220, 1.2749)},
            **{"gap": (6.858, 1.284), "zpve": (4.0569, 0.9017), "Cv": (31.620, 4.068), "U0_atom": (-76.116, 10.324)},
        }
        for name, (mean, std) in expected.items():
            assert full.mean(name) == pytest.approx(mean, abs=6e-4)
            assert full.std(name) == pytest.approx(std, abs=6e-4)
        assert full._data.num_edges / len(full) == pytest.approx(37.3, abs=0.05)  # PyG, with RDKit: ~37.3

    def test_the_subset_is_part_of_it_bit_by_bit(self, full, subset):
        rows = torch.searchsorted(full._data.idx, subset._data.idx)
        assert torch.equal(full._data.y[rows], subset._data.y)
        for k in (0, 1, 2500, 4999):
            a, b = full.get(int(rows[k])), subset.get(k)
            assert all(torch.equal(a[key], b[key]) for key in ("x", "z", "pos", "edge_index", "idx"))
            assert (a.smiles, a.name) == (b.smiles, b.name)

    def test_published_split(self, full, subset):
        parts = full.split("cormorant")
        assert [len(part) for part in parts] == [100_000, 17_748, 13_083]
        order = np.random.RandomState(0).permutation(130_831)
        assert set(parts[2].indices()) == set(order[117_748:].tolist())
        molecules = [set(full._data.idx[list(part.indices())].tolist()) for part in parts]
        for part, whole in zip(subset.split("published"), molecules, strict=True):
            assert set(subset._data.idx[list(part.indices())].tolist()) <= whole

    def test_random_split(self, full):
        assert [len(part) for part in full.split("random")] == [110_000, 10_000, 10_831]
