"""LMDB files of pickled graphs, as published for OC20 and OC22."""

import os
import weakref
from pathlib import Path
from typing import Any

from geomeq.datasets._safe_pickle import load_graph, load_plain

# LMDB lets a process open a file once: data sets on the same file share it.
_ENVIRONMENTS: "weakref.WeakValueDictionary[tuple[int, str], Any]" = weakref.WeakValueDictionary()


class GraphFile:
    """One LMDB file: pickled graphs under the keys ``0``, ``1``, ...

    The environment is opened anew in each process, as LMDB demands; the graphs are read without running what their
    pickles say.

    Args:
        path: The file.

    Raises:
        ImportError: If lmdb is not installed.
        ValueError: If it is no LMDB file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, Any] | None = None
        with self._environment().begin() as reader:
            stored = reader.get(b"length")
            self.length = int(load_plain(stored)) if stored is not None else self._count(reader.stat()["entries"])

    def __len__(self) -> int:
        return self.length

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def graph(self, k: int) -> dict[str, Any]:
        """The attributes of one graph.

        Raises:
            ValueError: If it is missing, damaged, or asks for more than data.
        """
        with self._environment().begin() as reader:
            stored = reader.get(str(k).encode())
        if stored is None:
            raise ValueError(f"{self.path} should hold {self.length} graphs, but has none under the key {k}")
        try:
            return load_graph(stored)
        except ValueError as error:
            raise ValueError(f"{self.path}, key {k}: {error}") from error

    def _count(self, entries: int) -> int:
        with self._environment().begin() as reader:
            if entries and reader.get(str(entries - 1).encode()) is None:
                raise ValueError(f"{self.path} has no length, and its {entries} keys are not 0, 1, ...")
        return entries

    def _environment(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():
            place = (os.getpid(), str(self.path.resolve()))
            environment = _ENVIRONMENTS.get(place) or _open(self.path)
            _ENVIRONMENTS[place] = environment
            self._opened = os.getpid(), environment
        return self._opened[1]


def _open(path: Path) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise ImportError("LMDB files need lmdb: pip install 'geomeq[data]'") from error
    try:
        return lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise ValueError(f"{path} cannot be read as LMDB ({error})") from error
