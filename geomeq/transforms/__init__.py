"""From ``Data`` to ``Data``: the only code that writes the attributes which layers read.

- :class:`CutoffGraph`, :class:`NearestGraph`, :class:`FullyConnected`: edges (and ``shift`` in a periodic cell).
"""

from .cutoff_graph import CutoffGraph
from .fully_connected import FullyConnected
from .nearest_graph import NearestGraph

__all__ = ["CutoffGraph", "FullyConnected", "NearestGraph"]
