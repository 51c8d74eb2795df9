"""Pooling and unpooling of signals on grids and icospheres, with or without orientations over each place.

Each layer holds one table of node numbers, made from the geometry once. Nodes are ordered by orientation, then by place
(``k * num_spatial + s``); orientations are never mixed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups.icosphere import icosphere

REDUCE = ("max", "mean", "random")


class TablePool(nn.Module):
    """Reduces groups of nodes to one node each; the table says which.

    Args:
        table: Members of every cluster, ``[M, T]``; where ``mask`` is ``False`` the entry is ignored.
        mask: ``[M, T]``, or ``None`` if all clusters are full. Entry 0 of each cluster must count.
        reduce: ``"max"``, ``"mean"``, or ``"random"``: one member, drawn anew in every call while training and the same
            place in all samples and channels; in evaluation the mean, which is its expectation.
        num_nodes: Nodes of the input.
    """

    table: Tensor
    share: Tensor
    count: Tensor

    def __init__(self, table: Tensor, mask: Tensor | None, reduce: str, num_nodes: int) -> None:
        super().__init__()
        if reduce not in REDUCE:
            raise ValueError(f"reduce must be one of {', '.join(REDUCE)}, got {reduce!r}")
        self.reduce, self.num_nodes, self.num_clusters = reduce, num_nodes, table.size(0)
        mask = torch.ones_like(table, dtype=torch.bool) if mask is None else mask
        order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)  # members that count come first
        self._full = bool(mask.all())
        table = table.gather(1, order)
        count = mask.sum(dim=1)
        padded = torch.where(mask.gather(1, order), table, table[:, :1])  # a repeat changes no maximum
        self.register_buffer("table", padded, persistent=False)
        self.register_buffer("count", count, persistent=False)
        self.register_buffer("share", mask.gather(1, order) / count[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pools.

        Args:
            x: ``[..., num_nodes, C]``.

        Returns:
            ``[..., num_clusters, C]``.

        Raises:
            ValueError: If ``x`` has another number of nodes.
        """
        check_shape("x", x, "...", self.num_nodes, "C", hint=f"{self!r} was built for that many nodes")
        if self.reduce == "random" and self.training:
            pick = (torch.rand(self.num_clusters, device=x.device) * self.count).long()
            return x.index_select(-2, self.table.gather(1, pick[:, None]).view(-1))
        members = x.index_select(-2, self.table.view(-1))
        members = members.view(*x.shape[:-2], *self.table.shape, x.size(-1))
        if self.reduce == "max":
            return members.amax(dim=-2)  # shares the gradient among equals; max() would pick one by its place
        return members.mean(dim=-2) if self._full else (members * self.share.to(x.dtype)[..., None]).sum(dim=-2)

    def extra_repr(self) -> str:
        """Sizes and reduction."""
        return f"{self.num_nodes} -> {self.num_clusters}, reduce={self.reduce!r}"


class GridPool(TablePool):
    """Reduces blocks of ``q`` x ``q`` (x ``q``) places in the same orientation.

    Commutes with quarter turns and mirrors of the grid: the blocks tile it exactly.

    Args:
        grid: Places along each axis, ``(nx, ny[, nz])``, x running fastest; every one a multiple of ``q``.
        num_orientations: ``Vo``; 1 for a plain image.
        q: Side of a block.
        reduce: ``"max"``, ``"mean"`` or ``"random"`` (see :class:`TablePool`).

    Raises:
        ValueError: If a size is not a multiple of ``q``.

    Example:
        >>> GridPool((4, 6), num_orientations=2, q=2)(torch.randn(5, 48, 3)).shape
        torch.Size([5, 12, 3])
    """

    def __init__(self, grid: Sequence[int], num_orientations: int = 1, q: int = 2, reduce: str = "max") -> None:
        parent = grid_parents(grid, num_orientations, q)
        members = parent.argsort(stable=True).view(-1, q ** len(grid))
        super().__init__(members, None, reduce, parent.numel())


