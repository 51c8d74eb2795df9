"""Pictures: each function returns a matplotlib ``Figure`` and touches no global state.

Nothing is shown or saved: ``figure.savefig("molecule.png")``, or the last line of a notebook cell.
Needs the extra ``plot``: ``pip install 'geomeq[plot]'``.
"""

from geomeq.plot._energy_conservation import energy_conservation
from geomeq.plot._equivariance import equivariance_by_layer
from geomeq.plot._equivariance_grid import equivariance_by_resolution
from geomeq.plot._filters import filters
from geomeq.plot._force_parity import force_parity
from geomeq.plot._group_graph import group_graph
from geomeq.plot._interactive import interactive_surface
from geomeq.plot._interactive_sphere import interactive_sphere
from geomeq.plot._learning import learning_curve
from geomeq.plot._metric_ellipses import metric_ellipses
from geomeq.plot._molecule import molecule
from geomeq.plot._panorama import panorama_comparison
from geomeq.plot._parity import parity
from geomeq.plot._resolution import error_by_resolution
from geomeq.plot._spectra import spectra
from geomeq.plot._sphere_filters import sphere_filters
from geomeq.plot._sphere_signal import sphere_signal
from geomeq.plot._spherical_channels import spherical_channels
from geomeq.plot._surface import surface
from geomeq.plot._transport import transport_along

__all__ = [
    "energy_conservation",
    "equivariance_by_layer",
    "equivariance_by_resolution",
    "error_by_resolution",
    "filters",
    "force_parity",
    "group_graph",
    "interactive_sphere",
    "interactive_surface",
    "learning_curve",
    "metric_ellipses",
    "molecule",
    "panorama_comparison",
    "parity",
    "spectra",
    "sphere_filters",
    "sphere_signal",
    "spherical_channels",
    "surface",
    "transport_along",
]
