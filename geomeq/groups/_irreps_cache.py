"""Irreps on disk: read by hash of the multiplication table, verified, made where they are missing."""

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import _irreps
from .finite import FiniteGroup
from .fourier import fourier_rows

_VERSION = 1  # of the file and of the algorithm: raised, nothing old is read


def representations(group: FiniteGroup) -> _irreps.Representations:
    """The irreps of a group, from memory of the process, from disk, or computed."""
    key = group.fingerprint
    if key not in _MEMORY:
        _MEMORY[key] = _from_disk(group) or _made(group)
    return _MEMORY[key]


_MEMORY: dict[str, _irreps.Representations] = {}


def cache_file(group: FiniteGroup) -> Path:
    """Where the irreps of a group lie: ``$GEOMEQ_CACHE/irreps`` or ``~/.cache/geomeq/irreps``."""
    root = Path(os.environ.get("GEOMEQ_CACHE") or Path.home() / ".cache" / "geomeq").expanduser()
    return root / "irreps" / f"v{_VERSION}-{group.order}-{group.fingerprint[:32]}.npz"


def verify(group: FiniteGroup, found: _irreps.Representations) -> None:
    """Checks homomorphism, the sum of squared dimensions, and Schur's orthogonality of all matrix coefficients.

    Raises:
        RuntimeError: If one fails; the message says which and by how much.
    """
    total = sum(irrep.size(-1) ** 2 for irrep in found.complex)
    if total != group.order:
        raise RuntimeError(f"irreps of {group!r}: squared dimensions sum to {total}, not to {group.order}")
    for irrep in [*found.complex, *found.real]:
        error = _irreps.homomorphism_error(group, irrep)
        if not error < _irreps.TOLERANCE:
            raise RuntimeError(f"irreps of {group!r}: rho(s) rho(g) is not rho(s g), by {error:.1e}")
    characters = torch.stack([irrep.diagonal(dim1=1, dim2=2).sum(-1) for irrep in found.complex])
    _check_orthogonal(group, "characters", characters / group.order**0.5)
    _check_orthogonal(group, "matrix coefficients", fourier_rows(found.real, found.real_types))


def _check_orthogonal(group: FiniteGroup, what: str, rows: Tensor) -> None:
    error = float((rows @ rows.mH - torch.eye(len(rows), dtype=rows.dtype)).abs().max())
    if not error < _irreps.TOLERANCE:
        raise RuntimeError(f"irreps of {group!r}: {what} are not orthogonal, by {error:.1e}")


def _made(group: FiniteGroup) -> _irreps.Representations:
    found = _irreps.decompose(group)
    verify(group, found)
    if not group.is_abelian:  # those are exact and quick
        _write(cache_file(group), found)
    return found


def _from_disk(group: FiniteGroup) -> _irreps.Representations | None:
    path = cache_file(group)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            types = [str(kind) for kind in stored["types"]]
            real = [_read(stored[f"real{i}"], group.order) for i in range(len(types))]
        found = _irreps.from_real(real, types)
        verify(group, found)
    except Exception as error:
        warnings.warn(f"{path} is damaged ({type(error).__name__}: {error}); computing it again", stacklevel=2)
        return None
    return found


def _read(array: np.ndarray, order: int) -> Tensor:
    if array.dtype != np.float64 or array.ndim != 3 or array.shape[0] != order or array.shape[1] != array.shape[2]:
        raise ValueError(f"expected float64 matrices [{order}, m, m], got {array.dtype} {list(array.shape)}")
    return torch.from_numpy(array)


def _write(path: Path, found: _irreps.Representations) -> None:
    """Writes in one step: a reader sees the whole file or none. Where nothing can be written, nothing is kept."""
    arrays = {f"real{i}": real.numpy() for i, real in enumerate(found.real)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    except OSError as error:
        _warn_uncached(path, error)
        return
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, types=np.array(found.real_types), **arrays)  # type: ignore[arg-type]
        os.chmod(temporary, 0o644)  # mkstemp gives 0600; a shared cache must be readable by all
        os.replace(temporary, path)
    except OSError as error:
        _warn_uncached(path, error)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _warn_uncached(path: Path, error: OSError) -> None:
    warnings.warn(
        f"{path} cannot be written ({error}); irreps will be computed again by the next process. "
        "Give the environment variable GEOMEQ_CACHE a folder that can be written",
        stacklevel=2,
    )
