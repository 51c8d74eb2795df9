"""Layers, one a file, grouped by message form."""

from .cheb_conv import ChebConv
from .coding_tables import CodingTables
from .coset_pool import CosetPool
from .disco_conv import DiscoConv
from .disco_conv_transpose import DiscoConvTranspose
from .factorized_prior import FactorizedPrior
from .fourier_nonlinearity import FourierNonlinearity
from .gauge_attention import GaugeAttention
from .gauge_conv import GaugeConv
from .gauge_conv2d import GaugeConv2d
from .gauge_linear import GaugeLinear
from .gauge_plan import GaugePlan
from .gauge_pool import GaugePool, GaugeUnpool
from .gauge_pool2d import GaugePool2d
from .gauge_res_block import GaugeResBlock
from .gaussian_conditional import GaussianConditional
from .gdn import GDN
from .graph_pool import GridPool, GridUnpool, IcospherePool, IcosphereUnpool, global_pool
from .group_conv import GroupConv
from .group_conv2d import GroupConv2d, LiftingConv2d
from .group_norm import GroupBatchNorm
from .group_pool2d import AntiAliasedPool2d, GlobalGroupPool, GroupPool, RestrictGroup, SpatialPool2d
from .legal_size import check_stride, is_legal_stride, legal_size
from .lifting import from_batch, lift, project, to_batch
from .metric import LearnableMetric
from .norm_gate import NormGate, NormReLU
from .ordered_conv import OrderedConv, OrderedConvTranspose
from .pointwise import FourierFeatures, Pointwise, check_pointwise
from .rd_loss import rd_loss
from .se_conv import SEConv
from .segnn_conv import SEGNNConv
from .so2_conv import SO2Conv
from .so2_linear import SO2Linear
from .so2_norm import GaugeDropout, SO2BatchNorm
from .so2_weights import paths_from_so2, so2_from_paths, so2_paths
from .sphere_aggregation import SphereAggregation
from .sphere_attention import SphereAttention
from .sphere_grid import SphereGrid
from .sphere_pool import SpherePool, SphereUnpool
from .sphere_shuffle import SphereShuffle, SphereUnshuffle
from .spherical_activations import S2Activation, SphericalActivation, SphericalGate
from .spherical_channel_block import ChannelGeometry, SphericalChannelBlock
from .spherical_linear import SphericalLinear
from .spherical_mlp import GatedMLP, GridMLP
from .spherical_norm import SphericalNorm
from .steerable_disco_conv import SteerableDiscoConv
from .steerable_gate import SteerableGate
from .steerable_linear import SteerableLinear
from .steerable_norm import SteerableBatchNorm, SteerableInstanceNorm, SteerableLayerNorm
from .typed_conv import TypedConv

__all__ = [
    "GDN",
    "AntiAliasedPool2d",
    "ChannelGeometry",
    "ChebConv",
    "CodingTables",
    "CosetPool",
    "DiscoConv",
    "DiscoConvTranspose",
    "FactorizedPrior",
    "FourierFeatures",
    "FourierNonlinearity",
    "GatedMLP",
    "GaugeAttention",
    "GaugeConv",
    "GaugeConv2d",
    "GaugeDropout",
    "GaugeLinear",
    "GaugePlan",
    "GaugePool",
    "GaugePool2d",
    "GaugeResBlock",
    "GaugeUnpool",
    "GaussianConditional",
    "GlobalGroupPool",
    "GridMLP",
    "GridPool",
    "GridUnpool",
    "GroupBatchNorm",
    "GroupConv",
    "GroupConv2d",
    "GroupPool",
    "IcospherePool",
    "IcosphereUnpool",
    "LearnableMetric",
    "LiftingConv2d",
    "NormGate",
    "NormReLU",
    "OrderedConv",
    "OrderedConvTranspose",
    "Pointwise",
    "RestrictGroup",
    "S2Activation",
    "SEConv",
    "SEGNNConv",
    "SO2BatchNorm",
    "SO2Conv",
    "SO2Linear",
    "SpatialPool2d",
    "SphereAggregation",
    "SphereAttention",
    "SphereGrid",
    "SpherePool",
    "SphereShuffle",
    "SphereUnpool",
    "SphereUnshuffle",
    "SphericalActivation",
    "SphericalChannelBlock",
    "SphericalGate",
    "SphericalLinear",
    "SphericalNorm",
    "SteerableBatchNorm",
    "SteerableDiscoConv",
    "SteerableGate",
    "SteerableInstanceNorm",
    "SteerableLayerNorm",
    "SteerableLinear",
    "TypedConv",
    "check_pointwise",
    "check_stride",
    "from_batch",
    "global_pool",
    "is_legal_stride",
    "legal_size",
    "lift",
    "paths_from_so2",
    "project",
    "rd_loss",
    "so2_from_paths",
    "so2_paths",
    "to_batch",
]
