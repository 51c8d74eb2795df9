"""Equivariance checks that users call on their own models."""

from geomeq.testing._error import assert_equivariant, equivariance_error
from geomeq.testing._report import EquivarianceReport, ModuleError, equivariance_report

__all__ = ["EquivarianceReport", "ModuleError", "assert_equivariant", "equivariance_error", "equivariance_report"]
