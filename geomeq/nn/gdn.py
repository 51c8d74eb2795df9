"""Generalised divisive normalisation."""

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape

from ._lower_bound import lower_bound

_PEDESTAL = 2.0**-36  # keeps the gradient of the square away from zero


class GDN(nn.Module):
    r"""Divides each channel by the energy of all channels at the same node.

    .. math:: y_c = \frac{x_c}{\sqrt{\beta_c + \sum_d \gamma_{cd} x_d^2}}, \qquad \beta_c \geq 10^{-6}, \;
        \gamma_{cd} \geq 0

    With ``inverse=True`` it multiplies instead. That is the usual partner in a decoder, not the inverse function: the
    energy is then that of its own input.

    Stored are :math:`v = \sqrt{\beta + 2^{-36}}` (:math:`\gamma` likewise), and used
    :math:`\max(v, v_{min})^2 - 2^{-36}`; below :math:`v_{min}` a gradient passes only if it raises :math:`v`. So no
    step of an optimiser makes the root imaginary, and none gets stuck. It acts node by node and commutes with every
    permutation of nodes.

    Args:
        channels: ``C``.
        inverse: Whether to multiply.
        beta_min: Least value of each :math:`\beta_c`.
        gamma_init: Value at the start on the diagonal of :math:`\gamma`; :math:`\beta` starts at 1.

    Example:
        >>> GDN(8)(torch.randn(2, 48, 8)).shape
        torch.Size([2, 48, 8])

    Source: Balle, Laparra and Simoncelli (2016), https://arxiv.org/abs/1511.06281
    """

    def __init__(self, channels: int, inverse: bool = False, beta_min: float = 1e-6, gamma_init: float = 0.1) -> None:
        super().__init__()
        if channels < 1 or not beta_min > 0 or not gamma_init >= 0:
            raise ValueError(
                f"channels and beta_min must be positive and gamma_init not negative, got {channels}, {beta_min} and "
                f"{gamma_init}"
            )
        self.channels, self.inverse, self.beta_min, self.gamma_init = channels, inverse, beta_min, gamma_init
        self.beta_root = nn.Parameter(torch.empty(channels))
        self.gamma_root = nn.Parameter(torch.empty(channels, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r""":math:`\beta = 1`, :math:`\gamma` diagonal."""
        with torch.no_grad():
            self.beta_root.fill_((1 + _PEDESTAL) ** 0.5)
            self.gamma_root.copy_((self.gamma_init * torch.eye(self.channels) + _PEDESTAL).sqrt())

    @property
    def beta(self) -> Tensor:
        r""":math:`\beta`, ``[C]``."""
        return lower_bound(self.beta_root, (self.beta_min + _PEDESTAL) ** 0.5).square() - _PEDESTAL

    @property
    def gamma(self) -> Tensor:
        r""":math:`\gamma`, ``[C, C]``: row of the normalised channel."""
        return lower_bound(self.gamma_root, _PEDESTAL**0.5).square() - _PEDESTAL

    def forward(self, x: Tensor) -> Tensor:
        """Normalises.

        Args:
            x: ``[..., C]``.

        Returns:
            The same shape. Half precision is normalised in float32 and cast back.

        Raises:
            TypeError: If ``x`` holds no floating-point numbers.
            ValueError: If the last axis is not ``C``.
        """
        check_shape("x", x, "...", self.channels)
        if not x.dtype.is_floating_point:
            raise TypeError(f"x must be floating point, got {x.dtype}; call .float() on it")
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        with torch.autocast(x.device.type, enabled=False):
            energy = wide.square() @ self.gamma.to(wide).T + self.beta.to(wide)
            root = energy.sqrt() if self.inverse else energy.rsqrt()
            return (wide * root).to(x.dtype)

    def extra_repr(self) -> str:
        """Channels and direction."""
        return f"{self.channels}{', inverse=True' if self.inverse else ''}"
