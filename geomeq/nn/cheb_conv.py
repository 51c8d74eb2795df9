"""Chebyshev convolution: a learned polynomial of a graph Laplacian per pair of channels."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.ops import SparseOperator
from geomeq.ops.chebyshev import CHEB_PATHS, chebyshev
from geomeq.ops.laplacian import NORMALIZATIONS, check_lambda_max, rescaled_laplacian
from geomeq.ops.stencil import HALF

from ._operator_cache import OperatorCache

Response = Callable[[Tensor], Tensor]


class ChebConv(nn.Module):
    r"""Filters a signal on a graph with polynomials of its Laplacian.

    .. math:: y = \sum_{j=0}^{K-1} T_j(\tilde L) \, x \, \Theta_j + b, \qquad
        \tilde L = 2 L / \lambda_{max} - I, \quad T_j(z) = 2 z T_{j-1}(z) - T_{j-2}(z)

    A node reads the nodes up to :math:`K - 1` edges away. On a graph whose Laplacian commutes with a group (a
    ``transforms.GroupGraph``) the layer commutes with it too; what the filters can see is decided by the metric of that
    graph: an isotropic one gives isotropic filters. Message form: stencil (1), with one operator for all :math:`j`.

    The backward pass needs ``x`` and nothing else: :math:`T_j(\tilde L)^T = T_j(\tilde L^T)` is applied to the gradient
    of ``y``. Derivatives of any order exist.

    Args:
        in_channels: ``C``.
        out_channels: ``O``.
        K: Number of terms; 1 is a linear layer.
        bias: Whether to add :math:`b`.
        path: ``"auto"``, ``"fused"`` (term by term), ``"clenshaw"`` (recurrence on projected features, fewer numbers
            through the graph where ``O < C``) or ``"reference"``; all give the same result up to rounding.
        normalization: Of the Laplacian that is built where a graph is given instead of an operator: ``"sym"``, ``"rw"``
            or ``None``.
        lambda_max: Its scale; default a bound that always holds (2 if normalised).

    Example:
        >>> conv, edge_index = ChebConv(3, 8, K=4), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> conv(torch.randn(5, 3, 3), edge_index).shape  # five signals on one graph
        torch.Size([5, 3, 8])

    Source: Defferrard et al. (2016), https://arxiv.org/abs/1606.09375; on groups Aguettaz et al. (2021),
    https://arxiv.org/abs/2111.12139
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        K: int,
        bias: bool = True,
        path: str = "auto",
        normalization: str | None = "sym",
        lambda_max: float | None = None,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, K) < 1:
            raise ValueError(
                f"in_channels, out_channels and K must be positive, got {in_channels}, {out_channels} and {K}"
            )
        if path not in CHEB_PATHS:
            raise ValueError(f"path must be one of {', '.join(CHEB_PATHS)}, got {path!r}")
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization must be 'sym', 'rw' or None, got {normalization!r}")
        check_lambda_max(lambda_max)
        self.in_channels, self.out_channels, self.K, self.path = in_channels, out_channels, K, path
        self.normalization, self.lambda_max = normalization, lambda_max
        self.weight = nn.Parameter(torch.empty(K, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self._cache = OperatorCache()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Weights normal with variance :math:`2 / (K C)`, bias zero.

        White noise of unit variance comes out with variance :math:`2 \overline{T_j(\lambda)^2}`, the mean taken over
        ``j`` and the spectrum: between 1 and 2 on most graphs, so that a ReLU after it keeps the scale.
        """
        nn.init.normal_(self.weight, std=math.sqrt(2.0 / (self.K * self.in_channels)))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @classmethod
    def from_response(
        cls,
        response: Any,
        K: int,
        lambda_max: float = 2.0,
        points: int | None = None,
        path: str = "auto",
        dtype: torch.dtype | None = None,
    ) -> Self:
        r"""A layer without bias whose filters have a given frequency response.

        .. math:: \Theta_j = \frac{2 - \delta_{j0}}{M} \sum_{m < M} h\big(\tfrac{\lambda_{max}}{2} (\cos t_m + 1)\big)
            \cos(j t_m), \qquad t_m = \pi (m + \tfrac12) / M

        Args:
            response: :math:`h(\lambda)`, a function of a float64 tensor of frequencies; a list of them, one per output
                channel; a list of lists ``[in][out]``; or a filter bank of pygsp (its filters become output channels).
            K: Number of terms; the response is a polynomial of degree ``K - 1``.
            lambda_max: Top of the spectrum, which must be the one the operator was rescaled by.
            points: Quadrature points :math:`M`; default ``K``, which interpolates the response (pygsp's default).
                More points approach the truncated Chebyshev series.
            path: As for the layer.
            dtype: Of the layer; the coefficients are computed in float64 and cast at the end.

        Returns:
            The layer; its weights may be trained further.

        Raises:
            ValueError: If there is no response, a row has another length, or a number is not positive.
        """
        if K < 1 or not 0 < lambda_max < math.inf or (points is not None and points < K):
            raise ValueError(
                f"K and lambda_max must be positive and points at least K, got K={K}, lambda_max={lambda_max}, "
                f"points={points}"
            )
        count = K if points is None else points
        angle = torch.pi * (torch.arange(count, dtype=torch.float64) + 0.5) / count
        values = _sample_response(response, 0.5 * lambda_max * (angle.cos() + 1.0))
        basis = torch.cos(torch.arange(K, dtype=torch.float64)[:, None] * angle) * (2.0 / count)
        basis[0] *= 0.5
        coefficients = torch.einsum("km,iom->kio", basis, values)
        layer = cls(coefficients.size(1), coefficients.size(2), K, bias=False, path=path, lambda_max=lambda_max)
        layer.to(torch.get_default_dtype() if dtype is None else dtype)
        with torch.no_grad():
            layer.weight.copy_(coefficients)
        return layer

    def forward(self, x: Tensor, laplacian: Any, edge_weight: Tensor | None = None) -> Tensor:
        """Filters.

        Args:
            x: ``[N, C]``, or ``[B, N, C]``: several signals on this one graph.
            laplacian: The rescaled Laplacian, a ``SparseOperator`` as ``transforms.Laplacian`` makes it once. Or the
                graph: ``edge_index [2, E]`` or a sparse adjacency (rows = targets); its Laplacian is then built here,
                and kept until another graph comes or its tensors are written into.
            edge_weight: ``[E]``, with ``edge_index`` only; may require a gradient (then built anew in each call).

        Returns:
            ``[N, O]`` or ``[B, N, O]``. Half precision is filtered in float32 and cast back; so is autocast, but left
            in float32.

        Raises:
            TypeError: If ``x`` is not floating point or has another dtype than the operator or the weights.
            ValueError: If a shape, a device or an index is wrong.
        """
        check_shape("x", x, "...", "N", self.in_channels, hint=f"the layer was built with C = {self.in_channels}")
        if x.dim() not in (2, 3):
            raise ValueError(f"x must have shape [N, C] or [B, N, C], got {list(x.shape)}; flatten the leading axes")
        if not x.dtype.is_floating_point:
            raise TypeError(f"x must be floating point, got {x.dtype}; call .float() on it")
        operator = self._operator(x, laplacian, edge_weight)
        if operator.size[0] != operator.size[1]:
            raise ValueError(f"laplacian must be square, got size {operator.size}")
        operator.check_features(x, node_axis=-2)
        out_dtype = x.dtype
        wide = torch.float32 if x.dtype in HALF else x.dtype
        if self.weight.dtype != out_dtype and self.weight.dtype not in HALF and out_dtype not in HALF:
            raise TypeError(f"x must have the dtype of the layer, {self.weight.dtype}, got {x.dtype}; cast one of them")
        autocast = torch.is_autocast_enabled(x.device.type)
        with torch.autocast(x.device.type, enabled=False):
            out = chebyshev(x.to(wide), operator.to(dtype=wide), self.weight.to(wide), self.path)
            if self.bias is not None:
                out = out + self.bias.to(wide)
        return out if autocast else out.to(out_dtype)

    def _operator(self, x: Tensor, laplacian: Any, edge_weight: Tensor | None) -> SparseOperator:
        if isinstance(laplacian, SparseOperator):
            if edge_weight is not None:
                raise ValueError("edge_weight goes with an edge_index; a SparseOperator has its values already")
            return laplacian
        wide = torch.float32 if x.dtype in HALF else x.dtype

        def build() -> SparseOperator:
            weight = edge_weight
            if weight is not None and not (isinstance(weight, Tensor) and weight.dtype.is_floating_point):
                raise TypeError("edge_weight must be a floating point tensor [E]; call .float() on it")
            size = x.size(-2) if isinstance(laplacian, Tensor) and laplacian.layout == torch.strided else None
            operator = rescaled_laplacian(laplacian, weight, size, self.normalization, self.lambda_max)
            return operator.to(dtype=wide)

        operator = self._cache.get((laplacian, edge_weight), build)
        return operator if operator.dtype == wide and operator.size[0] == x.size(-2) else build()

    def extra_repr(self) -> str:
        """Channels, terms and path."""
        bias = "" if self.bias is not None else ", bias=False"
        return f"{self.in_channels}, {self.out_channels}, K={self.K}{bias}, path={self.path!r}"


def _sample_response(response: Any, frequencies: Tensor) -> Tensor:
    """Values ``[C, O, M]`` of every form of response."""
    if hasattr(response, "evaluate"):  # a filter bank of pygsp, which takes and gives numpy arrays
        return torch.as_tensor(response.evaluate(frequencies.numpy()), dtype=torch.float64)[None]
    if callable(response):
        response = [response]
    if not isinstance(response, Sequence) or not response:
        raise ValueError(f"response must be a function, a list of functions or a pygsp filter, got {response!r}")
    rows = [row if isinstance(row, Sequence) else [row] for row in response]
    if not isinstance(response[0], Sequence):
        rows = [[h for (h,) in rows]]
    if any(len(row) != len(rows[0]) or not row for row in rows):
        raise ValueError(f"response must name every pair of channels, got rows of {[len(row) for row in rows]}")
    return torch.stack([torch.stack([_evaluate(h, frequencies) for h in row]) for row in rows])


def _evaluate(response: Response, frequencies: Tensor) -> Tensor:
    values = torch.as_tensor(response(frequencies), dtype=torch.float64)
    if values.shape not in (frequencies.shape, torch.Size([])) or not bool(values.isfinite().all()):
        raise ValueError(f"response must give one finite number per frequency {list(frequencies.shape)}, got {values}")
    return values.expand(frequencies.shape)
