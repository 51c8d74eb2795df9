"""Equivariance checks that users call on their own models."""

from geomeq.testing._error import assert_equivariant, equivariance_error

__all__ = ["assert_equivariant", "equivariance_error"]
