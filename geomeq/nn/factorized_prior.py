"""A learned density per channel, by which latents without any context are coded."""

import hashlib
import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomeq._checks import check_shape

from ._lower_bound import lower_bound
from .coding_tables import CodingTables, build_tables

LEAST_LIKELIHOOD = 1e-9
_BUFFERS = {
    "table_low": torch.int64,
    "table_start": torch.int64,
    "table_count": torch.int32,
    "table_source": torch.uint8,
}


class FactorizedPrior(nn.Module):
    r"""Probabilities of quantised latents: one learned distribution per channel, the same at every node.

    .. math:: p(z) = |\sigma(s\, c(z + \tfrac12)) - \sigma(s\, c(z - \tfrac12))|, \qquad
        c = f_K \circ \dots \circ f_1, \quad f_k(u) = g_k(H_k u + b_k), \quad g_k(u) = u + \tanh(a_k) \tanh(u)

    :math:`c` rises with :math:`z`, since :math:`H_k` is a softplus and :math:`|\tanh a_k| < 1`; the sign :math:`s` puts
    the difference where the sigmoid does not round to 1. In training the latents get uniform noise in
    :math:`[-\frac12, \frac12]` in place of rounding; in evaluation :math:`\hat z = \mathrm{round}(z - m) + m` with the
    median :math:`m`.

    :meth:`update` turns the densities into integer frequencies for a range coder. They are buffers and travel with the
    ``state_dict``: a decoder must have the encoder's, not compute its own, which might round differently. A hash of the
    parameters goes with them, by which :attr:`is_stale` knows of training after :meth:`update`.

    Args:
        channels: ``C``.
        filters: Widths of the hidden layers of :math:`c`.
        init_scale: Width of the density at the start.
        tail_mass: What the outer quantiles of :meth:`auxiliary_loss` leave outside, both sides together.

    Example:
        >>> prior = FactorizedPrior(4)
        >>> z_hat, likelihood = prior(torch.randn(2, 12, 4))
        >>> bits = -likelihood.log2().sum()

    Source: Balle et al. (2018), appendix 6.1, https://arxiv.org/abs/1802.01436
    """

    table_low: Tensor
    table_start: Tensor
    table_count: Tensor
    table_source: Tensor

    def __init__(
        self,
        channels: int,
        filters: tuple[int, ...] = (3, 3, 3, 3),
        init_scale: float = 10.0,
        tail_mass: float = 1e-9,
    ) -> None:
        super().__init__()
        if channels < 1 or not filters or min(filters) < 1 or not init_scale > 0 or not 0 < tail_mass < 1:
            raise ValueError(
                "channels, filters and init_scale must be positive and tail_mass between 0 and 1, got "
                f"{channels}, {filters}, {init_scale} and {tail_mass}"
            )
        self.channels, self.filters, self.init_scale, self.tail_mass = channels, tuple(filters), init_scale, tail_mass
        widths = (1, *filters, 1)
        pairs = list(pairwise(widths))
        self.matrix = nn.ParameterList(nn.Parameter(torch.empty(channels, o, i)) for i, o in pairs)
        self.shift = nn.ParameterList(nn.Parameter(torch.empty(channels, o, 1)) for _, o in pairs)
        self.factor = nn.ParameterList(nn.Parameter(torch.empty(channels, o, 1)) for _, o in pairs[:-1])
        self.quantiles = nn.Parameter(torch.empty(channels, 3))
        for name, dtype in _BUFFERS.items():
            self.register_buffer(name, torch.zeros(0, dtype=dtype))
        self.register_load_state_dict_post_hook(_trust_tables)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A density about ``init_scale`` wide around zero."""
        step = self.init_scale ** (1 / len(self.matrix))
        for matrix, shift in zip(self.matrix, self.shift, strict=True):
            nn.init.constant_(matrix, math.log(math.expm1(1 / step / matrix.size(1))))
            nn.init.uniform_(shift, -0.5, 0.5)
        for factor in self.factor:
            nn.init.zeros_(factor)
        with torch.no_grad():
            self.quantiles.copy_(torch.tensor([-self.init_scale, 0.0, self.init_scale]))

    def logits(self, z: Tensor) -> Tensor:
        """The rising function ``c`` of each channel: the logit of its distribution function.

        Args:
            z: ``[..., C]``; half precision is computed in float32.
        """
        wide = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
        with torch.autocast(z.device.type, enabled=False):
            return self._logits(wide, [*self.matrix], [*self.shift], [*self.factor])

    def _logits(self, z: Tensor, matrix: list[Tensor], shift: list[Tensor], factor: list[Tensor]) -> Tensor:
        u = z.reshape(-1, self.channels).T[:, None]  # [C, 1, M]
        for k, (h, b) in enumerate(zip(matrix, shift, strict=True)):
            u = torch.baddbmm(b.to(u), F.softplus(h.to(u)), u)
            if k < len(factor):
                u = u + factor[k].to(u).tanh() * u.tanh()
        return u[:, 0].T.reshape(z.shape)

    def likelihood(self, z: Tensor) -> Tensor:
        """Probability of the unit interval around each value, at least 1e-9.

        Args:
            z: ``[..., C]``.
        """
        return lower_bound(self._mass(z), LEAST_LIKELIHOOD)

    def _mass(self, z: Tensor) -> Tensor:
        lower, upper = self.logits(z - 0.5), self.logits(z + 0.5)
        sign = -(lower + upper).detach().sign()
        sign = torch.where(sign == 0, 1.0, sign)
        return (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()

    @property
    def medians(self) -> Tensor:
        """Of each channel, ``[C]``, without gradient."""
        return self.quantiles[:, 1].detach()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Quantises.

        Args:
            z: Latents ``[..., C]``.

        Returns:
            Latents with noise (training) or rounded (evaluation), and the probability of each, same shape.

        Raises:
            TypeError: If ``z`` holds no floating-point numbers.
            ValueError: If the last axis is not ``C``.
        """
        check_shape("z", z, "...", self.channels)
        if not z.dtype.is_floating_point:
            raise TypeError(f"z must be floating point, got {z.dtype}; call .float() on it")
        if self.training:
            z_hat = z + torch.empty_like(z).uniform_(-0.5, 0.5)
        else:
            z_hat = (z - self.medians.to(z)).round() + self.medians.to(z)
        return z_hat, self.likelihood(z_hat)

    def auxiliary_loss(self) -> Tensor:
        r"""Distance of ``quantiles`` from the lower tail, the median and the upper tail.

        Only ``quantiles`` get a gradient from it, and from nothing else, so it may be added to any loss. Where it was
        not trained, :meth:`update` finds the quantiles by bisection all the same.
        """
        target = math.log(2 / self.tail_mass - 1)
        parts = [[p.detach() for p in group] for group in (self.matrix, self.shift, self.factor)]
        logits = self._logits(self.quantiles.T, *parts)
        return (logits - logits.new_tensor([-target, 0.0, target])[:, None]).abs().sum()

    @torch.no_grad()
    def solve_quantiles(self) -> None:
        """Puts ``quantiles`` where :meth:`auxiliary_loss` has its minimum, by bisection in float64.

        Raises:
            ValueError: If a density is so wide that its tails are beyond a million.
        """
        target = math.log(2 / self.tail_mass - 1)
        wanted = torch.tensor([-target, 0.0, target], dtype=torch.float64, device=self.quantiles.device)[:, None]
        high = wanted.new_full((3, self.channels), 2.0**20)
        low = -high
        if not bool(((self.logits(low) <= wanted) & (self.logits(high) >= wanted)).all()):
            raise ValueError("a channel's density reaches beyond 2^20 or is not finite; train on, or scale the latents")
        for _ in range(80):
            middle = (low + high) / 2
            below = self.logits(middle) < wanted
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        self.quantiles.copy_(((low + high) / 2).T)

    @torch.no_grad()
    def update(self) -> None:
        """Solves for the quantiles and makes the coding tables from the densities, in float64."""
        self.solve_quantiles()
        quantiles = self.quantiles.double().cpu()
        reach = quantiles - quantiles[:, 1:2]
        low = reach[:, 0].floor().clamp(-(2**15), -1)
        high = reach[:, 2].ceil().clamp(1, 2**15)
        symbols = torch.arange(int(low.min()), int(high.max()) + 1, dtype=torch.float64)
        mass = self._mass((symbols[:, None] + quantiles[:, 1]).to(self.quantiles.device)).cpu().T.numpy()
        first = (low - symbols[0]).long().tolist()
        last = (high - symbols[0]).long().tolist()
        pmfs = [np.ascontiguousarray(row[a : b + 1]) for row, a, b in zip(mass, first, last, strict=True)]
        tables = build_tables(low.long().numpy(), pmfs)
        made = tables.low, tables.start, tables.count, self._source()
        for name, value in zip(_BUFFERS, made, strict=True):
            setattr(self, name, value.to(self.quantiles.device))

    @property
    def has_tables(self) -> bool:
        """Whether :meth:`update` was called, here or before the ``state_dict`` was saved."""
        return self.table_low.numel() > 0

    @property
    def is_stale(self) -> bool:
        """Whether there are tables, but of other densities: the parameters changed after :meth:`update`.

        Such tables still code every symbol, with bits that the densities do not promise.
        """
        return self.has_tables and not torch.equal(self.table_source.cpu(), self._source())

    def _source(self) -> Tensor:
        """Eight bytes that tell parameters apart, as float32 holds them."""
        digest = hashlib.sha256()
        for parameter in self.parameters():
            digest.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
        return torch.frombuffer(bytearray(digest.digest()[:8]), dtype=torch.uint8)

    def tables(self) -> CodingTables:
        """The coding tables, one per channel; symbols are ``z_hat - medians``.

        Raises:
            ValueError: If there are none yet.
        """
        if not self.has_tables:
            raise ValueError("the prior has no coding tables yet: call update() after training, then save state_dict()")
        return CodingTables(self.table_low.cpu(), self.table_start.cpu(), self.table_count.cpu())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in _BUFFERS:  # their sizes are a result of training
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.dim() == 1:
                setattr(self, name, getattr(self, name).new_zeros(stored.numel()))
        if prefix + "table_low" in state_dict:  # an earlier version kept no trace of the densities
            state_dict.setdefault(prefix + "table_source", torch.zeros(0, dtype=torch.uint8))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Channels."""
        return f"{self.channels}"


def _trust_tables(prior: FactorizedPrior, _: Any) -> None:
    """Tables that were loaded without a trace of their densities are taken for those of the parameters beside them."""
    if prior.has_tables and prior.table_source.numel() == 0:
        prior.table_source = prior._source().to(prior.table_low.device)
