"""Products of matrices by oneDNN."""

import pytest
import torch

from geomeq.ops import _product
from geomeq.ops._product import Linear, add_product, addmm, linear, matmul, product, product_into

needs_onednn = pytest.mark.skipif(not _product._ONEDNN, reason="torch without oneDNN")


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def calls(monkeypatch):
    """Shapes of the products that oneDNN got."""
    found, before = [], _product._onednn

    def count(x, weight, bias):
        found.append((*x.shape, weight.size(0)))
        return before(x, weight, bias)

    monkeypatch.setattr(_product, "_onednn", count)
    return found


def layouts(rows, columns, rng):
    """The same shape in four layouts: plain, transposed, with gaps in its rows, and neither stride one."""
    yield torch.randn(rows, columns, generator=rng)
    yield torch.randn(columns, rows, generator=rng).t()
    yield torch.randn(rows, columns + 3, generator=rng)[:, :columns]
    yield torch.randn(rows, 2 * columns, generator=rng)[:, ::2]


@pytest.mark.parametrize(
    "shape", [(300, 70, 90), (90, 300, 70), (90, 5000, 160), (160, 5000, 90), (5000, 32, 16), (4, 3, 2)]
)
def test_every_layout_gives_the_product(shape, rng):
    rows, inner, columns = shape
    for a in layouts(rows, inner, rng):
        for b in layouts(inner, columns, rng):
            for bias in (None, torch.randn(columns, generator=rng)):
                wanted = a.double() @ b.double() + (0 if bias is None else bias)
                made = product(a, b, bias)
                assert made.dtype == torch.float32
                torch.testing.assert_close(made.double(), wanted, atol=5e-4, rtol=0)
                assert not torch.allclose(product(a, -b, bias).double(), wanted, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_into_memory_that_is_there(dtype, rng):
    for rows in (3, 400):
        a, b = torch.randn(rows, 96, generator=rng).to(dtype), torch.randn(96, 70, generator=rng).to(dtype)
        out = torch.full((rows, 90), 7.0, dtype=dtype)
        product_into(out[:, :70], a, b)
        torch.testing.assert_close(out[:, :70], a @ b, atol=1e-4, rtol=0)
        add_product(out[:, :70], a, -2 * b)
        torch.testing.assert_close(out[:, :70], -(a @ b), atol=1e-4, rtol=0)
        assert bool((out[:, 70:] == 7).all())


@needs_onednn
def test_a_sum_and_a_product(rng):
    x, matrix = torch.randn(300, 96, generator=rng), torch.randn(96, 70, generator=rng, requires_grad=True)
    for add in (torch.randn(70, generator=rng, requires_grad=True), torch.randn(300, 70, generator=rng)):
        found, wanted = addmm(add, x, matrix), torch.addmm(add, x, matrix)
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
        needed = [t for t in (add, matrix) if t.requires_grad]
        for ours, theirs in zip(
            torch.autograd.grad(found.square().sum(), needed),
            torch.autograd.grad(wanted.square().sum(), needed),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-4)


@needs_onednn
def test_large_products_of_float32_only_go_to_onednn(calls, rng):
    a, b = torch.randn(256, 128, generator=rng), torch.randn(128, 64, generator=rng)
    product(a, b)
    assert calls == [(256, 128, 64)]
    product(a.double(), b.double())
    product(a[:16], b)
    product(a.bfloat16(), b.bfloat16())
    assert len(calls) == 1
    thin = torch.randn(20_000, 16, generator=rng)
    product(thin.t(), torch.randn(20_000, 8, generator=rng))  # copying would cost more than it wins
    assert len(calls) == 1
    product(torch.randn(2_000, 160, generator=rng).t(), torch.randn(2_000, 200, generator=rng))
    assert len(calls) == 2


@needs_onednn
def test_gradients_of_every_order_are_those_of_torch(calls, rng):
    x = torch.randn(40, 8, 96, generator=rng, requires_grad=True)
    weight, bias = torch.randn(130, 96, generator=rng, requires_grad=True), torch.randn(130, requires_grad=True)

    def derivatives(function):
        out = function(x, weight, bias)
        first = torch.autograd.grad(out.tanh().sum(), (x, weight, bias), create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), (x, weight, bias))
        return out, *first, *second

    ours = derivatives(linear)
    assert len(calls) > 5
    for found, wanted in zip(ours, derivatives(torch.nn.functional.linear), strict=True):
        assert found.shape == wanted.shape
        torch.testing.assert_close(found, wanted, atol=2e-5 * float(wanted.detach().abs().max()), rtol=0)
    torch.testing.assert_close(matmul(x, weight.t()) + bias, ours[0], atol=1e-4, rtol=0)


def test_gradients_in_float64(rng):
    x, weight = (torch.randn(4, 3, dtype=torch.float64, generator=rng, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(linear, (x, weight))
    assert torch.autograd.gradgradcheck(linear, (x, weight))


@needs_onednn
def test_only_what_needs_a_gradient_is_kept(rng):
    kept = []
    x = torch.randn(400, 96, generator=rng, requires_grad=True)
    weight = torch.randn(130, 96, generator=rng)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        out = linear(x, weight)
    assert kept == [(96, 130)]
    (grad,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(grad, weight.sum(0).expand(400, 96), atol=1e-4, rtol=0)


@needs_onednn
def test_where_others_have_to_see_the_product_torch_computes_it(calls, rng):
    x, weight = torch.randn(400, 96, generator=rng), torch.randn(130, 96, generator=rng)
    wanted = x @ weight.t()
    torch.testing.assert_close(torch.func.vmap(lambda row: linear(row, weight))(x), wanted, atol=1e-4, rtol=0)
    tangent = torch.func.jvp(lambda w: linear(x, w), (weight,), (weight,))[1]
    torch.testing.assert_close(tangent, wanted, atol=1e-4, rtol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    compiled = torch.compile(lambda x: linear(x, weight), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), wanted, atol=1e-4, rtol=0)
    assert calls == []
    linear(x, weight)
    assert calls


def test_the_layer_is_torchs_layer(rng):
    ours = Linear(96, 130)
    peer = torch.nn.Linear(96, 130)
    peer.load_state_dict(ours.state_dict())
    x = torch.randn(3, 200, 96, generator=rng)
    torch.testing.assert_close(ours(x), peer(x), atol=1e-5, rtol=1e-5)
    assert isinstance(ours, torch.nn.Linear)


def test_empty_products():
    assert linear(torch.zeros(0, 3), torch.zeros(2, 3)).shape == (0, 2)
    assert matmul(torch.zeros(4, 0), torch.zeros(0, 3)).tolist() == [[0.0] * 3] * 4


def test_sizes_that_do_not_fit_are_named_by_torch():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        linear(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        linear(torch.zeros(400, 96), torch.zeros(130, 97))
    with pytest.raises(RuntimeError, match="expand"):
        linear(torch.zeros(400, 96), torch.zeros(130, 96), torch.zeros(64))
