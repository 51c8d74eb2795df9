"""From one sampling of the sphere to another: linear, differentiable, built once."""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from ..groups._lasting import lasting
from ..ops import SparseOperator
from ..ops._functorch import transforms_functions
from ._resampling_weights import Weights, conservative_weights, joined, linear_weights, nearest_weights
from .sampling import Sampling

Method = Literal["nearest", "linear", "conservative"]
Missing = Literal["propagate", "renormalise", "error"]
Outside = Literal["nan", "error"]
_METHODS, _MISSING, _OUTSIDE = (get.__args__ for get in (Method, Missing, Outside))  # type: ignore[attr-defined]
_KEPT_ENTRIES = 1 << 25  # of the matrices that resample() and images keep: about a gigabyte
_CACHE: "OrderedDict[tuple[object, ...], Resampler]" = OrderedDict()


class Resampler:
    r"""Values on one sampling from values on another: :math:`y_i = \sum_j M_{ij} x_j`.

    The matrix is made once, in float64, and stored sparse; the product is differentiable to any order. Every row
    sums to 1, so that a constant stays what it is.

    - ``"nearest"``: the value of the nearest node. For labels.
    - ``"linear"``: on rings bilinear in colatitude and longitude, across the date line and across the poles (a pole has
      the mean of its ring); on the faces of a cube bilinear, across their edges too; on any other points linear in the
      triangle of the convex hull around a target. The error falls with the square of the spacing. It reads at most
      six nodes: to go to a much coarser sampling, where details would be folded into low frequencies, take
    - ``"conservative"``: an average over the cell of each target that keeps the integral,
      :math:`\sum_i A_i y_i = \sum_j A_j x_j`. Only towards a coarser sampling, both of the whole sphere.

    Equal samplings (the same :attr:`Sampling.key`) give the identity.

    Under ``torch.compile(fullgraph=True)`` call it once before, in the dtype and on the device in question: the first
    call makes the matrix for them.

    **Outside.** A sampling of a part of the sphere knows nothing far from its nodes. A target farther from all of them
    than ``reach`` gets NaN, or an error is raised. A whole sampling reaches everywhere, except that scattered points of
    one hemisphere do not reach beyond their convex hull.

    Args:
        s_in: The sampling that values are given on.
        s_out: The sampling that they are wanted on.
        method: See above.
        outside: What a target gets that nothing is known about: ``"nan"`` or ``"error"``.
        reach: Radians; default infinite for a whole sampling, for a part its spacing. (Linear interpolation on whole
            rings and cube faces reaches everywhere.)

    Raises:
        ValueError: If a name is unknown, ``reach`` is not positive, targets lie outside and ``outside="error"``, the
            points span no sphere, or a conservative average is asked for that cannot be had.

    Example:
        >>> from geomeq import spheres
        >>> Resampler(spheres.healpix(8), spheres.gauss_legendre(12))
        Resampler(768 -> 288 nodes, method='linear')
    """

    def __init__(
        self,
        s_in: Sampling,
        s_out: Sampling,
        method: Method = "linear",
        outside: Outside = "nan",
        reach: float | None = None,
    ) -> None:
        _check_name("method", method, _METHODS)
        _check_name("outside", outside, _OUTSIDE)
        if reach is not None and not reach > 0:
            raise ValueError(f"reach must be a positive angle in radians, got {reach}")
        if reach is None:
            reach = math.inf if s_in.is_whole else s_in.spacing
        self.method, self.num_in, self.num_out = method, s_in.num_nodes, s_out.num_nodes
        self._weights = _weights(s_in, s_out, method, reach)
        covered = np.diff(self._weights.matrix.indptr) > 0
        if outside == "error" and not covered.all():
            raise ValueError(
                f"{int((~covered).sum())} of {len(covered)} targets lie outside {s_in}, the first is node "
                f"{int(covered.argmin())}; pass outside='nan', a larger reach, or another s_out"
            )
        self._covered = None if covered.all() else torch.from_numpy(covered)
        self._ready: dict[tuple[torch.dtype, torch.device, bool], tuple[SparseOperator, SparseOperator | None]] = {}

    @property
    def covered(self) -> Tensor:
        """Which targets get a value, ``[N_out]``, bool."""
        return torch.ones(self.num_out, dtype=torch.bool, device="cpu") if self._covered is None else self._covered

    def matrix(self) -> csr_array:
        """The matrix ``[N_out, N_in]``, float64, as scipy's."""
        return joined(self._weights)

    def operator(self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> SparseOperator:
        """The matrix as one :class:`geomeq.ops.SparseOperator`, for layers that take one."""
        return _operator(self.matrix(), dtype, torch.device(device))

    def __call__(self, x: Tensor, missing: Missing = "propagate", least: float = 0.5) -> Tensor:
        """Resamples signals.

        Args:
            x: ``[N_in]``, ``[N_in, C]`` or ``[B, N_in, C]``, floating point; NaN where a value is missing.
            missing: ``"propagate"``: a target that reads a NaN is NaN. ``"renormalise"``: it is the mean of the others
                that it reads, if their weights add up to ``least``. ``"error"``: NaN is refused.
            least: Share of the weights, from 0 (any one is enough) to 1.

        Returns:
            ``[N_out]``, ``[N_out, C]`` or ``[B, N_out, C]``.

        Raises:
            TypeError: If ``x`` is not floating point.
            ValueError: If its shape is wrong, or it holds NaN and ``missing="error"``.
        """
        _check_name("missing", missing, _MISSING)
        self._check(x, self.num_in)
        if missing == "error" and bool(x.isnan().any()):
            raise ValueError(f"x holds {int(x.isnan().sum())} NaN; pass missing='renormalise' or fill them first")
        return _by_nodes(x, lambda columns: self._resample(columns, missing, least))

    def adjoint(self, y: Tensor) -> Tensor:
        """The transpose, ``[..., N_out, C]`` to ``[..., N_in, C]``: every target hands its value back to what it read.

        Raises:
            TypeError: If ``y`` is not floating point.
            ValueError: If its shape is wrong.
        """
        self._check(y, self.num_out)
        return _by_nodes(y, self._transpose)

    def _check(self, x: Tensor, nodes: int) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"x must be a floating-point tensor, got {getattr(x, 'dtype', type(x).__name__)}")
        if x.dim() not in (1, 2, 3) or x.size(0 if x.dim() < 3 else 1) != nodes:
            raise ValueError(
                f"x must have shape [{nodes}], [{nodes}, C] or [B, {nodes}, C], one row for each node, "
                f"got {list(x.shape)}"
            )

    def _resample(self, x: Tensor, missing: str, least: float) -> Tensor:
        if missing == "renormalise":
            known = ~x.isnan()
            y = self._product(torch.where(known, x, 0.0))
            share = self._product(known.to(x.dtype))
            enough = (share >= least * (1 - 1e-5)) & (share > 1e-6)
            y = torch.where(enough, y / torch.where(enough, share, 1.0), math.nan)
        else:
            y = self._product(x)
        if self._covered is None:
            return y
        return torch.where(self._covered.to(x.device)[:, None], y, math.nan)

    def _product(self, x: Tensor) -> Tensor:
        main, poles = self._operators(x)
        path = _path()
        if poles is not None:
            x = torch.cat([x, poles.matmul(x, path).to(x.dtype)])
        return main.matmul(x, path).to(x.dtype)

    def _transpose(self, y: Tensor) -> Tensor:
        main, poles = self._operators(y, transposed=True)
        path = _path()
        x = main.matmul(y, path)
        x = x if poles is None else x[: self.num_in] + poles.matmul(x[self.num_in :], path)
        return x.to(y.dtype)

    def _operators(self, x: Tensor, transposed: bool = False) -> tuple[SparseOperator, SparseOperator | None]:
        key = (torch.float64 if x.dtype == torch.float64 else torch.float32, x.device, transposed)
        if key not in self._ready:
            matrices = [w if w is None or not transposed else w.T.tocsr() for w in self._weights]
            main, poles = (None if w is None else _operator(w, *key[:2]) for w in matrices)
            assert main is not None
            self._ready[key] = main, poles
        return self._ready[key]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_in} -> {self.num_out} nodes, method={self.method!r})"


