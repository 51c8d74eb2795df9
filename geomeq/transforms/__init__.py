"""From ``Data`` to ``Data``: the only code that writes the attributes which layers read.

- :class:`CutoffGraph`, :class:`NearestGraph`, :class:`FullyConnected`: edges (and ``shift`` in a periodic cell).
  :class:`PeriodicGraph`: the same for atoms, with a cap on their neighbours where one is asked for.
- :class:`GroupGraph`: a sampled group or sphere with a left-invariant metric.
- :class:`GroupGrid`: a plane group on squares or hexagons, with typed edges.
- :class:`MeshGauge`: surfaces, meshes or points with normals, with polar coordinates and transport, for gauge layers.
- :class:`SphereGauge`: points of the unit sphere, with polar coordinates and transport, for gauge layers.
- :class:`PlaneGauge`: points and pixels of the plane, with polar coordinates, for gauge layers.
- :class:`MultiScale`: a gauge at several resolutions. :class:`GaugeFeatures`: what a surface looks like in its frames.
  :class:`GaugeRandomize`: other frames.
- :func:`group_levels`: such graphs from fine to coarse. :class:`GraphDropout`: a random subgraph.
- :class:`Laplacian`: the scaled Laplacian of a graph as an operator, for Chebyshev filters.
- :func:`to_pygsp`, :func:`from_pygsp`: graphs to and from pygsp.
- :class:`SteerableAttributes`, :class:`RadialBasis`: directions and lengths of edges, for steerable networks.
- :class:`EdgeFrames`: frames of edges, for spherical channels.
- :class:`ParticleFeatures`: node features of moving particles.
"""

from .cutoff_graph import CutoffGraph
from .edge_frames import EdgeFrames
from .fully_connected import FullyConnected
from .gauge_features import GaugeFeatures
from .gauge_randomize import GaugeRandomize
from .graph_dropout import GraphDropout
from .group_graph import GroupGraph
from .group_grid import GroupGrid
from .group_levels import group_levels
from .laplacian import Laplacian
from .mesh_gauge import MeshGauge
from .multi_scale import MultiScale, MultiScaleData
from .nearest_graph import NearestGraph
from .particle_features import ParticleFeatures
from .periodic_graph import PeriodicGraph
from .plane_gauge import PlaneGauge
from .pygsp_bridge import from_pygsp, to_pygsp
from .radial_basis import RadialBasis
from .sphere_gauge import SphereGauge
from .steerable_attributes import SteerableAttributes

__all__ = [
    "CutoffGraph",
    "EdgeFrames",
    "FullyConnected",
    "GaugeFeatures",
    "GaugeRandomize",
    "GraphDropout",
    "GroupGraph",
    "GroupGrid",
    "Laplacian",
    "MeshGauge",
    "MultiScale",
    "MultiScaleData",
    "NearestGraph",
    "ParticleFeatures",
    "PeriodicGraph",
    "PlaneGauge",
    "RadialBasis",
    "SphereGauge",
    "SteerableAttributes",
    "from_pygsp",
    "group_levels",
    "to_pygsp",
]
