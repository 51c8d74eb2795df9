"""What is installed here: versions, devices and optional packages, for ``python -m geomeq info``."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from typing import NamedTuple

CORE = ("torch", "torch-geometric", "e3nn", "numpy", "scipy", "trimesh", "pygsp", "tqdm")


class OptionalPackage(NamedTuple):
    """An optional package: its name on the registry, its module, the extra that holds it and what it is for."""

    package: str
    module: str
    extra: str
    use: str


OPTIONAL = (
    OptionalPackage("torch-scatter", "torch_scatter", "accel", "needed by torch-sparse"),
    OptionalPackage("torch-sparse", "torch_sparse", "accel", "SparseTensor in place of edge_index"),
    OptionalPackage("qm9pack", "qm9pack", "data", "the full QM9"),
    OptionalPackage("ase", "ase", "data", "molecular dynamics, periodic structures"),
    OptionalPackage("tblite", "tblite", "data", "GFN2-xTB energies and forces"),
    OptionalPackage("netcdf4", "netCDF4", "data", "climate files of one's own"),
    OptionalPackage("lmdb", "lmdb", "data", "LMDB files of OC20"),
    OptionalPackage("constriction", "constriction", "codec", "images to bytes and back"),
    OptionalPackage("anny", "anny", "bodies", "human bodies in full resolution"),
    OptionalPackage("potpourri3d", "potpourri3d", "mesh", "log maps of large neighbourhoods by the vector heat method"),
    OptionalPackage("robust-laplacian", "robust_laplacian", "mesh", "Laplacians of non-manifold meshes"),
    OptionalPackage("matplotlib", "matplotlib", "plot", "pictures"),
    OptionalPackage("plotly", "plotly", "plot", "interactive pictures"),
)


def installed_version(package: str) -> str | None:
    """The version of an installed package, or None. Imports nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def optional_line(optional: OptionalPackage) -> str:
    """One line on an optional package: its version, or the command that installs it."""
    found = importlib.util.find_spec(optional.module) is not None
    state = installed_version(optional.package) or "found, version unknown"
    if not found:
        state = f"missing: pip install 'geomeq[{optional.extra}]'"
    return f"{optional.package:<16} {state:<40} {optional.use}"


def device_lines() -> Iterator[str]:
    """One line on the CPU and one on each CUDA device, or on why there is none."""
    import torch  # here, so that the tables above cost nothing to import

    yield f"cpu              {torch.get_num_threads()} threads, {os.cpu_count()} cores, {platform.machine()}"
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        yield f"cuda             none ({built})"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield f"cuda:{index:<11} {properties.name}, {properties.total_memory / 2**30:.0f} GiB"


def info() -> str:
    """Versions, devices and optional packages as a text table."""
    from geomeq import __version__

    lines = [f"geomeq {__version__}", "", "Versions"]
    lines.append(f"  {'python':<16} {platform.python_version()} on {sys.platform}")
    lines += [f"  {package:<16} {installed_version(package) or 'missing'}" for package in CORE]
    lines += ["", "Devices", *(f"  {line}" for line in device_lines())]
    lines += ["", "Optional packages", *(f"  {optional_line(optional)}".rstrip() for optional in OPTIONAL)]
    lines += ["", "Data folders"]
    lines.append(f"  {'GEOMEQ_CACHE':<16} {os.environ.get('GEOMEQ_CACHE') or 'not set: ~/.cache/geomeq'}")
    lines.append(f"  {'GEOMEQ_DATA':<16} {os.environ.get('GEOMEQ_DATA') or 'not set'}")
    return "\n".join(lines)
