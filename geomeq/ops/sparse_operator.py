"""A fixed sparse matrix that acts on node features: the Laplacian of a graph, ready for many layers."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from geomeq._checks import check_finite, check_shape
from geomeq.ops._adjacency import Size, read_graph
from geomeq.ops._kernels import choose_path, csr_matrix, stencil_sum, weighted_rows
from geomeq.ops.stencil import HALF, sparse_rows

_ROUNDING = 16  # in units of the last place: how far w_ij d_i d_j and w_ji d_j d_i may differ and count as equal


class SparseOperator:
    r"""A sparse matrix :math:`A` with :math:`y_i = \sum_j A_{ij} x_j`: entry (i, j) belongs to the edge j -> i.

    Indices are sorted once, held in 32 bits where they fit, and shared by every layer that gets the object. The product
    is differentiable in ``x`` to any order; its backward pass multiplies by the transpose, whose rows are stored unless
    the matrix is symmetric. Values that require a gradient (learned metrics) get it, to any order as well.

    It is a plain object, not a module: it lives on a ``Data`` as ``data.laplacian``, is copied, pickled and moved with
    it. Treat it as immutable; :meth:`with_value` makes another one on the same edges.

    Args:
        ptr: Start of each row among the entries, ``[N_dst + 1]``.
        col: Column of each entry, ``[E]``, sorted within a row.
        value: ``[E]``.
        transposed: ``ptr`` and ``col`` of the transpose and, for each of its entries, its number here.
        size: ``(N_src, N_dst)``: columns, rows.
        symmetric: Whether it equals its transpose.

    Example:
        >>> operator = SparseOperator.from_edges(torch.tensor([[0, 1], [1, 0]]), torch.tensor([2.0, 2.0]), size=2)
        >>> operator
        SparseOperator(size=(2, 2), entries=2, symmetric=True, dtype=torch.float32)
        >>> operator @ torch.tensor([[1.0], [3.0]])
        tensor([[6.],
                [2.]])
    """

    def __init__(
        self,
        ptr: Tensor,
        col: Tensor,
        value: Tensor,
        transposed: Sequence[Tensor],
        size: tuple[int, int],
        symmetric: bool,
    ) -> None:
        self.ptr, self.col, self.value, self.size, self.symmetric = ptr, col, value, size, symmetric
        self.ptr_t, self.col_t, self.perm_t = transposed
        if symmetric:
            self.ptr_t, self.col_t = ptr, col
        fixed = not symmetric and not value.requires_grad
        self.value_t = value.index_select(0, self.perm_t) if fixed else value

    @classmethod
    def from_edges(
        cls,
        edge_index: Any,
        value: Tensor | None = None,
        size: Size | None = None,
        diagonal: Tensor | float | None = None,
        symmetric: bool | None = None,
    ) -> Self:
        """Builds the operator from a graph.

        Args:
            edge_index: ``[2, E]`` (source j, target i) in any order, or a sparse adjacency with rows = targets (then
                ``size`` and, by default, the values are read from it). Repeated edges are summed.
            value: ``[E]``; default ones.
            size: Number of nodes, or ``(N_src, N_dst)``.
            diagonal: ``[N]`` or one number, added to the diagonal.
            symmetric: What you know; ``None`` looks at the values. A claim of ``True`` is verified.

        Returns:
            The operator, on the device and in the dtype of ``value``.

        Raises:
            TypeError: If ``edge_index`` does not hold integers or ``value`` no floating point numbers.
            ValueError: If a shape, an index or a device is wrong, a value is not finite, or ``symmetric=True`` is not.
        """
        edges, stored, pair = read_graph(edge_index, size)
        value = _check_value(stored if value is None else value, edges)
        if diagonal is not None:
            edges, value = _with_diagonal(edges, value, diagonal, pair)
        edges, value = _coalesce(edges.long(), value, pair)
        ptr, col, _, _, *transposed = sparse_rows(edges, pair, 1)
        trusted = bool(symmetric) and torch.compiler.is_compiling()  # a compiled graph cannot look at values
        found = trusted or (symmetric is not False and _is_symmetric(ptr, col, value, transposed, pair))
        if symmetric and not found:
            raise ValueError(
                "symmetric=True was given, but the value of some edge j -> i differs from that of i -> j; "
                "symmetrise the graph (torch_geometric.utils.to_undirected) or leave symmetric out"
            )
        return cls(ptr, col, value, transposed, pair, found)

    def with_value(self, value: Tensor, symmetric: bool | None = None) -> Self:
        """The same entries (in the order of :attr:`edge_index`) with other values, ``[E]``; no index is copied.

        ``symmetric=None`` keeps the flag of this operator only where the new values fit it.
        """
        value = _check_value(value, self.col, hint="one per entry, in the order of edge_index")
        rows = [self.ptr_t, self.col_t, self.perm_t]
        found = _is_symmetric(self.ptr, self.col, value, rows, self.size) if symmetric is None else symmetric
        return type(self)(self.ptr, self.col, value, rows, self.size, found)

    @property
    def num_entries(self) -> int:
        """Stored entries, ``E``."""
        return self.col.size(0)

    @property
    def shape(self) -> torch.Size:
        """Rows and columns, as of a dense matrix."""
        return torch.Size((self.size[1], self.size[0]))

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.value.dtype

    @property
    def device(self) -> torch.device:
        """Of all tensors."""
        return self.value.device

    @property
    def edge_index(self) -> Tensor:
        """``[2, E]`` (source, target), int64, sorted by target and then source: the order of ``value``."""
        rows = torch.arange(self.size[1], device=self.device)
        target = rows.repeat_interleave(self.ptr.diff().long(), output_size=self.num_entries)
        return torch.stack([self.col.long(), target])

    def rows(self) -> list[Tensor]:
        """``ptr, col, value``: the matrix as the kernels take it."""
        return [self.ptr, self.col, self.value]

    def rows_t(self) -> list[Tensor]:
        """``ptr, col, value`` of the transpose."""
        if self.symmetric or not self.value.requires_grad:
            return [self.ptr_t, self.col_t, self.value_t]
        return [self.ptr_t, self.col_t, self.value.index_select(0, self.perm_t)]

    def matmul(self, x: Tensor, path: str = "auto") -> Tensor:
        """The product with node features.

        Args:
            x: ``[N_src, ...]``, in the dtype of the operator; half precision is summed in float32.
            path: ``"auto"``, ``"bag"``, ``"csr"`` (see ``Stencil``) or ``"reference"``.

        Returns:
            ``[N_dst, ...]``.

        Raises:
            TypeError: If ``x`` is not floating point or has another dtype than the operator.
            ValueError: If ``x`` has another number of nodes or lies on another device.
        """
        self.check_features(x, node_axis=0)
        out_dtype = torch.promote_types(x.dtype, self.dtype)
        wide = torch.float32 if out_dtype in HALF else out_dtype
        flat = x.to(wide).reshape(self.size[0], -1)
        return self._product(flat, wide, path).view(self.size[1], *x.shape[1:]).to(out_dtype)

    __matmul__ = matmul

    def _product(self, x: Tensor, wide: torch.dtype, path: str) -> Tensor:
        path = choose_path(x.device, x.dtype, x.size(1)) if path == "auto" else path
        if path == "reference":
            source, target = self.edge_index
            message = self.value.to(wide)[:, None] * x.index_select(0, source)
            return x.new_zeros(self.size[1], x.size(1)).index_add(0, target, message)
        if self.value.requires_grad:
            same = torch.arange(self.num_entries, dtype=self.col.dtype, device=self.device)
            pattern = [self.ptr, self.col, same, same, self.ptr_t, self.col_t, self.perm_t]
            return stencil_sum(self.value.to(wide)[:, None], x, [], pattern, False, path)
        there, back = (_cast(rows, wide) for rows in (self.rows(), self.rows_t()))
        return sparse_matmul(x, there, back, path)

    def check_features(self, x: Tensor, node_axis: int) -> None:
        """Raises unless ``x`` has the nodes on that axis and goes with the operator in dtype and device."""
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
        if x.dim() == 0 or x.size(node_axis) != self.size[0]:
            raise ValueError(
                f"x must have {self.size[0]} nodes on axis {node_axis}, as the operator has columns, "
                f"got shape {list(x.shape)}"
            )
        if not x.dtype.is_floating_point:
            raise TypeError(f"x must be floating point, got {x.dtype}; call .float() on it")
        if x.device != self.device:
            raise ValueError(f"x must lie on the device of the operator, {self.device}, got {x.device}; move one")
        if x.dtype != self.dtype and x.dtype not in HALF and self.dtype not in HALF:
            raise TypeError(
                f"x must have the dtype of the operator, {self.dtype}, got {x.dtype}; call operator.to(dtype={x.dtype})"
            )

    def to(
        self,
        device: torch.device | str | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> Self:
        """A copy on another device or in another precision (``self`` if nothing changes), as ``Tensor.to``."""
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be floating point, got {dtype}")
        value = self.value.to(device=device, dtype=dtype, non_blocking=non_blocking)
        if value is self.value:
            return self
        return self._with(value, lambda index: index.to(device=device, non_blocking=non_blocking))

    def cpu(self) -> Self:
        """A copy on the CPU."""
        return self.to("cpu")

    def cuda(self, device: torch.device | int | str | None = None, non_blocking: bool = False) -> Self:
        """A copy on a CUDA device."""
        index = torch.cuda.current_device() if device is None else device
        return self.to(torch.device("cuda", index) if isinstance(index, int) else index, non_blocking=non_blocking)

    def clone(self) -> Self:
        """A copy that shares no memory."""
        return self._with(self.value.clone(), Tensor.clone)

    def detach(self) -> Self:
        """The same matrix with values that require no gradient."""
        return self._with(self.value.detach(), lambda index: index)

    def t(self) -> Self:
        """The transpose."""
        value = self.value.index_select(0, self.perm_t)
        back = torch.empty_like(self.perm_t)
        back[self.perm_t.long()] = torch.arange(self.num_entries, dtype=back.dtype, device=self.device)
        return type(self)(self.ptr_t, self.col_t, value, [self.ptr, self.col, back], self.size[::-1], self.symmetric)

    def _with(self, value: Tensor, move: Callable[[Tensor], Tensor]) -> Self:
        rows = [self.ptr_t, self.col_t, self.perm_t] if not self.symmetric else [self.ptr, self.col, self.perm_t]
        return type(self)(move(self.ptr), move(self.col), value, [move(t) for t in rows], self.size, self.symmetric)

    def to_dense(self) -> Tensor:
        """The matrix, ``[N_dst, N_src]``."""
        source, target = self.edge_index
        return self.value.new_zeros(self.shape).index_put((target, source), self.value)

    def to_torch(self) -> Tensor:
        """As a ``torch.sparse_csr`` tensor, sharing memory."""
        return csr_matrix(self.ptr, self.col, self.value, self.size[0])

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(size={self.size}, entries={self.num_entries}, symmetric={self.symmetric}, "
            f"dtype={self.dtype})"
        )


def _cast(rows: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [rows[0], rows[1], rows[2].to(dtype)]


def _check_value(value: Tensor | None, edges: Tensor, hint: str = "one number per edge") -> Tensor:
    if value is None:
        return torch.ones(edges.size(-1), device=edges.device)
    check_shape("value", value, edges.size(-1), hint=hint)
    if not value.dtype.is_floating_point:
        raise TypeError(f"value must be floating point, got {value.dtype}; call .float() on it")
    if value.device != edges.device:
        raise ValueError(f"value must lie on the device of edge_index, {edges.device}, got {value.device}")
    if not value.requires_grad:
        check_finite("value", value, hint="clean the weights it was computed from")
    return value


def _with_diagonal(
    edges: Tensor, value: Tensor, diagonal: Tensor | float, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    if size[0] != size[1]:
        raise ValueError(f"diagonal needs a square operator, got size {size}")
    if not isinstance(diagonal, Tensor):
        diagonal = value.new_full((size[0],), float(diagonal))
    check_shape("diagonal", diagonal, size[0], hint="one number per node")
    nodes = torch.arange(size[0], device=edges.device, dtype=edges.dtype)
    return torch.cat([edges, nodes.expand(2, -1)], dim=1), torch.cat([value, diagonal.to(value)])


def _coalesce(edges: Tensor, value: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Sorted by target, then source; repeated edges summed."""
    key = edges[1] * size[0] + edges[0]
    if torch.compiler.is_compiling():  # the number of distinct edges is data: keep repeats as they are
        order = torch.argsort(key, stable=True)
        return edges[:, order], value.index_select(0, order)
    if bool((key[1:] > key[:-1]).all()):
        return edges, value
    unique, inverse = torch.unique(key, sorted=True, return_inverse=True)
    if unique.numel() == key.numel():
        order = torch.argsort(key)
        return edges[:, order], value.index_select(0, order)
    summed = value.new_zeros(unique.numel()).index_add(0, inverse, value)
    return torch.stack([unique % size[0], unique // size[0]]), summed


def _is_symmetric(ptr: Tensor, col: Tensor, value: Tensor, transposed: Sequence[Tensor], size: tuple[int, int]) -> bool:
    if size[0] != size[1] or torch.compiler.is_compiling():
        return False
    if not torch.equal(ptr, transposed[0]) or not torch.equal(col, transposed[1]):
        return False
    value = value.detach()
    gap = (value - value.index_select(0, transposed[2])).abs()
    return bool((gap <= _ROUNDING * torch.finfo(value.dtype).eps * value.abs()).all())


@torch.library.custom_op("geomeq::sparse_matmul", mutates_args=())
def sparse_matmul(x: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], path: str) -> Tensor:
    """``A x`` for fixed values; its derivative is itself with ``there`` and ``back`` exchanged.

    Args:
        x: ``[N_src, C]``.
        there: ``ptr, col, value`` of ``A``.
        back: The same of its transpose.
        path: ``"bag"`` or ``"csr"``.

    Returns:
        ``[N_dst, C]``.
    """
    return weighted_rows(there[0], there[1], there[2], x.contiguous(), path)


@sparse_matmul.register_fake
def _(x: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], path: str) -> Tensor:
    return x.new_empty(there[0].size(0) - 1, x.size(1))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, there, back, ctx.path = inputs
    ctx.save_for_backward(*there, *back)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    rows = list(ctx.saved_tensors)
    return sparse_matmul(grad, rows[3:], rows[:3], ctx.path), [None] * 3, [None] * 3, None


sparse_matmul.register_autograd(_backward, setup_context=_save)
for _device in ("cpu", "cuda"):  # under autocast the product inside would be cast down
    sparse_matmul.register_autocast(_device, torch.float32)
