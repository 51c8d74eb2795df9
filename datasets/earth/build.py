"""Makes ``earth.npz``: where there is land, and the height of land and sea floor, every degree.

Reads the land mask of the package global-land-mask and the topography of Debian's package ``ferret-datasets``, neither
of which need be installed::

    pip download --no-deps global-land-mask==1.0.0
    apt-get download ferret-datasets
    dpkg-deb -x ferret-datasets_*.deb unpacked
    python datasets/earth/build.py global_land_mask-1.0.0-py3-none-any.whl \
        unpacked/usr/share/ferret-vis/data/etopo60.cdf

Needs 2 GB of memory. The file is the same byte for byte each time. Its sha256 and size go into
``geomeq/datasets/_registry.py``.
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from scipy.io import netcdf_file

from geomeq.datasets._raw import sha256_of, write_npz

MASK = "global_land_mask/globe_combined_mask_compressed.npz"
OUT = Path(__file__).with_name("earth.npz")


def land_fraction(wheel: Path) -> np.ndarray:
    """Share of land in each cell of one degree, ``[180, 360]``, north first, from longitude -180."""
    with zipfile.ZipFile(wheel) as archive, np.load(io.BytesIO(archive.read(MASK)), allow_pickle=False) as stored:
        lat, lon, ocean = stored["lat"], stored["lon"], stored["mask"]
    if ocean.shape != (21_600, 43_200) or lat[0] < lat[-1] or lon[0] > lon[-1]:
        sys.exit(f"expected a mask of 21600 x 43200, north and west first, got {ocean.shape}, {lat[:2]}, {lon[:2]}")
    return 1 - ocean.reshape(180, 120, 360, 120).mean(axis=(1, 3), dtype=np.float64)


def height(path: Path) -> np.ndarray:
    """Metres above sea level at the centres of the same cells."""
    with netcdf_file(path, "r", mmap=False) as file:
        rose = file.variables["ROSE"].data.astype(np.float64)
        lon, lat = (
            next(v.data for n, v in file.variables.items() if n.startswith(k)) for k in ("ETOPO60X", "ETOPO60Y")
        )
    if not (np.allclose(lat, np.arange(-89.5, 90)) and np.allclose(lon, np.arange(20.5, 380))):
        sys.exit(f"expected cell centres from -89.5 north and 20.5 east, got {lat[:2]} and {lon[:2]}")
    return np.roll(rose, 200, axis=1)[::-1]  # column 0: longitude -179.5 = 20.5 + 160 - 360


def main(wheel: Path, topography: Path) -> None:
    land, metres = land_fraction(wheel) >= 0.5, height(topography)
    agree = np.mean((metres > 0) == land)
    if not np.isfinite(metres).all() or agree < 0.95:
        sys.exit(f"mask and topography must agree about sea level, they do in {agree:.1%} of the cells")
    write_npz(OUT, {"land": np.packbits(land), "height": np.round(metres).astype(np.int16)})
    print(f"mask and topography agree in {agree:.1%} of the cells")
    print(f"{OUT}: {OUT.stat().st_size} bytes, sha256 {sha256_of(OUT)}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
