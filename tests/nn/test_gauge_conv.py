"""GaugeConv: symmetry under changes of frame, the full space of kernels, special cases, bad input."""

import cmath
import math

import pytest
import torch

from geomeq.groups import SO2Irreps
from geomeq.nn import GaugeConv
from tests.nn._surfaces import random_surface, turn_frames

TYPES = ("3x1+2x0+2x2+1x0", "2x0+3x2+1x3+2x1")  # orders out of sequence and repeated
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


def make(dtype: torch.dtype = torch.float64, **options) -> GaugeConv:
    settings = {"rings": 3, "cutoff": 0.8, "edge_bias": True} | options
    conv = GaugeConv(*TYPES, **settings).to(dtype)
    for parameter in conv.parameters():
        torch.nn.init.normal_(parameter)
    return conv


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("basis", ["hat", "smooth"])
@pytest.mark.parametrize("weight", ["area", "mean", "sum", "integral"])
@pytest.mark.parametrize(("dtype", "tol"), PRECISIONS)
def test_the_layer_commutes_with_any_change_of_frames(basis, weight, dtype, tol):
    edge_index, polar, transport, area = random_surface(dtype=dtype)
    conv = make(dtype, basis=basis, weight=weight)
    x = torch.randn(2, 12, conv.types_in.dim, dtype=dtype)
    turn = torch.rand(12, dtype=dtype) * 2 * math.pi
    moved = turn_frames(turn, x, conv.types_in, edge_index, polar, transport)

    out = conv(x, edge_index, polar, transport, area)
    after = conv(moved[0], edge_index, *moved[1:], area)
    assert relative(after, conv.types_out.rotate(out, -turn)) < tol
    wrong = conv(moved[0], edge_index, moved[1], transport, area)  # frames turned, transport forgotten
    assert relative(wrong, conv.types_out.rotate(out, -turn)) > 0.1


def test_gradients_of_the_weights_do_not_depend_on_the_frames():
    edge_index, polar, transport, area = random_surface()
    conv = make()
    x = torch.randn(12, conv.types_in.dim, dtype=torch.float64)
    toward = torch.randn(12, conv.types_out.dim, dtype=torch.float64)
    turn = torch.rand(12, dtype=torch.float64) * 2 * math.pi
    moved = turn_frames(turn, x, conv.types_in, edge_index, polar, transport)

    def gradients(x, polar, transport, toward):
        return torch.autograd.grad((conv(x, edge_index, polar, transport, area) * toward).sum(), [*conv.parameters()])

    here, there = gradients(x, polar, transport, toward), gradients(*moved, conv.types_out.rotate(toward, -turn))
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


def test_scalars_alone_with_one_ring_are_a_graph_convolution():
    edge_index, polar, transport, _ = random_surface()
    conv = GaugeConv("4x0", "3x0", rings=1, weight="mean").double()
    x = torch.randn(12, 4, dtype=torch.float64)
    adjacency = torch.zeros(12, 12, dtype=torch.float64)
    adjacency[edge_index[1], edge_index[0]] = 1
    mean = (adjacency / adjacency.sum(1, keepdim=True).clamp(min=1)) @ x
    wanted = mean @ conv.weight[0].T + x @ conv.self_weight.view(3, 4).T + conv.bias
    torch.testing.assert_close(conv(x, edge_index, polar, transport), wanted, atol=1e-12, rtol=0)


def test_components_of_the_kernel_by_the_complex_formula():
    """One pair of orders after the other: a e^{i(m-n)phi} t + b e^{i(m+n)phi} conj(t), t = e^{i n theta} x."""
    phi, theta, z = 0.7, -1.9, complex(0.3, -0.8)
    edge_index, polar = torch.tensor([[1], [0]]), torch.tensor([[0.5, phi]], dtype=torch.float64)
    transport = torch.tensor([theta], dtype=torch.float64)
    x = torch.tensor([[0.0, 0.0], [z.real, z.imag]], dtype=torch.float64)
    for n, m in [(1, 1), (1, 2), (2, 1), (3, 1)]:
        conv = GaugeConv([(1, n)], [(1, m)], rings=1, weight="sum", self_interaction=False).double()
        b00, b01, b10, b11 = conv.weight.flatten().tolist()
        a, b = complex(b00 + b11, b10 - b01) / 2, complex(b00 - b11, b10 + b01) / 2
        t = cmath.rect(1, n * theta) * z
        wanted = a * cmath.rect(1, (m - n) * phi) * t + b * cmath.rect(1, (m + n) * phi) * t.conjugate()
        got = conv(x, edge_index, polar, transport)[0].tolist()
        assert abs(complex(*got) - wanted) < 1e-12


@pytest.mark.parametrize("basis", ["hat", "smooth"])
def test_one_message_and_self_interaction_keep_unit_variance(basis):
    nodes = 4000
    source = torch.arange(nodes)
    edge_index = torch.stack([source.roll(1), source])
    r = torch.rand(nodes).sqrt()  # uniform over the disc
    polar = torch.stack([r, torch.rand(nodes) * 6.28], dim=1)
    x = torch.randn(nodes, SO2Irreps("20x0+20x1+20x2").dim)
    conv = GaugeConv("20x0+20x1+20x2", "40x0+40x1+40x2+40x3", rings=3, cutoff=1.0, basis=basis)
    out = conv(x, edge_index, polar, torch.rand(nodes) * 6.28)
    for columns in conv.types_out.slices():
        assert 0.8 < out[:, columns].var() < 1.25


def test_bad_input_is_named():
    edge_index, polar, transport, area = random_surface()
    conv = make(weight="area")
    x = torch.randn(12, conv.types_in.dim, dtype=torch.float64)
    with pytest.raises(ValueError, match="x must have shape"):
        conv(x[:, 1:], edge_index, polar, transport, area)
    with pytest.raises(ValueError, match="needs area"):
        conv(x, edge_index, polar, transport)
    with pytest.raises(ValueError, match="polar and transport are needed"):
        conv(x, edge_index)
    broken = polar.clone()
    broken[3, 1] = math.nan
    with pytest.raises(ValueError, match="polar must be finite, but row 3"):
        conv(x, edge_index, broken, transport, area)
    zero = polar.clone()
    zero[3, 0] = 0
    with pytest.raises(ValueError, match="r = 0"):
        conv(x, edge_index, zero, transport, area)
    with pytest.raises(ValueError, match="needs cutoff"):
        GaugeConv("1x0", "1x0", rings=2)
