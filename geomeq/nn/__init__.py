"""Layers, one a file, grouped by message form."""

from .segnn_conv import SEGNNConv
from .steerable_gate import SteerableGate
from .steerable_linear import SteerableLinear

__all__ = ["SEGNNConv", "SteerableGate", "SteerableLinear"]