def resample(
    x: Tensor,
    s_in: Sampling,
    s_out: Sampling,
    method: Method = "linear",
    missing: Missing = "propagate",
    outside: Outside = "nan",
    reach: float | None = None,
) -> Tensor:
    """Signals on one sampling as signals on another; the matrix is kept for the next call.

    Args:
        x: ``[N_in]``, ``[N_in, C]`` or ``[B, N_in, C]``, floating point.
        s_in: Where ``x`` is.
        s_out: Where it is wanted.
        method: As for :class:`Resampler`, like ``outside`` and ``reach``.
        missing: As for :meth:`Resampler.__call__`.
        outside: As for :class:`Resampler`.
        reach: As for :class:`Resampler`.

    Returns:
        ``[N_out]``, ``[N_out, C]`` or ``[B, N_out, C]``.

    Under ``torch.compile`` the search for the matrix breaks the graph; with ``fullgraph=True`` make a
    :class:`Resampler` instead.

    Example:
        >>> from geomeq import spheres
        >>> ball, globe = spheres.icosphere(3), spheres.healpix(8)
        >>> resample(ball.pos, ball, globe).shape
        torch.Size([768, 3])
    """
    parts = (s_in, s_out, method, outside, reach)
    return kept(parts, lambda: Resampler(s_in, s_out, method, outside, reach))(x, missing)


