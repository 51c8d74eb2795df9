"""What every layer of the sphere owes its users: empty batches, forward derivatives, integers refused."""

import math
import weakref

import pytest
import torch
from torch.autograd import forward_ad

from geomeq import spheres
from geomeq.harmonics import DiscoGeometry
from geomeq.nn import (
    GDN,
    DiscoConv,
    DiscoConvTranspose,
    FactorizedPrior,
    OrderedConv,
    OrderedConvTranspose,
    SphereAggregation,
    SphereAttention,
)

GRID, PIXELS = spheres.gauss_legendre(4, 8), spheres.healpix(2)
LAYERS = {
    **{f"disco-{p}": (lambda p=p: DiscoConv(2, 3, GRID, path=p), 32) for p in ("ring", "csr", "gather", "edge")},
    "disco-product-first": (lambda: DiscoConv(16, 1, PIXELS, cutoff=1.0, path="csr"), 48),
    "disco-transpose": (lambda: DiscoConvTranspose(2, 3, GRID, path="ring"), 32),
    **{f"ordered-{p}": (lambda p=p: OrderedConv(2, 3, 2, path=p), 48) for p in ("face", "gather", "edge")},
    "ordered-oriented": (lambda: OrderedConv(2, 3, 2, oriented=True), 48),
    "ordered-averaged": (lambda: OrderedConv(2, 3, 2, missing="average", stride=4), 48),
    **{
        f"ordered-transpose-{p}": (lambda p=p: OrderedConvTranspose(2, 3, 4, stride=4, path=p), 48)
        for p in ("face", "gather", "edge")
    },
    "aggregation": (lambda: SphereAggregation(2, 3, 2, merge="max"), 48),
    "attention": (lambda: SphereAttention(2, 2, PIXELS, cutoff=1.0), 48),
    "attention-chunks": (lambda: SphereAttention(2, 2, PIXELS, cutoff=1.0, chunk=20), 48),
    "gdn": (lambda: GDN(2), 48),
}
EACH = pytest.mark.parametrize("name", list(LAYERS))


def layer(name):
    torch.manual_seed(0)
    make, nodes = LAYERS[name]
    made = make().double()
    return made, nodes, getattr(made, "in_channels", 2)


@EACH
def test_a_batch_of_none_gives_none(name):
    made, nodes, channels = layer(name)
    x = torch.zeros(0, nodes, channels, dtype=torch.float64, requires_grad=True)
    one, none = made(torch.zeros(1, nodes, channels, dtype=torch.float64)), made(x)
    assert none.shape == (0, *one.shape[1:])
    none.sum().backward()
    assert x.grad.shape == x.shape


