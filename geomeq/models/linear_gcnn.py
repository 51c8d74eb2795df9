"""Deep linear networks on a finite group: the objects of the theory of implicit bias."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups import FiniteGroup


class _Convolve(torch.autograd.Function):
    r"""``out(v) = sum_i b(table[v, i]) w_i``, bilinear; ``back[u, i]`` is the ``v`` with ``table[v, i] = u``.

    Only gathers, no scatters: the transpose of a gather along a permutation is the gather along its inverse.
    """

    @staticmethod
    def forward(ctx: Any, b: Tensor, w: Tensor, table: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(b, w, table, back)
        return _gather(b, table) @ w.flatten(-3, -2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        b, w, table, back = ctx.saved_tensors
        grad_b = _Convolve.apply(grad, w.transpose(-1, -2), back, table)  # type: ignore[no-untyped-call]
        grad_w = (_gather(b, table).transpose(-1, -2) @ grad).view(w.shape)
        return grad_b, grad_w, None, None


def _gather(b: Tensor, table: Tensor) -> Tensor:
    """``b`` ``[..., n, C]`` to ``[..., n, R C]``."""
    rows = b.index_select(-2, table.view(-1))
    return rows.view(*b.shape[:-2], table.size(0), -1)


class LinearNetwork(nn.Module):
    r"""A linear map :math:`x \mapsto \langle x, \beta \rangle` with :math:`\beta` multilinear in its weights.

    Args:
        num_models: Independent networks, along a leading axis of all weights and outputs; ``None`` for one and no axis.
    """

    in_features: int

    def __init__(self, num_models: int | None) -> None:
        super().__init__()
        if num_models is not None and num_models < 1:
            raise ValueError(f"num_models must be at least 1, got {num_models}; None is one network without an axis")
        self.num_models = num_models
        self.lead = () if num_models is None else (num_models,)

    def beta(self) -> Tensor:
        """The linear functional that the network computes, ``[*num_models, n]``."""
        raise NotImplementedError

    def check_input(self, x: Tensor) -> None:
        """Raises unless ``x`` is ``[B, n]``, or ``[num_models, B, n]`` with a batch for each network."""
        check_shape("x", x, "...", "B", self.in_features)
        if x.dim() > 2 + len(self.lead) or (x.dim() == 3 and x.size(0) != self.num_models):
            shape = f"[B, {self.in_features}]"
            raise ValueError(f"x must have shape {shape}, with num_models in front if at all, got {list(x.shape)}")

    def reset_parameters(self, std: float, seed: int | None = None) -> None:
        """Normal weights; ``seed`` makes the networks of a batch reproducible one by one."""
        for weight in self.parameters():
            if seed is None:
                nn.init.normal_(weight, std=std)
        if seed is not None:
            self._reset_by_seed(std, seed)

    @torch.no_grad()
    def _reset_by_seed(self, std: float, seed: int) -> None:
        for i in range(self.num_models or 1):
            rng = torch.Generator().manual_seed(seed + i)
            for weight in self.parameters():
                one = weight if self.num_models is None else weight[i]
                one.copy_(torch.randn(one.shape, generator=rng, dtype=torch.float64) * std)


class LinearGCNN(LinearNetwork):
    r"""A linear group-equivariant network with a linear read-out.

    .. math:: h_l(u) = \sum_v h_{l-1}(v)\, w_l(u^{-1} v), \qquad f(x) = \langle h_{L-1}, w_L \rangle
              = \langle x, \beta \rangle

    with :math:`\hat\beta(\rho) = \hat w_L(\rho) \cdots \hat w_1(\rho)` in every irrep: a deep matrix factorisation per
    block. Trained to separate data, :math:`\beta` tends to a direction with small Schatten-:math:`2/L` norm of its
    Fourier coefficients (``models.schatten``), whereas a fully connected network of any depth tends to the one with the
    smallest length. With an abelian group this is a circular convolutional network.

    Args:
        group: The group, of n elements.
        depth: :math:`L \ge 1`; the last layer is the read-out.
        channels: Width of the layers between; 1 in the theory.
        support: Elements of the group on which the filters of the first :math:`L - 1` layers may be non-zero.
        num_models: Independent networks along a leading axis (seeds).
        std: Standard deviation of the initial weights: small for the rich regime, large for the kernel regime.
        dtype: Double precision by default: margins grow while losses shrink to 1e-20.

    Raises:
        TypeError: If ``group`` is none.
        ValueError: If a number is not positive or the support names no element.

    Example:
        >>> from geomeq.groups import dihedral
        >>> net = LinearGCNN(dihedral(4), depth=3)
        >>> x = torch.randn(5, 8, dtype=torch.float64)
        >>> torch.allclose(net(x), x @ net.beta())
        True

    Source: Lawrence et al. (2022), https://arxiv.org/abs/2110.06084
    """

    table: Tensor
    back: Tensor

    def __init__(
        self,
        group: FiniteGroup,
        depth: int,
        channels: int = 1,
        support: Any = None,
        num_models: int | None = None,
        std: float = 0.3,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(num_models)
        if not isinstance(group, FiniteGroup):
            raise TypeError(f"group must be a FiniteGroup, got {type(group).__name__}; take groups.dihedral(4)")
        if depth < 1 or channels < 1:
            raise ValueError(f"depth and channels must be at least 1, got {depth} and {channels}")
        elements = torch.arange(group.order) if support is None else torch.as_tensor(support).long().unique()
        if not elements.numel() or int(elements[0]) < 0 or int(elements[-1]) >= group.order:
            raise ValueError(f"support must name elements 0..{group.order - 1}, got {support!r}")
        self.group, self.depth, self.channels, self.in_features = group, depth, channels, group.order
        self.elements = elements
        every = torch.arange(group.order)[:, None]
        self.register_buffer("table", group.compose(every, group.inverse(elements)), persistent=False)  # v h^-1
        self.register_buffer("back", group.compose(every, elements), persistent=False)  # u h
        widths = [1] + [channels] * (depth - 1)
        filters = [(elements.numel(), a, b) for a, b in pairwise(widths)]
        shapes: list[tuple[int, ...]] = [*filters, (group.order, widths[-1])]
        self.weights = nn.ParameterList([nn.Parameter(torch.empty(*self.lead, *s, dtype=dtype)) for s in shapes])
        self.reset_parameters(std)

    def forward(self, x: Tensor) -> Tensor:
        """Layer by layer: ``x [B, n]`` (or ``[num_models, B, n]``) to ``[*num_models, B]``."""
        self.check_input(x)
        h = x.unsqueeze(-1)
        *filters, readout = self.weights
        if self.lead:
            h = h.expand(*self.lead, *h.shape[-3:])
        for w in filters:
            w = w.unsqueeze(-4) if self.lead else w  # over the batch
            h = _gather(h, self.back) @ w.flatten(-3, -2)
        return torch.einsum("...bnc,...nc->...b", h, readout)

    def beta(self) -> Tensor:
        """The functional, ``[*num_models, n]``: the product :math:`w_L * w_{L-1} * ... * w_1` in the group algebra."""
        *filters, b = self.weights
        for w in reversed(filters):
            b = _Convolve.apply(b, w.transpose(-1, -2), self.table, self.back)  # type: ignore[no-untyped-call]
        return b.squeeze(-1)

    def filters(self) -> list[Tensor]:
        """All weights on the whole group, ``[*num_models, n, C, C']`` each (the read-out has ``C' = 1``)."""
        full = []
        for w in self.weights[:-1]:
            zeros = w.new_zeros(*self.lead, self.in_features, *w.shape[-2:])
            full.append(zeros.index_copy(-3, self.elements.to(w.device), w))
        return [*full, self.weights[-1].unsqueeze(-1)]

    def extra_repr(self) -> str:
        """Group, depth and width."""
        return f"{self.group!r}, depth={self.depth}, channels={self.channels}, num_models={self.num_models}"


class LinearMLP(LinearNetwork):
    """A fully connected linear network with one output: the control, which has no group.

    Args:
        in_features: n.
        depth: At least 1.
        width: Of the layers between; n by default.
        num_models: Independent networks along a leading axis.
        std: Standard deviation of the initial weights.
        dtype: Of the weights.
    """

    def __init__(
        self,
        in_features: int,
        depth: int,
        width: int | None = None,
        num_models: int | None = None,
        std: float = 0.3,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(num_models)
        if in_features < 1 or depth < 1:
            raise ValueError(f"in_features and depth must be at least 1, got {in_features} and {depth}")
        self.in_features, self.depth = in_features, depth
        widths = [in_features] + [width or in_features] * (depth - 1) + [1]
        shapes = [(b, a) for a, b in pairwise(widths)]
        self.weights = nn.ParameterList([nn.Parameter(torch.empty(*self.lead, *s, dtype=dtype)) for s in shapes])
        self.reset_parameters(std)

    def forward(self, x: Tensor) -> Tensor:
        """``x [B, n]`` (or ``[num_models, B, n]``) to ``[*num_models, B]``."""
        self.check_input(x)
        for w in self.weights:
            x = x @ w.transpose(-1, -2)
        return x.squeeze(-1)

    def beta(self) -> Tensor:
        """The functional, ``[*num_models, n]``."""
        b = self.weights[-1]
        for w in reversed(self.weights[:-1]):
            b = b @ w
        return b.squeeze(-2)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_features}, depth={self.depth}, num_models={self.num_models}"
