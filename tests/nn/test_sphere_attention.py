"""SphereAttention: brute force, the peer, quadrature, rotations, memory, and what it refuses."""

import math

import pytest
import torch

from geomeq import groups, spheres
from geomeq.nn import SphereAttention
from geomeq.spheres import Sampling, scattered

DTYPES = pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])


def attention(*args, dtype=torch.float64, **options):
    torch.manual_seed(1)
    layer = SphereAttention(*args, **options).to(dtype)
    with torch.no_grad():
        for linear in (layer.query, layer.key, layer.value, layer.out):
            if linear.bias is not None:
                linear.bias.normal_()
    return layer


def brute_force(layer, s_in, s_out, query, key):
    """The formula, a dense matrix for each head."""
    q, k, v = layer.query(query), layer.key(key), layer.value(key)
    angle = 2 * torch.asin((torch.cdist(s_out.pos, s_in.pos) / 2).clamp(max=1))
    near = angle <= layer.cutoff * (1 + 1e-3)  # so that nodes on the rim do not flicker
    out = []
    for a, b, c in zip(*(t.chunk(layer.heads, dim=-1) for t in (q, k, v)), strict=True):
        weight = s_in.area.to(q) * torch.exp(a @ b.transpose(-1, -2) / math.sqrt(a.size(-1))) * near
        out.append(weight @ c / weight.sum(-1, keepdim=True))
    return layer.out(torch.cat(out, dim=-1))


@DTYPES
@pytest.mark.parametrize(
    ("s_in", "s_out"),
    [
        (spheres.healpix(4), None),
        (spheres.gauss_legendre(8, 16), spheres.icosphere(1)),
        (spheres.fibonacci(60), spheres.healpix(4)),
    ],
    ids=["healpix", "to coarse", "to fine"],
)
def test_is_the_formula(s_in, s_out, dtype, tol):
    layer = attention(6, 8, s_in, s_out, cutoff=0.77, heads=2, key_channels=4, dtype=dtype)
    s_out = s_in if s_out is None else s_out
    query, key = torch.randn(2, s_out.num_nodes, 6, dtype=dtype), torch.randn(2, s_in.num_nodes, 6, dtype=dtype)
    wanted = brute_force(layer, s_in, s_out, query, key)
    torch.testing.assert_close(layer(query, key), wanted, atol=tol, rtol=0)
    torch.testing.assert_close(layer(query[1], key[1]), wanted[1], atol=tol, rtol=0)
    if s_in.kind == "gauss_legendre":  # areas differ, and count
        flat = Sampling("flat", s_in.pos, torch.full_like(s_in.area, 4 * math.pi / s_in.num_nodes))
        assert float((layer(query, key) - brute_force(layer, flat, s_out, query, key)).detach().abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("shape_in", "shape_out"),
    [((12, 24), (12, 24)), ((12, 24), (6, 12)), ((6, 12), (12, 24))],
    ids=["same", "down", "up"],
)
@pytest.mark.parametrize("grid", ["equiangular", "legendre-gauss"])
def test_agrees_with_torch_harmonics(shape_in, shape_out, grid):
    peer = pytest.importorskip("torch_harmonics")
    theirs = peer.NeighborhoodAttentionS2(
        6, shape_in, shape_out, grid, grid, num_heads=2, theta_cutoff=0.6, k_channels=4, out_channels=8
    )
    make = spheres.equiangular if grid == "equiangular" else spheres.gauss_legendre
    ours = SphereAttention(6, 8, make(*shape_in), make(*shape_out), cutoff=0.6, heads=2, key_channels=4)
    with torch.no_grad():
        for short, name in (("q", "query"), ("k", "key"), ("v", "value"), ("proj", "out")):
            getattr(ours, name).weight.copy_(getattr(theirs, f"{short}_weights").flatten(1))
            getattr(ours, name).bias.copy_(getattr(theirs, f"{short}_bias").normal_())
    query, key = torch.randn(2, 6, *shape_out), torch.randn(2, 6, *shape_in)
    wanted = theirs(query, key, key).flatten(2).transpose(1, 2)
    got = ours(query.flatten(2).transpose(1, 2), key.flatten(2).transpose(1, 2))
    torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-5)


