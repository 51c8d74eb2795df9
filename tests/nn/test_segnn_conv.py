"""SEGNNConv: two paths, one layer; symmetries; what happens at the edges of the input."""

import copy

import pytest
import torch
from e3nn import o3
from torch_geometric.data import Data

from geomeq.nn import SEConv, SEGNNConv
from geomeq.testing import equivariance_error
from tests.nn._molecules import random_graph

HIDDEN = [
    ("8x0e+8x1o", 1),
    ("4x0e+4x1o+4x2e", 2),
    ("4x0e+4x1o+4x2e", 3),
    ("3x1o+5x0e+2x0e+4x2e", 4),
    ("3x1o", 1),
    ("4x0e", 1),
]


def harmonics(lmax: int) -> o3.Irreps:
    return o3.Irreps.spherical_harmonics(lmax)


@pytest.mark.parametrize(("hidden", "lmax"), HIDDEN)
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_edge_frame_equals_clebsch_gordan_products(hidden, lmax, dtype, tol):
    _, edge_index, made = random_graph(lmax=lmax, dtype=dtype)
    frame = SEGNNConv(hidden, harmonics(lmax), path="frame").to(dtype)
    products = SEGNNConv(hidden, harmonics(lmax), path="cg").to(dtype)
    products.load_state_dict(frame.state_dict())
    x = torch.randn(9, frame.irreps_in.dim, dtype=dtype)
    weight = torch.rand(edge_index.size(1), dtype=dtype)
    out = [
        conv(x, edge_index, made.edge_attr, made.node_attr, made.edge_dist, edge_weight=weight)
        for conv in (frame, products)
    ]
    torch.testing.assert_close(out[0], out[1], atol=tol, rtol=tol)
    cotangent = torch.randn_like(out[0])
    grads = [
        torch.autograd.grad((y * cotangent).sum(), c.parameters()) for y, c in zip(out, (frame, products), strict=True)
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=30 * tol, rtol=30 * tol)
    if lmax == 1 and hidden == "8x0e+8x1o":
        bent = made.edge_attr.clone()
        bent[:, 1:] = bent[:, [2, 1, 3]]
        other = products(x, edge_index, bent, made.node_attr, made.edge_dist, edge_weight=weight)
        assert not torch.allclose(other, out[0], atol=1e-3)


@pytest.mark.parametrize("path", ["frame", "cg"])
@pytest.mark.parametrize("group", ["E(3)", "permutation"])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("hidden", "lmax"), HIDDEN[:2])
def test_symmetries(path, group, dtype, tol, hidden, lmax):
    pos, edge_index, made = random_graph(lmax=lmax, dtype=dtype)
    conv = SEGNNConv(hidden, harmonics(lmax), path=path).to(dtype)
    data = Data(
        x=torch.randn(9, conv.irreps_in.dim, dtype=dtype),
        pos=pos,
        edge_index=edge_index,
        edge_attr=made.edge_attr,
        node_attr=made.node_attr,
        edge_dist=made.edge_dist,
    )

    def call(layer, d):
        return layer(d.x, d.edge_index, d.edge_attr, d.node_attr, d.edge_dist)

    error = equivariance_error(conv, data, group=group, irreps={"x": hidden}, irreps_out=hidden, call=call)
    assert error < tol


def test_types_of_other_parity_take_the_product_path_and_stay_equivariant():
    pos, edge_index, made = random_graph()
    hidden = "4x0e+2x0o+4x1o+2x1e"
    conv = SEGNNConv(hidden, harmonics(1)).double()
    with pytest.raises(ValueError, match="parity"):
        SEGNNConv(hidden, harmonics(1), path="frame")
    data = Data(
        x=torch.randn(9, 24).double(),
        pos=pos,
        edge_index=edge_index,
        edge_attr=made.edge_attr,
        node_attr=made.node_attr,
        edge_dist=made.edge_dist,
    )

    def call(layer, d):
        return layer(d.x, d.edge_index, d.edge_attr, d.node_attr, d.edge_dist)

    assert equivariance_error(conv, data, irreps={"x": hidden}, irreps_out=hidden, call=call) < 1e-12
    mirrored_as_vectors = {"x": hidden.replace("1e", "1o").replace("0o", "0e")}
    assert equivariance_error(conv, data, irreps=mirrored_as_vectors, irreps_out=hidden, call=call) > 1e-3


