"""Ring convolutions against dense matrices, their symmetries, derivatives, and bad input."""

import copy

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from geomeq.ops import RingFilters, _ring_kernel, _ring_plan, ring_conv_transpose
from geomeq.ops import ring_conv as convolve
from tests.ops._rings import definition, dense

compiles = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

GRIDS = [  # rows and columns of the input and of the output
    ((9, 12), (9, 12)),
    ((7, 15), (7, 15)),  # an odd number of columns
    ((10, 12), (5, 6)),  # every other row and column
    ((11, 24), (6, 8)),  # rows that do not divide
    ((5, 6), (12, 6)),  # more rows out than in
    ((1, 4), (3, 1)),  # one column
    ((18, 2), (18, 2)),
]


def entries(size_in, size_out, taps: int = 3, seed: int = 0) -> list[Tensor]:
    """A few nodes near each row, repeats among them; one row of the output reads nothing."""
    rng = torch.Generator().manual_seed(seed)
    row_out = torch.arange(size_out[0]).repeat_interleave(6)
    near = row_out * size_in[0] // size_out[0] + torch.randint(-1, 2, row_out.shape, generator=rng)
    offset = torch.randint(-3, 2 * size_in[1], row_out.shape, generator=rng)
    coef = torch.randn(len(row_out), taps, generator=rng, dtype=torch.float64)
    keep = row_out != 1
    return [t[keep] for t in (row_out, near.clamp(0, size_in[0] - 1), offset, coef)]


@pytest.fixture(params=["whole", "pieces", "bare spectra", "bare pieces"])
def cut(request, monkeypatch):
    """Small grids cut the way large ones are."""
    if "pieces" in request.param:
        monkeypatch.setattr(_ring_plan, "_BLOCK", 1)  # bands of four rows
        monkeypatch.setattr(_ring_plan, "_BAND", 1)
        monkeypatch.setattr(_ring_plan, "_DENSE", 1)
        monkeypatch.setattr(_ring_kernel, "_CHUNK", 1)
        monkeypatch.setattr(_ring_kernel, "_ROWS", 1)
    if "bare" in request.param:
        monkeypatch.setattr(_ring_plan, "_STORED", 0)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
