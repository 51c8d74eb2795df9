"""Attention over the edges of a target that does not notice an edge at the cut-off."""

import torch
from torch import Tensor, nn

from geomeq.ops.segment import segment_max, segment_sum


def smooth_attention(logits: Tensor, target: Tensor, num_nodes: int, envelope: Tensor | None) -> Tensor:
    r"""Softmax over the edges of each target, in which an edge counts by its envelope.

    .. math:: w_e = \frac{e^{a_e}}{1 + \sum_{f \to i} u_f \, e^{a_f}}

    An edge whose envelope is zero changes no weight, so weights times envelope are smooth where edges come and go.
    (A plain softmax jumps there: its sum has the edge or has it not.) The 1 is one more edge with logit 0 and no
    message; without it the last edge of an atom would keep full weight up to the cut-off.

    Args:
        logits: ``[E, H]``.
        target: Target of each edge, ``[E]``, sorted.
        num_nodes: Number of nodes.
        envelope: ``[E]``; 1 by default.

    Returns:
        ``[E, H]``, to be multiplied by the envelope.
    """
    largest = segment_max(logits.detach(), target, num_nodes).clamp(min=0)  # cancels exactly
    mine = (logits - largest.index_select(0, target)).exp()
    part = mine if envelope is None else mine * envelope[:, None]
    total = (-largest).exp() + segment_sum(part, target, num_nodes)
    return mine / total.index_select(0, target)


class AttentionLogits(nn.Module):
    r"""A logit per head from invariants of an edge: layer norm, a smooth leaky ReLU, a dot product.

    Args:
        heads: Number of heads.
        channels: Invariants per head.

    Source: Liao et al. (2023), https://arxiv.org/abs/2306.12059.
    """

    def __init__(self, heads: int, channels: int) -> None:
        super().__init__()
        self.heads, self.channels = heads, channels
        self.norm = nn.LayerNorm(channels)
        self.weight = nn.Parameter(torch.empty(heads, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights that give logits of unit variance."""
        self.norm.reset_parameters()
        nn.init.normal_(self.weight, std=self.channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[E, heads * channels]`` to ``[E, heads]``."""
        x = self.norm(x.unflatten(1, (self.heads, self.channels)))
        x = x * (0.2 + 0.8 * torch.sigmoid(x))  # slope 0.2 far below zero, 1 far above
        return (x * self.weight).sum(dim=2)
