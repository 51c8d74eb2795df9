"""Geometric deep learning on PyTorch Geometric: one graph contract, many geometries.

Subpackages load on first use, so ``import geomeq`` costs next to nothing::

    import geomeq

    dataset = geomeq.datasets.QM9(subset=True)
    model = geomeq.models.SEGNN(geomeq.models.SEGNNConfig(irreps_in="5x0e"))
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_SUBPACKAGES = (
    "datasets",
    "groups",
    "harmonics",
    "meshes",
    "models",
    "molecules",
    "neighbors",
    "nn",
    "ops",
    "plot",
    "spheres",
    "testing",
    "transforms",
)

__all__ = ["__version__", *_SUBPACKAGES]


def __getattr__(name: str) -> ModuleType:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES})
