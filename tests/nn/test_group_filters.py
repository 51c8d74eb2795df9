"""The expanded filters on their way through training: built once, never stale, with the gradients of the weight."""

import copy
import pickle

import pytest
import torch
from torch import nn

from geomeq.nn import GroupConv2d, LiftingConv2d
from geomeq.nn._optimizer_steps import optimizer_steps
from tests.nn._plane_fields import field, largest_error


def test_filters_are_built_once_per_optimiser_step():
    layer = GroupConv2d("C4", 2, 3, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for step in range(1, 4):
        for _ in range(3):  # accumulation: three forward and three backward passes
            layer(torch.randn(2, 2, 4, 6, 6)).square().sum().backward()
        with torch.no_grad():
            layer(torch.randn(2, 2, 4, 6, 6))
        optimizer.step()
        optimizer.zero_grad()
        assert layer._once.num_expansions == step


def reference_output(layer, x, weight):
    """The same, from a weight, with nothing kept."""
    y = nn.functional.conv2d(x.flatten(1, 2), layer._rule.expand(weight), layer.bias.repeat_interleave(4), 1, 0)
    return y.unflatten(1, (layer.out_channels, 4))


@pytest.mark.parametrize("name", ["C4", "C8"])
def test_gradients_are_those_of_the_expansion_also_twice(name):
    layer = GroupConv2d(name, 2, 2, 3).double()
    order = layer.group.order
    x = torch.randn(1, 2, order, 4, 4, dtype=torch.float64, requires_grad=True)

    def run(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    def cached(x):
        return layer(x).sin().sum()

    plain = run(x, layer.weight.detach().clone().requires_grad_(), layer.bias)
    torch.testing.assert_close(layer(x), plain)
    weight = layer.weight.detach().clone().requires_grad_()
    wanted = torch.autograd.grad(run(x, weight, layer.bias).sin().sum(), (x, weight, layer.bias), create_graph=True)
    found = torch.autograd.grad(cached(x), (x, layer.weight, layer.bias), create_graph=True)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
    again_wanted = torch.autograd.grad(sum(g.square().sum() for g in wanted), (x, weight))
    again_found = torch.autograd.grad(sum(g.square().sum() for g in found), (x, layer.weight))
    for a, b in zip(again_found, again_wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)
    small = torch.randn(1, 2, order, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (small, weight, layer.bias), fast_mode=True)


def writes():
    def in_place(layer):
        with torch.no_grad():
            layer.weight.mul_(2)

    def data(layer):
        layer.weight.data.mul_(2)

    def set_data(layer):
        layer.weight.data = layer.weight.data * 2

    def state(layer, **options):
        layer.load_state_dict({k: 2 * v if k == "weight" else v for k, v in layer.state_dict().items()}, **options)

    def assign(layer):
        state(layer, assign=True)

    def replace(layer):
        layer.weight = nn.Parameter(layer.weight.detach() * 2)

    return [in_place, data, set_data, state, assign, replace]


@pytest.mark.parametrize("write", writes(), ids=lambda f: f.__name__)
@pytest.mark.parametrize("train", [False, True])
def test_a_change_of_the_weight_is_never_missed(write, train):
    layer = GroupConv2d("C4", 2, 3, 3).train(train)
    x = torch.randn(2, 2, 4, 5, 5)
    before = layer(x)
    write(layer)
    torch.testing.assert_close(layer(x), 2 * before)
    layer.double()
    torch.testing.assert_close(layer(x.double()), 2 * before.double(), atol=1e-5, rtol=1e-5)


def test_functional_call_and_function_transforms():
    layer = GroupConv2d("C4", 2, 3, 3)
    x = torch.randn(4, 2, 4, 5, 5)
    y = layer(x)
    other = {"weight": torch.zeros_like(layer.weight)}
    assert torch.func.functional_call(layer, other, (x,)).abs().max() == 0
    torch.testing.assert_close(layer(x), y)
    each = torch.func.vmap(lambda x: layer(x[None])[0])(x)
    torch.testing.assert_close(each, y)
    parameters = dict(layer.named_parameters())

    def loss(parameters, x):
        return torch.func.functional_call(layer, parameters, (x[None],)).square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    layer(x).square().sum().backward()
    torch.testing.assert_close(per_sample["weight"].sum(0), layer.weight.grad, atol=1e-3, rtol=1e-4)
    call = lambda w: torch.func.functional_call(layer, {"weight": w, "bias": torch.zeros(3)}, (x,))  # noqa: E731
    value, tangent = torch.func.jvp(call, (layer.weight.detach(),), (layer.weight.detach(),))
    torch.testing.assert_close(value, tangent)  # linear in the weight


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_the_step_of_every_kind_of_optimiser_is_seen(options, device):
    """A fused optimiser does not count its writes in the version of a weight."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    layer = GroupConv2d("C4", 2, 3, 3).to(device)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, **options)
    for _ in range(2):
        layer(torch.randn(2, 2, 4, 5, 5, device=device)).sum().backward()
        optimizer.step()
        torch.testing.assert_close(layer.expanded(), layer._rule.expand(layer.weight))


def test_where_weights_cannot_be_compared_steps_are_counted():
    layer = GroupConv2d("C4", 2, 3, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, fused=True)
    before = optimizer_steps()
    layer(torch.randn(2, 2, 4, 5, 5)).sum().backward()
    version = layer.weight._version
    layer._once._kept.copy, layer._once._kept.steps = None, before  # as on a GPU
    assert layer._once._kept.serves(layer.weight)
    optimizer.step()
    assert layer.weight._version == version
    assert optimizer_steps() == before + 1
    assert not layer._once._kept.serves(layer.weight)


def test_data_parallel_training_takes_the_steps_of_plain_training():
    plain = GroupConv2d("C4", 2, 3, 3)
    twin = copy.deepcopy(plain)
    x = torch.randn(4, 2, 4, 5, 5)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(twin)
        for layer in (plain, wrapped):
            optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
            for _ in range(3):
                optimizer.zero_grad()
                layer(x[:2]).square().mean().backward()
                layer(x[2:]).square().mean().backward()
                optimizer.step()
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close(twin.weight, plain.weight)
    torch.testing.assert_close(twin(x), plain(x))


def test_inference_mode_leaves_nothing_that_training_cannot_use():
    layer = GroupConv2d("C4", 2, 3, 3)
    x = torch.randn(2, 2, 4, 5, 5)
    with torch.inference_mode():
        y = layer(x)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer(x), y)
    with torch.inference_mode():
        made_inside = GroupConv2d("C4", 2, 3, 3)
        assert made_inside(x).shape == y.shape


@pytest.mark.parametrize(
    "name", ["C4", pytest.param("D4", marks=pytest.mark.slow), pytest.param("C8", marks=pytest.mark.slow)]
)
def test_compiled_in_one_graph_equals_eager(name, compiled):
    layer = GroupConv2d(name, 2, 2, 3, padding=1)
    x = torch.randn(2, 2, layer.group.order, 5, 5)
    wanted = layer(x)
    wanted.square().sum().backward()
    gradient, layer.weight.grad = layer.weight.grad, None
    run = compiled(layer, backend="aot_eager")
    found = run(x)
    torch.testing.assert_close(found, wanted)
    found.square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, gradient, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        layer.weight.mul_(2)
        torch.testing.assert_close(run(x), 2 * wanted)  # no stale filters in the graph


@pytest.mark.slow
def test_compiled_by_inductor(compiled):
    net = nn.Sequential(LiftingConv2d("C4", 1, 2, 3), nn.ReLU(), GroupConv2d("C4", 2, 2, 3))
    x = torch.randn(2, 1, 7, 7)
    torch.testing.assert_close(compiled(net)(x), net(x), atol=1e-5, rtol=1e-5)


def test_the_state_is_plain_and_the_same_in_training_and_evaluation():
    """Elsewhere the expanded filter enters the state only in evaluation (e2cnn issues 2 and 58)."""
    layer = GroupConv2d("C4", 2, 3, 3)
    for mode in (True, False):
        layer.train(mode)
        layer(torch.randn(1, 2, 4, 5, 5))
        assert list(layer.state_dict()) == ["weight", "bias"]
        assert list(layer.buffers()) == []
    assert layer.weight.shape == (3, 2 * 4, 3, 3)  # as of a Conv2d, so that whatever works on those works here
    assert layer.kernel.shape == (3, 2, 4, 3, 3)
    other = GroupConv2d("C4", 2, 3, 3)
    other.load_state_dict(layer.state_dict(), strict=True)
    x = torch.randn(1, 2, 4, 5, 5)
    assert torch.equal(other(x), layer(x))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), layer(x))
        with torch.no_grad():
            twin.weight.zero_()
        assert not torch.equal(twin(x), layer(x))


def test_export_is_a_plain_convolution():
    for mode in ("zeros", "circular"):
        layer = GroupConv2d("D4", 2, 3, 3, stride=2, padding=1, padding_mode=mode)
        nn.init.normal_(layer.bias)
        plain = layer.export()
        assert type(plain) is nn.Conv2d
        x = torch.randn(2, 2, 8, 7, 7)
        torch.testing.assert_close(plain(x.flatten(1, 2)), layer(x).flatten(1, 2), atol=1e-5, rtol=1e-5)


def test_channels_last_goes_through_without_a_copy():
    layer = GroupConv2d("C4", 2, 3, 3).to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 6, 6)
    wanted = layer(x.unflatten(1, (2, 4)))
    last = x.to(memory_format=torch.channels_last)
    y = layer(last.unflatten(1, (2, 4)))
    torch.testing.assert_close(y, wanted)
    assert y.flatten(1, 2).is_contiguous(memory_format=torch.channels_last)
    assert y.flatten(1, 2).data_ptr() == y.data_ptr()
    y.sum().backward()


def test_autocast_keeps_the_symmetry():
    for name in ("C4", "C8"):
        layer = GroupConv2d(name, 2, 3, 3)
        x = field(layer, (6, 6), dtype=torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
            y.float().square().sum().backward()
            assert y.dtype == torch.bfloat16
            error = largest_error(layer, x, layer.group.grid_elements())
        assert layer.weight.grad.dtype == torch.float32
        assert error < 0.02
        torch.testing.assert_close(y.float(), layer(x), atol=0.1, rtol=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["C4", "D4", "C8"])
def test_on_a_cuda_device(name):
    layer = GroupConv2d(name, 2, 3, 3).double()
    x = field(layer, (6, 6))
    wanted = layer(x)
    layer.cuda()
    torch.testing.assert_close(layer(x.cuda()).cpu(), wanted, atol=1e-12, rtol=0)
    assert largest_error(layer, x.cuda(), layer.group.grid_elements()) < 1e-12
    layer(x.cuda()).sum().backward()
    with torch.no_grad():
        layer.weight.mul_(2)
    torch.testing.assert_close(layer(x.cuda()).cpu(), 2 * wanted, atol=1e-12, rtol=0)
