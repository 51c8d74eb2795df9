"""How the filters of a DISCO convolution are normalised; see ``disco_geometry``."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

NORMS = ("none", "mean", "nodal", "modal", "support", "geometric")
CHUNK = 1 << 18  #: Edges whose intermediate numbers are held at once, some tens of megabytes.
_TINY = 1e-9  # of the largest sum: below, a filter meets no node of a group but for rounding


class Groups(NamedTuple):
    """Entries that are normalised together: those of one output node, or of one row of output nodes.

    Attributes:
        number: Group of each entry, ``[M]``.
        num: Number of groups.
        share: What turns the sum over a group's entries into the mean over its nodes.
        area: Share of each group in the sphere, ``[G]``; ``None`` for equal ones.
    """

    number: Tensor
    num: int
    share: float
    area: Tensor | None

    def sum(self, values: Tensor) -> Tensor:
        """``[M, K]`` to ``[G, K]``."""
        total = values.new_zeros(self.num, values.size(1)).index_add(0, self.number, values)
        return total * self.share

    def sum_of_sizes(self, values: Tensor, weight: Tensor) -> Tensor:
        """Weighted sums of absolute values, ``[M, K]`` and ``[M]`` to ``[G, K]``, without another ``[M, K]``."""
        total = values.new_zeros(self.num, values.size(1))
        for part, w, number in zip(values.split(CHUNK), weight.split(CHUNK), self.number.split(CHUNK), strict=True):
            total.index_add_(0, number, part.abs() * w[:, None])
        return total * self.share

    def mean(self, sums: Tensor) -> Tensor:
        """``[G, K]`` to ``[K]``."""
        return sums.mean(dim=0) if self.area is None else (self.area[:, None] * sums).sum(dim=0)


def normalised(
    psi: Tensor, inside: Tensor, weight: Tensor, groups: Groups, norm: str, isotropic: Tensor, cutoff: float
) -> Tensor:
    """Filters divided by their norm, ``[M, K]``.

    Args:
        psi: Their values, ``[M, K]``.
        inside: Where each filter lives, ``[M, K]``.
        weight: Quadrature weight of the source of each entry, total 1, ``[M]``.
        groups: Which entries go together.
        norm: One of ``NORMS``.
        isotropic: Filters that do not depend on the azimuth, ``[K]``.
        cutoff: Radius of the filters, radians.
    """
    if norm == "none":
        return psi
    if norm == "geometric":
        return psi / ((1 - math.cos(cutoff)) / 4)
    q = weight[:, None]
    if norm == "support":
        return _divide(psi, groups.sum(inside * q), groups)
    if norm == "modal":
        bias = _ratio(groups.sum(psi * q), groups.sum(inside * q))
        psi = torch.where(inside & ~isotropic, psi - bias[groups.number], psi)
    scale = groups.sum_of_sizes(psi, weight)
    if norm == "mean":
        return psi / groups.mean(scale).clamp(min=1e-300)
    return _divide(psi, scale, groups)


def _divide(psi: Tensor, scale: Tensor, groups: Groups) -> Tensor:
    least = _TINY * scale.amax(dim=0).clamp(min=1e-290)
    return psi / torch.maximum(scale, least)[groups.number]


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator.clamp(min=1e-300), 0.0)
