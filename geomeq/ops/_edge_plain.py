"""Rotations into and out of the frames of edges by plain torch operations: the definition.

What the kernels are tested with, and what runs under the function transforms of torch and on other devices.
"""

import torch
from torch import Tensor

from geomeq.ops._edge_layout import EdgeLayout, layout_of


def _flat(blocks: list[Tensor], layout: EdgeLayout) -> Tensor:
    """The flat table of Wigner matrices."""
    rows = [
        blocks[deg][:, m + min(deg, layout.mmax)] for deg, m in zip(layout.degrees, layout.signed_orders, strict=True)
    ]
    return torch.cat(rows, dim=1)


def _rows_of(layout: EdgeLayout, degree: int) -> list[int]:
    top = min(degree, layout.mmax)
    return [layout.row(degree, m) for m in range(-top, top + 1)]


def plain_in(wigner: Tensor, x: Tensor, index: Tensor, lmax: int, mmax: int) -> Tensor:
    """``[N, R, C]`` to ``[E, B, S C]`` for the nodes ``index [E, S]``."""
    layout = layout_of(lmax, mmax)
    nodes = torch.cat([x.index_select(0, column) for column in index.unbind(1)], dim=2)
    parts = [d @ nodes[:, deg * deg : (deg + 1) ** 2] for deg, d in enumerate(layout.blocks(wigner))]
    rows = [parts[deg][:, m + min(deg, mmax)] for deg, m in zip(layout.degrees, layout.signed_orders, strict=True)]
    return torch.stack(rows, dim=1)


def plain_out(wigner: Tensor, y: Tensor, index: Tensor, num_nodes: int, lmax: int, mmax: int) -> Tensor:
    """``[E, B, S C]`` to ``[N, R, C]``: the transpose of :func:`plain_in`."""
    layout = layout_of(lmax, mmax)
    parts = []
    for deg, d in enumerate(layout.blocks(wigner)):
        own = torch.stack([y[:, r] for r in _rows_of(layout, deg)], dim=1)
        parts.append(d.mT @ own)
    turned = torch.cat(parts, dim=1)
    total = None
    for column, part in zip(index.unbind(1), turned.chunk(index.size(1), dim=2), strict=True):
        start = part.new_zeros(num_nodes, *part.shape[1:]) if total is None else total
        total = start.index_add(0, column, part)
    assert total is not None
    return total


def plain_dot(y: Tensor, x: Tensor, index: Tensor, lmax: int, mmax: int) -> Tensor:
    """The derivative of ``<y, plain_in(wigner, x)>`` by the Wigner entries, ``[E, T]``."""
    layout = layout_of(lmax, mmax)
    nodes = torch.cat([x.index_select(0, column) for column in index.unbind(1)], dim=2)
    blocks = []
    for deg in range(lmax + 1):
        own = torch.stack([y[:, r] for r in _rows_of(layout, deg)], dim=1)
        blocks.append(own @ nodes[:, deg * deg : (deg + 1) ** 2].mT)
    return _flat(blocks, layout)