@EACH
@pytest.mark.parametrize("frozen", [True, False])
def test_forward_derivatives_are_never_silently_zero(name, frozen):
    made, nodes, channels = layer(name)
    made.requires_grad_(not frozen)
    x, v = torch.randn(2, 2, nodes, channels, dtype=torch.float64)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(made(forward_ad.make_dual(x, v))).tangent
    assert found is not None
    slope = (made(x + 1e-6 * v) - made(x - 1e-6 * v)) / 2e-6
    torch.testing.assert_close(found.detach(), slope.detach(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(torch.func.jvp(made, (x,), (v,))[1].detach(), slope.detach(), atol=1e-6, rtol=1e-6)


@EACH
def test_derivatives_by_functions_and_by_the_tape_agree(name):
    made, nodes, channels = layer(name)
    x = torch.randn(2, nodes, channels, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(made(x))
    (own,) = torch.autograd.grad(made(x), x, weight)
    found = torch.func.grad(lambda x: (made(x) * weight).sum())(x.detach())
    torch.testing.assert_close(found, own, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("name", [*LAYERS, "prior"])
def test_integers_are_refused(name):
    made, nodes, channels = (FactorizedPrior(2).eval(), 48, 2) if name == "prior" else layer(name)
    with pytest.raises(TypeError, match="floating point"):
        made(torch.ones(1, nodes, channels, dtype=torch.long))


@pytest.mark.parametrize("path", ["csr", "gather", "edge"])
def test_not_a_number_stays_in_its_caps_by_every_path_over_nodes(path):
    s = spheres.fibonacci(200)  # degrees differ, so tables are padded
    conv = DiscoConv(1, 1, s, cutoff=0.4, path=path)
    for node in (0, 17, 199):
        x = torch.zeros(200, 1)
        x[node] = math.nan
        seen = conv.geometry.edges[0]
        near = torch.zeros(200, dtype=torch.bool)
        near[seen[1][seen[0] == node]] = True
        assert torch.equal(conv(x).isnan()[:, 0], near)


@pytest.mark.parametrize(
    ("kind", "s_in", "s_out"),
    [
        (DiscoConv, spheres.equiangular(7, 15), spheres.gauss_legendre(4, 5)),
        (DiscoConvTranspose, spheres.gauss_legendre(4, 5), spheres.equiangular(7, 15)),
    ],
    ids=["forward", "transposed"],
)
def test_function_transforms_of_the_ring_path_list_no_edges(kind, s_in, s_out, monkeypatch):
    ring, edge = (kind(4, 6, s_in, s_out, groups=2, path=path).double() for path in ("ring", "edge"))
    edge.load_state_dict(ring.state_dict())
    x, v = torch.randn(2, 3, s_in.num_nodes, 4, dtype=torch.float64)

    def by_sample(layer):
        def loss(parameters, x):
            return torch.func.functional_call(layer, parameters, (x,)).pow(3).sum()

        return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(dict(layer.named_parameters()), x)

    along, each = torch.func.jvp(edge, (x,), (v,))[1].detach(), by_sample(edge)

    def refuse(self):
        raise AssertionError("edges were listed")

    monkeypatch.setattr(DiscoGeometry, "edges", property(refuse))
    monkeypatch.setattr("geomeq.nn._disco_paths._MADE", weakref.WeakKeyDictionary())
    torch.testing.assert_close(torch.func.jvp(ring, (x,), (v,))[1].detach(), along, atol=1e-11, rtol=1e-11)
    for name, found in by_sample(ring).items():
        torch.testing.assert_close(found, each[name], atol=1e-10, rtol=1e-10)
    csr = kind(4, 6, s_in, s_out, path="ring")
    csr.path = "csr"
    with pytest.raises(AssertionError, match="edges were listed"):  # the check has teeth
        torch.func.jvp(csr, (x.float(),), (v.float(),))


@EACH
def test_what_was_built_and_called_in_inference_mode_can_be_trained(name):
    make, nodes = LAYERS[name]
    with torch.inference_mode():
        made = make()
        x = torch.randn(1, nodes, getattr(made, "in_channels", 2))
        made(x)
    weights = {key: value.detach().clone().requires_grad_() for key, value in make().named_parameters()}
    torch.func.functional_call(made, weights, (x.clone(),)).square().sum().backward()
    assert all(weight.grad is not None for weight in weights.values())


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "gdn"])  # its weights start on a bound
def test_both_gradients_at_once_have_the_right_derivative(name):
    """Toward x and toward the weights together, which ``gradgradcheck`` asks for one at a time."""
    made, nodes, channels = layer(name)
    x, along = torch.randn(2, 2, nodes, channels, dtype=torch.float64)
    weights = dict(made.named_parameters())
    other = {key: torch.randn_like(value) for key, value in weights.items()}
    own = x.clone().requires_grad_()
    y = made(own)
    toward = torch.randn_like(y).requires_grad_()
    grads = torch.autograd.grad(y, [own, *weights.values()], toward, create_graph=True)
    directions = [along, *other.values()]
    total = sum((g * v).sum() for g, v in zip(grads, directions, strict=True))
    (found,) = torch.autograd.grad(total, toward)

    def at(step):
        moved = {key: value.detach() + step * other[key] for key, value in weights.items()}
        return torch.func.functional_call(made, moved, (x + step * along,)).detach()

    torch.testing.assert_close(found, (at(1e-6) - at(-1e-6)) / 2e-6, atol=1e-6, rtol=1e-6)