def test_isolated_node_zero_length_edge_and_empty_graph():
    conv = SEGNNConv("4x0e+4x1o", harmonics(1))
    edge_index = torch.tensor([[1, 0, 2], [0, 1, 2]])  # node 2 only sees itself, at no distance
    attr = torch.zeros(3, 4)
    attr[:, 0] = 1
    attr[:2, 1] = torch.tensor([3**0.5, -(3**0.5)])
    node_attr = torch.ones(4, 4)
    x = torch.randn(4, 16)
    out = conv(x, edge_index, attr, node_attr, torch.ones(3, 1))
    assert torch.isfinite(out).all()
    # A zero-length edge has no direction: its message may only use degree 0 of the attribute.
    turned = x.clone()
    turned[2, 4:] = -x[2, 4:]
    assert not torch.allclose(conv(turned, edge_index, attr, node_attr, torch.ones(3, 1))[2], out[2])
    conv.path = "frame"
    with pytest.raises(ValueError, match="no zero-length edges"):
        conv(torch.randn(4, 16), edge_index, attr, node_attr, torch.ones(3, 1))
    conv.path = "auto"
    none = conv(torch.randn(4, 16), edge_index[:, :0], attr[:0], node_attr, torch.ones(0, 1))
    assert torch.isfinite(none).all()
    assert conv(torch.randn(0, 16), edge_index[:, :0], attr[:0], node_attr[:0], torch.ones(0, 1)).shape == (0, 16)


@pytest.mark.parametrize("path", ["frame", "cg"])
def test_second_derivatives_in_positions_and_features(path):
    from geomeq.harmonics import steerable_attributes

    pos, edge_index, _ = random_graph(nodes=4, edges=8)
    conv = SEGNNConv("2x0e+2x1o", harmonics(1), path=path).double()

    def run(x, pos):
        made = steerable_attributes(pos[edge_index[0]] - pos[edge_index[1]], edge_index, 4, 1)
        return conv(x, edge_index, made.edge_attr, made.node_attr, made.edge_dist)

    inputs = (torch.randn(4, 8, dtype=torch.float64, requires_grad=True), pos.requires_grad_())
    torch.autograd.gradcheck(run, inputs)
    torch.autograd.gradgradcheck(run, inputs)


@pytest.mark.parametrize("path", ["auto", "cg"])
def test_compiles_in_one_graph(path, compiled):
    _, edge_index, made = random_graph(dtype=torch.float32)
    conv = SEGNNConv("4x0e+4x1o", harmonics(1), path=path)
    x = torch.randn(9, 16, requires_grad=True)
    args = (edge_index, made.edge_attr, made.node_attr, made.edge_dist)
    fast = compiled(conv)(x, *args)
    torch.testing.assert_close(fast, conv(x, *args), atol=1e-6, rtol=1e-5)
    (ours,) = torch.autograd.grad(fast.square().sum(), x)
    (plain,) = torch.autograd.grad(conv(x, *args).square().sum(), x)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)


def test_autocast_leaves_the_layer_in_float32():
    _, edge_index, made = random_graph(dtype=torch.float32)
    conv, x = SEGNNConv("4x0e+4x1o", harmonics(1)), torch.randn(9, 16)
    plain = conv(x, edge_index, made.edge_attr, made.node_attr, made.edge_dist)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = conv(x, edge_index, made.edge_attr, made.node_attr, made.edge_dist)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain)


