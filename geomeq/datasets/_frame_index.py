"""Where each frame of an extxyz file begins, so that any frame can be read alone."""

import contextlib
import gzip
import hashlib
import lzma
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from geomeq.datasets._extxyz import Frame, parse, read_count

_OPENERS: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open}


class FrameFile:
    """An extxyz file with random access.

    The file is gone through once, about a second for 100 MB; the places of the frames are kept in ``cache``. A
    compressed file is unpacked into ``cache`` first, since nobody can jump in it.

    Args:
        path: The file, plain or ending in ``.xz`` or ``.gz``.
        cache: Folder for what was unpacked and for places. If it cannot be written, places are kept in memory only.

    Raises:
        ValueError: If the file is no extxyz, is empty, or cannot be unpacked.
    """

    def __init__(self, path: Path, cache: Path) -> None:
        self.path = path
        state = path.stat()
        key = hashlib.sha256(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:16]
        self.plain = path if path.suffix not in _OPENERS else _unpack(path, cache / f"{key}.extxyz")
        self.places = self._load_places(cache / f"{key}.npy")

    def __len__(self) -> int:
        return len(self.places) - 1

    def frame(self, k: int) -> Frame:
        """Reads one frame.

        Raises:
            ValueError: For whatever is wrong with it, with file and line.
        """
        (begin, line), (end, _) = self.places[k], self.places[k + 1]
        with open(self.plain, "rb") as file:
            file.seek(begin)
            return parse(file.read(end - begin), self.path, int(line))

    def _load_places(self, stored: Path) -> np.ndarray:
        if stored.is_file():
            places = np.load(stored, allow_pickle=False)
            if places.ndim == 2 and places[-1, 0] == self.plain.stat().st_size:
                return places
        places = self._find_places()
        with contextlib.suppress(OSError):  # then the next call goes through the file again
            _write(stored, lambda file: np.save(file, places))
        return places

    def _find_places(self) -> np.ndarray:
        """Byte and line where each frame begins, and the end: ``[frames + 1, 2]``."""
        found, number = [], 1
        with open(self.plain, "rb") as file:
            while line := file.readline():
                if not line.strip():  # empty lines are allowed at the end only
                    if any(rest.strip() for rest in file):
                        raise ValueError(f"{self.path}, line {number}: an empty line, where a frame should begin")
                    break
                count = read_count(line, self.path, number)
                found.append((file.tell() - len(line), number))
                last = b""
                for _ in range(count + 1):
                    last = file.readline()
                if not last:
                    raise ValueError(
                        f"{self.path}, line {number}: the frame should have {count} atoms, but the file ends before"
                    )
                number += count + 2
        if not found:
            raise ValueError(f"{self.path} is empty; expected frames in extxyz")
        return np.array([*found, (self.plain.stat().st_size, number)], dtype=np.int64)


def _unpack(path: Path, target: Path) -> Path:
    """Unpacks into the cache once; whole or not at all."""
    if target.is_file():
        return target
    try:
        with _OPENERS[path.suffix](path, "rb") as packed:
            _write(target, lambda file: shutil.copyfileobj(packed, file, 1 << 20))
    except (lzma.LZMAError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path} cannot be unpacked ({error}); it is damaged or cut off, copy it again") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be unpacked into {target.parent} ({error}); choose root=") from error
    return target


def _write(target: Path, fill: Callable[[IO[bytes]], object]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_references(path: Path) -> list[tuple[str, str, float]] | None:
    """System, frame and reference energy of each frame, from the text file beside an extxyz file of OC20.

    Args:
        path: The extxyz file, ``0.extxyz.xz``; looked for are ``0.txt``, ``0.txt.xz``, ``0.txt.gz``.

    Returns:
        One entry a frame, or ``None`` if there is no such file.

    Raises:
        ValueError: If a line is not ``system,frame,energy``.
    """
    stem = path.name.removesuffix(path.suffix if path.suffix in _OPENERS else "")
    stem = stem.removesuffix(".extxyz").removesuffix(".xyz")
    found = next((p for end in (".txt", ".txt.xz", ".txt.gz") if (p := path.parent / f"{stem}{end}").is_file()), None)
    if found is None:
        return None
    with _OPENERS.get(found.suffix, open)(found, "rb") as file:
        lines = file.read().decode().split()
    entries = []
    for k, line in enumerate(lines, 1):
        parts = line.split(",")
        try:
            entries.append((parts[0], parts[1], float(parts[2])))
        except (IndexError, ValueError):
            raise ValueError(f"{found}, line {k}: expected system,frame,reference energy, got {line!r}") from None
    return entries
