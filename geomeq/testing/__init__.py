"""Checks that users call on their own models: symmetry, forces and energies of potentials, quality of codecs."""

from geomeq.testing._convolution import ConvolutionCheck, is_convolution
from geomeq.testing._drift import NVEDrift, nve_drift
from geomeq.testing._error import assert_equivariant, equivariance_error
from geomeq.testing._forces import ForceConsistency, force_consistency, jacobian_asymmetry
from geomeq.testing._rate import bd_psnr, bd_rate
from geomeq.testing._report import EquivarianceReport, ModuleError, equivariance_report

__all__ = [
    "ConvolutionCheck",
    "EquivarianceReport",
    "ForceConsistency",
    "ModuleError",
    "NVEDrift",
    "assert_equivariant",
    "bd_psnr",
    "bd_rate",
    "equivariance_error",
    "equivariance_report",
    "force_consistency",
    "is_convolution",
    "jacobian_asymmetry",
    "nve_drift",
]
