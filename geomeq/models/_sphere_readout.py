r"""Energies and forces of atoms from their functions on the sphere."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomeq.groups._lasting import lasting
from geomeq.harmonics import exact_weights, spherical_harmonics
from geomeq.nn._paths import Constant
from geomeq.spheres import fibonacci


@lru_cache(maxsize=16)
@lasting
def sphere_points(count: int) -> tuple[Tensor, Tensor]:
    """Fibonacci points and the weights of a mean over the sphere, float64.

    Returns:
        Unit vectors ``[P, 3]`` and weights ``[P]``, positive, sum 1, exact for polynomials up to the highest degree
        that allows positive weights (10 for 128 points).
    """
    with torch.device("cpu"):
        plain = fibonacci(count)
        for degree in range(int(count**0.5) - 1, -1, -1):
            try:
                made = exact_weights(plain, degree)
            except ValueError:  # no positive weights of this degree
                continue
            break
        weight = made.area / made.area.sum()
        return made.pos.double(), weight.double()


class SphereReadout(nn.Module):
    r"""Means over points of the sphere of networks on the channels' values there.

    .. math:: E_i = \sum_p w_p \, \text{MLP}_E(s_i(r_p)), \qquad F_i = \sum_p w_p \, r_p \, \text{MLP}_F(s_i(r_p))

    with unit vectors :math:`r_p` and quadrature weights of sum 1. Networks ``C -> C -> C -> 1`` with SiLU. The first
    map acts on coefficients, of which there are fewer than points.

    Args:
        channels: ``C``.
        lmax: Highest degree.
        num_points: ``P``.
        forces: Whether there is a network for forces.
    """

    def __init__(self, channels: int, lmax: int, num_points: int, forces: bool) -> None:
        super().__init__()
        self.channels, self.lmax, self.num_points = channels, lmax, num_points
        self.heads = nn.ModuleList(
            nn.ModuleList(nn.Linear(channels, width) for width in (channels, channels, 1)) for _ in range(1 + forces)
        )
        points, weight = sphere_points(num_points)
        self._points, self._weight = Constant(points), Constant(weight)
        self._samples = Constant(spherical_harmonics(points, lmax))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Energies ``[N]`` and forces ``[N, 3]`` (``None`` without a network for them) from ``[N, (lmax+1)^2, C]``."""
        first, second, last = zip(*self.heads, strict=True)
        mapped = F.linear(x, torch.cat([layer.weight for layer in first]))
        values = self._samples.like(x) @ mapped + torch.cat([layer.bias for layer in first])
        means = []
        weight = self._weight.like(x)
        factors = (weight[:, None], weight[:, None] * self._points.like(x))
        for k, own in enumerate(F.silu(values).split(self.channels, dim=2)):
            means.append(factors[k].T @ last[k](F.silu(second[k](own))))  # [N, 1 or 3, 1]
        return means[0].flatten(), means[1].squeeze(2) if len(means) > 1 else None

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.channels}, lmax={self.lmax}, num_points={self.num_points}, forces={len(self.heads) > 1}"