@DTYPES
def test_a_node_twice_with_half_its_weight_counts_once(dtype, tol):
    s = spheres.gauss_legendre(6, 12)
    twice = torch.tensor([3, 20, 20, 41])
    place = torch.cat([torch.arange(72), twice])
    copies = torch.bincount(place)
    split = scattered(s.pos[place], (s.area / copies)[place])
    first, second = attention(5, 4, s, cutoff=0.9, dtype=dtype), attention(5, 4, split, s, cutoff=0.9, dtype=dtype)
    x = torch.randn(72, 5, dtype=dtype)
    torch.testing.assert_close(second(x, x[place]), first(x), atol=tol, rtol=0)
    whole = scattered(s.pos[place], s.area[place])
    heavier = attention(5, 4, whole, s, cutoff=0.9, dtype=dtype)
    assert float((heavier(x, x[place]) - first(x)).detach().abs().max()) > 1e-3  # weights not shared out


@DTYPES
def test_constant_in_constant_out(dtype, tol):
    s = spheres.equiangular(9, 16)
    layer = attention(4, 6, s, cutoff=0.6, heads=3, key_channels=6, dtype=dtype)
    y = layer(torch.randn(1, 4, dtype=dtype).expand(s.num_nodes, 4)).detach()
    torch.testing.assert_close(y, y[:1].expand_as(y), atol=tol, rtol=0)


def test_sixty_rotations_of_the_icosphere_are_exact():
    s = spheres.icosphere(2)
    layer, x = attention(3, 4, s, cutoff=0.5, heads=2, key_channels=4), torch.randn(162, 3, dtype=torch.float64)
    y = layer(x)
    moved_to = torch.cdist(s.pos @ groups.icosahedral_rotations(), s.pos).argmin(dim=2)
    assert len(moved_to.unique(dim=0)) == 60
    turned = layer(x[moved_to])
    torch.testing.assert_close(turned, y[moved_to], atol=1e-12, rtol=0)
    shuffled = torch.randperm(162)  # no rotation
    assert float((layer(x[shuffled]) - y[shuffled]).detach().abs().max()) > 1e-2


def test_points_turned_along_give_the_same():
    s, turn = spheres.healpix(4), groups.SO3.random(1, seed=3)[0]
    x = torch.randn(192, 3, dtype=torch.float64)
    y, z = (attention(3, 4, t, cutoff=0.613)(x) for t in (s, s.rotated(turn)))
    torch.testing.assert_close(z, y, atol=1e-12, rtol=0)


def test_any_rotation_and_finer_samplings_to_the_error_of_the_quadrature():
    """The same signal, turned, at turned targets; and the same signal on finer sources."""
    at, turn = groups.S2.random(50, seed=1), groups.SO3.random(1, seed=2)[0]

    def signal(pos):
        x, y, z = pos.T
        return torch.stack([torch.sin(2 * x) + y * z, torch.cos(2 * z - y), x * y], dim=1)

    def output(nside, rotation):
        targets = scattered(at @ rotation.T, torch.ones(50))
        layer = attention(3, 4, spheres.healpix(nside), targets, cutoff=1.0)
        return layer(signal(targets.pos @ rotation), signal(spheres.healpix(nside).pos @ rotation)).detach()

    still = torch.eye(3, dtype=torch.float64)
    wanted = output(32, still)
    errors = [float((output(n, turn) - wanted).norm() / wanted.norm()) for n in (4, 8, 16)]
    assert errors[0] < 0.05
    assert errors[2] < errors[0] / 2
    refined = [float((output(n, still) - wanted).norm() / wanted.norm()) for n in (4, 8, 16)]
    assert refined[2] < refined[0] / 2
    assert refined[2] < 0.01


@DTYPES
def test_chunks_change_nothing(dtype, tol):
    s = spheres.healpix(4)
    whole, parts = (attention(4, 4, s, cutoff=0.6, heads=2, dtype=dtype, chunk=chunk) for chunk in (None, 50))
    x = torch.randn(2, 192, 4, dtype=dtype)
    grads = []
    for layer in (whole, parts):
        own = x.clone().requires_grad_()
        y = layer(own)
        y.square().sum().backward()
        grads.append([y.detach(), own.grad, *(p.grad for p in layer.parameters())])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(other, one, atol=20 * tol, rtol=20 * tol)
    with torch.no_grad():
        torch.testing.assert_close(parts(x), whole(x), atol=tol, rtol=0)


