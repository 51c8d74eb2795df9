"""Raw files: where they are looked for, and the check that they are whole."""

import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np


def sha256_of(path: Path) -> str:
    """The sha256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_folder(package: str) -> Path | None:
    """The folder of an installed package, found without importing it; ``None`` if it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def verified(path: Path, sha256: str, advice: str) -> Path:
    """Returns ``path`` if the file there is the one expected.

    Raises:
        ValueError: If its sha256 differs: the file is damaged, truncated or another one.
    """
    got = sha256_of(path)
    if got != sha256:
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) is damaged, truncated or another version: its sha256 must be "
            f"{sha256}, got {got}; {advice}"
        )
    return path


def load_npz(path: Path, sha256: str | None, advice: str) -> dict[str, np.ndarray]:
    """Reads a whole ``.npz`` without pickles, after checking its sha256 where one is known.

    Raises:
        ValueError: If the file is not the one expected, or not readable.
    """
    if sha256 is not None:
        verified(path, sha256, advice)
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:
        raise ValueError(f"{path} cannot be read as npz ({type(error).__name__}: {error}); {advice}") from error


def require_keys(path: Path, arrays: dict[str, Any], *names: str) -> None:
    """Raises unless ``arrays`` holds every name.

    Raises:
        ValueError: If one is missing.
    """
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(
            f"{path} must hold the arrays {', '.join(names)}; {', '.join(missing)} missing, it has {sorted(arrays)}"
        )


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Like ``np.savez_compressed``, but with fixed time stamps, so that equal arrays give equal files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            stream = io.BytesIO()
            np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), stream.getvalue(), zipfile.ZIP_DEFLATED, 9)
