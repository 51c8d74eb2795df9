"""Variables of netCDF files: the classic format by scipy, netCDF-4 (HDF5) by netCDF4."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

_CLASSIC, _HDF5 = b"CDF", b"\x89HDF\r\n\x1a\n"
_FILL = ("_FillValue", "missing_value")


class _MissingVariable(ValueError):
    """A file is whole, but lacks a variable."""


def read_variables(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Reads some variables, and nothing else of the file.

    Packed values (``scale_factor``, ``add_offset``) are unpacked; floating-point values that mark gaps become NaN.

    Args:
        path: The file.
        names: Of the variables.

    Raises:
        ImportError: If the file is netCDF-4 and the package netCDF4 is not installed.
        ValueError: If the file is no netCDF file, is damaged, or lacks a variable.
    """
    with open(path, "rb") as file:
        start = file.read(8)
    if start == _HDF5:
        return _checked(path, list(names), _read_hdf5)
    if start[:3] == _CLASSIC and start[3:4] in (b"\x01", b"\x02"):
        return _checked(path, list(names), _read_classic)
    raise ValueError(
        f"{path} must be a netCDF file, classic or netCDF-4; it starts with {start!r}. It may be damaged or something "
        "else, such as a page that was stored in its place; get it again"
    )


_Reader = Callable[[Path, list[str]], dict[str, np.ndarray]]


def _checked(path: Path, names: list[str], read: _Reader) -> dict[str, np.ndarray]:
    try:
        return read(path, names)
    except (ImportError, _MissingVariable):
        raise
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {error}); it is truncated or damaged, get it again"
        ) from error


def _read_classic(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    from scipy.io import netcdf_file

    found = {}
    with netcdf_file(str(path), "r", mmap=True) as file:
        there = sorted(file.variables)
        for name in (name for name in names if name in there):
            found[name] = _copied(file.variables[name])
    _require(path, names, there)  # not before: an error would keep the mapped file from being closed
    return found


def _copied(variable: Any) -> np.ndarray:
    """The values of scipy's variable in memory of their own: nothing may point into a mapped file when it is closed."""
    values = np.array(variable.data.astype(variable.data.dtype.newbyteorder("=")))
    return _unpacked(values, {key: np.asarray(v) for key, v in variable._attributes.items() if _is_packing(key)})


def _read_hdf5(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    try:
        import netCDF4
    except ImportError as error:
        raise ImportError(f"{path} is a netCDF-4 file, which needs netCDF4: pip install 'geomeq[data]'") from error
    found = {}
    with netCDF4.Dataset(str(path), "r") as file:
        file.set_auto_maskandscale(False)
        _require(path, names, file.variables)
        for name in names:
            variable = file.variables[name]
            attributes = {key: np.asarray(variable.getncattr(key)) for key in variable.ncattrs() if _is_packing(key)}
            found[name] = _unpacked(np.asarray(variable[...]), attributes)
    return found


def _is_packing(key: str) -> bool:
    return key in (*_FILL, "scale_factor", "add_offset")


def _require(path: Path, names: list[str], there: Iterable[str]) -> None:
    missing = [name for name in names if name not in there]
    if missing:
        raise _MissingVariable(
            f"{path} must hold the variables {', '.join(names)}; {', '.join(missing)} missing, it has "
            f"{', '.join(sorted(there))}"
        )


def _unpacked(values: np.ndarray, attributes: dict[str, np.ndarray]) -> np.ndarray:
    gaps = np.zeros(values.shape, dtype=bool)
    for key in _FILL:
        if key in attributes:
            gaps |= values == attributes[key].reshape(-1)[0].astype(values.dtype)
    packed = "scale_factor" in attributes or "add_offset" in attributes
    if packed:
        scale, offset = attributes.get("scale_factor", np.ones(1)), attributes.get("add_offset", np.zeros(1))
        values = values * float(scale.reshape(-1)[0]) + float(offset.reshape(-1)[0])
    return np.where(gaps, np.nan, values) if np.issubdtype(values.dtype, np.floating) and gaps.any() else values