def test_gradients_against_finite_differences():
    s = spheres.healpix(1)
    layer = attention(2, 2, s, cutoff=1.3)
    assert torch.autograd.gradcheck(layer, torch.randn(12, 2, dtype=torch.float64, requires_grad=True))
    layer(torch.randn(12, 2, dtype=torch.float64)).square().sum().backward()
    silent = [n for n, p in layer.named_parameters() if p.grad is None or (not bool(p.grad.abs().sum() > 0))]
    assert silent == []


def test_permuted_sources_change_nothing():
    s, order = spheres.fibonacci(80), torch.randperm(80)
    shuffled = Sampling("shuffled", s.pos[order], s.area[order])
    x = torch.randn(80, 3, dtype=torch.float64)
    one, other = attention(3, 3, s, cutoff=0.7), attention(3, 3, shuffled, s, cutoff=0.7)
    torch.testing.assert_close(other(x, x[order]), one(x), atol=1e-12, rtol=0)


def test_a_node_without_area_does_not_send():
    s = spheres.healpix(4)
    blind = Sampling("blind", s.pos, s.area.clone().index_fill_(0, torch.tensor([7]), 0.0))
    layer, x = attention(3, 3, blind, cutoff=0.6), torch.randn(192, 3, dtype=torch.float64)
    other = x.clone()
    other[7] = 1e3
    difference = (layer(x, other) - layer(x)).detach().abs().amax(1)
    assert float(difference.max()) == 0.0


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_equals_eager(compiled, backend):
    layer = attention(3, 4, spheres.healpix(2), cutoff=1.0, dtype=torch.float32)
    x = torch.randn(2, 48, 3)
    torch.testing.assert_close(compiled(layer, backend=backend)(x), layer(x), atol=1e-5, rtol=1e-5)


def test_double_is_exact_after_a_detour_through_float():
    s = spheres.gauss_legendre(6, 12)
    layer, x = attention(3, 3, s, cutoff=0.9), torch.randn(72, 3, dtype=torch.float64)
    wanted, weights = layer(x).detach(), layer.state_dict()
    again = SphereAttention(3, 3, s, cutoff=0.9).float().double()
    again.load_state_dict(weights)
    assert torch.equal(again(x), wanted)
    assert sorted(weights) == sorted(f"{a}.{b}" for a in ("query", "key", "value", "out") for b in ("weight", "bias"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "key_channels must be a multiple of heads=3, got 4"),
        ({"heads": 0}, "heads must be a positive integer, got 0"),
        ({"heads": 3, "key_channels": 6}, "out_channels must be a multiple of heads=3, got 4"),
        ({"chunk": 0}, "chunk must be a positive integer"),
        ({"cutoff": 4.0}, "cutoff is an angle in radians"),
        ({"cutoff": -0.1}, "cutoff is an angle in radians"),
        (
            {"s_out": spheres.healpix(4), "cutoff": 0.05},
            "caps of radius cutoff=0.05 hold no node.*of more than",
        ),
    ],
)
def test_numbers_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        SphereAttention(4, 4, spheres.healpix(1), **options)


def test_inputs_that_do_not_fit():
    layer = SphereAttention(4, 4, spheres.healpix(2), spheres.healpix(1), cutoff=1.0)
    with pytest.raises(ValueError, match="key is needed: queries live on 12 nodes, keys and values on 48"):
        layer(torch.randn(12, 4))
    with pytest.raises(ValueError, match=r"query must have shape \[..., 12, 4\], got \[48, 4\]"):
        layer(torch.randn(48, 4), torch.randn(48, 4))
    with pytest.raises(ValueError, match="with the batch of query"):
        layer(torch.randn(2, 12, 4), torch.randn(48, 4))
    with pytest.raises(TypeError, match="s_in and s_out must be samplings"):
        SphereAttention(4, 4, "healpix")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_as_on_the_cpu():
    layer = attention(3, 4, spheres.healpix(4), cutoff=0.6, chunk=70)
    x = torch.randn(2, 192, 3, dtype=torch.float64)
    wanted = layer(x).detach()
    torch.testing.assert_close(layer.cuda()(x.cuda()).detach().cpu(), wanted, atol=1e-11, rtol=0)