def test_copies_and_state_dicts_give_the_same_layer(tmp_path):
    _, edge_index, made = random_graph(dtype=torch.float32)
    conv, x = SEGNNConv("4x0e+4x1o", harmonics(1)), torch.randn(9, 16)
    torch.save(conv.state_dict(), tmp_path / "w.pt")
    other = SEGNNConv("4x0e+4x1o", harmonics(1))
    other.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))
    args = (x, edge_index, made.edge_attr, made.node_attr, made.edge_dist)
    assert torch.equal(conv(*args), other(*args))
    twin = copy.deepcopy(conv)
    with torch.no_grad():
        twin.message_first.linear.weight.zero_()
    assert not torch.equal(conv(*args), twin(*args))  # the frame path reads the copy's own weights
    assert torch.equal(conv(*args), other(*args))


def test_bad_input():
    _, edge_index, made = random_graph(dtype=torch.float32)
    conv, x = SEGNNConv("4x0e+4x1o", harmonics(1)), torch.randn(9, 16)
    good = [x, edge_index, made.edge_attr, made.node_attr, made.edge_dist]
    for at, bad, message in [
        (0, x[:, :15], "irreps_in=4x0e"),
        (1, edge_index + 5, "only 9 nodes"),
        (1, edge_index.float(), "must hold integers"),
        (2, made.edge_attr[:, :3], "edge_attr must have shape"),
        (3, made.node_attr[:4], "node_attr must have shape"),
        (4, made.edge_dist[:, 0], "edge_scalar must have shape"),
        (4, None, "edge_scalar is missing"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            conv(*[bad if k == at else value for k, value in enumerate(good)])
    with pytest.raises(ValueError, match="path must be one of"):
        SEGNNConv("4x0e", harmonics(1), path="fast")
    integral = made.edge_attr / (4 * torch.pi) ** 0.5
    with pytest.raises(ValueError, match="component"):
        SEGNNConv("4x0e+4x1o", harmonics(1), path="frame")(x, edge_index, integral, *good[3:])
    assert torch.isfinite(conv(x, edge_index, integral, *good[3:])).all()  # auto takes the products


@pytest.mark.parametrize("nonlinear", [False, True])
def test_seconv_is_equivariant_and_follows_its_formula(nonlinear):
    pos, edge_index, made = random_graph()
    conv = SEConv("4x0e+4x1o", harmonics(1), nonlinear=nonlinear).double()
    data = Data(
        x=torch.randn(9, 16).double(),
        pos=pos,
        edge_index=edge_index,
        edge_attr=made.edge_attr,
        node_attr=made.node_attr,
        edge_dist=made.edge_dist,
    )

    def call(layer, d):
        return layer(d.x, d.edge_index, d.edge_attr, d.edge_dist)

    kwargs = {"irreps": {"x": "4x0e+4x1o"}, "irreps_out": "4x0e+4x1o", "call": call}
    assert equivariance_error(conv, data, group="E(3)", **kwargs) < 1e-12
    assert equivariance_error(conv, data, group="permutation", **kwargs) < 1e-12
    pair = torch.cat([data.x[edge_index[1]], data.x[edge_index[0]], made.edge_dist], 1)
    message = conv.first(pair, made.edge_attr) if nonlinear else pair
    linear = conv.last.linear(message, made.edge_attr)
    total = torch.zeros(9, linear.size(1)).double().index_add(0, edge_index[1], linear)
    act = torch.nn.functional.silu(total[:, :4]) * 1.676532470331091
    gate = torch.sigmoid(total[:, 4:8]) * 1.8462285453386054
    vectors = (total[:, 8:].view(9, 4, 3) * gate[..., None]).flatten(1)
    torch.testing.assert_close(call(conv, data), data.x + torch.cat([act, vectors], 1), atol=1e-12, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: none here")
@pytest.mark.parametrize("path", ["frame", "cg"])
def test_same_on_the_gpu(path):
    _, edge_index, made = random_graph(dtype=torch.float32)
    conv, x = SEGNNConv("4x0e+4x1o", harmonics(1), path=path), torch.randn(9, 16)
    args = (x, edge_index, made.edge_attr, made.node_attr, made.edge_dist)
    here = conv(*args)
    torch.testing.assert_close(conv.cuda()(*[a.cuda() for a in args]).cpu(), here, atol=1e-5, rtol=1e-4)
