"""Normalisations of spherical channels: each node by itself, all orders of a degree alike."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomeq._checks import check_shape

from ._paths import Constant
from ._rows import check_degrees, row_degrees

_KINDS = ("rms", "layer", "degree")


class SphericalNorm(nn.Module):
    r"""Scales the channels of each node to unit size, by numbers that no rotation or reflection changes.

    .. math::
        x'_{lm,c} = \frac{x_{lm,c}}{\sqrt{\epsilon + s_l}} \, w_{l,c} + \delta_{l0} \, b_c, \qquad
        q_l = \frac{1}{(2l+1) C} \sum_{m,c} x_{lm,c}^2

    - ``"rms"``: one size for all degrees, :math:`s_l = \operatorname{mean}_k q_k`. Nothing is subtracted, so ratios
      between degrees stay, and a degree that is zero by symmetry stays zero.
    - ``"layer"``: degree 0 loses its mean over channels and has its own size (the usual layer norm); all higher degrees
      share one, :math:`s_l = \operatorname{mean}_{k>0} q_k`.
    - ``"degree"``: as ``"layer"``, but every degree has its own, :math:`s_l = q_l` (that of
      :class:`SteerableLayerNorm`).

    The last two divide by the size of the higher degrees alone. Where an environment is symmetric (a perfect crystal)
    that is zero, and rounding noise is raised by up to ``eps ** -0.5``.

    Args:
        channels: Number of channels.
        lmax: Highest degree.
        kind: Which numbers are divided by, see above.
        eps: Added to every mean square.
        affine: Whether a scale per degree and channel, and a shift of degree 0, are learned.

    Example:
        >>> x = 5 * torch.randn(3, 9, 16)
        >>> 0.8 < SphericalNorm(16, lmax=2)(x).square().mean().item() < 1.2
        True

    Source: Liao et al. (2023), https://arxiv.org/abs/2306.12059 (layer, degree); Fu et al. (2025),
    https://arxiv.org/abs/2502.12147 (rms).
    """

    def __init__(
        self,
        channels: int,
        lmax: int,
        kind: Literal["rms", "layer", "degree"] = "rms",
        eps: float = 1e-5,
        affine: bool = True,
    ) -> None:
        super().__init__()
        check_degrees(lmax)
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {_KINDS}, got {kind!r}")
        self.channels, self.lmax, self.kind, self.eps, self.affine = channels, lmax, kind, eps, affine
        degree = torch.tensor(row_degrees(lmax))
        self._degree = Constant(degree)
        each = 1 / ((2 * degree + 1).double() * channels)
        self._share = Constant(each / (lmax + 1))
        self._higher = Constant(each * (degree > 0) / max(lmax, 1))
        self._mean = Constant(each[:, None] * F.one_hot(degree, lmax + 1)[:, 1:])
        self.weight = nn.Parameter(torch.ones(lmax + 1, channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def reset_parameters(self) -> None:
        """Scale 1, shift 0."""
        if self.weight is not None and self.bias is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises.

        Args:
            x: Coefficients of spherical channels, ``[N, (lmax + 1)^2, channels]``.

        Returns:
            The same shape.
        """
        check_shape("x", x, "N", (self.lmax + 1) ** 2, self.channels, hint=f"the norm was built for lmax={self.lmax}")
        weight = None if self.weight is None else self.weight.index_select(0, self._degree.on(x.device))
        if self.kind == "rms":
            x = x * (self._size(x, self._share) + self.eps).rsqrt()
            x = x if weight is None else x * weight
            return x if self.bias is None else torch.cat([x[:, :1] + self.bias, x[:, 1:]], dim=1)
        scalars = F.layer_norm(x[:, 0], (self.channels,), eps=self.eps)
        if weight is not None and self.bias is not None:
            scalars = torch.addcmul(self.bias, scalars, weight[0])
        if self.lmax == 0:
            return scalars[:, None]
        if self.kind == "layer":
            scale = (self._size(x, self._higher) + self.eps).rsqrt()
        else:
            size = x.square().sum(dim=2) @ self._mean.like(x) + self.eps  # [N, lmax]
            scale = size.rsqrt().index_select(1, self._degree.on(x.device)[1:] - 1)[:, :, None]
        higher = x[:, 1:] * scale
        return torch.cat([scalars[:, None], higher if weight is None else higher * weight[1:]], dim=1)

    def _size(self, x: Tensor, share: Constant) -> Tensor:
        """Weighted mean of squares of each node, ``[N, 1, 1]``."""
        return (x.square().sum(dim=2) @ share.like(x))[:, None, None]

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"{self.channels}, lmax={self.lmax}, kind={self.kind!r}, eps={self.eps}, affine={self.affine}"
