"""Equivariance checks that users call on their own models."""

from geomeq.testing._convolution import ConvolutionCheck, is_convolution
from geomeq.testing._error import assert_equivariant, equivariance_error
from geomeq.testing._report import EquivarianceReport, ModuleError, equivariance_report

__all__ = [
    "ConvolutionCheck",
    "EquivarianceReport",
    "ModuleError",
    "assert_equivariant",
    "equivariance_error",
    "equivariance_report",
    "is_convolution",
]
