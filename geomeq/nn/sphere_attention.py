"""Attention between neighbours on the sphere, weighted by the area that each of them stands for."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from geomeq._checks import check_shape
from geomeq.groups._lasting import lasting
from geomeq.ops import segment_softmax, segment_sum
from geomeq.ops._functorch import transforms_functions
from geomeq.spheres import Sampling

from ._paths import Constant
from ._sphere_edges import check_cutoff, edges_between, first_edges


class SphereAttention(nn.Module):
    r"""Every node attends to the nodes in a cap around it; the softmax is an integral over the cap.

    .. math::
        y_i = W_o \sum_{j:\, r_{ij} \leq r_c} \alpha_{ij} \, W_v x_j, \qquad
        \alpha_{ij} = \frac{q_j \exp(Q x_i \cdot K x_j / \sqrt d)}
        {\sum_{j'} q_{j'} \exp(Q x_i \cdot K x_{j'} / \sqrt d)}

    with :math:`q_j` the quadrature weight of a node and :math:`d` the channels of one head: the softmax of logits plus
    :math:`\log q_j`. So two nodes at one place with half its weight each count as the one, a constant input has a
    constant output, and finer samplings of one signal give nearly the same answer. It looks at no direction: rotations
    that permute the nodes commute exactly, others as exactly as the sums are integrals.

    Message form: stencil (1), with coefficients that depend on the features. Samplings may be of any kind, and of two
    kinds; nodes of area 0 receive and do not send.

    Args:
        in_channels: ``C`` of queries, keys and values.
        out_channels: ``C'``.
        s_in: Where keys and values live.
        s_out: Where queries and the output live; default ``s_in``.
        cutoff: Radius of the cap, radians; default three spacings of the coarser sampling.
        heads: Number of heads; must divide ``key_channels`` and ``out_channels``.
        key_channels: Channels of queries and keys, all heads together; default ``in_channels``.
        bias: Whether the four linear maps have biases.
        chunk: Targets at a time: bounds the memory, ``chunk`` times the neighbours, and computes each chunk again in
            the backward pass. ``None``: all at once.

    Attributes:
        query, key, value, out: The linear maps, :math:`Q, K, W_v, W_o`.

    Raises:
        TypeError: If a sampling is none.
        ValueError: If a number makes no sense, or a cap holds no node.

    Example:
        >>> from geomeq import spheres
        >>> attend = SphereAttention(8, 16, spheres.healpix(4), cutoff=0.5, heads=4)
        >>> attend(torch.randn(2, 192, 8)).shape
        torch.Size([2, 192, 16])

    Source: Bonev et al. (2025), "Attention on the sphere", https://arxiv.org/abs/2505.11157
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        s_in: Sampling,
        s_out: Sampling | None = None,
        cutoff: float | None = None,
        heads: int = 1,
        key_channels: int | None = None,
        bias: bool = True,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        s_out = s_in if s_out is None else s_out
        _check_samplings(s_in, s_out)
        key_channels = in_channels if key_channels is None else key_channels
        _check_numbers(
            in_channels=in_channels, out_channels=out_channels, heads=heads, key_channels=key_channels, chunk=chunk
        )
        self.in_channels, self.out_channels, self.key_channels = in_channels, out_channels, key_channels
        self.heads, self.chunk = heads, chunk
        self.cutoff = check_cutoff(min(3 * max(s_in.spacing, s_out.spacing), math.pi) if cutoff is None else cutoff)
        self.num_in, self.num_out = s_in.num_nodes, s_out.num_nodes
        edge_index = lasting(edges_between)(s_in, s_out, self.cutoff)
        ptr = lasting(first_edges)(edge_index, self.num_out)
        self.num_edges = edge_index.size(1)
        self._chunks = _split(ptr, chunk or self.num_out)
        self._edge_index, self._ptr = Constant(edge_index), Constant(ptr)
        self._log_area = Constant(lasting(_logs)(s_in.area))
        self.query = nn.Linear(in_channels, key_channels, bias)
        self.key = nn.Linear(in_channels, key_channels, bias)
        self.value = nn.Linear(in_channels, out_channels, bias)
        self.out = nn.Linear(out_channels, out_channels, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot's uniform weights, zero biases."""
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None) -> Tensor:
        """Attends.

        Args:
            query: Features at the targets, ``[N_out, C]`` or ``[B, N_out, C]``.
            key: Features at the sources, ``[.., N_in, C]``; default ``query``, if the samplings have equally many
                nodes.
            value: Features at the sources, ``[.., N_in, C]``; default ``key``.

        Returns:
            ``[.., N_out, C']``.

        Raises:
            TypeError: If features are no floating-point numbers.
            ValueError: If a shape is wrong, or keys are missing between samplings of different sizes.
        """
        if key is None and self.num_in != self.num_out:
            raise ValueError(
                f"key is needed: queries live on {self.num_out} nodes, keys and values on {self.num_in}; "
                "call attend(query, key)"
            )
        key = query if key is None else key
        value = key if value is None else value
        for name, x, nodes in (
            ("query", query, self.num_out),
            ("key", key, self.num_in),
            ("value", value, self.num_in),
        ):
            check_shape(name, x, "...", nodes, self.in_channels, hint="nodes and channels are those of the layer")
            if not x.dtype.is_floating_point:
                raise TypeError(f"{name} must be floating point, got {x.dtype}; call .float() on it")
            if x.dim() not in (2, 3) or x.shape[:-2] != query.shape[:-2]:
                raise ValueError(
                    f"{name} must be [N, C] or [B, N, C] with the batch of query {list(query.shape)}, got "
                    f"{list(x.shape)}"
                )
        q = self._by_node(self.query(query)) / math.sqrt(self.key_channels // self.heads)
        out = self._attend(q, self._by_node(self.key(key)), self._by_node(self.value(value)))
        out = out.flatten(2).transpose(0, 1)
        return self.out(out if query.dim() == 3 else out[0])  # type: ignore[no-any-return]

    def _by_node(self, x: Tensor) -> Tensor:
        """``[N, B, heads, channels of a head]``: what belongs to a node lies together."""
        x = x.unsqueeze(0) if x.dim() == 2 else x
        return x.transpose(0, 1).contiguous().unflatten(-1, (self.heads, -1))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        edge_index, ptr = self._edge_index.on(q.device), self._ptr.on(q.device)
        log_area = self._log_area.like(q)
        if len(self._chunks) == 1:
            return _attend(q, k, v, log_area, edge_index[0], edge_index[1], ptr)
        parts = []
        for targets, edges in self._chunks:
            source, target = edge_index[:, edges[0] : edges[1]]
            own = ptr[targets[0] : targets[1] + 1] - edges[0]
            given = (q[targets[0] : targets[1]], k, v, log_area, source, target - targets[0], own)
            again = torch.is_grad_enabled() and not transforms_functions()  # which know no checkpoints
            parts.append(checkpoint(_attend, *given, use_reentrant=False) if again else _attend(*given))
        return torch.cat(parts)

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"{self.in_channels} -> {self.out_channels}, nodes={self.num_in} -> {self.num_out}, heads={self.heads}, "
            f"cutoff={self.cutoff:.4g}, edges={self.num_edges}"
        )


def _attend(q: Tensor, k: Tensor, v: Tensor, log_area: Tensor, source: Tensor, target: Tensor, ptr: Tensor) -> Tensor:
    """Weighted means of values, ``[N_out, B, heads, D']``."""
    logit = (q.index_select(0, target) * k.index_select(0, source)).sum(-1)
    logit = logit + log_area.index_select(0, source)[:, None, None]
    share = segment_softmax(logit, ptr=ptr)
    return segment_sum(share.unsqueeze(-1) * v.index_select(0, source), ptr=ptr)


def _logs(area: Tensor) -> Tensor:
    """Logarithms of areas relative to their mean; nodes of area 0 have no edges and get any number."""
    return torch.where(area > 0, area / area.mean(), 1.0).log()


def _split(ptr: Tensor, chunk: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Ranges of targets and of their edges."""
    nodes = len(ptr) - 1
    cuts = [*range(0, nodes, chunk), nodes]
    return [((a, b), (int(ptr[a]), int(ptr[b]))) for a, b in pairwise(cuts)]


def _check_samplings(*samplings: Sampling) -> None:
    for s in samplings:
        if not isinstance(s, Sampling):
            raise TypeError(f"s_in and s_out must be samplings, such as spheres.healpix(16), got {type(s).__name__}")


def _check_numbers(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is None and name == "chunk":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
    heads = numbers["heads"]
    assert heads is not None
    for name in ("key_channels", "out_channels"):
        value = numbers[name]
        assert value is not None
        if value % heads:
            raise ValueError(f"{name} must be a multiple of heads={heads}, got {value}")
