"""Graphs on finite groups: edges between elements that differ by few generators."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..groups import FiniteGroup


@dataclass
class CayleyEdges:
    """Edges sorted by target, then source; ``kind`` is the element ``target^-1 source``."""

    edge_index: Tensor
    kind: Tensor
    length: Tensor


def word_lengths(group: FiniteGroup, generators: Tensor) -> Tensor:
    """Least number of generators and their inverses whose product is each element, ``[n]``; -1 if there is none."""
    moves = torch.unique(torch.cat([generators, group.inv[generators]]))
    length = torch.full((group.order,), -1, dtype=torch.long)
    length[0] = 0
    front, steps = torch.zeros(1, dtype=torch.long), 0
    while front.numel():
        steps += 1
        reached = torch.unique(group.cayley[front[:, None], moves[None, :]])
        front = reached[length[reached] < 0]
        length[front] = steps
    return length


def cayley_edges(group: FiniteGroup, generators: Sequence[int] | Tensor | None, k: int | None) -> CayleyEdges:
    """All pairs within the word length of the k-th nearest element, the same from every element.

    Args:
        group: The group.
        generators: Numbers of elements; ``None`` takes those of the group.
        k: Number of neighbours, more where word lengths tie; ``None`` connects by one generator.
    """
    chosen = group.generators if generators is None else torch.as_tensor(generators, dtype=torch.long)
    length = word_lengths(group, chosen.reshape(-1))
    if k is None:
        radius = 1
    else:
        others = length[length > 0].sort().values
        if k > others.numel():
            raise ValueError(f"k must be at most {others.numel()}, the number of other elements, got {k}")
        radius = int(others[k - 1])
    kinds = ((length > 0) & (length <= radius)).nonzero()[:, 0]
    target = torch.arange(group.order).repeat_interleave(len(kinds))
    kind = kinds.repeat(group.order)
    source = group.cayley[target, kind]
    order = torch.argsort(target * group.order + source)
    return CayleyEdges(torch.stack([source, target])[:, order], kind[order], length[kind[order]])
