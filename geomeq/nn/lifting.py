"""Between images, signals on places, and signals on a group: reshaping without geometry.

Node ``k * num_spatial + s`` has orientation ``k`` and place ``s``; on a grid ``s = (iz * ny + iy) * nx + ix``, with
``iy`` the row of an image and ``ix`` its column.
"""

from collections.abc import Sequence

from torch import Tensor

from geomeq._checks import check_shape


def to_batch(image: Tensor) -> Tensor:
    """Images to signals on the nodes of a grid.

    Args:
        image: ``[B, C, H, W]``, or volumes ``[B, C, D, H, W]``.

    Returns:
        ``[B, N, C]``, on the grid ``(W, H)`` or ``(W, H, D)``.

    Raises:
        ValueError: If ``image`` has no spatial axes.

    Example:
        >>> import torch
        >>> to_batch(torch.arange(6.0).view(1, 1, 2, 3))[0, :, 0]
        tensor([0., 1., 2., 3., 4., 5.])
    """
    if image.dim() < 3:
        raise ValueError(f"image must have shape [B, C, H, W], got {list(image.shape)}; add the missing axes")
    return image.flatten(2).transpose(1, 2)


def from_batch(x: Tensor, grid: Sequence[int]) -> Tensor:
    """Signals on the nodes of a grid to images, the inverse of :func:`to_batch`.

    Args:
        x: ``[B, N, C]``.
        grid: ``(nx, ny)`` or ``(nx, ny, nz)``.

    Returns:
        ``[B, C, ny, nx]`` or ``[B, C, nz, ny, nx]``.

    Raises:
        ValueError: If the number of nodes is not that of the grid.
    """
    shape = tuple(reversed(tuple(grid)))
    nodes = 1
    for n in shape:
        nodes *= n
    hint = f"the grid {tuple(grid)} has that many nodes; project(x, num_orientations) first where x is on a group"
    check_shape("x", x, "B", nodes, "C", hint=hint)
    return x.transpose(1, 2).reshape(x.size(0), x.size(2), *shape)


def lift(x: Tensor, num_orientations: int) -> Tensor:
    """Repeats a signal on places over all orientations.

    A scalar function f on the base becomes F(g) = f(g . origin), which commutes with the action of the group.

    Args:
        x: ``[..., Vs, C]``.
        num_orientations: ``Vo``.

    Returns:
        ``[..., Vo * Vs, C]``.

    Raises:
        ValueError: If a shape or number is wrong.
    """
    check_shape("x", x, "...", "Vs", "C")
    if num_orientations < 1:
        raise ValueError(f"num_orientations must be positive, got {num_orientations}")
    lead, places, channels = x.shape[:-2], x.size(-2), x.size(-1)
    wide = x.unsqueeze(-3).expand(*lead, num_orientations, places, channels)
    return wide.reshape(*lead, num_orientations * places, channels)


def project(x: Tensor, num_orientations: int, reduce: str = "max") -> Tensor:
    """Reduces a signal on a group over the orientations at each place; ``project(lift(x))`` is ``x``.

    Args:
        x: ``[..., Vo * Vs, C]``.
        num_orientations: ``Vo``.
        reduce: ``"max"`` or ``"mean"``.

    Returns:
        ``[..., Vs, C]``.

    Raises:
        ValueError: If ``reduce`` is unknown or the nodes are no multiple of ``num_orientations``.
    """
    if reduce not in ("max", "mean"):
        raise ValueError(f"reduce must be 'max' or 'mean', got {reduce!r}")
    check_shape("x", x, "...", "Vo * Vs", "C")
    if num_orientations < 1 or x.size(-2) % num_orientations:
        raise ValueError(
            f"x must have a multiple of num_orientations = {num_orientations} nodes on its last but one axis, "
            f"got {x.size(-2)}"
        )
    layers = x.unflatten(-2, (num_orientations, x.size(-2) // num_orientations))
    return layers.amax(dim=-3) if reduce == "max" else layers.mean(dim=-3)
