"""From channels to children and back: exact changes of resolution on HEALPix."""

from torch import Tensor, nn

from geomeq._checks import check_shape


class SphereShuffle(nn.Module):
    r"""Lays groups of channels side by side as the children of each pixel: :math:`y_{4p + q, c} = x_{p, qC + c}`.

    Nothing is computed: in nested order the four children are consecutive, so this is another view of the same memory.

    Args:
        factor: Children of a pixel, a power of 4.

    Raises:
        ValueError: If ``factor`` is not a power of 4.

    Example:
        >>> import torch
        >>> SphereShuffle()(torch.randn(2, 48, 8)).shape
        torch.Size([2, 192, 2])

    Source: the pixel shuffle of Mahmoudian Bidgoli et al. (2022), https://arxiv.org/abs/2107.09179.
    """

    def __init__(self, factor: int = 4) -> None:
        super().__init__()
        self.factor = check_factor(factor)

    def forward(self, x: Tensor) -> Tensor:
        """Shuffles.

        Args:
            x: ``[N, factor * C]`` or ``[B, N, factor * C]``, nested order.

        Returns:
            ``[factor * N, C]`` or ``[B, factor * N, C]``.

        Raises:
            ValueError: If the channels are no multiple of ``factor``.
        """
        check_shape("x", x, "...", "N", "C")
        if x.size(-1) % self.factor:
            raise ValueError(f"x must have a multiple of {self.factor} channels to make children of, got {x.size(-1)}")
        return x.unflatten(-1, (self.factor, x.size(-1) // self.factor)).flatten(-3, -2)

    def extra_repr(self) -> str:
        """The factor."""
        return f"factor={self.factor}"


class SphereUnshuffle(nn.Module):
    r"""The inverse of :class:`SphereShuffle`: children become groups of channels of their parent.

    Args:
        factor: Children of a pixel, a power of 4.

    Raises:
        ValueError: If ``factor`` is not a power of 4.

    Example:
        >>> import torch
        >>> x = torch.randn(2, 192, 2)
        >>> torch.equal(SphereShuffle()(SphereUnshuffle()(x)), x)
        True
    """

    def __init__(self, factor: int = 4) -> None:
        super().__init__()
        self.factor = check_factor(factor)

    def forward(self, x: Tensor) -> Tensor:
        """Unshuffles.

        Args:
            x: ``[N, C]`` or ``[B, N, C]``, nested order.

        Returns:
            ``[N / factor, factor * C]`` or ``[B, N / factor, factor * C]``.

        Raises:
            ValueError: If the pixels are no multiple of ``factor``.
        """
        check_shape("x", x, "...", "N", "C")
        check_siblings(x, self.factor)
        return x.unflatten(-2, (x.size(-2) // self.factor, self.factor)).flatten(-2)

    def extra_repr(self) -> str:
        """The factor."""
        return f"factor={self.factor}"


def check_factor(factor: int) -> int:
    """Raises unless ``factor`` is a power of 4 from 4 on."""
    whole = isinstance(factor, int) and not isinstance(factor, bool) and factor >= 4
    if not whole or factor & (factor - 1) or factor.bit_length() % 2 == 0:
        raise ValueError(f"factor must be a power of 4 (4, 16, 64, ...), got {factor!r}")
    return factor


def check_siblings(x: Tensor, factor: int) -> None:
    """Raises unless pixels come in whole families."""
    if x.dim() < 2 or x.size(-2) % factor:
        raise ValueError(f"x must have a multiple of {factor} pixels in nested order, [..., N, C], got {list(x.shape)}")
