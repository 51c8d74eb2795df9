"""Doctests of one file of geomeq/transforms: PyG registers a transform once, so the package is imported first."""

import geomeq.transforms  # noqa: F401
