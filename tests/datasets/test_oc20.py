"""Files of OC20's forms, written by the tests themselves, against ASE and against what was written."""

import gzip
import lzma
import pickle
import re

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from geomeq.datasets import OC20
from geomeq.datasets._extxyz import parse_header

HEADER = (
    'Lattice="5.0 0.0 0.0 0.5 6.0 0.0 0.0 0.0 20.0" '
    "Properties=species:S:1:pos:R:3:move_mask:L:1:tags:I:1:forces:R:3 "
    'energy=-10.5 free_energy=-10.75 pbc="T T F"'
)
ROWS = [
    "Cu 0.0 0.0 1.0 F 0 0.01 0.02 -0.03",
    "Cu 2.5 0.1 3.0 T 1 0.11 0.12 -0.13",
    "O  1.2 0.2 4.5 T 2 -0.12 -0.14 0.16",
]


def frame(header=HEADER, rows=ROWS, count=None):
    return "\n".join([str(len(rows) if count is None else count), header, *rows]) + "\n"


@pytest.fixture
def write(tmp_path):
    def make(text, name="a.extxyz"):
        path = tmp_path / name
        opener = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
        with opener(path, "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
        return path

    return make


def read(path, tmp_path, **options):
    return OC20(path, root=tmp_path / "cache", **options)


def test_a_frame_is_read_as_written(write, tmp_path):
    data = read(write(frame()), tmp_path)[0]
    assert data.z.tolist() == [29, 29, 8]
    assert data.tags.tolist() == [0, 1, 2]
    assert data.fixed.tolist() == [True, False, False]
    assert data.energy.tolist() == [-10.75]
    assert data.energy.dtype == torch.float64
    assert data.pbc.tolist() == [[True, True, False]]
    torch.testing.assert_close(data.cell, torch.tensor([[[5.0, 0, 0], [0.5, 6, 0], [0, 0, 20]]]))
    torch.testing.assert_close(data.pos[2], torch.tensor([1.2, 0.2, 4.5]))
    torch.testing.assert_close(data.force[2], torch.tensor([-0.12, -0.14, 0.16]))
    assert read(write(frame()), tmp_path, energy="energy")[0].energy.tolist() == [-10.5]


def test_columns_may_come_in_any_order(write, tmp_path):
    header = HEADER.replace(
        "species:S:1:pos:R:3:move_mask:L:1:tags:I:1:forces:R:3",
        "forces:R:3:tags:I:1:species:S:1:extra:R:2:pos:R:3:move_mask:L:1",
    )
    rows = []
    for row in ROWS:
        s, x, y, z, move, tag, *force = row.split()
        rows.append(" ".join([*force, tag, s, "7", "8", x, y, z, move]))
    a, b = read(write(frame()), tmp_path)[0], read(write(frame(header, rows), "b.xyz"), tmp_path)[0]
    assert all(torch.equal(a[key], b[key]) for key in a.keys())  # noqa: SIM118
    assert set(a.keys()) == set(b.keys())


@pytest.mark.parametrize("suffix", ["", ".xz", ".gz"])
def test_many_frames_are_found_in_any_order(write, tmp_path, suffix):
    text = "".join(frame(HEADER.replace("-10.75", str(k)), ROWS[: 1 + k % 3]) for k in range(20)) + "\n\n"
    data = read(write(text, "many.extxyz" + suffix), tmp_path)
    assert len(data) == 20
    assert [data[k].energy.item() for k in (19, 0, 7)] == [19, 0, 7]
    assert [len(data[k].z) for k in (0, 1, 2)] == [1, 2, 3]
    assert [d.energy.item() for d in data[5:8]] == [5, 6, 7]
    assert "a\n" not in repr(data)
    again = read(tmp_path / ("many.extxyz" + suffix), tmp_path)  # places and unpacked file come from the cache
    assert again[11].energy.item() == 11
    batch = next(iter(DataLoader(data, batch_size=4)))
    assert batch.cell.shape == (4, 3, 3)


def test_agrees_with_ase_in_both_directions(tmp_path):
    io = pytest.importorskip("ase.io")
    from ase.build import add_adsorbate, fcc111
    from ase.calculators.emt import EMT
    from ase.constraints import FixAtoms

    frames = []
    for k in range(3):
        slab = fcc111("Pd", (2, 2, 3), vacuum=6.0)
        add_adsorbate(slab, "O", 1.4, "fcc")
        slab.pbc = True
        slab.info.clear()
        slab.rattle(0.05, seed=k)
        slab.set_constraint(FixAtoms(mask=slab.get_tags() > 1))
        slab.calc = EMT()
        slab.get_potential_energy(), slab.get_forces(apply_constraint=False), slab.get_stress()
        frames.append(slab)
    columns = ["symbols", "positions", "move_mask", "tags"]
    io.write(tmp_path / "ase.extxyz", frames, format="extxyz", columns=columns)
    for read_back, slab in zip(read(tmp_path / "ase.extxyz", tmp_path), frames, strict=True):
        np.testing.assert_allclose(read_back.pos, slab.positions, atol=1e-5)
        np.testing.assert_allclose(read_back.cell[0], slab.cell[:], rtol=1e-6)
        np.testing.assert_array_equal(read_back.z, slab.numbers)
        np.testing.assert_array_equal(read_back.fixed, slab.get_tags() > 1)
        assert read_back.energy.item() == pytest.approx(slab.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(read_back.stress[0], slab.get_stress(voigt=False), atol=1e-6)


def test_virial_is_turned_into_stress(write, tmp_path):
    header = HEADER + ' virial="6 0 0 0 0 0 0 0 -12"'
    stress = read(write(frame(header)), tmp_path)[0].stress
    torch.testing.assert_close(stress[0].diagonal(), torch.tensor([-0.01, 0.0, 0.02]))  # volume 600


def test_references_beside_the_file_are_subtracted(write, tmp_path):
    write("random12,frame3,-10.0\nrandom7,frame0,-9.0\n", "0.txt.xz")
    path = write(frame() * 2, "0.extxyz.xz")
    data = read(path, tmp_path)
    assert [d.energy.item() for d in data] == [-0.75, -1.75]
    assert [(int(d.sid), int(d.fid), float(d.reference)) for d in data] == [(12, 3, -10.0), (7, 0, -9.0)]
    assert read(path, tmp_path, subtract_reference=False)[0].energy.item() == -10.75
    write("random12,frame3,-10.0\n", "0.txt.xz")
    with pytest.raises(ValueError, match="holds 2 frames, but the text file beside it 1 lines"):
        read(path, tmp_path)
    write("random12,-10.0\n", "0.txt.xz")
    with pytest.raises(ValueError, match=r"0\.txt\.xz, line 1: expected system,frame,reference energy"):
        read(path, tmp_path)


def test_a_folder_is_read_in_the_order_of_its_numbers(write, tmp_path):
    (tmp_path / "set").mkdir()
    for k in (10, 2):
        write(frame(HEADER.replace("-10.75", str(k))), f"set/{k}.extxyz")
    data = read(tmp_path / "set", tmp_path)
    assert [d.energy.item() for d in data] == [2, 10]


def test_a_relaxation_gives_its_start_and_end(write, tmp_path):
    end = frame(HEADER.replace("-10.75", "-12.0"), [r.replace("2.5", "2.75") for r in ROWS])
    data = read(write(frame() + frame() + end), tmp_path, task="IS2RE")
    assert len(data) == 1
    assert (data[0].energy.item(), data[0].energy_relaxed.item()) == (-10.75, -12.0)
    assert (data[0].pos_relaxed - data[0].pos).abs().max() == 0.25
    with pytest.raises(ValueError, match="first and last frame have other atoms"):
        read(write(frame() + frame(rows=ROWS[:2])), tmp_path, task="IS2RS")[0]


BROKEN = {
    "missing column": (
        frame(rows=[ROWS[0], ROWS[1].rsplit(" ", 1)[0], ROWS[2]]),
        r"line 4: expected 9 columns, species \(1\), pos \(3\).*got 8",
    ),
    "column too many": (frame(rows=[ROWS[0], ROWS[1] + " 1"]), "line 4: expected 9 columns.*got 10"),
    "misordered": (
        frame(rows=[ROWS[0], "2.5 0.1 3.0 Cu T 1 0 0 0", ROWS[2]]),
        r"line 4: pos must be a finite number, got 'Cu'; are the columns in the order",
    ),
    "not a flag": (frame(rows=[ROWS[0].replace(" F ", " 7 ")]), "line 3: move_mask must be T or F, got '7'"),
    "not an integer": (frame(rows=[ROWS[0].replace("F 0 ", "F 0.5 ")]), "line 3: tags must be an integer, got '0.5'"),
    "nan": (frame(rows=[ROWS[0], ROWS[1].replace("0.12", "nan")]), "line 4: forces must be a finite number, got 'nan'"),
    "cut off": (frame(count=5), "line 1: the frame should have 5 atoms, but the file ends"),
    "too many rows": (frame(count=2) + frame(), "line 5: expected the number of atoms of a frame, got 'O  1.2"),
    "no Properties": (frame(HEADER.replace("Properties", "Props")), "line 2: the header has no Properties="),
    "bad Properties": (
        frame(HEADER.replace("species:S:1", "species:S")),
        "line 2: Properties must be name:kind:columns",
    ),
    "column twice": (frame(HEADER.replace("tags:I:1", "pos:I:1")), "line 2: Properties names a property twice"),
    "no pos": (
        frame(HEADER.replace("pos:R:3", "xyz:R:3")),
        "line 2: Properties must name pos:R:3, it names species, xyz",
    ),
    "no species": (frame(HEADER.replace("species", "name")), "line 2: Properties must name species:S:1"),
    "unknown element": (frame(rows=["Qq" + ROWS[0][2:]]), "line 2: unknown chemical symbols Qq"),
    "energy": (frame(HEADER.replace("-10.75", "much")), "line 2: free_energy must be a finite number, got 'much'"),
    "lattice": (frame(HEADER.replace("20.0", "20.0 1.0")), "line 2: Lattice must be 9 finite numbers"),
    "flat cell": (
        frame(HEADER.replace("20.0", "0.0").replace("T T F", "T T T")),
        "line 2: the periodic vectors of Lattice are zero or linearly dependent",
    ),
    "flat slab": (
        frame(HEADER.replace("0.5 6.0 0.0", "9.0 0.0 0.0")),
        "line 2: the periodic vectors of Lattice are zero or linearly dependent",
    ),
    "virial without volume": (
        frame(HEADER.replace("20.0", "0.0") + ' virial="1 0 0 0 1 0 0 0 1"'),
        "line 2: the virial gives no stress, since Lattice has no volume",
    ),
    "pbc": (frame(HEADER.replace("T T F", "yes yes no")), "line 2: pbc must be three of T and F, got 'yes yes no'"),
    "text as flag": (frame(HEADER.replace("mask:L", "mask:S")), "line 2: Properties must name move_mask:L:1"),
    "half a tag": (
        frame(HEADER.replace("tags:I", "tags:R"), [ROWS[0].replace("F 0 ", "F 0.5 ")]),
        "line 2: Properties must name tags:I:1, one integer for each atom",
    ),
    "no lattice": (frame(re.sub('Lattice="[^"]*" ', "", HEADER)), "line 2: pbc is set, but there is no Lattice"),
    "open quote": (frame(HEADER[:-1]), "line 2: expected key=value in the header, got .*is a quote not closed"),
    "key twice": (frame(HEADER + " energy=3"), "line 2: the header has energy twice"),
    "no count": ("many\n" + frame()[2:], "line 1: expected the number of atoms of a frame, got"),
    "gap": (frame() + "\n" + frame(), "line 6: an empty line, where a frame should begin"),
    "empty": ("", "is empty; expected frames"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_named_with_its_line(what, write, tmp_path):
    text, message = BROKEN[what]
    with pytest.raises(ValueError, match=message):
        list(read(write(text), tmp_path))


def test_a_column_that_other_frames_have_must_be_there(write, tmp_path):
    without = frame(HEADER.replace("forces", "other"))
    data = read(write(frame() + without), tmp_path)
    assert "force" in data[0]
    with pytest.raises(ValueError, match="line 7: the columns forces are missing, which frames read before this have"):
        data[1]
    with pytest.raises(ValueError, match="there are no columns dft"):
        read(write(frame()), tmp_path, forces="dft")[0]


def test_a_cell_is_flat_by_its_shape_and_not_by_its_size(write, tmp_path):
    tiny = HEADER.replace("5.0 0.0 0.0 0.5 6.0 0.0 0.0 0.0 20.0", "1e-3 0 0 0 1e-3 0 0 0 1e-3").replace(
        "T T F", "T T T"
    )
    assert read(write(frame(tiny)), tmp_path)[0].cell[0, 0, 0] == 1e-3


def test_header_grammar():
    header = r"""a="1 2" b='x y' c={3 4} d=[[1, 0], [0, 1]] flag e="say \"no\"" f = bare"""
    assert parse_header(header.encode(), "here") == {
        **{"a": "1 2", "b": "x y", "c": "3 4", "d": "[1, 0], [0, 1]", "flag": "T", "e": 'say "no"', "f": "bare"}
    }


def test_damaged_archives_and_wrong_paths_are_named(write, tmp_path):
    path = write(frame() * 50, "a.extxyz.xz")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="cannot be unpacked .*damaged or cut off"):
        read(path, tmp_path)
    assert not list((tmp_path / "cache").glob("*"))  # nothing half-finished is left
    with pytest.raises(FileNotFoundError, match="does not exist"):
        OC20(tmp_path / "nowhere.lmdb")
    with pytest.raises(ValueError, match=r"must end in \.lmdb, \.extxyz"):
        OC20(write("x", "a.json"))
    with pytest.raises(ValueError, match="task must be"):
        OC20(path, task="S2E")
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="holds neither"):
        OC20(tmp_path / "none")


def record(k=0, **more):
    return Data(
        pos=torch.full((3, 3), float(k)) + torch.arange(9.0).view(3, 3),
        cell=8 * torch.eye(3)[None],
        atomic_numbers=torch.tensor([29.0, 29.0, 8.0]),
        natoms=3,
        tags=torch.tensor([0.0, 1.0, 2.0]),
        fixed=torch.tensor([1.0, 0.0, 0.0]),
        force=torch.ones(3, 3) * k,
        y=-1.5 * k,
        sid=40 + k,
        fid=k,
        **more,
    )


def lmdb_file(path, values, length=True):
    lmdb = pytest.importorskip("lmdb", reason="LMDB files need lmdb: pip install 'geomeq[data]'")
    with lmdb.open(str(path), subdir=False, map_size=2**24, lock=False) as env, env.begin(write=True) as out:
        for k, value in enumerate(values):
            out.put(str(k).encode(), value)
        if length:
            out.put(b"length", pickle.dumps(len(values), protocol=-1))
    return path


@pytest.mark.parametrize("protocol", [2, 4, -1])
def test_published_lmdb_files_are_read(tmp_path, protocol):
    path = lmdb_file(tmp_path / "data.0000.lmdb", [pickle.dumps(record(k), protocol=protocol) for k in range(12)])
    data = OC20(path)
    assert len(data) == 12
    found = data[11]
    assert found.z.tolist() == [29, 29, 8]
    assert found.fixed.tolist() == [True, False, False]
    assert found.tags.tolist() == [0, 1, 2]
    assert (found.energy.item(), found.sid.item(), found.fid.item()) == (-16.5, 51, 11)
    assert torch.equal(found.pos, record(11).pos)
    assert torch.equal(found.force, 11 * torch.ones(3, 3))
    assert found.pbc.tolist() == [[True, True, True]]
    assert len(OC20(tmp_path)) == 12  # the folder
    assert pickle.loads(pickle.dumps(data))[3].sid.item() == 43  # workers open the file themselves


def test_relaxations_and_the_old_form_of_graphs(tmp_path):
    relaxed = record(2, y_init=-3.0, y_relaxed=-4.5, pos_relaxed=torch.zeros(3, 3))
    assert pickle.loads(pickle.dumps(record())).sid == 40
    new, old = (OC20(lmdb_file(tmp_path / name, [value], length=False), task="IS2RE")[0] for name, value in (
        ("new.lmdb", pickle.dumps(relaxed)), ("old.lmdb", plain_old(relaxed))))  # fmt: skip
    for found in (new, old):
        assert (found.energy.item(), found.energy_relaxed.item()) == (-3.0, -4.5)
        assert found.pos_relaxed.abs().max() == 0


def plain_old(data):
    """A pickle whose opcodes are those of the old form: NEWOBJ of Data, then BUILD with a dict of attributes."""
    state = pickle.dumps({"x": None, "__num_nodes__": None, **data.to_dict()}, protocol=2)
    return b"\x80\x02ctorch_geometric.data.data\nData\n)\x81" + state[2:-1] + b"b."


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.parametrize("protocol", [0, 2, 4, -1])
def test_a_pickle_that_runs_something_is_refused(tmp_path, protocol):
    flag = tmp_path / "ran"
    evil = pickle.dumps(record(extra=Evil(flag)), protocol=protocol)
    path = lmdb_file(tmp_path / "evil.lmdb", [pickle.dumps(record()), evil])
    data = OC20(path)
    assert data[0].sid.item() == 40
    with pytest.raises(ValueError, match=r"evil\.lmdb, key 1: refused to unpickle: the file asks for \S+"):
        data[1]
    assert not flag.exists()
    if protocol != 0:  # the negative control: blindly unpickled, it runs
        pickle.loads(evil)
        assert flag.exists()


def test_damaged_and_incomplete_lmdb_files_are_named(tmp_path):
    short, flat, loop, number = record(), record(), record(), {3: torch.zeros(2, 3)}
    short.fixed, flat.cell, loop.itself = torch.zeros(2), torch.eye(2), []
    loop.itself.append(loop.itself)
    values = [pickle.dumps(value) for value in ({"pos": torch.zeros(2, 3)}, 3, short, flat, loop, number)]
    data = OC20(lmdb_file(tmp_path / "bad.lmdb", [pickle.dumps(record())[:200], *values]))
    messages = (
        *("damaged pickle", "lacks atomic_numbers", "expected a pickled graph, got int"),
        *("fixed must hold 3 numbers for 3 atoms, got 2", "cell must hold 9 numbers for 3 atoms, got 4"),
        *("damaged pickle: it holds itself", "lacks atomic_numbers and pos; it has 3"),
    )
    for k, message in enumerate(messages):
        with pytest.raises(ValueError, match=f"key {k}: .*{message}"):
            data[k]
    nan = record()
    nan.force[1, 1] = torch.nan
    with pytest.raises(ValueError, match="key 0: force is not finite"):
        OC20(lmdb_file(tmp_path / "nan.lmdb", [pickle.dumps(nan)]))[0]
    (tmp_path / "text.lmdb").write_text("no database")
    with pytest.raises(ValueError, match="cannot be read as LMDB"):
        OC20(tmp_path / "text.lmdb")


def test_arrays_of_another_machine_are_read(tmp_path):
    """torch reads numbers in the machine's own order of bytes only."""
    big = {"pos": np.arange(6, dtype=">f8").reshape(2, 3), "atomic_numbers": np.array([8, 1], dtype=">i8")}
    data = OC20(lmdb_file(tmp_path / "big.lmdb", [pickle.dumps(big)]))[0]
    assert data.pos.flatten().tolist() == list(range(6))
    assert data.z.tolist() == [8, 1]
