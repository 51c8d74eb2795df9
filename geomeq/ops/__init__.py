"""The few kernels that decide the speed: stencils over neighbours and reductions over segments."""

from geomeq.ops.chebyshev import chebyshev
from geomeq.ops.edge_message import edge_message
from geomeq.ops.edge_rotation import EdgeLayout, EdgeRotation
from geomeq.ops.laplacian import rescaled_laplacian
from geomeq.ops.ring_conv import RingFilters, ring_conv, ring_conv_transpose
from geomeq.ops.row_map import RowMap
from geomeq.ops.segment import segment_max, segment_mean, segment_softmax, segment_sum
from geomeq.ops.sparse_operator import SparseOperator
from geomeq.ops.stencil import Stencil, StencilPattern, stencil
from geomeq.ops.stencil_linear import StencilLinear
from geomeq.ops.taps import taps_linear, taps_transposed
from geomeq.ops.typed import TypedPattern, typed_linear

__all__ = [
    "EdgeLayout",
    "EdgeRotation",
    "RingFilters",
    "RowMap",
    "SparseOperator",
    "Stencil",
    "StencilLinear",
    "StencilPattern",
    "TypedPattern",
    "chebyshev",
    "edge_message",
    "rescaled_laplacian",
    "ring_conv",
    "ring_conv_transpose",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "stencil",
    "taps_linear",
    "taps_transposed",
    "typed_linear",
]
