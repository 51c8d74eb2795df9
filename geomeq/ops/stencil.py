"""The linear stencil: weighted sums over neighbours, several weights per edge, without an edge-by-channel tensor."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from geomeq._checks import check_finite, check_shape
from geomeq.ops._adjacency import Size, read_graph
from geomeq.ops._functorch import transforms_functions
from geomeq.ops._kernels import PATHS, choose_path, stencil_sum

HALF = (torch.float16, torch.bfloat16)


class StencilPattern(nn.Module):
    r"""Where a stencil reads: edges as sparse rows by target, and by source for the backward pass.

    It is built once per graph and shared by every ``Stencil`` on it. Rows ``(i, k)`` are stacked, so that one sparse
    product serves all ``K`` coefficients. All tensors are buffers: ``.to(device)`` moves them, ``.to(dtype)`` leaves
    them alone, and a ``state_dict`` does not hold them (the graph is data, not a parameter). Indices are 32-bit unless
    the graph is too large.

    Args:
        edge_index: ``[2, E]`` (source, target) in any order, or a sparse adjacency with rows = targets.
        size: ``(N_src, N_dst)``, or one number for both. Read from a sparse adjacency.
        num_coefs: ``K``, coefficients per edge.

    Raises:
        TypeError: If ``edge_index`` does not hold integers.
        ValueError: If a shape is wrong or an index lies outside ``size``.

    Example:
        >>> StencilPattern(torch.tensor([[0, 1, 2], [0, 0, 1]]), size=(3, 2))
        StencilPattern(edges=3, size=(3, 2), num_coefs=1)
    """

    edge_index: Tensor
    ptr: Tensor
    col: Tensor
    order: Tensor
    perm_t: Tensor

    def __init__(self, edge_index: Any, size: Size | None = None, num_coefs: int = 1) -> None:
        super().__init__()
        edges, _, self.size = read_graph(edge_index, size)
        if num_coefs < 0:
            raise ValueError(f"num_coefs must not be negative, got {num_coefs}")
        self.num_edges, self.num_coefs = edges.size(1), num_coefs
        self.register_buffer("edge_index", edges, persistent=False)
        for name, tensor in zip(self._names, sparse_rows(edges.long(), self.size, num_coefs), strict=True):
            self.register_buffer(name, tensor, persistent=False)

    _names = ("ptr", "col", "order", "position", "ptr_t", "col_t", "perm_t")

    def tensors(self) -> list[Tensor]:
        """The index tensors in the order in which the kernels take them."""
        return [getattr(self, name) for name in self._names]

    def lay_out(self, coef: Tensor) -> list[Tensor]:
        """``coef`` ``[E, K]`` in the storage order of the sum and of its transpose, ``[E * K]`` each."""
        return [coef.reshape(-1).index_select(0, self.order), coef.index_select(0, self.perm_t).reshape(-1)]

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"edges={self.num_edges}, size={self.size}, num_coefs={self.num_coefs}"


def sparse_rows(edge_index: Tensor, size: tuple[int, int], num_coefs: int) -> list[Tensor]:
    """The index tensors of a pattern; see ``StencilPattern._names``.

    ``ptr`` ``[N_dst * K + 1]`` and ``col`` ``[E * K]`` are CSR rows ``(i, k)`` over sources; ``order`` takes flat
    coefficients ``(e, k)`` there and ``position`` back. ``ptr_t`` ``[N_src + 1]`` and ``col_t`` ``[E * K]`` are CSR
    rows ``j`` over ``(i, k)``; ``perm_t`` ``[E]`` takes edges there.
    """
    (source, target), device = edge_index, edge_index.device
    num_sources, num_targets = size
    num_edges = source.size(0)
    fits = max(num_sources, num_targets * num_coefs, num_edges * num_coefs) < 2**31
    dtype = torch.int32 if fits else torch.int64
    k = torch.arange(num_coefs, device=device)

    perm = torch.argsort(target, stable=True)
    ptr = torch.searchsorted(target[perm], torch.arange(num_targets + 1, device=device))
    degree = ptr.diff()
    rows = (ptr[:-1, None] * num_coefs + degree[:, None] * k).view(-1)
    rows = torch.cat([rows, rows.new_full((1,), num_edges * num_coefs)])

    # entry (e, k) of target i: after the rows of earlier targets, after k rows of i, at e's rank among i's edges
    rank = torch.empty_like(perm).index_copy_(0, perm, torch.arange(num_edges, device=device))
    position = ((ptr[target] * (num_coefs - 1) + rank)[:, None] + degree[target][:, None] * k).view(-1)
    del rank  # what follows has K numbers per edge: no more of it at once than is needed
    order, col = (torch.empty(num_edges * num_coefs, dtype=dtype, device=device) for _ in range(2))
    order.index_copy_(0, position, torch.arange(num_edges * num_coefs, dtype=dtype, device=device))
    col.index_copy_(0, position, source.to(dtype)[:, None].expand(-1, num_coefs).reshape(-1))
    position = position.to(dtype)

    # by source; within one source by target, so that the transposed sum reads its rows in memory order
    perm_t = perm[torch.argsort(source[perm], stable=True)]
    ptr_t = torch.searchsorted(source[perm_t], torch.arange(num_sources + 1, device=device)) * num_coefs
    col_t = (target[perm_t].to(dtype)[:, None] * num_coefs + k.to(dtype)).view(-1)
    return [t.to(dtype) for t in (rows, col, order, position, ptr_t, col_t, perm_t)]


class Stencil(nn.Module):
    r"""Weighted sums over the neighbours of each node, ``K`` weights per edge.

    .. math:: y_{ik} = \sum_{e = (j \to i)} c_{ek} \, x_j

    This is the first message form: Chebyshev filters, HEALPix taps, DISCO and group convolutions are a stencil and one
    matrix product over :math:`(k, channel)` after it. No tensor of edges x coefficients x channels is built, neither
    forward, nor for the gradients of ``x`` and ``coef``, nor for theirs.

    It is an ``nn.Module``, so that a layer may own one and ``.to`` moves it: indices by device, coefficients by device
    and dtype. An ``nn.Parameter`` as ``coef`` is registered and trained; any other tensor is held as it is, is not
    saved in a ``state_dict``, and gets a gradient if it requires one. Half precision (autocast) is summed in float32;
    the result has the wider dtype of ``x`` and ``coef``.

    Not-a-number: coefficients must be finite (checked here, once, if they need no gradient); ``x`` is not checked, and
    a NaN in ``x[j]`` reaches exactly the targets of ``j``.

    Args:
        edge_index: Source and target of each edge, ``[2, E]``, in any order (sorted by target is fastest to read); or a
            sparse adjacency with rows = targets (``torch_sparse.SparseTensor``, torch CSR or COO); or a
            ``StencilPattern``.
        coef: ``[E]`` or ``[E, K]``, in the order of ``edge_index`` (for an adjacency: row by row). ``None`` takes the
            values of the adjacency, or ones.
        size: ``(N_src, N_dst)``, or one number for both. Read from an adjacency or a pattern.
        path: ``"auto"`` chooses by device, dtype and channels; ``"bag"`` (``embedding_bag``), ``"csr"`` (sparse matrix
            product) and ``"reference"`` (gather, multiply, ``index_add``: builds the large tensor) force one.

    Raises:
        TypeError: If a dtype is wrong.
        ValueError: If a shape, device, index or value is wrong.

    Example:
        >>> mean = Stencil(torch.tensor([[0, 1, 2], [0, 0, 1]]), torch.tensor([0.5, 0.5, 1.0]), size=(3, 2))
        >>> mean(torch.tensor([[1.0], [3.0], [7.0]]))
        tensor([[2.],
                [7.]])
    """

    coef: Tensor
    laid_out: Tensor | None
    laid_out_t: Tensor | None

    def __init__(
        self, edge_index: Any, coef: Tensor | None = None, size: Size | None = None, path: str = "auto"
    ) -> None:
        super().__init__()
        if path not in PATHS:
            raise ValueError(f"path must be one of {', '.join(PATHS)}, got {path!r}")
        self.path = path
        values = None
        if not isinstance(edge_index, StencilPattern):
            edges, values, size = read_graph(edge_index, size)
        elif size is not None and size not in (edge_index.size, edge_index.size[0]):
            raise ValueError(f"size must be {edge_index.size}, as the pattern has it, got {size}; leave it out")
        if coef is None:
            coef = values
        if isinstance(edge_index, StencilPattern):
            self.pattern = edge_index
            coef = torch.ones(edge_index.num_edges, device=edge_index.ptr.device) if coef is None else coef
        else:
            coef = torch.ones(edges.size(1), device=edges.device) if coef is None else coef
            _check_coef(coef, edges.size(1), edges.device)
            self.pattern = StencilPattern(edges, size, num_coefs=coef.size(1) if coef.dim() == 2 else 1)
        self._hold(coef)

    @property
    def size(self) -> tuple[int, int]:
        """``(N_src, N_dst)``."""
        return self.pattern.size

    def with_coef(self, coef: Tensor) -> "Stencil":
        """A stencil with other coefficients (same shape) on the same pattern; sorts and copies no indices."""
        return Stencil(self.pattern, coef, path=self.path)

    def forward(self, x: Tensor) -> Tensor:
        """Sums over neighbours.

        Args:
            x: ``[N_src, C]``, or ``[..., N_src, C]`` on this one shared graph.

        Returns:
            ``[..., N_dst, K, C]`` for coefficients ``[E, K]``, ``[..., N_dst, C]`` for ``[E]``.

        Raises:
            TypeError: If ``x`` is not floating point or its dtype does not go with the coefficients.
            ValueError: If ``x`` has another number of nodes or another device.
        """
        check_features(x, self.coef, self.size[0])
        out_dtype = torch.promote_types(x.dtype, self.coef.dtype)
        compute_dtype = torch.float32 if out_dtype in HALF else out_dtype
        coef = self.coef.to(compute_dtype)
        if coef.dim() == 1:
            coef = coef.unsqueeze(1)
        lead, num_channels = x.shape[:-2], x.size(-1)
        batch = lead.numel()

        # leading axes become channels: one sweep over the edges serves them all, and longer rows are faster rows
        by_node = x.to(compute_dtype).reshape(batch, self.size[0], num_channels).transpose(0, 1)
        flat = by_node.reshape(self.size[0], batch * num_channels)
        rows = self._sum(coef, flat).view(self.size[1], coef.size(1), batch, num_channels)
        out = rows.permute(2, 0, 1, 3).reshape(*lead, self.size[1], coef.size(1), num_channels).to(out_dtype)
        return out.squeeze(-2) if self.coef.dim() == 1 else out

    def _sum(self, coef: Tensor, x: Tensor) -> Tensor:
        path = choose_path(x.device, x.dtype, x.size(1)) if self.path == "auto" else self.path
        if path == "reference" or transforms_functions():
            return _reference(coef, x, self.pattern.edge_index, self.size[1])
        return stencil_sum(coef, x, self.laid_out_coef(x.dtype), self.pattern.tensors(), False, path)

    def laid_out_coef(self, dtype: torch.dtype) -> list[Tensor]:
        """Fixed coefficients in storage order; empty for trained ones, which change from call to call."""
        if self.laid_out is None or self.laid_out_t is None or self.coef.requires_grad:
            return []
        if not torch.compiler.is_compiling() and self.coef._version != self._coef_version:
            self._lay_out()  # somebody wrote into the coefficients
        return [self.laid_out.to(dtype), self.laid_out_t.to(dtype)]

    def _hold(self, coef: Tensor) -> None:
        _check_coef(coef, self.pattern.num_edges, self.pattern.ptr.device)
        num_coefs = coef.size(1) if coef.dim() == 2 else 1
        if num_coefs != self.pattern.num_coefs:
            raise ValueError(
                f"coef must have {self.pattern.num_coefs} coefficients per edge, as the pattern has, got {num_coefs}; "
                "build a new Stencil for another number"
            )
        if not coef.requires_grad and not torch.compiler.is_compiling():
            check_finite("coef", coef, hint="clean the geometry it was computed from (zero-length edges, empty areas)")
        if isinstance(coef, nn.Parameter):
            self.coef = coef
        else:
            self.register_buffer("coef", coef, persistent=False)
        self.register_buffer("laid_out", None, persistent=False)
        self.register_buffer("laid_out_t", None, persistent=False)
        if not isinstance(coef, nn.Parameter) and not coef.requires_grad:
            self._lay_out()

    def _lay_out(self) -> None:
        coef = self.coef.unsqueeze(1) if self.coef.dim() == 1 else self.coef
        self.laid_out, self.laid_out_t = self.pattern.lay_out(coef)
        self._coef_version = self.coef._version

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._coef_version = self.coef._version  # a moved copy counts its writes anew
        return self

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"coef={list(self.coef.shape)}, path={self.path!r}"


def stencil(
    x: Tensor, edge_index: Any, coef: Tensor | None = None, size: Size | None = None, path: str = "auto"
) -> Tensor:
    """``Stencil`` for one call: coefficients computed in the forward pass, or a graph that is used once.

    Sorting the edges costs more than the sum. Where a graph is used again, pass a ``StencilPattern`` as ``edge_index``,
    or keep a ``Stencil``.

    Args:
        x: ``[..., N_src, C]``.
        edge_index: As for ``Stencil``.
        coef: ``[E]`` or ``[E, K]``, or ``None``.
        size: ``(N_src, N_dst)``; by default targets are the same nodes as sources.
        path: As for ``Stencil``.

    Returns:
        ``[..., N_dst, K, C]`` or ``[..., N_dst, C]``.

    Example:
        >>> edge_index = torch.tensor([[1, 0], [0, 1]])
        >>> stencil(torch.tensor([[1.0], [2.0]]), edge_index, torch.tensor([10.0, 1.0]))
        tensor([[20.],
                [ 1.]])
    """
    check_shape("x", x, "...", "N_src", "C")
    if size is None and isinstance(edge_index, Tensor) and edge_index.layout == torch.strided:
        size = (x.size(-2), x.size(-2))
    return Stencil(edge_index, coef, size, path)(x)


def _reference(coef: Tensor, x: Tensor, edge_index: Tensor, num_targets: int) -> Tensor:
    """The definition, word for word; ``[N_dst * K, C]``. Builds ``[E, K, C]``."""
    source, target = edge_index
    message = coef.unsqueeze(2) * x.index_select(0, source).unsqueeze(1)
    out = x.new_zeros(num_targets, coef.size(1), x.size(1)).index_add(0, target, message)
    return out.flatten(0, 1)


def _check_coef(coef: Tensor, num_edges: int, device: torch.device) -> None:
    if not isinstance(coef, Tensor):
        raise TypeError(f"coef must be a torch.Tensor [E] or [E, K], got {type(coef).__name__}")
    if coef.dim() not in (1, 2) or coef.size(0) != num_edges:
        raise ValueError(
            f"coef must have shape [{num_edges}] or [{num_edges}, K], one row per edge, got {list(coef.shape)}"
        )
    if not coef.dtype.is_floating_point:
        raise TypeError(f"coef must be floating point, got {coef.dtype}; call .float() on it")
    if coef.device != device:
        raise ValueError(f"coef must lie on the device of edge_index, {device}, got {coef.device}; move it with .to()")


def check_features(x: Tensor, coef: Tensor, num_sources: int) -> None:
    """Raises unless ``x`` is ``[..., N_src, C]`` on the device and in a precision that goes with ``coef``."""
    check_shape("x", x, "...", num_sources, "C", hint="its last but one axis are the source nodes, size[0]")
    if x.dim() < 2:
        raise ValueError(f"x must have shape [..., {num_sources}, C], got {list(x.shape)}; use x.unsqueeze(-1)")
    if not x.dtype.is_floating_point:
        raise TypeError(f"x must be floating point, got {x.dtype}; call .float() on it")
    if x.device != coef.device:
        raise ValueError(f"x must lie on the device of the stencil, {coef.device}, got {x.device}; move one with .to()")
    if x.dtype != coef.dtype and x.dtype not in HALF and coef.dtype not in HALF:
        raise TypeError(
            f"x must have the dtype of the coefficients, {coef.dtype}, got {x.dtype}; call stencil.to({x.dtype})"
        )
