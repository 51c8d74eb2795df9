"""Data sets with licence, units and checksums: PyG's ``InMemoryDataset``, cached by content."""

from geomeq.datasets._cached import cache_root
from geomeq.datasets._fingerprint import fingerprint
from geomeq.datasets.nbody import NBody

__all__ = ["NBody", "cache_root", "fingerprint"]
