"""Weights expanded once: the one mechanism behind GroupConv and GroupConv2d, whatever torch does around it."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations, prune

from geomeq.groups import cyclic, dihedral, icosahedral
from geomeq.nn import GroupConv, GroupConv2d, TypedConv
from geomeq.nn._once import ExpandOnce
from geomeq.ops import TypedPattern, typed_linear

PATHS = ("graph", "dense", "fourier", "conv2d", "fft")
KINDS = {"C4": lambda: GroupConv2d("C4", 3, 2, 3), "C8": lambda: GroupConv2d("C8", 3, 2, 3)}
KINDS |= {path: lambda path=path: GroupConv(dihedral(4), 3, 2, path=path) for path in PATHS}


def inputs(layer, batch=3):
    shape = (8, 3) if isinstance(layer, GroupConv) else (3, layer.group.order, 4, 4)
    return torch.randn(batch, *shape)


def once_of(layer):
    return layer._once if isinstance(layer, GroupConv2d) else layer._prepare(layer.path).once


class Doubling:
    def expand(self, weight):
        return 2 * weight

    def fold(self, grad):
        return 2 * grad


@pytest.mark.parametrize("kind", KINDS)
def test_function_transforms_see_the_map_itself(kind):
    layer = KINDS[kind]()
    x = inputs(layer)
    wanted = layer(x)
    torch.testing.assert_close(torch.func.vmap(lambda x: layer(x[None])[0])(x), wanted)
    slope = torch.func.grad(lambda x: layer(x).square().sum())(x)
    own = x.clone().requires_grad_()
    torch.testing.assert_close(slope, torch.autograd.grad(layer(own).square().sum(), own)[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.func.jvp(layer, (x,), (x,))[1], wanted - layer(0 * x), atol=1e-5, rtol=1e-5)
    parameters = dict(layer.named_parameters())

    def loss(parameters, x):
        return torch.func.functional_call(layer, parameters, (x[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    layer(x).square().sum().backward()
    torch.testing.assert_close(each["weight"].sum(0), layer.weight.grad, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_that_is_computed_is_never_stale(kind):
    layer = KINDS[kind]()
    x = inputs(layer)
    wanted = layer(x)
    parametrizations.weight_norm(layer, "weight")
    torch.testing.assert_close(layer(x), wanted, atol=1e-5, rtol=1e-4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(2):
        layer(x).square().mean().backward()
        optimizer.step()
        plain = KINDS[kind]()
        with torch.no_grad():
            plain.weight.copy_(layer.weight)
            plain.bias.copy_(layer.bias)
        torch.testing.assert_close(layer(x), plain(x), atol=1e-5, rtol=1e-4)
    nn.utils.parametrize.remove_parametrizations(layer, "weight")
    torch.testing.assert_close(layer(x), plain(x), atol=1e-5, rtol=1e-4)
    prune.l1_unstructured(layer, "weight", 0.5)
    pruned = layer(x)
    assert (pruned - plain(x)).abs().max() > 1e-3
    pruned.sum().backward()
    prune.remove(layer, "weight")
    torch.testing.assert_close(layer(x), pruned)


@pytest.mark.parametrize("kind", KINDS)
def test_averages_swapped_in_through_data(kind):
    layer = KINDS[kind]()
    x = inputs(layer)
    own, average = layer(x), [torch.randn_like(p) for p in layer.parameters()]
    kept = [p.detach().clone() for p in layer.parameters()]
    for p, a in zip(layer.parameters(), average, strict=True):
        p.data.copy_(a)
    other = KINDS[kind]()
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), other(x))
    for p, k in zip(layer.parameters(), kept, strict=True):
        p.data = k
    torch.testing.assert_close(layer(x), own)


@pytest.mark.parametrize("path", PATHS)
def test_what_inference_made_first_serves_training(path):
    """Tables, sorted edges and casts made in inference mode would be tensors that autograd refuses."""
    layer = GroupConv(icosahedral(), 3, 2, path=path)  # float32: tables are cast when they are first used
    x = torch.randn(2, 60, 3)
    with torch.inference_mode():
        wanted = layer(x)
    found = layer(x.requires_grad_())
    found.square().sum().backward()
    torch.testing.assert_close(found, wanted)
    choosing = GroupConv(icosahedral(), 16, 16)
    with torch.inference_mode():
        choosing(torch.randn(1000, 60, 16))
    choosing(torch.randn(1000, 60, 16)).sum().backward()


@pytest.mark.parametrize("path", ["rows", "sorted", "reference"])
def test_edges_sorted_in_inference_mode_serve_training(path):
    edge_index, edge_type = torch.tensor([[0, 1, 2, 1], [0, 1, 0, 2]]), torch.tensor([0, 1, 0, 1])
    pattern, layer = TypedPattern(edge_index, edge_type, 2, 3), TypedConv(4, 5, 2)
    x, weight = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 4, 5, requires_grad=True)
    with torch.inference_mode():
        typed_linear(x, weight, pattern, path)
        layer(x, edge_index, edge_type, path=path)
    typed_linear(x, weight, pattern, path).square().sum().backward()
    layer(x, edge_index, edge_type, path=path).square().sum().backward()
    assert weight.grad is not None
    assert layer.weight.grad is not None


@pytest.mark.parametrize("kind", ["C4", "dense"])
def test_traces_hold_the_map_not_a_value(kind):
    layer = KINDS[kind]()
    x = inputs(layer)
    wanted = layer(x)
    graph = make_fx(layer)(x)
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x), wanted)
    with torch.no_grad():
        layer.weight.zero_()
    torch.testing.assert_close(graph(x), layer(x))


@pytest.mark.parametrize("kind", ["C4", "C8", "dense", "fourier", "conv2d", "fft"])
def test_copies_and_pickles_begin_anew(kind):
    layer = KINDS[kind]()
    x = inputs(layer)
    wanted = layer(x)
    assert once_of(layer)._kept is not None
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert once_of(twin)._kept is None
        torch.testing.assert_close(twin(x), wanted)
        with torch.no_grad():
            twin.weight.zero_()
        assert not torch.equal(twin(x), wanted)
    torch.testing.assert_close(layer(x), wanted)
    layer.train(not layer.training)
    assert once_of(layer)._kept is None


def test_the_value_is_guarded_against_writes_and_other_weights():
    once, map_, weight = ExpandOnce(), Doubling(), nn.Parameter(torch.ones(3))
    with torch.no_grad():
        once(weight, map_).zero_()  # someone writes into what was handed out
    assert torch.equal(once(weight, map_), torch.full((3,), 2.0))
    for _ in range(3):
        once(weight, map_)
    assert once.num_expansions == 2
    other = nn.Parameter(torch.zeros(3))
    assert once(other, map_).abs().max() == 0
    frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    assert not once(frozen, map_).requires_grad
    plain = torch.ones(3, requires_grad=True)
    count = once.num_expansions
    once(plain, map_)
    assert once.num_expansions == count  # no parameter: nothing kept


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_close(path, dtype):
    layer = GroupConv(dihedral(4), 3, 2, path=path).to(dtype)
    x = torch.randn(5, 8, 3, dtype=dtype)
    found = layer(x)
    found.float().sum().backward()
    assert found.dtype == layer.weight.grad.dtype == dtype
    torch.testing.assert_close(found.float(), copy.deepcopy(layer).float()(x.float()), atol=0.05, rtol=0.02)


@pytest.mark.parametrize("path", PATHS)
def test_an_empty_batch_has_zero_gradients(path):
    layer = GroupConv(dihedral(4), 3, 2, path=path)
    x = torch.randn(0, 8, 3, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert out.shape == (0, 8, 2)
    assert x.grad.shape == x.shape
    assert all(p.grad.abs().max() == 0 for p in layer.parameters())


@pytest.mark.parametrize("path", PATHS)
def test_layers_made_without_data_take_their_place_later(path):
    group = dihedral(4)
    with torch.device("meta"):
        layer = GroupConv(group, 3, 2, path=path)
    assert layer.weight.device.type == "meta"
    layer = layer.to_empty(device="cpu")
    reference = GroupConv(group, 3, 2, path="reference")
    layer.load_state_dict(reference.state_dict())
    x = torch.randn(2, 8, 3)
    torch.testing.assert_close(layer(x), reference(x), atol=1e-5, rtol=1e-5)


def test_a_layer_on_one_element_is_a_linear_map():
    layer = GroupConv(cyclic(1), 3, 2)
    x = torch.randn(4, 1, 3)
    torch.testing.assert_close(layer(x), x @ layer.weight[0] + layer.bias)
