"""Makes ``climate.npz``: sea surface temperature, air temperature and pressure, month by month, every 2 degrees.

Reads a file of Debian's package ``ferret-datasets``, which need not be installed::

    apt-get download ferret-datasets
    dpkg-deb -x ferret-datasets_*.deb unpacked
    python datasets/climate/build.py unpacked/usr/share/ferret-vis/data/coads_climatology.cdf

Values are rounded to 0.01 degrees and 0.1 hPa; -32768 marks a gap. The file is the same byte for byte each time. Its
sha256 and size go into ``geomeq/datasets/_registry.py``.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.io import netcdf_file

from geomeq.datasets._raw import sha256_of, write_npz

OUT = Path(__file__).with_name("climate.npz")
GAP = -32_768
#: Name here, name and unit there, what is subtracted, step, what is plausible.
FIELDS = {
    "sea": ("SST", b"Deg C", 0.0, 0.01, (-3, 36)),
    "air": ("AIRT", b"DEG C", 0.0, 0.01, (-60, 45)),
    "pressure": ("SLP", b"MB", 1000.0, 0.1, (930, 1070)),
}


def read(path: Path) -> dict[str, np.ndarray]:
    """Each field in its unit, NaN in gaps, ``[12, 90, 180]``: north first, longitudes from -179."""
    with netcdf_file(path, "r", mmap=False) as file:
        lon, lat = (file.variables[name].data.astype(float) for name in ("COADSX", "COADSY"))
        if not (np.allclose(lon, 21 + 2 * np.arange(180)) and np.allclose(lat, -89 + 2 * np.arange(90))):
            sys.exit(f"expected longitudes from 21 and latitudes from -89 in steps of 2, got {lon[:2]} and {lat[:2]}")
        fields = {}
        for name, (key, unit, _, _, (low, high)) in FIELDS.items():
            variable = file.variables[key]
            values = np.where(variable.data == variable._FillValue, np.nan, variable.data.astype(float))
            if values.shape != (12, 90, 180) or variable.units != unit:
                sys.exit(f"expected 12 months of {key} on 90 x 180 points in {unit!r}, got {values.shape}")
            if not low < np.nanmin(values) <= np.nanmax(values) < high:
                sys.exit(f"{key} must lie between {low} and {high}, got {np.nanmin(values)} to {np.nanmax(values)}")
            fields[name] = np.roll(values, 100, axis=2)[:, ::-1]  # column 0: longitude -179 = 21 + 160 - 360
    return fields


def main(path: Path) -> None:
    arrays = {}
    for name, values in read(path).items():
        _, _, offset, step, _ = FIELDS[name]
        arrays[name] = np.where(np.isnan(values), GAP, np.round((values - offset) / step)).astype(np.int16)
        print(f"{name}: {np.mean(arrays[name] == GAP):.1%} gaps")
    write_npz(OUT, arrays)
    print(f"{OUT}: {OUT.stat().st_size} bytes, sha256 {sha256_of(OUT)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
