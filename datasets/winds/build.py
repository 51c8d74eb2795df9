"""Makes ``winds.npz``: monthly mean winds over the earth, 1982 to 1992, every 5 degrees.

Reads a file of Debian's package ``ferret-datasets``, which need not be installed::

    apt-get download ferret-datasets
    dpkg-deb -x ferret-datasets_*.deb unpacked
    python datasets/winds/build.py unpacked/usr/share/ferret-vis/data/monthly_navy_winds.cdf

Every second point of the grid of 2.5 degrees is kept as it is. The rows at the poles are left out: a wind at a pole is
one vector, seen from all longitudes, and theirs are not (in the north they are the same two numbers at every
longitude). The file is the same byte for byte each time. Its sha256 and size go into ``geomeq/datasets/_registry.py``.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.io import netcdf_file

from geomeq.datasets._raw import sha256_of, write_npz

OUT = Path(__file__).with_name("winds.npz")
STEP = 0.01  # m/s


def read(path: Path) -> np.ndarray:
    """Eastward and northward wind, m/s, ``[132, 2, 35, 72]``: north first, longitudes from 0."""
    with netcdf_file(path, "r", mmap=False) as file:
        lon, lat, time = (file.variables[name].data.astype(float) for name in ("FNOCX", "FNOCY", "TIME"))
        winds = np.stack([file.variables[name].data.astype(float) for name in ("UWND", "VWND")], axis=1)
    if not (np.allclose(lon, 20 + 2.5 * np.arange(144)) and np.allclose(lat, -90 + 2.5 * np.arange(73))):
        sys.exit(f"expected longitudes from 20 and latitudes from -90 in steps of 2.5, got {lon[:2]} and {lat[:2]}")
    start = np.datetime64("1980-01-14T14") + (time * 3600).astype("timedelta64[s]")
    months = np.arange("1982-01", "1993-01", dtype="datetime64[M]")
    if not (len(time) == 132 and (start.astype("datetime64[M]") == months).all()):
        sys.exit(f"expected 132 months from January 1982, got {start[0]} to {start[-1]}")
    if not np.isfinite(winds).all() or np.abs(winds).max() > 60:
        sys.exit(f"expected winds without gaps below 60 m/s, got a maximum of {np.abs(winds).max()}")
    winds = np.roll(winds, 8, axis=-1)  # longitude 360 = 20 + 136 * 2.5 becomes column 0
    return winds[:, :, ::-1, ::2][:, :, 2:-2:2]


def main(path: Path) -> None:
    winds = np.round(read(path) / STEP).astype(np.int16)
    write_npz(OUT, {"eastward": winds[:, 0], "northward": winds[:, 1]})
    print(f"{OUT}: {OUT.stat().st_size} bytes, sha256 {sha256_of(OUT)}, {winds.shape}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
