"""Pictures: each function returns a matplotlib ``Figure`` and touches no global state.

Nothing is shown or saved: ``figure.savefig("molecule.png")``, or the last line of a notebook cell.
Needs the extra ``plot``: ``pip install 'geomeq[plot]'``.
"""

from geomeq.plot._equivariance import equivariance_by_layer
from geomeq.plot._learning import learning_curve
from geomeq.plot._molecule import molecule
from geomeq.plot._parity import parity

__all__ = ["equivariance_by_layer", "learning_curve", "molecule", "parity"]
