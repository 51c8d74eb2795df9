"""Checks that users call on their own models: equivariance, and codecs compared over a range of qualities."""

from geomeq.testing._convolution import ConvolutionCheck, is_convolution
from geomeq.testing._drift import NVEDrift, nve_drift
from geomeq.testing._error import assert_equivariant, equivariance_error
from geomeq.testing._rate import bd_psnr, bd_rate
from geomeq.testing._report import EquivarianceReport, ModuleError, equivariance_report

__all__ = [
    "ConvolutionCheck",
    "EquivarianceReport",
    "ModuleError",
    "NVEDrift",
    "assert_equivariant",
    "bd_psnr",
    "bd_rate",
    "equivariance_error",
    "equivariance_report",
    "is_convolution",
    "nve_drift",
]
