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


def commuting_kernels(n: int, m: int, fixed: bool) -> int:
    """Brute force: dimension of the kernels with ``K(phi - t) = R(-m t) K(phi) R(n t)``, all t.

    A kernel is a matrix-valued function on the circle, given here on 12 equal angles. The constraint relates its values
    there for turns by the same angles; ``fixed`` asks for a kernel that does not depend on the angle at all.
    """
    steps = 12

    def rotation(order: int, t: float) -> torch.Tensor:
        c, s = math.cos(order * t), math.sin(order * t)
        return torch.tensor([[c, -s], [s, c]] if order else [[1.0]], dtype=torch.float64)

    rows, columns = (2 if m else 1), (2 if n else 1)
    size = rows * columns
    equations = []
    for step in range(1, steps):
        t = 2 * math.pi * step / steps
        act = torch.kron(rotation(m, -t), rotation(n, t).T.contiguous())  # on K, row after row
        for place in range(steps):
            equation = torch.zeros(size, steps * size, dtype=torch.float64)
            there = (place - step) % steps
            equation[:, there * size : (there + 1) * size] += torch.eye(size, dtype=torch.float64)
            equation[:, place * size : (place + 1) * size] -= act
            equations.append(equation)
        if fixed:
            equation = torch.zeros(size, steps * size, dtype=torch.float64)
            equation[:, step * size : (step + 1) * size] = torch.eye(size, dtype=torch.float64)
            equation[:, :size] = -torch.eye(size, dtype=torch.float64)
            equations.append(equation)
    return steps * size - int(torch.linalg.matrix_rank(torch.cat(equations), atol=1e-9))


@pytest.mark.parametrize("n", [0, 1, 2, 3])
@pytest.mark.parametrize("m", [0, 1, 2, 3])
def test_the_kernels_are_all_there_are(n, m):
    """Per ring as many independent kernels as brute force finds, and as many self interactions."""
    conv = GaugeConv([(1, n)], [(1, m)], rings=2, cutoff=1.0, weight="sum").double()
    assert conv.weight[0].numel() == commuting_kernels(n, m, fixed=False)
    own = 0 if conv.self_weight is None else conv.self_weight.numel()
    assert own == commuting_kernels(n, m, fixed=True)

    components, angles = 2 if n else 1, torch.linspace(-3, 3, 7, dtype=torch.float64)
    r = torch.tensor([0.2, 0.7], dtype=torch.float64)
    polar = torch.cartesian_prod(r, angles).repeat(components, 1)  # one pair of nodes for each and each unit vector
    count = len(polar)
    edge_index = torch.stack([torch.arange(count) + count, torch.arange(count)])
    x = torch.zeros(2 * count, components, dtype=torch.float64)
    x[count:] = torch.eye(components, dtype=torch.float64).repeat_interleave(count // components, dim=0)
    plan = conv.plan(edge_index, polar, torch.zeros(count, dtype=torch.float64))
    kernels = []  # the function of radius and angle that each single weight makes
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.zero_()
        for entry in range(conv.weight.numel()):
            conv.weight.zero_().view(-1)[entry] = 1
            kernels.append(conv(x, plan)[:count].flatten())
    assert torch.linalg.matrix_rank(torch.stack(kernels)) == conv.weight.numel()


@pytest.mark.parametrize(("dtype", "tol"), PRECISIONS)
def test_on_a_flat_grid_it_is_a_planar_convolution(dtype, tol):
    """Constant frames, no transport: shifting the input shifts the output, and one filter per pair of types exists."""
    side, offsets = 6, [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy]
    place = torch.arange(side * side).view(side, side)  # a torus, so that shifts are exact
    source = torch.cat([place.roll((-dy, -dx), (0, 1)).flatten() for dx, dy in offsets])
    edge_index = torch.stack([source, place.flatten().repeat(len(offsets))])
    step = torch.tensor(offsets, dtype=dtype).repeat_interleave(side * side, dim=0)
    polar = torch.stack([step.norm(dim=1), torch.atan2(step[:, 1], step[:, 0])], dim=1)
    conv = make(dtype, cutoff=2.0, weight="sum", edge_bias=False)
    x = torch.randn(side, side, conv.types_in.dim, dtype=dtype)
    transport = torch.zeros(len(polar), dtype=dtype)

    def layer(x):
        return conv(x.flatten(0, 1), edge_index, polar, transport).view(side, side, -1)

    out = layer(x)
    assert relative(layer(x.roll((2, 1), (0, 1))), out.roll((2, 1), (0, 1))) < tol
    filters = []  # what a point at each offset contributes to the origin, read off one message
    for number in range(len(offsets)):
        alone = torch.stack([torch.tensor([1]), torch.tensor([0])])
        units = torch.eye(conv.types_in.dim, dtype=dtype)
        row = polar[number * side * side : number * side * side + 1]
        zero = torch.zeros(2, conv.types_in.dim, dtype=dtype)
        base = conv(zero, alone, row, transport[:1])[0]
        filters.append(
            torch.stack([conv(torch.stack([zero[0], u]), alone, row, transport[:1])[0] - base for u in units])
        )
    image = x.permute(2, 0, 1)[None]
    kernel = torch.zeros(conv.types_out.dim, conv.types_in.dim, 3, 3, dtype=dtype)
    for (dx, dy), matrix in zip(offsets, filters, strict=True):
        kernel[:, :, dy + 1, dx + 1] = matrix.T
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="circular")
    planar = torch.nn.functional.conv2d(padded, kernel)[0].permute(1, 2, 0)
    zero = torch.zeros(1, 2, dtype=torch.long)[:, :0].expand(2, 0)
    own = conv(x.flatten(0, 1), zero, polar[:0], transport[:0]).view(side, side, -1)  # no edges: what is left
    assert relative(planar + own, out) < tol


