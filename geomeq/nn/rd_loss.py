"""The loss of learned compression: rate plus lambda times distortion."""

from collections.abc import Mapping

import torch
from torch import Tensor

LAMBDAS = {1: 0.0018, 2: 0.0035, 3: 0.0067, 4: 0.013, 5: 0.025, 6: 0.0483, 7: 0.0932, 8: 0.18}


def rd_loss(
    x: Tensor,
    x_hat: Tensor,
    likelihoods: Mapping[str, Tensor],
    lmbda: float | None = None,
    quality: int | None = None,
    area: Tensor | None = None,
) -> dict[str, Tensor]:
    r"""Rate and distortion of a batch of images.

    .. math:: L = R + \lambda D, \qquad R = \frac{1}{N} \sum -\log_2 p, \qquad
        D = 255^2 \sum_i \frac{A_i}{\sum_j A_j} \overline{(x_i - \hat x_i)^2}

    Args:
        x: Images ``[B, N, C]``, values 0 to 1.
        x_hat: Reconstructions, same shape.
        likelihoods: Probabilities of the latents by name, batch first.
        lmbda: :math:`\lambda`, the price of distortion.
        quality: 1 to 8 instead of ``lmbda``: 0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483, 0.0932, 0.18.
        area: Weights of the nodes ``[N]``; default equal, which is right on HEALPix.

    Returns:
        ``"loss"``; ``"bpp"``, bits per pixel; ``"mse"``, :math:`D / 255^2`; scalars, means over the batch.

    Raises:
        ValueError: If shapes differ or are empty, not exactly one of ``lmbda`` and ``quality`` is given, or areas are
            negative or add up to nothing.
    """
    if x.shape != x_hat.shape or x.dim() != 3 or x.numel() == 0:
        raise ValueError(f"x and x_hat must both have shape [B, N, C], got {list(x.shape)} and {list(x_hat.shape)}")
    _check_likelihoods(likelihoods, x.size(0))
    price = _price(lmbda, quality)
    square = (x - x_hat).square().mean(dim=-1)
    if area is None:
        mse = square.mean()
    else:
        _check_area(area, x.size(1))
        mse = (square @ (area / area.sum()).to(square)).mean()
    pixels = x.size(0) * x.size(1)
    bpp = torch.stack([-p.log2().sum() for p in likelihoods.values()]).sum() / pixels
    return {"loss": bpp + price * 255**2 * mse, "bpp": bpp, "mse": mse}


def _check_likelihoods(likelihoods: Mapping[str, Tensor], batch: int) -> None:
    if not likelihoods:
        raise ValueError("likelihoods must hold the probabilities of at least one latent, got none")
    for name, p in likelihoods.items():
        if p.dim() == 0 or p.size(0) != batch:
            raise ValueError(
                f"likelihoods[{name!r}] must have the batch of x, {batch}, as its first axis, got {list(p.shape)}; "
                "bits of other images would be spread over these pixels"
            )


def _check_area(area: Tensor, nodes: int) -> None:
    if area.shape != (nodes,):
        raise ValueError(f"area must have shape [{nodes}], got {list(area.shape)}")
    if torch.compiler.is_compiling():  # a compiled graph cannot look at values
        return
    if not bool((area >= 0).all()) or not 0 < float(area.sum()) < float("inf"):
        raise ValueError("area must hold finite weights of at least 0, not all of them 0")


def _price(lmbda: float | None, quality: int | None) -> float:
    if (lmbda is None) == (quality is None):
        raise ValueError(f"give either lmbda or quality, got lmbda={lmbda} and quality={quality}")
    if lmbda is None:
        if quality not in LAMBDAS:
            raise ValueError(f"quality must be one of {', '.join(map(str, LAMBDAS))}, got {quality!r}")
        return LAMBDAS[quality]
    if not lmbda > 0:
        raise ValueError(f"lmbda must be positive, got {lmbda}")
    return lmbda
