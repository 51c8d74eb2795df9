"""Files of OC20 and files like them: structures with energies and forces, read as they are needed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, Dataset

from geomeq.datasets._cached import cache_root
from geomeq.datasets._extxyz import NUMBER, Frame
from geomeq.datasets._frame_index import FrameFile, read_references
from geomeq.datasets._graph_lmdb import GraphFile

_XYZ = (".extxyz", ".xyz", ".extxyz.xz", ".xyz.xz", ".extxyz.gz", ".xyz.gz")


class OC20(Dataset):
    r"""Your own files of OC20, or any of that form: extxyz, plain or compressed, and LMDB.

    Nothing is downloaded. Frames are read when they are asked for, so files may be larger than memory; a compressed
    file is unpacked once, below ``root``.

    **extxyz** (``.extxyz`` or ``.xyz``, also with ``.xz`` or ``.gz``). Columns in any order, named by ``Properties=``:
    ``species`` (or ``Z``), ``pos``, ``forces``, ``move_mask`` (T: moves) and ``tags``; header: ``Lattice``, ``pbc``,
    an energy, ``stress`` (9 numbers) or ``virial``. Other columns and keys are left alone. Whatever is missing,
    misplaced or not a number is an error with file and line. If ``0.txt`` (or ``0.txt.xz``) with lines
    ``system,frame,reference energy`` lies beside ``0.extxyz.xz``, as in OC20's S2EF archives, the reference is there
    as ``reference`` and, unless ``subtract_reference=False``, subtracted.

    **LMDB** of pickled PyG graphs, as published, old form and new. A pickle can run anything when it is loaded, so only
    tensors, arrays, numbers and graphs are read, and a file that asks for more is refused. Needs ``lmdb``.

    Attributes of a frame with ``n`` atoms, as far as the file has them:
        - ``z`` ``[n]``: atomic numbers. ``pos`` ``[n, 3]``: Angstrom, float32. ``tags`` ``[n]``: 0 below, 1 surface,
          2 adsorbate. ``fixed`` ``[n]`` bool: atoms that do not move (always there).
        - ``cell`` ``[1, 3, 3]``: rows, Angstrom; ``pbc`` ``[1, 3]`` bool.
        - ``energy`` ``[1]``: eV, float64. ``force`` ``[n, 3]``: eV/Angstrom. ``stress`` ``[1, 3, 3]``:
          eV/Angstrom^3, positive under tension.
        - ``sid``, ``fid`` ``[1]``: numbers of system and frame.

    With ``task="IS2RE"`` or ``"IS2RS"`` a sample is a relaxation: its start, with ``pos_relaxed`` ``[n, 3]`` and
    ``energy_relaxed`` ``[1]``. In extxyz each file is one trajectory, first to last frame.

    Args:
        path: A file, or a folder of files of one kind.
        task: ``"S2EF"`` (structure to energy and forces), ``"IS2RE"`` or ``"IS2RS"`` (initial to relaxed).
        root: Folder for unpacked files and places of frames; default: the cache folder.
        energy: Key of the energy in an extxyz header; default: ``free_energy`` if there, else ``energy``.
        forces: Name of the force columns in extxyz.
        subtract_reference: Whether reference energies, where there are some, are subtracted.
        transform: Applied to a frame at every access, such as ``PeriodicGraph(6.0)``.

    Raises:
        FileNotFoundError: If the path does not exist or a folder holds no such files.
        ValueError: If task or kind of file are unknown, or a file is damaged.
        ImportError: If an LMDB file is to be read and lmdb is not installed.

    Licence: OC20 is CC BY 4.0; it is not part of geomeq.

    Source: Chanussot et al. (2021), https://arxiv.org/abs/2010.09990

    Example:
        >>> from geomeq.datasets import OC20
        >>> OC20("s2ef_train_200K")[0]  # doctest: +SKIP
        Data(z=[86], pos=[86, 3], cell=[1, 3, 3], pbc=[1, 3], energy=[1], force=[86, 3], fixed=[86], tags=[86], ...)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        task: Literal["S2EF", "IS2RE", "IS2RS"] = "S2EF",
        root: str | os.PathLike[str] | None = None,
        energy: str | None = None,
        forces: str = "forces",
        subtract_reference: bool = True,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        if task not in ("S2EF", "IS2RE", "IS2RS"):
            raise ValueError(f"task must be 'S2EF', 'IS2RE' or 'IS2RS', got {task!r}")
        super().__init__(None, transform)
        self.path, self.task, self.energy, self.forces = Path(path), task, energy, forces
        self.subtract_reference = subtract_reference
        cache = Path(root) if root is not None else cache_root() / "oc20"
        paths, self.is_lmdb = _files(self.path)
        self.files: list[Any] = [GraphFile(p) if self.is_lmdb else FrameFile(p, cache) for p in paths]
        self.references = [None if self.is_lmdb else _references(file) for file in self.files]
        one_each = task != "S2EF" and not self.is_lmdb
        self.ends = np.cumsum([1 if one_each else len(file) for file in self.files])
        self._columns: set[str] | None = None

    def len(self) -> int:
        """Number of frames, or of relaxations."""
        return int(self.ends[-1])

    def get(self, idx: int) -> Data:
        """Reads one frame.

        Raises:
            ValueError: For whatever is wrong with it, with file and line (or key).
        """
        number = int(np.searchsorted(self.ends, idx, side="right"))
        place = idx - (int(self.ends[number - 1]) if number else 0)
        if self.is_lmdb:
            file = self.files[number]
            return _from_record(file.graph(place), f"{file.path}, key {place}", self.task)
        if self.task == "S2EF":
            return self._frame(number, place)
        first, last = self._frame(number, 0), self._frame(number, len(self.files[number]) - 1)
        if not torch.equal(first.z, last.z):
            raise ValueError(
                f"{self.files[number].path}: first and last frame have other atoms; with task={self.task!r} each file "
                "must be the trajectory of one system"
            )
        first.pos_relaxed = last.pos
        if "energy" in last:
            first.energy_relaxed = last.energy
        return first

    def _frame(self, number: int, place: int) -> Data:
        frame = self.files[number].frame(place)
        columns = set(frame.columns)
        self._columns = self._columns or columns
        if self._columns - columns:
            missing = ", ".join(sorted(self._columns - columns))
            raise ValueError(f"{frame.where}: the columns {missing} are missing, which frames read before this have")
        data = _from_frame(frame, self.energy, self.forces)
        references = self.references[number]
        if references is not None:
            sid, fid, reference = references[place]
            for name, text in (("sid", sid), ("fid", fid)):
                digits = "".join(c for c in text if c.isdigit())
                data[name] = torch.tensor([int(digits)]) if digits else torch.tensor([-1])
            data.reference = torch.tensor([reference], dtype=torch.float64)
            if self.subtract_reference and "energy" in data:
                data.energy = data.energy - data.reference
        return data

    def __repr__(self) -> str:
        return f"OC20({len(self)}, path={str(self.path)!r}, task={self.task!r})"