class IcospherePool(TablePool):
    """From one level of the icosphere to the one below: a coarse vertex takes itself and its 5 or 6 neighbours.

    Subdivision keeps the coarse vertices and puts new ones in the middle of edges, so every fine vertex is a member of
    one or two clusters, and each of the 12 vertices of valence 5 has six members, not seven.

    Args:
        level: Of the input, from 1; it has ``10 * 4^level + 2`` places.
        num_orientations: ``Vo``; 1 for a plain sphere.
        reduce: ``"max"``, ``"mean"`` or ``"random"`` (see :class:`TablePool`).

    Raises:
        ValueError: If ``level`` is less than 1.

    Example:
        >>> IcospherePool(level=2, num_orientations=4)(torch.randn(4 * 162, 3)).shape
        torch.Size([168, 3])
    """

    def __init__(self, level: int, num_orientations: int = 1, reduce: str = "max") -> None:
        parents, coarse = _icosphere_parents(level, num_orientations)
        fine = parents.size(0)
        new = torch.arange(coarse, fine)
        vertex = torch.cat([torch.arange(coarse), parents[new, 0], parents[new, 1]])
        member = torch.cat([torch.arange(coarse), new, new])
        order = vertex.argsort(stable=True)  # the vertex itself stays first
        vertex, member = vertex[order], member[order]
        count = vertex.bincount(minlength=coarse)
        start = count.cumsum(0) - count
        slot = torch.arange(len(vertex)) - start[vertex]
        table = torch.zeros(coarse, 7, dtype=torch.long).index_put((vertex, slot), member)
        mask = torch.arange(7) < count[:, None]
        super().__init__(
            _over_orientations(table, fine, num_orientations),
            mask.repeat(num_orientations, 1),
            reduce,
            fine * num_orientations,
        )


