"""The paths of OrderedConv against each other, their transposes, patches, and the memory they take."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from geomeq.nn import OrderedConv, OrderedConvTranspose
from geomeq.spheres import healpix, healpix_children, healpix_neighbours

PATHS = ("face", "gather", "edge")
OPTIONS = [
    {},
    {"stride": 4},
    {"hops": 2},
    {"hops": 3, "stride": 4, "groups": 2},
    {"dilation": 2, "groups": 4},
    {"hops": 2, "dilation": 2, "bias": False},
    {"hops": 0},
]


def result(kind: type, path: str, nside: int, options: dict, dtype: torch.dtype, coarse: int = 1) -> list[Tensor]:
    """Output and gradients for x, weight and bias."""
    torch.manual_seed(0)
    layer = kind(4, 8, nside, path=path, **options).to(dtype)
    x = torch.randn(2, 12 * nside**2 // coarse, 4, dtype=dtype, requires_grad=True)
    y = layer(x)
    to = torch.randn(y.shape, dtype=dtype)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], to)]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(f"{k}{v}" for k, v in o.items()) or "plain")
@pytest.mark.parametrize("missing", ["zero", "renormalise", "average"])
def test_paths_agree_everywhere_with_their_gradients(missing, options):
    """Everywhere: the 24 irregular pixels are among them, more than one in six at this size."""
    lacking = (healpix_neighbours(4) < 0).any(dim=1)
    for kind in (OrderedConv, OrderedConvTranspose):
        stride = options.get("stride", 1) if kind is OrderedConvTranspose else 1
        found = [result(kind, path, 4, {**options, "missing": missing}, torch.float64, stride) for path in PATHS]
        for other in found[1:]:
            for one, two in zip(found[0], other, strict=True):
                torch.testing.assert_close(one, two, atol=1e-12, rtol=1e-12)
        if not options:
            assert int(lacking.sum()) == 24
            torch.testing.assert_close(found[0][0][:, lacking], found[1][0][:, lacking], atol=1e-12, rtol=0)


@pytest.mark.parametrize("nside", [1, 2, 16, 32])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_paths_agree_at_every_size(nside, dtype, tol):
    found = [result(OrderedConv, path, nside, {}, dtype) for path in PATHS]
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two, atol=tol * float(two.abs().max().clamp(min=1)), rtol=0)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(f"{k}{v}" for k, v in o.items()) or "plain")
@pytest.mark.parametrize("missing", ["zero", "renormalise", "average"])
@pytest.mark.parametrize("path", ["face", "gather"])
def test_the_transpose_is_the_adjoint_when_weights_are_tied(missing, path, options):
    options = {**options, "missing": missing, "path": path, "bias": False}
    there = OrderedConv(4, 8, 4, **options).double()
    back = OrderedConvTranspose(8, 4, 4, **options).double()
    back.weight = there.weight
    x = torch.randn(2, 192, 4, dtype=torch.float64)
    y = torch.randn(2, 192 // options.get("stride", 1), 8, dtype=torch.float64)
    one, other = (there(x) * y).sum(), (x * back(y)).sum()
    torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)
    with torch.no_grad():
        untied = OrderedConvTranspose(8, 4, 4, **options).double()
    assert not torch.allclose(one, (x * untied(y)).sum())


def test_second_derivatives():
    x = torch.randn(1, 12, 1, dtype=torch.float64, requires_grad=True)
    for path in PATHS:
        layer = OrderedConv(1, 2, 1, path=path, missing="average").double()
        assert torch.autograd.gradgradcheck(lambda x, layer=layer: layer(x).square(), (x,), atol=1e-7)


def test_transforms_of_functions():
    x = torch.randn(3, 1, 48, 2, dtype=torch.float64)
    for path in PATHS:
        layer = OrderedConv(2, 3, 2, path=path, missing="average").double()
        torch.testing.assert_close(torch.func.vmap(layer)(x), layer(x[:, 0])[:, None])
        out, tangent = torch.func.jvp(layer, (x[0],), (x[1],))
        torch.testing.assert_close(tangent + layer.bias, layer(x[1]))
        torch.testing.assert_close(out, layer(x[0]))


def test_weights_by_distance():
    near, pos = healpix_neighbours(4), healpix(4).pos
    angle = torch.acos((pos[near.clamp(min=0)] * pos[:, None]).sum(-1).clamp(-1, 1))
    g = (torch.pi / 3) ** 0.5 / 4 / angle
    x = torch.randn(192, 2, dtype=torch.float64)
    for path in ("auto", "gather", "edge"):
        layer = OrderedConv(2, 3, 4, distance=True, path=path).double()
        wanted = x @ layer.weight[0] + layer.bias
        for k in range(8):
            there = near[:, k] >= 0
            wanted = wanted + (g[:, k] * there)[:, None] * x[near[:, k].clamp(min=0)] @ layer.weight[1 + k]
        torch.testing.assert_close(layer(x), wanted, atol=1e-8, rtol=0)
        spread = OrderedConvTranspose(3, 2, 4, distance=True, path=path, bias=False).double()
        y = torch.randn(192, 3, dtype=torch.float64)
        spread.weight = layer.weight
        adjoint = ((layer(x) - layer.bias) * y).sum()
        torch.testing.assert_close(adjoint, (x * spread(y)).sum(), atol=1e-12, rtol=1e-12)
    plain = OrderedConv(2, 3, 4).double()
    plain.load_state_dict(layer.state_dict())
    assert not torch.allclose(plain(x), layer(x))
    assert 0.5 < float(g[near >= 0].min()) < float(g[near >= 0].max()) < 1.4


def test_training_takes_the_same_course():
    """Loss curves of a small autoencoder by each path."""
    x, curves = torch.randn(2, 192, 2, dtype=torch.float64), []
    for path in PATHS:
        torch.manual_seed(0)
        down, up = OrderedConv(2, 6, 4, stride=4, path=path), OrderedConvTranspose(6, 2, 4, stride=4, path=path)
        net = nn.Sequential(down, nn.Tanh(), up).double()
        optimiser, losses = torch.optim.Adam(net.parameters(), lr=0.02), []
        for _ in range(15):
            loss = (net(x) - x).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        curves.append(losses)
    assert curves[0][-1] < 0.8 * curves[0][0]
    for other in curves[1:]:
        torch.testing.assert_close(other, curves[0], atol=1e-9, rtol=0)


def halo_patch(nside: int, first: int, count: int, hops: int) -> tuple[Tensor, Tensor]:
    """Consecutive pixels, and which of them see nothing outside within some hops."""
    pixels = torch.arange(first, first + count)
    inside = torch.zeros(12 * nside**2 + 1, dtype=torch.bool)
    inside[pixels] = True
    near = healpix_neighbours(nside)
    for _ in range(hops):
        all_in = (inside[near] | (near < 0)).all(dim=1)
        inside[:-1] &= all_in
    return pixels, inside[pixels]


@pytest.mark.parametrize(("first", "count"), [(2 * 64, 64), (5 * 64 + 16, 16), (100, 300), (0, 768), (7, 1)])
@pytest.mark.parametrize("path", ["auto", "edge"])
def test_inside_a_patch_it_is_the_layer_on_the_sphere(first, count, path):
    whole = nn.Sequential(OrderedConv(2, 4, 8), nn.Tanh(), OrderedConv(4, 3, 8, hops=1))
    pixels, inner = halo_patch(8, first, count, hops=2)
    part = nn.Sequential(
        OrderedConv(2, 4, 8, pixels=pixels, path=path), nn.Tanh(), OrderedConv(4, 3, 8, pixels=pixels, path=path)
    )
    part.load_state_dict(whole.state_dict())
    x = torch.randn(2, 768, 2)
    out, wanted = part(x[:, pixels]), whole(x)[:, pixels]
    torch.testing.assert_close(out[:, inner], wanted[:, inner], atol=1e-5, rtol=0)
    if count in (64, 16, 300):  # at the border neighbours are masked, so it is another number
        assert int((~inner).sum()) > 0
        assert float((out - wanted)[:, ~inner].detach().abs().max()) > 0.01


@pytest.mark.parametrize("options", [{}, {"stride": 4}, {"hops": 2, "missing": "renormalise"}, {"dilation": 2}])
def test_square_patches_by_conv2d_are_those_of_the_table(options):
    free = OrderedConv(2, 3, **options)
    face = OrderedConv(2, 3, path="gather", **options)
    pixels = healpix_children(torch.tensor(21), 2)  # 16 pixels of face 1 at nside 16
    part = OrderedConv(2, 3, 16, pixels=pixels, **options)
    whole = OrderedConv(2, 3, 16, **options)
    for layer in (face, part, whole):
        layer.load_state_dict(free.state_dict())
    x = torch.randn(2, 3072, 2)
    wanted = part(x[:, pixels])
    torch.testing.assert_close(free(x[:, pixels]), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(face(x[:, pixels]), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(free(x), whole(x), atol=1e-5, rtol=0)  # and the same layer takes the sphere


def test_a_strided_patch_is_ordered_for_half_the_side():
    pixels = torch.arange(40, 120)
    part, whole = OrderedConv(2, 3, 4, pixels=pixels, stride=4), OrderedConv(2, 3, 4, stride=4)
    part.load_state_dict(whole.state_dict())
    x = torch.randn(192, 2)
    inner = halo_patch(4, 40, 80, 1)[1][::4]
    assert bool(inner.any())
    torch.testing.assert_close(part(x[pixels])[inner], whole(x)[10:30][inner], atol=1e-5, rtol=0)
    averaged = OrderedConv(2, 3, 4, pixels=torch.arange(192), missing="average")
    same = OrderedConv(2, 3, 4, missing="average")
    averaged.load_state_dict(same.state_dict())
    torch.testing.assert_close(averaged(x), same(x), atol=1e-5, rtol=0)


def test_a_stride_computes_only_what_it_keeps():
    x = torch.randn(768, 4)

    def products(layer: nn.Module) -> int:
        with FlopCounterMode(display=False) as counted:
            layer(x)
        return counted.get_total_flops()

    whole = products(OrderedConv(4, 4, 8))
    assert whole == 2 * 9 * 16 * 768
    assert products(OrderedConv(4, 4, 8, stride=4)) * 4 == whole
    assert products(OrderedConv(4, 4, 8, groups=4)) * 4 == whole


def largest_buffers(layer: nn.Module, x: Tensor) -> list[int]:
    """Bytes of the largest tensors taken in forward and backward, in order of size."""
    for _ in range(2):
        with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            layer(x).sum().backward()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    return sorted((event.nbytes() for event in events if event.nbytes() > 0), reverse=True)


def test_no_buffer_is_much_larger_than_the_activation():
    x = torch.randn(12 * 64**2, 16, requires_grad=True)
    activation = x.numel() * x.element_size()
    assert largest_buffers(OrderedConv(16, 16, 64), x)[0] < 1.2 * activation
    tiled = largest_buffers(OrderedConv(16, 16, 64, path="gather"), x)
    assert tiled[0] < 6 * activation
    table, weight = healpix_neighbours(64).clamp(min=0), torch.randn(128, 16)

    class AtOnce(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[table].flatten(1) @ weight

    assert largest_buffers(AtOnce(), x)[0] >= 8 * activation  # what a gather and one product take
