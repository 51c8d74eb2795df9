"""A left-invariant metric that is learned: edge weights from stored logarithms."""

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.ops import SparseOperator, rescaled_laplacian

from ._operator_cache import OperatorCache


class LearnableMetric(nn.Module):
    r"""Gaussian weights of a graph on a group, differentiable in the metric.

    .. math:: w_e = e^{-d_e^2 / 4t}, \quad d_e^2 = c_e^T R \, c_e, \quad R = M M^T, \quad
        t = \tau \, \overline{d^2}

    with :math:`c` the ``edge_log`` of ``transforms.GroupGraph`` and :math:`M` lower triangular with a positive diagonal
    (its logarithm is the parameter), so that R is positive definite whatever the optimiser does. A common factor of R
    cancels against the mean: what is learned is the shape. The neighbours stay those of the metric the graph was built
    with, so let the graph have a few more than the filters need.

    Axes that do not share a block never mix. Diagonal metrics (the default) suit every group. A graph whose
    orientations have period pi needs blocks that a half turn preserves: ``[(0, 1), (2,)]`` for SE(2).

    Args:
        metric: Where to start: the diagonal ``[dim]`` or the matrix ``[dim, dim]`` of R, positive definite.
        blocks: Axes that may mix, each axis in one block; default every axis alone.
        bandwidth: :math:`\tau`, as of ``transforms.GroupGraph``.

    Raises:
        ValueError: If the metric is not positive definite, mixes axes of different blocks, or the blocks do not
            partition the axes.

    Example:
        >>> metric = LearnableMetric.from_anisotropy(epsilon=0.5, xi=2.0)
        >>> metric
        LearnableMetric(dim=3, epsilon=0.5, xi=2)
        >>> metric(torch.eye(3, dtype=torch.float64)).shape
        torch.Size([3])

    Source: metric and weights of Aguettaz et al. (2021), https://arxiv.org/abs/2111.12139
    """

    free: Tensor

    def __init__(
        self,
        metric: Tensor | Sequence[float],
        blocks: Sequence[Sequence[int]] | None = None,
        bandwidth: float = 0.2,
    ) -> None:
        super().__init__()
        if not bandwidth > 0:
            raise ValueError(f"bandwidth must be positive, got {bandwidth}")
        matrix = _as_matrix(metric)
        self.dim, self.bandwidth = matrix.size(0), bandwidth
        blocks = [(axis,) for axis in range(self.dim)] if blocks is None else [tuple(block) for block in blocks]
        if sorted(axis for block in blocks for axis in block) != list(range(self.dim)):
            raise ValueError(f"blocks must name every axis 0..{self.dim - 1} once, got {blocks}")
        mixes = torch.zeros(self.dim, self.dim, dtype=torch.bool)
        for block in blocks:
            mixes[torch.tensor(block)[:, None], torch.tensor(block)] = True
        if bool((matrix[~mixes] != 0).any()):
            raise ValueError(f"metric must not mix axes of different blocks {blocks}, got {matrix.tolist()}")
        root = torch.linalg.cholesky(matrix)
        self.log_scale = nn.Parameter(root.diagonal().log())
        self.register_buffer("free", (mixes & ~torch.eye(self.dim, dtype=torch.bool)).tril(), persistent=False)
        self.mix = nn.Parameter(root[self.free].clone())
        self._cache = OperatorCache()
        self._initial = (self.log_scale.detach().clone(), self.mix.detach().clone())

    @classmethod
    def from_anisotropy(cls, epsilon: float, xi: float, dim: int = 3, bandwidth: float = 0.2) -> Self:
        r"""Starts at ``diag(1, epsilon^-2, ..., xi^2)``: moving ahead, moving sideways, turning."""
        if not (epsilon > 0 and xi > 0 and dim >= 2):
            raise ValueError(f"epsilon and xi must be positive and dim at least 2, got {epsilon}, {xi} and {dim}")
        sideways = [epsilon**-2] * (dim - 2)
        return cls([1.0, *sideways, xi**2], bandwidth=bandwidth)

    @classmethod
    def from_graph(cls, data: Any, blocks: Sequence[Sequence[int]] | None = None) -> Self:
        """Starts at the metric and the bandwidth of a graph made by ``transforms.GroupGraph``, so at its weights."""
        metric = getattr(data, "metric", None)
        if not isinstance(metric, Tensor):
            raise ValueError("the graph has no metric; make it with transforms.GroupGraph on a continuous group")
        made = cls(metric.reshape(metric.shape[-2:]), blocks)
        sqdist, bandwidth = getattr(data, "edge_sqdist", None), getattr(data, "bandwidth", None)
        if isinstance(sqdist, Tensor) and isinstance(bandwidth, Tensor) and sqdist.numel():
            made.bandwidth = float(bandwidth / sqdist.mean())
        return made

    def reset_parameters(self) -> None:
        """Goes back to the metric it was made with."""
        with torch.no_grad():
            self.log_scale.copy_(self._initial[0])
            self.mix.copy_(self._initial[1])

    @property
    def metric(self) -> Tensor:
        """``R``, ``[dim, dim]``."""
        root = torch.diag(self.log_scale.exp()).masked_scatter(self.free, self.mix)
        return root @ root.T

    @property
    def epsilon(self) -> float:
        """Square root of the cost of the first axis over that of the second: 1 if isotropic."""
        return math.exp(float(self.log_scale.detach()[0] - self.log_scale.detach()[1]))

    @property
    def xi(self) -> float:
        """Price of the last axis, in units of the first."""
        return math.exp(float(self.log_scale.detach()[-1] - self.log_scale.detach()[0]))

    def forward(self, edge_log: Tensor) -> Tensor:
        """Weights of the edges.

        Args:
            edge_log: Logarithms of the relative elements, ``[E, dim]``.

        Returns:
            ``[E]``, in (0, 1], in the dtype of ``edge_log``.

        Raises:
            ValueError: If ``edge_log`` has another shape.
        """
        check_shape("edge_log", edge_log, "E", self.dim, hint="transforms.GroupGraph writes it")
        sqdist = ((edge_log @ self.metric.to(edge_log.dtype)) * edge_log).sum(dim=-1)
        if edge_log.size(0) == 0:
            return sqdist
        return torch.exp(-sqdist / (4.0 * self.bandwidth * sqdist.mean()))

    def laplacian(self, edge_index: Tensor, edge_log: Tensor, num_nodes: int) -> SparseOperator:
        """The rescaled, symmetrically normalised Laplacian of these weights, for :class:`ChebConv`.

        Sorts the edges once; later calls with the same ``edge_index`` only put new values in.

        Args:
            edge_index: ``[2, E]``.
            edge_log: ``[E, dim]``.
            num_nodes: ``N``.

        Returns:
            The operator with ``lambda_max = 2``, through whose values the gradient reaches the metric.
        """
        weight = self(edge_log)
        if torch.compiler.is_compiling():
            return rescaled_laplacian(edge_index, weight, num_nodes)
        pattern = self._cache.get((edge_index,), lambda: rescaled_laplacian(edge_index, size=num_nodes))
        if pattern.size[0] != num_nodes or not _same_edges(pattern, edge_index):
            return rescaled_laplacian(edge_index, weight, num_nodes)
        source, target = edge_index
        degree = weight.new_zeros(num_nodes).index_add(0, target, weight)
        if not bool((degree > 0).all()):  # all edges of a node so long that their weights vanish: it is isolated
            return rescaled_laplacian(edge_index, weight, num_nodes)
        root = degree.rsqrt()
        return pattern.with_value(-(root[source] * root[target]) * weight)

    def extra_repr(self) -> str:
        """The two numbers that describe it."""
        return f"dim={self.dim}, epsilon={self.epsilon:.4g}, xi={self.xi:.4g}"


def _same_edges(pattern: SparseOperator, edge_index: Tensor) -> bool:
    """Whether values in the caller's order fit: sorted, no repeats, no loops, no isolated node (so no diagonal)."""
    return torch.equal(pattern.edge_index, edge_index.long())


def _as_matrix(metric: Tensor | Sequence[float]) -> Tensor:
    matrix = torch.as_tensor(metric, dtype=torch.float64).detach()
    matrix = torch.diag(matrix) if matrix.dim() == 1 else matrix
    if matrix.dim() != 2 or matrix.size(0) != matrix.size(1) or matrix.size(0) == 0:
        raise ValueError(f"metric must have shape [dim] or [dim, dim], got {list(matrix.shape)}")
    if not bool(torch.isfinite(matrix).all()) or not torch.allclose(matrix, matrix.T):
        raise ValueError(f"metric must be finite and symmetric, got {matrix.tolist()}")
    if float(torch.linalg.eigvalsh(matrix)[0]) <= 0:
        raise ValueError(f"metric must be positive definite, got {matrix.tolist()}; every axis must cost something")
    return matrix