def _files(path: Path) -> tuple[list[Path], bool]:
    """The files, in order, and whether they are LMDB."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; give an extxyz or LMDB file, or a folder of such files")
    if path.is_dir() and not (path / "data.mdb").is_file():
        tables = sorted(path.glob("*.lmdb"))
        frames = sorted((p for p in path.iterdir() if p.name.endswith(_XYZ)), key=_natural)
        if bool(tables) == bool(frames):
            what = "both *.lmdb and *.extxyz" if tables else "neither *.lmdb nor *.extxyz (plain, .xz or .gz)"
            raise FileNotFoundError(f"the folder {path} holds {what}; give a folder with files of one kind, or a file")
        return tables or frames, bool(tables)
    if path.name.endswith(".lmdb") or path.is_dir():
        return [path], True
    if path.name.endswith(_XYZ):
        return [path], False
    raise ValueError(f"the file must end in .lmdb, {', '.join(_XYZ[:-1])} or {_XYZ[-1]}, got {path.name}")


def _natural(path: Path) -> tuple[int, str]:
    """Orders 2.extxyz before 10.extxyz."""
    digits = "".join(c for c in path.name.split(".")[0] if c.isdigit())
    return (int(digits) if digits else -1, path.name)


def _references(file: FrameFile) -> list[tuple[str, str, float]] | None:
    found = read_references(file.path)
    if found is not None and len(found) != len(file):
        raise ValueError(
            f"{file.path} holds {len(file)} frames, but the text file beside it {len(found)} lines; they do not belong "
            "together, or one is cut off"
        )
    return found


def _from_frame(frame: Frame, energy: str | None, forces: str) -> Data:
    columns, where = frame.columns, frame.where
    data = Data(z=_elements(frame), pos=_vectors(frame, "pos"))
    _write_cell(data, frame)
    key = energy or next((k for k in ("free_energy", "energy") if k in frame.header), None)
    if key is not None:
        data.energy = torch.tensor([frame.number(key)], dtype=torch.float64)
    if forces in columns:
        data.force = _vectors(frame, forces)
    elif forces != "forces":
        raise ValueError(f"{where}: there are no columns {forces}; there are {', '.join(columns)}")
    moves = columns.get("move_mask")
    if moves is not None and moves.shape != (len(data.z),):
        raise ValueError(f"{where}: move_mask must be one column, T for atoms that move, got {moves.shape[1]}")
    if moves is not None and moves.dtype.kind == "U":  # any text counts as true, "F" too
        raise ValueError(f"{where}: Properties must name move_mask:L:1 (or I), it names text")
    data.fixed = torch.zeros(len(data.z), dtype=torch.bool) if moves is None else torch.from_numpy(~moves.astype(bool))
    if "tags" in columns:
        data.tags = _integers(frame, "tags")
    return data


def _elements(frame: Frame) -> Tensor:
    columns = frame.columns
    if "species" in columns:
        unknown = [str(s) for s in columns["species"] if s not in NUMBER]
        if unknown:
            raise ValueError(f"{frame.where}: unknown chemical symbols {', '.join(sorted(set(unknown)))}")
        return torch.tensor([NUMBER[s] for s in columns["species"]])
    if "Z" in columns:
        return _integers(frame, "Z")
    raise ValueError(f"{frame.where}: Properties must name species:S:1 (or Z:I:1), it names {', '.join(columns)}")


def _integers(frame: Frame, name: str) -> Tensor:
    found = frame.columns[name]
    if found.ndim != 1 or found.dtype.kind not in "if" or not (found == found.round()).all():
        raise ValueError(f"{frame.where}: Properties must name {name}:I:1, one integer for each atom")
    return torch.from_numpy(found.astype(np.int64))


def _vectors(frame: Frame, name: str) -> Tensor:
    found = frame.columns.get(name)
    if found is None or found.ndim != 2 or found.shape[1] != 3 or found.dtype != np.float64:
        raise ValueError(f"{frame.where}: Properties must name {name}:R:3, it names {', '.join(frame.columns)}")
    return torch.from_numpy(found.astype(np.float32))


def _write_cell(data: Data, frame: Frame) -> None:
    """Cell, periodicity and stress, where there is a lattice."""
    flags = frame.header.get("pbc", "T T T" if "Lattice" in frame.header else "F F F").replace(",", " ").split()
    words = [flag.strip("[]\"'.").lower() for flag in flags]
    periodic = [word in ("t", "true", "1") for word in words]
    if len(words) != 3 or any(word not in ("t", "true", "1", "f", "false", "0") for word in words):
        raise ValueError(f"{frame.where}: pbc must be three of T and F, got {frame.header['pbc']!r}")
    if "Lattice" not in frame.header:
        if any(periodic):
            raise ValueError(f"{frame.where}: pbc is set, but there is no Lattice; give its three vectors")
        return
    cell = frame.numbers("Lattice", 9).reshape(3, 3)
    if np.linalg.matrix_rank(cell[periodic], 1e-9 * np.abs(cell).max(initial=0)) < sum(periodic):
        raise ValueError(f"{frame.where}: the periodic vectors of Lattice are zero or linearly dependent")
    data.cell, data.pbc = torch.from_numpy(cell.astype(np.float32))[None], torch.tensor([periodic])
    if "stress" in frame.header:
        data.stress = torch.from_numpy(frame.numbers("stress", 9).reshape(1, 3, 3).astype(np.float32))
    elif "virial" in frame.header:
        volume = abs(float(np.linalg.det(cell)))
        if not volume > 0:
            raise ValueError(f"{frame.where}: the virial gives no stress, since Lattice has no volume; remove virial")
        data.stress = torch.from_numpy((-frame.numbers("virial", 9) / volume).reshape(1, 3, 3).astype(np.float32))


def _from_record(record: dict[str, Any], where: str, task: str) -> Data:
    """A graph as OC20 publishes it, under the names of this package."""
    lacking = [name for name in ("atomic_numbers", "pos") if name not in record]
    if lacking:
        raise ValueError(f"{where}: the graph lacks {' and '.join(lacking)}; it has {', '.join(sorted(record))}")
    pos = _tensor(record["pos"], torch.float32).view(-1, 3)
    n = len(pos)
    data = Data(z=_tensor(record["atomic_numbers"], torch.int64).view(-1), pos=pos)
    if len(data.z) != n:
        raise ValueError(f"{where}: {len(data.z)} atomic numbers for {n} positions")
    sizes = {"fixed": n, "tags": n, "force": 3 * n, "forces": 3 * n, "pos_relaxed": 3 * n, "cell": 9, "pbc": 3}
    for name, size in sizes.items():
        given = size if name not in record else _tensor(record[name], torch.float32).numel()
        if given != size:
            raise ValueError(f"{where}: {name} must hold {size} numbers for {n} atoms, got {given}")
    fixed = record.get("fixed")
    data.fixed = torch.zeros(n, dtype=torch.bool) if fixed is None else _tensor(fixed, torch.float32).view(-1) > 0.5
    if "cell" in record:
        data.cell = _tensor(record["cell"], torch.float32).view(1, 3, 3)
        data.pbc = _tensor(record.get("pbc", [True] * 3), torch.bool).view(1, 3)
    relaxing = task != "S2EF"
    start: tuple[str, ...] = ("y_init",) if relaxing else ("energy", "y")
    names: dict[str, tuple[str, ...]] = {"energy": start, "energy_relaxed": ("y_relaxed",) if relaxing else ()}
    for name, keys in names.items():
        found = next((record[key] for key in keys if key in record), None)
        if found is not None:
            data[name] = _tensor(found, torch.float64).reshape(1)
    vectors: dict[str, tuple[str, ...]] = {"force": ("forces", "force"), "pos_relaxed": ("pos_relaxed",)}
    for name, keys in vectors.items():
        found = next((record[key] for key in keys if key in record), None)
        if found is not None:
            data[name] = _tensor(found, torch.float32).view(n, 3)
    if "tags" in record:
        data.tags = _tensor(record["tags"], torch.int64).view(-1)
    for name in ("sid", "fid"):
        if name in record and not isinstance(record[name], str):
            data[name] = _tensor(record[name], torch.int64).reshape(1)
    bad = [name for name, value in data.to_dict().items() if not bool(torch.as_tensor(value).isfinite().all())]
    if bad:
        raise ValueError(f"{where}: {', '.join(bad)} is not finite")
    return data


def _tensor(value: Any, dtype: torch.dtype) -> Tensor:
    return torch.as_tensor(np.asarray(value) if isinstance(value, np.generic) else value).to(dtype)