@torch.compiler.disable  # hashes and searches, which no compiler can trace
def kept(parts: tuple[object, ...], build: Callable[[], Resampler]) -> Resampler:
    """The resampler of some samplings and settings, built if there is none; the longest unused ones are dropped."""
    key = tuple(part.key if isinstance(part, Sampling) else part for part in parts)
    if key not in _CACHE:
        _CACHE[key] = lasting(build)()
    _CACHE.move_to_end(key)
    while len(_CACHE) > 1 and sum(r._weights.matrix.nnz for r in _CACHE.values()) > _KEPT_ENTRIES:
        _CACHE.popitem(last=False)
    return _CACHE[key]


def _weights(s_in: Sampling, s_out: Sampling, method: str, reach: float) -> Weights:
    if s_in.num_nodes == s_out.num_nodes and s_in.key == s_out.key:
        nodes = np.arange(s_in.num_nodes + 1)
        return Weights(csr_array((np.ones(len(nodes) - 1), nodes[:-1], nodes)), None)
    if method == "conservative":
        if not (s_in.is_whole and s_out.is_whole and math.isinf(reach)):
            raise ValueError("method='conservative' needs two samplings of the whole sphere; take 'linear' for parts")
        return conservative_weights(s_in, s_out)
    make = nearest_weights if method == "nearest" else linear_weights
    return make(s_in, s_out.pos.numpy(), reach)


@lasting
def _operator(matrix: csr_array, dtype: torch.dtype, device: torch.device) -> SparseOperator:
    """From scipy's rows, whose transpose takes one pass and no sort."""
    wide = matrix.nnz >= 2**31 or max(matrix.shape) >= 2**31
    index = torch.int64 if wide else torch.int32
    numbers = np.arange(matrix.nnz, dtype=np.int64 if wide else np.int32)
    back = csr_array((numbers, matrix.indices, matrix.indptr), shape=matrix.shape).tocsc()
    ptr, col, ptr_t, col_t, perm_t = (
        torch.from_numpy(a).to(device=device, dtype=index)
        for a in (matrix.indptr, matrix.indices, back.indptr, back.indices, back.data)
    )
    value = torch.from_numpy(matrix.data).to(device=device, dtype=dtype)
    return SparseOperator(ptr, col, value, [ptr_t, col_t, perm_t], (matrix.shape[1], matrix.shape[0]), False)


def _path() -> str:
    """Function transforms of torch (``jvp``, ``vmap``) see through the plain formula only."""
    return "reference" if transforms_functions() else "auto"


def _by_nodes(x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Runs on columns ``[N, B * C]`` whatever the layout of the signals."""
    if x.dim() == 1:
        return run(x[:, None])[:, 0]
    if x.dim() == 2:
        return run(x)
    batch, nodes, channels = x.shape
    y = run(x.transpose(0, 1).reshape(nodes, batch * channels))
    return y.view(len(y), batch, channels).transpose(0, 1).contiguous()


def _check_name(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, known))}, got {value!r}")
