"""Where the molecular dynamics files are, what they hold, and their checksums."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from geomeq.datasets._raw import load_npz, require_keys
from geomeq.datasets._registry import REINSTALL, bundled

#: 1 kcal/mol = 4184 J/mol, divided by the Faraday constant 96485.33212 C/mol (both exact in the SI of 2019).
UNIT_IN_EV = {"eV": 1.0, "kcal/mol": 4184 / 96485.33212}


@dataclass(frozen=True)
class Source:
    """One family of files.

    Args:
        splits: Names as they begin the keys of the file.
        energy_unit: Of the file; forces are per Angstrom.
        sha256: Of the file of each molecule; ``None`` for bundled files, whose checksums are in the registry.
        folder: Below ``GEOMEQ_DATA``.
        short: Other names of splits.
    """

    splits: tuple[str, ...]
    energy_unit: str
    sha256: dict[str, str | None]
    folder: str = ""
    short: dict[str, str] = field(default_factory=dict)

    @property
    def molecules(self) -> tuple[str, ...]:
        """The molecules of this source."""
        return tuple(self.sha256)


SOURCES = {
    "gfn2": Source(("train", "test"), "eV", dict.fromkeys(("ethanol", "acetamide"))),
    "rmd17": Source(
        ("train", "test"),
        "kcal/mol",
        {
            "aspirin": "b1723f58132d2b8ef363a09b8d45d8853c171223b5bdc84fcc902bf8781cca6d",
            "azobenzene": "9f8f34e6d4206e3451c1d3b18dd0a02ec0be506333f1c40a526a76aefb2e7a08",
            "benzene": "534b8bbe7a87031e68e58e85ab9131b407c2d34769593d665e96778a0ca44210",
            "ethanol": "bcbef507db45bb767c627e3fd1abc30fc1da316106b653b681fee4ad8d742d68",
            "malonaldehyde": "2bca6044f9f9df4a8c589507e2383d80d2d6b4f6229987c3cdbb507157ce4268",
            "naphthalene": "afa281cc5473c0b1243c8dcc5a04f152055397ae8991e575a879041ec8a076f8",
            "paracetamol": "de001d2cb2f617b87961e5cc9795b9a3bb0b9130721ee651176391abdbdc178f",
            "salicylic": "5d0605473741fe4f627388224c2e4301c0e39a512e862b2d90eaec67eeaf2410",
            "toluene": "faf6e9ba277ae56cbf9995d8f89a7e05cf42f7e72c7a6017a668505f2251c560",
            "uracil": "ad83f891f251e7c4d9a28b3157c6ad4a6832b9bcd5f7e31fac16966f4a9a0d9d",
        },
        "rmd17",
    ),
    "3bpa": Source(
        ("train_300K", "train_mixedT"),
        "eV",
        {"3bpa": "e9ea7716724525286a4b64d10acf0f8cbc97e74b3ec65a43daa8b678a70780e9"},
        "3bpa",
        {"train": "train_300K"},
    ),
    "acac": Source(
        ("train_300K", "train_600K", "test_MD_300K", "test_MD_600K", "test_dihedral", "test_H_transfer"),
        "eV",
        {"acac": "037e5a5a2e59e33890da5d4076f2da40c0b4870d5e3d52fead89abbad5f3f65b"},
        "acac",
        {"train": "train_300K", "test": "test_MD_300K"},
    ),
}


def read(name: str, molecule: str, split: str, raw_dir: Path) -> dict[str, np.ndarray]:
    """Reads one split of one molecule.

    Returns:
        ``z`` ``[n]``, ``pos`` ``[F, n, 3]`` float32, ``energy`` ``[F]`` float64 in the unit of the source, and where
        the file has them ``forces`` ``[F, n, 3]`` and ``dipole`` ``[F, 3]``.

    Raises:
        FileNotFoundError: If the file is not to be found.
        ValueError: If it is damaged.
    """
    if name == "gfn2":
        path, sha256, advice = bundled(f"md/{molecule}.npz"), None, REINSTALL
    else:
        path, sha256 = find(name, molecule, raw_dir), SOURCES[name].sha256[molecule]
        advice = "copy it again"
    stored = load_npz(path, sha256, advice)
    require_keys(path, stored, "z", f"{split}_pos", f"{split}_energy")
    keys = ("pos", "energy", "forces", "dipole")
    found = {key: stored[f"{split}_{key}"] for key in keys if f"{split}_{key}" in stored}
    return {"z": stored["z"], **found, "energy": found["energy"].astype(np.float64)}


def find(name: str, molecule: str, raw_dir: Path) -> Path:
    """The file of a molecule below ``GEOMEQ_DATA`` or in ``raw_dir``.

    Raises:
        FileNotFoundError: If it is in neither.
    """
    data = os.environ.get("GEOMEQ_DATA")
    places = [Path(data).expanduser() / SOURCES[name].folder] if data else []
    for folder in (*places, raw_dir):
        if (folder / f"{molecule}.npz").is_file():
            return folder / f"{molecule}.npz"
    looked = " nor ".join(str(folder / f"{molecule}.npz") for folder in (*places, raw_dir))
    unset = "" if data else "; the environment variable GEOMEQ_DATA is not set"
    raise FileNotFoundError(
        f"found neither {looked}{unset}. Set GEOMEQ_DATA to a folder that holds {SOURCES[name].folder}/{molecule}.npz, "
        f"put the file into {raw_dir}, or use the frames that come with geomeq: MD('ethanol', source='gfn2')"
    )