class TableUnpool(nn.Module):
    """Copies or combines coarse nodes onto fine ones.

    Args:
        table: The coarse nodes that each fine node reads, ``[N, T]``.
        num_nodes: Coarse nodes.
        reduce: ``"mean"`` or ``"max"`` over them.
    """

    table: Tensor

    def __init__(self, table: Tensor, num_nodes: int, reduce: str = "mean") -> None:
        super().__init__()
        if reduce not in REDUCE[:2]:
            raise ValueError(f"reduce must be 'max' or 'mean', got {reduce!r}")
        self.reduce, self.num_nodes = reduce, num_nodes
        self.register_buffer("table", table.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Unpools.

        Args:
            x: ``[..., num_nodes, C]``.

        Returns:
            ``[..., N, C]``.

        Raises:
            ValueError: If ``x`` has another number of nodes.
        """
        check_shape("x", x, "...", self.num_nodes, "C", hint=f"{self!r} was built for that many nodes")
        parents = [x.index_select(-2, column) for column in self.table.unbind(1)]
        if len(parents) == 1:
            return parents[0]
        return torch.stack(parents).amax(0) if self.reduce == "max" else torch.stack(parents).mean(0)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.num_nodes} -> {self.table.size(0)}"


class GridUnpool(TableUnpool):
    """Copies the value of each block to its places: the right inverse of :class:`GridPool`, ``pool(unpool(x)) = x``.

    Args:
        grid: The *fine* grid, as for :class:`GridPool`.
        num_orientations: ``Vo``.
        q: Side of a block.

    Example:
        >>> GridUnpool((4, 6), num_orientations=2, q=2)(torch.randn(5, 12, 3)).shape
        torch.Size([5, 48, 3])
    """

    def __init__(self, grid: Sequence[int], num_orientations: int = 1, q: int = 2) -> None:
        parent = grid_parents(grid, num_orientations, q)
        super().__init__(parent[:, None], int(parent[-1]) + 1)


class IcosphereUnpool(TableUnpool):
    """From level ``level - 1`` to ``level``: old vertices keep their value, new ones combine the ends of their edge.

    Args:
        level: Of the *output*, from 1.
        num_orientations: ``Vo``.
        reduce: ``"mean"`` (linear along the edge) or ``"max"`` of the two ends.

    Example:
        >>> IcosphereUnpool(level=2)(torch.randn(42, 3)).shape
        torch.Size([162, 3])
    """

    def __init__(self, level: int, num_orientations: int = 1, reduce: str = "mean") -> None:
        parents, coarse = _icosphere_parents(level, num_orientations)
        super().__init__(_over_orientations(parents, coarse, num_orientations), coarse * num_orientations, reduce)


def grid_parents(grid: Sequence[int], num_orientations: int, q: int) -> Tensor:
    """The block of each node, ``[Vo * Vs]``, numbered like the nodes of the coarse grid."""
    sizes = tuple(grid)
    whole = all(isinstance(n, int) and n > 0 for n in (*sizes, num_orientations, q))
    if not sizes or not whole:
        raise ValueError(
            f"grid, num_orientations and q must be positive integers, got {sizes}, {num_orientations!r} and {q!r}"
        )
    if any(n % q for n in sizes):
        legal = tuple(n - n % q for n in sizes)
        raise ValueError(
            f"every side of the grid {sizes} must be a multiple of q = {q}, or blocks would stick out on one side and "
            f"break its symmetry; crop or resample to {legal} or take another q"
        )
    coarse = tuple(n // q for n in sizes)
    block = torch.zeros(tuple(reversed(sizes)), dtype=torch.long)
    stride = 1
    for axis, (n, m) in enumerate(zip(sizes, coarse, strict=True)):
        shape = [1] * len(sizes)
        shape[len(sizes) - 1 - axis] = n  # x is the last axis of the array
        block = block + stride * (torch.arange(n) // q).view(shape)
        stride *= m
    return (torch.arange(num_orientations)[:, None] * stride + block.view(-1)).view(-1)


def _icosphere_parents(level: int, num_orientations: int) -> tuple[Tensor, int]:
    """``parents [V, 2]`` of a level and the number of vertices below."""
    if not isinstance(level, int) or level < 1:
        raise ValueError(f"level must be an integer from 1, got {level!r}: below level 0 there is no icosphere")
    if not isinstance(num_orientations, int) or num_orientations < 1:
        raise ValueError(f"num_orientations must be a positive integer, got {num_orientations!r}")
    return icosphere(level).parents, 10 * 4 ** (level - 1) + 2


def _over_orientations(table: Tensor, places: int, num_orientations: int) -> Tensor:
    """The same table in every orientation, ``[Vo * M, T]``; ``places`` is what its entries count."""
    return (torch.arange(num_orientations)[:, None, None] * places + table).reshape(-1, table.size(1))


def global_pool(x: Tensor, reduce: str = "max", area: Tensor | None = None) -> Tensor:
    """One value per channel over all nodes.

    Args:
        x: ``[..., N, C]``.
        reduce: ``"max"`` or ``"mean"``.
        area: Quadrature weights ``[N]`` of the mean; default equal ones.

    Returns:
        ``[..., C]``.

    Raises:
        ValueError: If ``reduce`` is unknown or ``area`` does not fit.

    Example:
        >>> global_pool(torch.tensor([[1.0], [4.0]]), "mean", area=torch.tensor([2.0, 1.0]))
        tensor([2.])
    """
    if reduce not in REDUCE[:2]:
        raise ValueError(f"reduce must be 'max' or 'mean', got {reduce!r}")
    check_shape("x", x, "...", "N", "C")
    if area is None:
        return x.amax(dim=-2) if reduce == "max" else x.mean(dim=-2)
    if reduce == "max":
        raise ValueError("area weighs a mean; reduce='max' has no use for it")
    check_shape("area", area, x.size(-2))
    return torch.einsum("n,...nc->...c", (area / area.sum()).to(x.dtype), x)
