"""Reads QM9 from its two sources into the same arrays: the CSV files of qm9pack, the bundled subset."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from geomeq.datasets._raw import load_npz, package_folder, require_keys, verified
from geomeq.datasets._registry import REINSTALL, bundled

#: The files of qm9pack 1.0.3 (MIT).
PACKAGE, PACKAGE_VERSION = "qm9pack", "1.0.3"
CSV_SHA256 = {
    "qm9_part1.csv": "19f0a5d595462d52cd82eef3370f3e9eb55a1f52cb14985657200349568deff3",
    "qm9_part2.csv": "2bca113fdc0b28a13563c80ed9b240e934f3da6c64c64fe74ddb4f0f36036e61",
    "qm9_part3.csv": "9c5efb5733d2af149db8d95d36ff198b4ffed12d9f7b344220a1e5877d5c6a43",
}
SUBSET = "qm9/qm9_subset.npz"
NUM_MOLECULES = 130_831
NUM_GDB9 = 133_885

#: Columns of the raw properties, in the order of QM9's own files. Hartree, bohr, Debye, GHz, cal/(mol K).
COLUMNS = (
    "Dipole_debye",
    "Polarizability_bohr3",
    "HOMO_au",
    "LUMO_au",
    "HOMO_LUMO_gap_au",
    "R2_bohr2",
    "ZPVE_au",
    "InternalEnergy_0K_au",
    "InternalEnergy_298K_au",
    "Enthalphy_298K_au",  # the spelling of the file
    "GibbsFreeEnergy_298K_au",
    "Heatcapacity_Cv_cal_mol_K",
    "RotA_GHz",
    "RotB_GHz",
    "RotC_GHz",
)
SYMBOLS = {"'H'": 1, "'C'": 6, "'N'": 7, "'O'": 8, "'F'": 9}


@dataclass
class Molecules:
    """QM9 molecules end to end, in the units of QM9's own files.

    Args:
        idx: Place in GDB9, from 0, ``[M]`` int64.
        count: Atoms of each molecule, ``[M]`` int64.
        z: Atomic numbers, ``[N]`` uint8.
        pos: Angstrom, ``[N, 3]`` float32.
        raw: The 15 properties named in ``COLUMNS``, ``[M, 15]`` float64.
        smiles: One per molecule.
    """

    idx: np.ndarray
    count: np.ndarray
    z: np.ndarray
    pos: np.ndarray
    raw: np.ndarray
    smiles: list[str]


def find_csv(raw_dir: Path) -> list[Path]:
    """The three CSV files: those of the installed package, else those in ``raw_dir``; sha256 checked.

    Raises:
        FileNotFoundError: If they are in neither place.
        ValueError: If a file is damaged.
    """
    package = package_folder(PACKAGE)
    folders = [raw_dir] if package is None else [package / "data", raw_dir]
    for folder in folders:
        paths = [folder / name for name in CSV_SHA256]
        if all(path.is_file() for path in paths):
            advice = f"install it again: pip install --force-reinstall --no-deps {PACKAGE}=={PACKAGE_VERSION}"
            return [verified(path, CSV_SHA256[path.name], advice) for path in paths]
    raise FileNotFoundError(
        f"the full QM9 set was found neither in the package {PACKAGE} nor in {raw_dir}; install it (pip install "
        f"'geomeq[data]' or pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}; 104 MB), put {', '.join(CSV_SHA256)} "
        "of that package into the folder named, or use the bundled 5,000 molecules: QM9(subset=True)"
    )


def read_csv(paths: list[Path]) -> Molecules:
    """Reads all molecules from the CSV files of qm9pack."""
    rows = [row for path in tqdm(paths, desc="QM9: read", unit="file") for row in _rows(path)]
    index, smiles, elements, xyz, *raw = zip(*rows, strict=True)
    z = [[SYMBOLS[symbol] for symbol in atoms[1:-1].split(",")] for atoms in elements]
    numbers = ",".join(xyz).replace("[", "").replace("]", "").replace("*^", "e")  # 1.2*^-6 is 1.2e-6
    properties = [[float(value.replace("*^", "e")) for value in column] for column in raw]
    return Molecules(
        idx=np.array(index, dtype=np.int64) - 1,
        count=np.array([len(atoms) for atoms in z]),
        z=np.array([number for atoms in z for number in atoms], dtype=np.uint8),
        pos=np.array(numbers.split(","), dtype=np.float64).reshape(-1, 3).astype(np.float32),
        raw=np.array(properties).T,
        smiles=list(smiles),
    )


def _rows(path: Path) -> list[list[str]]:
    csv.field_size_limit(10**9)
    with open(path, newline="") as file:
        lines = csv.reader(file)
        header = next(lines)
        columns = [header.index(name) for name in ("Index", "SMILES", "Elements", "XYZ_Ang", *COLUMNS)]
        return [[line[column] for column in columns] for line in lines]


def read_subset() -> Molecules:
    """Reads the bundled 5,000 molecules."""
    path = bundled(SUBSET)
    stored = load_npz(path, None, REINSTALL)
    require_keys(path, stored, "idx", "count", "z", "pos", "raw", "smiles")
    smiles = stored["smiles"].tobytes().decode("ascii").split("\n")
    idx, count = stored["idx"].astype(np.int64), stored["count"].astype(np.int64)
    return Molecules(idx, count, stored["z"], stored["pos"], stored["raw"], smiles)


def full_row(idx: np.ndarray) -> np.ndarray:
    """Turns places in GDB9 (0 to 133,884) into places in the full set of 130,831 (sorted, failures left out)."""
    stored = load_npz(bundled(SUBSET), None, REINSTALL)
    excluded = np.sort(stored["excluded"].astype(np.int64))
    return idx - np.searchsorted(excluded, idx)
