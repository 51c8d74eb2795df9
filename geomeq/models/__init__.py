"""One ready network per published system, each with a dataclass config."""

from ._codec_file import CodecError
from ._escn_config import ESCNConfig
from .cheblienet import ChebLieNet, ChebLieNetConfig
from .deep_sphere import DeepSphere, DeepSphereConfig
from .disco_unet import DiscoUNet, DiscoUNetConfig
from .escn import ESCN
from .gcnn import GCNN, GCNNConfig
from .gem_cnn import GEMCNN, GEMCNNConfig
from .harmonic_net import HarmonicNet, HarmonicNetConfig
from .implicit_bias import (
    DirectionFit,
    FourierRank,
    effective_rank,
    fit_direction,
    fourier_rank_report,
    hard_margin,
    linearize,
    local_linearization,
    schatten,
    spectral_summary,
)
from .linear_gcnn import LinearGCNN, LinearMLP
from .oslo_codec import OSLOCodec, OSLOCodecConfig, random_patches
from .potential import Potential
from .scaled_potential import ScaledPotential
from .scn import SCN, SCNConfig
from .segnn import SEGNN, SEGNNConfig, balanced_irreps
from .spin_net import SpinNet, SpinNetConfig

__all__ = [
    "ESCN",
    "GCNN",
    "GEMCNN",
    "SCN",
    "SEGNN",
    "ChebLieNet",
    "ChebLieNetConfig",
    "CodecError",
    "DeepSphere",
    "DeepSphereConfig",
    "DirectionFit",
    "DiscoUNet",
    "DiscoUNetConfig",
    "ESCNConfig",
    "FourierRank",
    "GCNNConfig",
    "GEMCNNConfig",
    "HarmonicNet",
    "HarmonicNetConfig",
    "LinearGCNN",
    "LinearMLP",
    "OSLOCodec",
    "OSLOCodecConfig",
    "Potential",
    "SCNConfig",
    "SEGNNConfig",
    "ScaledPotential",
    "SpinNet",
    "SpinNetConfig",
    "balanced_irreps",
    "effective_rank",
    "fit_direction",
    "fourier_rank_report",
    "hard_margin",
    "linearize",
    "local_linearization",
    "random_patches",
    "schatten",
    "spectral_summary",
]
