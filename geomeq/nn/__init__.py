"""Layers, one a file, grouped by message form."""

from .se_conv import SEConv
from .segnn_conv import SEGNNConv
from .steerable_gate import SteerableGate
from .steerable_linear import SteerableLinear
from .steerable_norm import SteerableBatchNorm, SteerableInstanceNorm, SteerableLayerNorm

__all__ = [
    "SEConv",
    "SEGNNConv",
    "SteerableBatchNorm",
    "SteerableGate",
    "SteerableInstanceNorm",
    "SteerableLayerNorm",
    "SteerableLinear",
]