@pytest.mark.parametrize(("size_in", "size_out"), GRIDS)
@pytest.mark.parametrize(("reverse", "recompute"), [(False, False), (True, True)])
def test_equals_the_dense_matrix(size_in, size_out, dtype, tol, reverse, recompute, cut):
    parts = entries(size_in, size_out)
    filters = RingFilters(*parts, size_in, size_out, dtype=dtype)
    matrix = dense(parts, size_in, size_out)
    call, matrix = (ring_conv_transpose, matrix.transpose(1, 2)) if reverse else (convolve, matrix)
    for batch, channels, outputs, groups in ((1, 3, 5, 1), (2, 4, 2, 2)):
        x = torch.randn(batch, matrix.size(2), channels, dtype=dtype, requires_grad=True)
        weight = torch.randn(outputs, channels // groups, 3, dtype=dtype, requires_grad=True)
        out, wanted = call(x, filters, weight, recompute), definition(matrix, x, weight)
        toward = torch.randn_like(out)
        found = torch.autograd.grad(out, (x, weight), toward)
        right = torch.autograd.grad(wanted, (x, weight), toward.double())
        for got, want in ((out, wanted), *zip(found, right, strict=True)):
            scale = max(1.0, float(want.detach().abs().max()))
            torch.testing.assert_close(got.double(), want.double(), atol=tol * scale, rtol=0)


def test_the_check_has_teeth():
    size = (9, 12)
    parts = entries(size, size)
    x, weight = torch.randn(1, 108, 2), torch.randn(3, 2, 3)
    wrong = RingFilters(parts[0], parts[1], -parts[2], parts[3], size, size)
    assert (convolve(x, wrong, weight) - definition(dense(parts, size, size), x, weight)).abs().max() > 0.1


def test_transposed_is_the_adjoint():
    size_in, size_out = (10, 12), (7, 6)
    filters = RingFilters(*entries(size_in, size_out), size_in, size_out, dtype=torch.float64)
    x, y = torch.randn(120, 4, dtype=torch.float64), torch.randn(42, 5, dtype=torch.float64)
    weight = torch.randn(5, 4, 3, dtype=torch.float64)
    there = (convolve(x, filters, weight) * y).sum()
    back = (ring_conv_transpose(y, filters, weight.transpose(0, 1)) * x).sum()
    torch.testing.assert_close(there, back, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_commutes_with_a_turn_by_one_column_and_not_by_one_row(dtype, tol):
    size = (9, 12)
    filters = RingFilters(*entries(size, size), size, size, dtype=dtype)
    x, weight = torch.randn(108, 2, dtype=dtype), torch.randn(3, 2, 3, dtype=dtype)

    def rolled(t: Tensor, axis: int) -> Tensor:
        return t.unflatten(0, size).roll(1, axis).flatten(0, 1)

    torch.testing.assert_close(
        convolve(rolled(x, 1), filters, weight), rolled(convolve(x, filters, weight), 1), atol=tol, rtol=0
    )
    assert (convolve(rolled(x, 0), filters, weight) - rolled(convolve(x, filters, weight), 0)).abs().max() > 0.1


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_differentiable_twice(reverse, groups, cut):
    size_in, size_out = (6, 8), (4, 4)
    filters = RingFilters(*entries(size_in, size_out, 2), size_in, size_out, dtype=torch.float64)
    call, nodes = (ring_conv_transpose, 16) if reverse else (convolve, 48)
    x = torch.randn(2, nodes, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2 // groups, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x, w: call(x, filters, w), (x, weight), fast_mode=True)
    assert gradgradcheck(lambda x, w: call(x, filters, w).sin(), (x, weight), fast_mode=True)


def test_gradients_of_one_argument_alone():
    size = (9, 12)
    filters = RingFilters(*entries(size, size), size, size)
    x, weight = torch.randn(2, 108, 4, requires_grad=True), torch.randn(3, 4, 3, requires_grad=True)
    both = torch.autograd.grad(convolve(x, filters, weight).square().sum(), (x, weight))
    (of_x,) = torch.autograd.grad(convolve(x, filters, weight.detach()).square().sum(), x)
    (of_weight,) = torch.autograd.grad(convolve(x.detach(), filters, weight).square().sum(), weight)
    torch.testing.assert_close((of_x, of_weight), both)


@pytest.mark.parametrize("stored", [True, False])
def test_function_transforms(stored, monkeypatch):
    if not stored:
        monkeypatch.setattr(_ring_plan, "_STORED", 0)
    size_in, size_out = (6, 8), (4, 4)
    filters = RingFilters(*entries(size_in, size_out), size_in, size_out, dtype=torch.float64)
    weight = torch.randn(4, 2, 3, dtype=torch.float64)

    def call(x: Tensor) -> Tensor:
        return convolve(x, filters, weight)

    x, v = torch.randn(2, 48, 4, dtype=torch.float64)
    torch.testing.assert_close(torch.func.jvp(call, (x,), (v,)), (call(x), call(v)))
    torch.testing.assert_close(torch.func.vmap(call)(torch.stack([x, v])), torch.stack([call(x), call(v)]))
    own = x.clone().requires_grad_()
    call(own).square().sum().backward()
    torch.testing.assert_close(torch.func.grad(lambda x: call(x).square().sum())(x), own.grad)


@compiles
def test_compiles_in_one_piece():
    size = (9, 12)
    filters = RingFilters(*entries(size, size), size, size)
    x, weight = torch.randn(2, 108, 4, requires_grad=True), torch.randn(6, 4, 3, requires_grad=True)
    compiled = torch.compile(lambda x, w: convolve(x, filters, w).sin(), fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(x, weight).sum(), (x, weight))
    torch.testing.assert_close(found, torch.autograd.grad(convolve(x, filters, weight).sin().sum(), (x, weight)))


def test_without_batch_and_with_an_empty_one():
    size = (9, 12)
    filters = RingFilters(*entries(size, size), size, size)
    x, weight = torch.randn(3, 108, 4), torch.randn(2, 4, 3)
    torch.testing.assert_close(convolve(x, filters, weight)[1], convolve(x[1], filters, weight))
    assert convolve(x[:0], filters, weight).shape == (0, 108, 2)


def test_filters_follow_to_another_precision_with_all_digits():
    size = (9, 12)
    parts = entries(size, size)
    filters = RingFilters(*parts, size, size).double()
    x, weight = torch.randn(1, 108, 2, dtype=torch.float64), torch.randn(3, 2, 3, dtype=torch.float64)
    wanted = definition(dense(parts, size, size), x, weight)
    torch.testing.assert_close(convolve(x, filters, weight), wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(convolve(x, copy.deepcopy(filters), weight), wanted, atol=1e-12, rtol=0)
    assert filters.state_dict() == {}
    half = convolve(x.bfloat16(), filters.float(), weight.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), wanted, atol=0.2, rtol=0.05)


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Records the most numbers in one result."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def test_builds_no_tensor_of_nodes_filters_and_channels(monkeypatch):
    monkeypatch.setattr(_ring_kernel, "_CHUNK", 2**16)
    size, channels, taps = (48, 96), 16, 8
    filters = RingFilters(*entries(size, size, taps), size, size)
    x, weight = torch.randn(1, 48 * 96, channels, requires_grad=True), torch.randn(channels, channels, taps)
    with Largest() as seen:
        convolve(x, filters, weight.requires_grad_()).sum().backward()
    assert x.numel() <= seen.numbers < 0.3 * taps * x.numel()


def test_equals_torch_harmonics():
    harmonics = pytest.importorskip("torch_harmonics")
    size, cutoff = (19, 36), 0.4
    from geomeq import spheres
    from geomeq.harmonics import disco_geometry

    grid = spheres.equiangular(*size)
    geometry = disco_geometry(grid, grid, cutoff, "piecewise_linear", (3, 3), "mean")
    filters = RingFilters(*geometry.entries, size, size)
    peer = harmonics.DiscreteContinuousConvS2(
        4, 6, size, size, kernel_shape=(3, 3), basis_type="piecewise linear", basis_norm_mode="mean",
        grid_in="equiangular", grid_out="equiangular", theta_cutoff=cutoff, bias=False,
    )  # fmt: skip
    x = torch.randn(2, 4, *size, requires_grad=True)
    ours = convolve(x.flatten(2).transpose(1, 2), filters, peer.weight.view(6, 4, -1))
    theirs = peer(x).flatten(2).transpose(1, 2)
    toward = torch.randn_like(theirs)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    found = torch.autograd.grad(ours, (x, peer.weight), toward)
    wanted = torch.autograd.grad(theirs, (x, peer.weight), toward)
    for got, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5 * float(want.abs().max()), rtol=0)


BAD = [
    ({"row_out": torch.tensor([0.5])}, TypeError, "must hold integers"),
    ({"row_out": torch.tensor([5])}, ValueError, "only rows 0 to 3"),
    ({"row_in": torch.tensor([-1])}, ValueError, "only rows 0 to 5"),
    ({"offset": torch.tensor([1, 2])}, ValueError, "offset must have shape"),
    ({"coef": torch.ones(1)}, ValueError, "coef must have shape"),
    ({"coef": torch.tensor([[float("nan")]])}, ValueError, "must be finite"),
    ({"size_in": (6, 10)}, ValueError, "multiple"),
    ({"size_in": (0, 8)}, ValueError, "at least one row"),
]


@pytest.mark.parametrize(("change", "error", "text"), BAD, ids=range(len(BAD)))
def test_bad_entries(change, error, text):
    one = torch.zeros(1, dtype=torch.long)
    good = {
        "row_out": one,
        "row_in": one,
        "offset": one,
        "coef": torch.ones(1, 1),
        "size_in": (6, 8),
        "size_out": (4, 4),
    }
    RingFilters(**good)
    with pytest.raises(error, match=text):
        RingFilters(**{**good, **change})


def test_bad_calls():
    size = (9, 12)
    filters = RingFilters(*entries(size, size), size, size)
    x, weight = torch.randn(108, 4), torch.randn(2, 4, 3)
    for bad, error, text in (
        (x[:-1], ValueError, "9 rows and 12 columns"),
        (x.long(), TypeError, "floating point"),
        (x.double(), TypeError, r"filters\.double"),
        (x[None, None], ValueError, r"\[N, C\]"),
        (x[:, :3], ValueError, "does not go with 3 channels"),
    ):
        with pytest.raises(error, match=text):
            convolve(bad, filters, weight)
    with pytest.raises(ValueError, match="weight must have shape"):
        convolve(x, filters, weight[..., :2])
    with pytest.raises(ValueError, match="holds no entry"):
        RingFilters(*[t[:0] for t in entries(size, size)], size, size)
