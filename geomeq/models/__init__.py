"""One ready network per published system, each with a dataclass config."""

from .cheblienet import ChebLieNet, ChebLieNetConfig
from .potential import Potential, PotentialOutput
from .segnn import SEGNN, SEGNNConfig, balanced_irreps

__all__ = [
    "SEGNN",
    "ChebLieNet",
    "ChebLieNetConfig",
    "Potential",
    "PotentialOutput",
    "SEGNNConfig",
    "balanced_irreps",
]
