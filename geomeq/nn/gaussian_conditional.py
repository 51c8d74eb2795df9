"""Gaussian densities with given scales and means, by which latents with a hyperprior are coded."""

import math
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from geomeq.groups._lasting import lasting

from ._lower_bound import lower_bound
from .coding_tables import CodingTables, build_tables
from .factorized_prior import LEAST_LIKELIHOOD

SCALES = (0.11, 256.0, 64)  # least, greatest, how many
_REACH = 6  # standard deviations in a table; 2e-9 of the mass is outside


class GaussianConditional(nn.Module):
    r"""Probabilities of quantised latents under normal distributions of given mean and scale.

    .. math:: p(y) = \Phi\Big(\frac{\frac12 - |y - \mu|}{\sigma}\Big)
        - \Phi\Big(\frac{-\frac12 - |y - \mu|}{\sigma}\Big), \qquad \sigma \geq 0.11, \; p \geq 10^{-9}

    that is, of a normal distribution smoothed by the uniform noise that stands for rounding in training. In evaluation
    :math:`\hat y = \mathrm{round}(y - \mu) + \mu`.

    For coding, scales are rounded to one of 64 of equal ratio from 0.11 to 256 (:meth:`index`; at most 6.5 % off, which
    costs at most 0.006 bits per symbol). The tables are the same on every machine: they are computed with additions,
    multiplications, divisions and square roots only, which IEEE 754 defines to the last bit.

    Example:
        >>> gaussian = GaussianConditional()
        >>> y, scale = torch.randn(2, 12, 4), torch.ones(2, 12, 4)
        >>> y_hat, likelihood = gaussian(y, scale)

    Source: Balle et al. (2018), https://arxiv.org/abs/1802.01436; Minnen et al. (2018),
    https://arxiv.org/abs/1809.02736
    """

    def likelihood(self, y: Tensor, scale: Tensor, mean: Tensor | None = None) -> Tensor:
        """Probability of the unit interval around each value, at least 1e-9.

        Args:
            y: Any shape; half precision is computed in float32.
            scale: Standard deviation, same shape; raised to 0.11.
            mean: Same shape; default zero.
        """
        if y.dtype in (torch.float16, torch.bfloat16):
            y, scale, mean = y.float(), scale.float(), None if mean is None else mean.float()
        scale = lower_bound(scale, SCALES[0])
        off = (y if mean is None else y - mean).abs()
        return lower_bound(_phi((0.5 - off) / scale) - _phi((-0.5 - off) / scale), LEAST_LIKELIHOOD)

    def forward(self, y: Tensor, scale: Tensor, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Quantises.

        Args:
            y: Latents, any shape.
            scale: Standard deviation, same shape.
            mean: Same shape; default zero.

        Returns:
            Latents with noise (training) or rounded (evaluation), and the probability of each, same shape.

        Raises:
            ValueError: If the shapes differ.
        """
        for name, other in (("scale", scale), ("mean", mean)):
            if other is not None and other.shape != y.shape:
                raise ValueError(f"{name} must have the shape of y, {list(y.shape)}, got {list(other.shape)}")
        if self.training:
            y_hat = y + torch.empty_like(y).uniform_(-0.5, 0.5)
        else:
            y_hat = y.round() if mean is None else (y - mean).round() + mean
        return y_hat, self.likelihood(y_hat, scale, mean)

    def index(self, scale: Tensor) -> Tensor:
        """Which table codes a symbol of this scale: the nearest ratio, int64. Compared in float64."""
        return torch.bucketize(scale.double().contiguous(), _edges().to(scale.device))

    def tables(self) -> CodingTables:
        """The coding tables, one per scale; symbols are ``y_hat - mean``."""
        return _gaussian_tables()


def scale_table() -> Tensor:
    """The 64 scales, float64, equal on every machine (decimal arithmetic)."""
    least, greatest, count = SCALES
    with localcontext() as context:
        context.prec = 40
        step = (Decimal(str(greatest)) / Decimal(str(least))).ln() / (count - 1)
        return torch.tensor([float(Decimal(str(least)) * (step * i).exp()) for i in range(count)], dtype=torch.float64)


@cache
@lasting
def _edges() -> Tensor:
    scale = scale_table()
    return (scale[1:] * scale[:-1]).sqrt()


def _phi(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(x * -(0.5**0.5))  # erfc has all digits in the tail


@cache
@lasting
def _gaussian_tables() -> CodingTables:
    low, pmfs = [], []
    for scale in scale_table().tolist():
        reach = math.ceil(_REACH * scale)
        edge = (np.arange(reach + 2) - 0.5) / scale
        edge[0] = -edge[1]
        above = _upper_tail(edge[1:])  # P(Y > k + 1/2), k = 0, 1, ...
        half = above[:-1] - above[1:]
        pmfs.append(np.concatenate([half[::-1], [1 - 2 * above[0]], half]))
        low.append(-reach)
    return build_tables(np.array(low), pmfs)


def _upper_tail(x: np.ndarray) -> np.ndarray:
    r""":math:`1 - \Phi(x)` for ``x >= 0`` to 1e-13, with correctly rounded operations only.

    :math:`\Phi(x) = \frac12 + \phi(x) (x + x^3/3 + x^5/15 + \dots)`.
    """
    x = np.minimum(x, 7.0)
    term = total = x
    for k in range(1, 120):
        term = term * (x * x) / (2 * k + 1)
        total = total + term
    power = np.ones_like(x)
    for k in range(40, 0, -1):  # exp(x^2 / 128) by Horner's rule, then its 64th power
        power = 1 + power * (x * x / 128) / k
    for _ in range(6):
        power = power * power
    root = math.sqrt(2 * 3.141592653589793)
    return np.maximum(0.5 - total / (power * root), 0.0)
