"""Messages in chunks against all edges at once."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from geomeq.ops import EdgeLayout, EdgeRotation, edge_message


class Mix(nn.Module):
    def __init__(self, channels, dtype):
        super().__init__()
        self.linear, self.unused = nn.Linear(channels, 3, dtype=dtype), nn.Parameter(torch.ones(1))
        self.rows_seen = 0

    def forward(self, h, scale, nothing):
        assert nothing is None
        self.rows_seen = max(self.rows_seen, h.size(0))
        return torch.tanh(self.linear(h)) * scale[:, None, None] ** 2


def setting(dtype=torch.float64, side="source", edges=23):
    layout, edge_index = EdgeLayout(2, 1), torch.randint(0, 5, (2, edges))
    edge_index = edge_index[:, edge_index[1].argsort()]
    return {
        "mix": Mix(4 if side == "both" else 2, dtype),
        "edge_index": edge_index,
        "layout": layout,
        "wigner": torch.randn(edges, layout.num_values, dtype=dtype, requires_grad=True),
        "x": torch.randn(5, 9, 2, dtype=dtype, requires_grad=True),
        "scale": torch.randn(edges, dtype=dtype, requires_grad=True),
        "weight": torch.rand(edges, dtype=dtype, requires_grad=True),
        "side": side,
    }


def message(s, chunk_size):
    rotation = EdgeRotation(s["wigner"], s["edge_index"], 5, s["layout"])
    return edge_message(
        s["x"], rotation, s["mix"], s["scale"], None, weight=s["weight"], side=s["side"], chunk_size=chunk_size
    )


def derivatives(s, chunk_size):
    """Output, first derivatives, and the derivatives of a loss that contains those (as forces)."""
    inputs = [s["x"], s["wigner"], s["scale"], s["weight"]]
    weights = list(s["mix"].linear.parameters())
    out = message(s, chunk_size)
    first = torch.autograd.grad(out.pow(3).sum(), inputs + weights)
    out = message(s, chunk_size)
    force = torch.autograd.grad(out.pow(3).sum(), inputs, create_graph=True)
    second = torch.autograd.grad(sum(f.square().sum() for f in force), inputs + weights)
    return [out, *first, *force, *second]


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
@pytest.mark.parametrize("side", ["source", "target", "both"])
def test_chunks_equal_the_whole_to_second_order(dtype, tol, side):
    s = setting(dtype, side)
    for whole, parts in zip(derivatives(s, None), derivatives(s, 7), strict=True):
        assert (whole - parts).abs().max() <= tol * whole.abs().max()
        assert whole.abs().max() > 0  # the check has teeth


def test_never_more_edges_at_once_than_asked_for():
    s = setting()
    derivatives(s, 7)
    assert s["mix"].rows_seen == 7
    message(s, None)
    assert s["mix"].rows_seen == 23


def test_second_derivatives_against_finite_differences():
    s = setting(edges=4)

    def run(wigner, x, scale, weight):
        return message({**s, "wigner": wigner, "x": x, "scale": scale, "weight": weight}, 3)

    inputs = (s["wigner"], s["x"], s["scale"], s["weight"])
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def test_nothing_of_the_size_of_the_edges_is_kept():
    s = setting(edges=200)
    kept = []

    def pack(tensor):
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        message(s, 50)
    rows = s["layout"].num_rows
    assert (200, rows, 2) not in kept
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        message(s, None)
    assert any(shape[0] in (200, 200 * rows) and shape[-1] in (2, 3) for shape in kept)


def test_parameters_alone_may_need_gradients():
    s = setting()
    frozen = {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in s.items()}
    (whole,) = torch.autograd.grad(message(frozen, None).sum(), s["mix"].linear.weight)
    (parts,) = torch.autograd.grad(message(frozen, 5).sum(), s["mix"].linear.weight)
    torch.testing.assert_close(parts, whole)


def test_a_method_of_a_module_brings_its_parameters():
    s = setting()
    linear = s["mix"].linear
    rotation = EdgeRotation(s["wigner"], s["edge_index"], 5, s["layout"])
    grads = [
        torch.autograd.grad(edge_message(s["x"], rotation, linear.forward, chunk_size=c).sum(), linear.weight)[0]
        for c in (None, 5)
    ]
    torch.testing.assert_close(grads[1], grads[0])


def test_plain_functions_name_what_they_read():
    s = setting()
    rotation = EdgeRotation(s["wigner"], s["edge_index"], 5, s["layout"])
    factor = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def mix(h):
        return factor * h

    with pytest.raises(ValueError, match="pass parameters="):
        edge_message(s["x"], rotation, mix, chunk_size=5)
    grads = [
        torch.autograd.grad(edge_message(s["x"], rotation, mix, chunk_size=c, parameters=[factor]).sum(), factor)[0]
        for c in (None, 5)
    ]
    torch.testing.assert_close(grads[1], grads[0])


def test_parameters_lent_for_the_forward_pass_get_their_gradients():
    s = setting()
    linear, rotation = s["mix"].linear, EdgeRotation(s["wigner"], s["edge_index"], 5, s["layout"])
    lent = {f"mix.{name}": 2 * p.detach().clone().requires_grad_() for name, p in linear.named_parameters()}

    class Layer(nn.Module):
        def __init__(self, chunk_size):
            super().__init__()
            self.mix, self.chunk_size = linear, chunk_size

        def forward(self, x):
            return edge_message(x, rotation, self.mix.forward, chunk_size=self.chunk_size)

    results = []
    for chunk_size in (None, 7):
        out = torch.func.functional_call(Layer(chunk_size), lent, (s["x"],)).sin()
        (force,) = torch.autograd.grad(out.sum(), s["x"], create_graph=True)
        first = torch.autograd.grad(out.sum(), lent["mix.weight"], retain_graph=True)
        results.append([force, *first, *torch.autograd.grad(force.square().sum(), lent["mix.weight"])])
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole)
        assert whole.abs().max() > 0


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.bfloat16, torch.float32)])
def test_features_and_frames_of_different_precision(dtypes):
    s = setting(dtypes[1])
    s["mix"], s["x"] = Mix(2, dtypes[0]), s["x"].detach().to(dtypes[0]).requires_grad_()
    s["scale"] = s["scale"].detach().to(dtypes[0])
    out = [message(s, chunk_size) for chunk_size in (None, 7)]
    assert out[0].dtype == out[1].dtype == dtypes[0]
    torch.testing.assert_close(out[1], out[0], atol=0.1 if dtypes[0] == torch.bfloat16 else 1e-4, rtol=1e-2)
    first = [torch.autograd.grad(o.float().sum(), s["mix"].linear.weight)[0] for o in out]
    torch.testing.assert_close(first[1], first[0], atol=1e-1, rtol=1e-1)


def test_autocast_is_the_same_in_both_passes():
    s = setting(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = [message(s, c) for c in (None, 5)]
    assert out[0].dtype == out[1].dtype == torch.float32
    torch.testing.assert_close(out[1], out[0], atol=1e-4, rtol=1e-4)
    grads = [torch.autograd.grad(o.sum(), s["mix"].linear.weight)[0] for o in out]
    torch.testing.assert_close(grads[1], grads[0], atol=0.05, rtol=0.05)


@pytest.mark.parametrize("whole_step", [False, True])
def test_forces_in_a_loss_under_autocast(whole_step):
    s, results = setting(torch.float32), []
    for chunk_size in (None, 5):
        with torch.autocast("cpu", torch.bfloat16):
            (force,) = torch.autograd.grad(message(s, chunk_size).sum(), s["x"], create_graph=True)
            loss = force.square().sum()
            if whole_step:
                results.append(torch.autograd.grad(loss, s["mix"].linear.weight)[0])
        if not whole_step:
            results.append(torch.autograd.grad(loss, s["mix"].linear.weight)[0])
    torch.testing.assert_close(results[1], results[0], atol=0.05 * results[0].abs().max().item(), rtol=0.05)


def test_compiles_in_one_graph(compiled):
    s = setting(torch.float32)
    s["mix"].forward = lambda h, scale, nothing: torch.tanh(s["mix"].linear(h)) * scale[:, None, None]

    def run(x):
        return message({**s, "x": x}, None)

    torch.testing.assert_close(compiled(run)(s["x"]), run(s["x"]), atol=1e-4, rtol=1e-4)


def test_bad_input_is_refused():
    s = setting()
    rotation = EdgeRotation(s["wigner"], s["edge_index"], 5, s["layout"])
    with pytest.raises(ValueError, match="chunk_size"):
        message(s, 0)
    with pytest.raises(ValueError, match="edge tensor 0"):
        edge_message(s["x"], rotation, s["mix"], torch.ones(4), None)
    with pytest.raises(ValueError, match="weight"):
        edge_message(s["x"], rotation, s["mix"].linear, weight=torch.ones(4), chunk_size=5)


MEMORY = """
import resource, sys, torch
from geomeq.harmonics import edge_wigner
from geomeq.nn import SO2Linear
from geomeq.ops import EdgeLayout, EdgeRotation, edge_message
edges, chunk = int(sys.argv[1]), int(sys.argv[2])
layout, nodes = EdgeLayout(6, 2), edges // 25
edge_index = torch.randint(0, nodes, (2, edges))
edge_index = edge_index[:, edge_index[1].argsort()]
rotation = EdgeRotation(edge_wigner(torch.randn(edges, 3), 6, 2), edge_index, nodes, layout)
mix = torch.nn.Sequential(SO2Linear(64, 64, 6, 2), torch.nn.Tanh(), SO2Linear(64, 64, 6, 2))
x = torch.randn(nodes, 49, 64, requires_grad=True)
edge_message(x, rotation, mix, chunk_size=chunk).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_a_hundred_thousand_edges_fit_into_a_small_machine():
    run = [sys.executable, "-c", MEMORY, "100000", "4096"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 8  # GiB of the whole process; 1.1 measured