def test_batches_and_permutations():
    first, second = random_surface(nodes=9), random_surface(nodes=12)
    conv = make(weight="area")
    x = torch.randn(21, conv.types_in.dim, dtype=torch.float64)
    alone = torch.cat([conv(x[:9], *first), conv(x[9:], *second)])
    joined = [torch.cat([a, b]) for a, b in zip(first[1:], second[1:], strict=True)]
    edge_index = torch.cat([first[0], second[0] + 9], dim=1)
    together = conv(x, edge_index, *joined)
    torch.testing.assert_close(together, alone, atol=1e-13, rtol=0)

    shuffled = torch.randperm(edge_index.size(1))  # edges in any order
    again = conv(x, edge_index[:, shuffled], joined[0][shuffled], joined[1][shuffled], joined[2])
    torch.testing.assert_close(again, together, atol=1e-13, rtol=0)

    order = torch.randperm(21)  # node i becomes node order[i]
    moved, area = torch.empty_like(x), torch.empty_like(joined[2])
    moved[order], area[order] = x, joined[2]
    after = conv(moved, order[edge_index], *joined[:2], area)
    torch.testing.assert_close(after[order], together, atol=1e-13, rtol=0)


@pytest.mark.parametrize("path", ["edge", "moments"])
def test_nodes_without_neighbours_and_graphs_without_edges(path):
    conv = make(path=path)
    x = torch.randn(12, conv.types_in.dim, dtype=torch.float64, requires_grad=True)
    edge_index, polar, transport, _ = random_surface()
    keep = edge_index[1] != 5
    out = conv(x, edge_index[:, keep], polar[keep], transport[keep])
    empty = conv(x, edge_index[:, :0], polar[:0], transport[:0])
    torch.testing.assert_close(empty[5], out[5])
    assert not torch.allclose(empty[4], out[4])
    empty.sum().backward()
    assert torch.isfinite(x.grad).all()
    nothing = conv(x[:0], edge_index[:, :0], polar[:0], transport[:0])
    assert nothing.shape == (0, conv.types_out.dim)
    nothing.sum().backward()
