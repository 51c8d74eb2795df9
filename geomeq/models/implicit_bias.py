"""What gradient descent prefers: linearisations, spectra, and training to directions."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from geomeq._checks import check_finite, check_shape
from geomeq.groups import FiniteGroup, cyclic, dihedral, effective_rank, schatten_norm
from geomeq.nn import GroupConv, GroupConv2d

from .linear_gcnn import LinearGCNN, LinearNetwork

#: ``schatten(group.fourier(beta), p)``: the Schatten norm of Fourier coefficients, each block counted d times.
schatten = schatten_norm

__all__ = [
    "DirectionFit",
    "FourierRank",
    "effective_rank",
    "fit_direction",
    "fourier_rank_report",
    "hard_margin",
    "linearize",
    "local_linearization",
    "schatten",
    "spectral_summary",
]


@torch.no_grad()
def linearize(net: Callable[[Tensor], Tensor], shape: int | tuple[int, ...] | None = None) -> Tensor:
    """The matrix of a linear network, by its values on the basis: ``beta[..., i] = net(e_i)``.

    Args:
        net: Takes ``[B, *shape]``; a ``LinearNetwork``, or any module or function.
        shape: Of one input; read from ``net.in_features`` if it is there.

    Returns:
        ``[*out, *shape]``; for one output per sample ``[*shape]``, for batches of models ``[num_models, *shape]``.

    Raises:
        ValueError: If the network is not linear (a bias or a non-linearity); see :func:`local_linearization`.

    Example:
        >>> linearize(lambda x: 3 * x[:, 0] - x[:, 1], 2)
        tensor([ 3., -1.], dtype=torch.float64)
    """
    if shape is None:
        shape = getattr(net, "in_features", None)
        if shape is None:
            raise ValueError("shape must be given: the network has no in_features")
    size = (shape,) if isinstance(shape, int) else tuple(shape)
    like = next(iter(net.parameters()), None) if isinstance(net, nn.Module) else None
    kind = {"dtype": torch.float64} if like is None else {"dtype": like.dtype, "device": like.device}
    basis = torch.eye(math.prod(size), **kind).view(-1, *size)  # type: ignore[arg-type]
    probe = torch.linspace(-1.7, 2.3, len(basis), **kind)  # type: ignore[arg-type]
    mixed = torch.einsum("b,b...->...", probe, basis)[None]
    models = isinstance(net, LinearNetwork) and net.num_models is not None
    out = net(basis)
    out, check = (out.transpose(0, 1), net(mixed)[:, 0]) if models else (out, net(mixed)[0])
    wanted = torch.einsum("b,b...->...", probe, out)
    scale = float((probe.abs() @ out.abs().reshape(len(basis), -1)).max()) if out.numel() else 0.0
    if not torch.allclose(check, wanted, rtol=0, atol=1e3 * torch.finfo(out.dtype).eps * max(scale, 1e-30)):
        raise ValueError(
            f"the network is not linear: on a mixture of basis vectors it differs by "
            f"{float((check - wanted).abs().max()):.2g}; remove biases, or use local_linearization(net, x)"
        )
    return out.movedim(0, -1).reshape(*out.shape[1:], *size)


def local_linearization(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    r"""The gradient of each output at each input, :math:`\beta_x = \nabla_x f(x)`.

    Modules are put in evaluation mode for the call: with batch statistics, samples would depend on each other.

    Args:
        net: Takes ``[B, ...]`` and returns ``[B]`` or ``[B, K]``.
        x: Inputs, ``[B, ...]``.

    Returns:
        ``[B, ...]`` for one output, ``[B, K, ...]`` for K.
    """
    training = isinstance(net, nn.Module) and net.training
    if isinstance(net, nn.Module):
        net.eval()
    try:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            out = net(x)
        if out.size(0) != x.size(0) or out.dim() > 2:
            raise ValueError(f"the network must return [B] or [B, K] with B = {x.size(0)}, got {list(out.shape)}")
        columns = out[:, None] if out.dim() == 1 else out
        grads = [torch.autograd.grad(column.sum(), x, retain_graph=True)[0] for column in columns.unbind(1)]
        return grads[0] if out.dim() == 1 else torch.stack(grads, dim=1)
    finally:
        if training:
            net.train()  # type: ignore[attr-defined]


@dataclass
class DirectionFit:
    """Where gradient descent went.

    Attributes:
        beta: The functional, ``[*num_models, n]``.
        log_loss: Logarithm of the mean exponential loss, ``[*num_models]``.
        steps: Steps that each network took, ``[*num_models]``.
        history: ``beta`` every ``record`` steps, ``[T, *num_models, n]``; empty if nothing was recorded.
    """

    beta: Tensor
    log_loss: Tensor
    steps: Tensor
    history: Tensor = field(repr=False)


def fit_direction(
    net: LinearNetwork,
    x: Tensor,
    y: Tensor,
    lr: float = 0.01,
    steps: int = 4000,
    stop: float = 1e-20,
    momentum: float = 0.0,
    sign: bool = False,
    record: int = 0,
) -> DirectionFit:
    r"""Separates data by gradient descent on the logarithm of the exponential loss.

    The gradient of :math:`\log \frac1N \sum_i e^{-y_i f(x_i)}` is that of the loss divided by the loss: the same path,
    but it takes thousands of steps, not :math:`10^{20}`, to a loss of 1e-20, where directions have settled. Everything
    is computed from ``beta``, so the cost of a step does not depend on how many samples there are. Networks of a batch
    are independent; each stops when its loss is small.

    Args:
        net: The network(s), changed in place.
        x: Inputs, ``[N, n]``, or ``[num_models, N, n]`` with its own data for each network.
        y: Labels 1 and -1, ``[N]`` or ``[num_models, N]``.
        lr: Step size. Independent of it, as long as it is small, is where one arrives.
        steps: Largest number of steps.
        stop: Loss at which a network stops; 0 never stops. Direction errors fall as 1 / log(1 / loss), no faster.
        momentum: Heavy ball.
        sign: Descend along the signs of the gradient: another geometry, another bias.
        record: Keep ``beta`` every so many steps.

    Raises:
        ValueError: If shapes, labels or the step size are wrong.
        FloatingPointError: If weights become infinite: the step size is too large.
    """
    net.check_input(x)
    _check_labels(x, y)
    if lr <= 0:
        raise ValueError(f"lr must be positive, got {lr}")
    signed, log_stop = x * y.unsqueeze(-1).to(x.dtype), math.log(stop) if stop > 0 else -math.inf
    weights = list(net.parameters())
    speed = [torch.zeros_like(w) for w in weights]
    taken, history = torch.zeros(net.lead, dtype=torch.long, device=x.device), []
    for step in range(steps):
        beta = net.beta()
        if record and step % record == 0:
            history.append(beta.detach().clone())
        log_loss = _log_loss(signed, beta)
        active = log_loss.detach() > log_stop
        if not bool(active.any()):
            break
        if not bool(torch.isfinite(log_loss).all()):
            raise FloatingPointError(f"the loss is not finite after {step} steps; use a step size below lr={lr}")
        grads = torch.autograd.grad(log_loss.sum(), weights)
        with torch.no_grad():
            for w, v, g in zip(weights, speed, grads, strict=True):
                v.mul_(momentum).add_(g.sign() if sign else g)
                w.sub_(v * active.view(*active.shape, *[1] * (w.dim() - active.dim())), alpha=lr)
        taken += active
    with torch.no_grad():
        beta = net.beta().detach().clone()
        log_loss = _log_loss(signed, beta)
        if not bool(torch.isfinite(beta).all()):
            raise FloatingPointError(f"beta is not finite after {steps} steps; use a step size below lr={lr}")
    kept = torch.stack(history) if history else beta.new_zeros(0, *beta.shape)
    return DirectionFit(beta, log_loss, taken, kept)


def _check_labels(x: Tensor, y: Tensor) -> None:
    check_finite("x", x, hint="remove these samples")
    check_shape("y", y, *x.shape[:-1], hint="one label for each sample")
    if not bool((y.abs() == 1).all()):
        raise ValueError("y must hold labels 1 and -1; for classes 0 and 1 take 2 * y - 1")


def _log_loss(signed: Tensor, beta: Tensor) -> Tensor:
    """``log mean_i exp(-<y_i x_i, beta>)``: ``[*num_models]``."""
    margins = (signed @ beta.unsqueeze(-1)).squeeze(-1)
    return torch.logsumexp(-margins, dim=-1) - math.log(margins.size(-1))


def hard_margin(x: Tensor, y: Tensor) -> Tensor:
    r"""The shortest :math:`\beta` with all margins :math:`y_i \langle x_i, \beta \rangle \ge 1`.

    This is the linear support vector machine without bias and without slack. Solved
    exactly, as least-distance programming by non-negative least squares.

    Args:
        x: Inputs, ``[N, n]``.
        y: Labels 1 and -1, ``[N]``.

    Returns:
        ``[n]`` float64.

    Raises:
        ValueError: If no hyperplane through the origin separates the data, or a shape or label is wrong.

    Source: Lawson and Hanson (1974), Solving Least Squares Problems, chapter 23.
    """
    check_shape("x", x, "N", "n")
    _check_labels(x, y)
    rows = (x.double() * y.unsqueeze(-1)).cpu().numpy()
    system = np.concatenate([rows.T, np.ones((1, len(rows)))])
    target = np.zeros(len(system))
    target[-1] = 1
    weights, distance = nnls(system, target)
    if distance < 1e-10:
        raise ValueError("the data cannot be separated by a hyperplane through the origin; use fewer samples")
    residual = system @ weights - target
    return torch.from_numpy(-residual[:-1] / residual[-1])


@dataclass
class FourierRank:
    """Singular values of one layer, irrep by irrep.

    Attributes:
        layer: Its name in the model.
        dims: Dimension of each irrep.
        singular_values: Those of the block of each irrep (all channels, in and out), in decreasing order.
    """

    layer: str
    dims: list[int]
    singular_values: list[Tensor]

    def effective_rank(self, tol: float = 1e-2) -> float:
        """How many singular values exceed ``tol`` times the largest, each counted as often as its irrep."""
        top = max(float(s.max()) for s in self.singular_values)
        counts = [d * int((s > tol * top).sum()) for d, s in zip(self.dims, self.singular_values, strict=True)]
        return float(sum(counts))

    @property
    def full_rank(self) -> int:
        """The largest rank that the layer can have."""
        return sum(d * s.numel() for d, s in zip(self.dims, self.singular_values, strict=True))

    def __str__(self) -> str:
        lines = [f"{self.layer}: effective rank {self.effective_rank():.0f} of {self.full_rank}"]
        for d, s in zip(self.dims, self.singular_values, strict=True):
            lines.append(f"  dimension {d}: " + " ".join(f"{v:.3g}" for v in s[:8].tolist()) + " ..." * (len(s) > 8))
        return "\n".join(lines)


@torch.no_grad()
def fourier_rank_report(model: nn.Module, layer: str | None = None) -> list[FourierRank]:
    r"""Singular values of the Fourier blocks of group convolutions.

    For ``GroupConv`` and ``LinearGCNN`` on a group the block of :math:`\rho` is :math:`\hat w(\rho)` with channels,
    ``[d C, d C']``. For ``GroupConv2d`` (p4, p4m and the like) the transform is over the point group, and pixels of the
    window count as inputs, ``[d C k^2, d C']``.

    Args:
        model: Any model that holds such layers.
        layer: Name of one layer, as ``model.named_modules()`` has it; all by default.

    Returns:
        One entry for each layer, in the order of the model.

    Raises:
        ValueError: If there is no such layer.

    Example:
        >>> len(fourier_rank_report(nn.Sequential(GroupConv(dihedral(4), 2, 3), GroupConv(dihedral(4), 3, 1))))
        2
    """
    reports = []
    for name, module in model.named_modules():
        if layer is None or name == layer:
            reports += [FourierRank(*entry) for entry in _filters_of(name or type(module).__name__, module)]
    if not reports:
        where = "the model" if layer is None else f"layer {layer!r}"
        raise ValueError(f"{where} holds no GroupConv on a group, GroupConv2d or LinearGCNN; coset layers have none")
    return reports


def _filters_of(name: str, module: nn.Module) -> list[tuple[str, list[int], list[Tensor]]]:
    if isinstance(module, GroupConv) and module.orbits.regular:
        weight = module.weight.new_zeros(module.group.order, module.in_channels, module.out_channels)
        weight[module.chosen.to(weight.device)] = module.weight
        return [(name, *_block_spectra(module.group, weight))]
    if isinstance(module, GroupConv2d) and module.kernel.dim() >= 4:
        point = module.group
        group = dihedral(point.n) if point.mirror else cyclic(point.n)
        kernel = module.kernel.flatten(3)  # [Co, Ci, |H|, pixels]
        weight = kernel.permute(2, 1, 3, 0).flatten(1, 2)
        return [(name, *_block_spectra(group, weight))]
    if isinstance(module, LinearGCNN):
        if module.num_models is not None:
            raise ValueError("a report is of one network, but this LinearGCNN has num_models; take one of its models")
        filters = enumerate(module.filters())
        return [(f"{name}.weights.{i}", *_block_spectra(module.group, w)) for i, w in filters]
    return []


def _block_spectra(group: FiniteGroup, weight: Tensor) -> tuple[list[int], list[Tensor]]:
    """Singular values of ``[d A, d B]`` for each irrep, of filters ``[n, A, B]``."""
    blocks = group.fourier(weight.permute(1, 2, 0).double())  # [A, B, d, d]
    spectra = [torch.linalg.svdvals(b.permute(2, 0, 3, 1).flatten(2).flatten(0, 1)) for b in blocks]
    return [b.size(-1) for b in blocks], spectra


def spectral_summary(group: FiniteGroup, beta: Tensor, p: float = 2 / 3, tol: float = 1e-2) -> dict[str, Tensor]:
    """Schatten norm and effective rank of functionals ``[..., n]``, scaled to length 1 (Schatten-2 norm 1).

    Args:
        group: The group.
        beta: Functionals.
        p: Of the norm; 2/3 is what depth 3 prefers to be small.
        tol: Of the rank.

    Returns:
        ``schatten`` and ``rank``, ``[...]`` each.
    """
    blocks = group.fourier(beta)
    scale = schatten_norm(blocks, 2)
    return {"schatten": schatten_norm(blocks, p) / scale, "rank": effective_rank(blocks, tol)}
