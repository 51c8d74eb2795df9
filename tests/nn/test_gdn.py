"""Generalised divisive normalisation is its formula, keeps its roots real, and lets parameters come back."""

import pytest
import torch

from geomeq.nn import GDN
from geomeq.nn._lower_bound import lower_bound


def random_gdn(channels, inverse=False, dtype=torch.float64):
    layer = GDN(channels, inverse=inverse).to(dtype)
    with torch.no_grad():
        layer.gamma_root.copy_(torch.rand(channels, channels) * 0.5)
        layer.beta_root.copy_(torch.rand(channels) + 0.5)
    return layer


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-6), (torch.float64, 1e-13)])
def test_it_is_the_formula_node_by_node(inverse, dtype, tol):
    layer, x = random_gdn(5, inverse, dtype), torch.randn(2, 7, 5, dtype=dtype) * 3
    beta, gamma = layer.beta_root.double() ** 2 - 2.0**-36, layer.gamma_root.double() ** 2 - 2.0**-36
    for b in range(2):
        for i in range(7):
            energy = [beta[c] + sum(gamma[c, d] * x[b, i, d].double() ** 2 for d in range(5)) for c in range(5)]
            root = torch.stack(energy).sqrt()
            wanted = x[b, i].double() * root if inverse else x[b, i].double() / root
            assert (layer(x)[b, i] - wanted).abs().max() < tol * wanted.abs().max()
    assert not torch.allclose(layer(x), x @ layer.gamma.T)


def test_it_starts_with_beta_one_and_a_diagonal_of_a_tenth():
    layer = GDN(3).double()
    torch.testing.assert_close(layer.beta, torch.ones(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(layer.gamma, 0.1 * torch.eye(3).double(), atol=1e-6, rtol=0)
    x = torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(layer(x), x / 1.4**0.5, atol=1e-6, rtol=0)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_are_those_of_finite_differences_twice(inverse):
    layer, x = random_gdn(3, inverse), torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    roots = [layer.beta_root, layer.gamma_root]

    def run(x, beta_root, gamma_root):
        named = {"beta_root": beta_root, "gamma_root": gamma_root}
        return torch.func.functional_call(layer, named, (x,))

    assert torch.autograd.gradcheck(run, (x, *roots))
    assert torch.autograd.gradgradcheck(run, (x, *roots))


def test_no_step_makes_the_root_imaginary_and_none_gets_stuck():
    layer = GDN(4)
    with torch.no_grad():
        layer.beta_root.fill_(-5.0)
        layer.gamma_root.fill_(-5.0)
    assert (layer.beta >= 1e-6 - 1e-9).all()
    assert (layer.gamma >= 0).all()
    x = torch.randn(9, 4)
    layer(x).square().sum().backward()  # to make the output smaller, beta must grow
    assert layer(x).isfinite().all()
    assert (layer.beta_root.grad < 0).all()  # descent raises it
    stuck = torch.full((4,), -5.0, requires_grad=True)
    stuck.clamp(min=1e-3).square().sum().backward()
    assert (stuck.grad == 0).all()  # a plain clamp would never let go


def test_the_bound_passes_gradients_up_only_and_has_the_true_forward_derivative():
    x = torch.tensor([-1.0, -1.0, 2.0], requires_grad=True)
    (grad,) = torch.autograd.grad(lower_bound(x, 0.0), x, torch.tensor([1.0, -1.0, 1.0]))
    assert grad.tolist() == [0.0, -1.0, 1.0]
    _, tangent = torch.func.jvp(lambda v: lower_bound(v, 0.0), (x.detach(),), (torch.ones(3),))
    assert tangent.tolist() == [0.0, 0.0, 1.0]
    rows = torch.func.vmap(lambda v: lower_bound(v, 0.0))(x.detach()[:, None])
    assert rows.flatten().tolist() == [0.0, 0.0, 2.0]


def test_it_compiles_and_commutes_with_permutations_of_nodes():
    layer, x = random_gdn(3), torch.randn(2, 6, 3, dtype=torch.float64)
    order = torch.randperm(6)
    torch.testing.assert_close(layer(x)[:, order], layer(x[:, order]))
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))
    assert layer.half()(x.half()).dtype == torch.float16


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"x must have shape \[\.\.\., 3\], got \[2, 4\]"):
        GDN(3)(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="must be positive"):
        GDN(0)
