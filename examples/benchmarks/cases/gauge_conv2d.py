"""One harmonic convolution on images: one conv2d, against complex arithmetic pair by pair, and against the graph."""

import math

import torch
from harness import Case, Claim, Problem, Results
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq.groups import SO2Irreps
from geomeq.nn import GaugeConv2d
from geomeq.nn._grid_harmonics import Window, harmonics
from geomeq.transforms import PlaneGauge


def images(channels: int, max_order: int, batch: int = 8, size: int = 28, kernel_size: int = 5) -> Problem:
    """Features of every order, in and out."""
    rng = torch.Generator().manual_seed(0)
    types = SO2Irreps.band(channels, max_order)
    shape = (batch, types.dim, size, size)
    return {
        "types": types,
        "k": kernel_size,
        "x": torch.randn(shape, generator=rng).requires_grad_(),
        "grad": torch.randn(shape, generator=rng),
    }


def build(problem: Problem) -> GaugeConv2d:
    torch.manual_seed(1)
    layer = GaugeConv2d(problem["types"], problem["types"], problem["k"], bias=False)
    return layer.to(problem["x"].device, problem["x"].dtype)


def forward_backward(layer, x: Tensor, grad: Tensor, parameters: list[Tensor]) -> Results:
    out = layer(x)
    grads = torch.autograd.grad(out, (x, *parameters), grad)
    return {"out": out, "grad x": grads[0], "grad weight": grads[1]}


def geomeq(problem: Problem):
    """As in training: after every step the kernel is made again."""
    layer = build(problem)

    def run() -> Results:
        layer.clear_cache()
        return forward_backward(layer, problem["x"], problem["grad"], [layer.weight, layer.self_weight])

    return run


def geomeq_channels_last(problem: Problem):
    """The same with the memory layout that the layers around it leave behind."""
    layer = build(problem)
    x = problem["x"].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    grad = problem["grad"].contiguous(memory_format=torch.channels_last)

    def run() -> Results:
        layer.clear_cache()
        return forward_backward(layer, x, grad, [layer.weight, layer.self_weight])

    return run


def conv2d(problem: Problem):
    """The floor: the same kernel, as if it were free."""
    kernel = build(problem).kernel().detach().requires_grad_()

    def run() -> Results:
        out = nn.functional.conv2d(problem["x"], kernel, padding=problem["k"] // 2)
        grads = torch.autograd.grad(out, (problem["x"], kernel), problem["grad"])
        return {"out": out, "grad x": grads[0]}

    return run


class Straightforward(nn.Module):
    """Streams of complex features; each pair of orders has complex filters, built in every pass, and four real conv2ds.

    The published form, with the conjugate part that gives the layer its full kernel space.
    """

    def __init__(self, layer: GaugeConv2d) -> None:
        super().__init__()
        self.types, self.rings, self.k = layer.types_in, layer.rings, layer.kernel_size
        self.weight, self.own = layer.weight, layer.self_weight
        self.matrix = layer._self.matrix
        window = Window(self.k, self.rings, layer.cutoff, layer.basis, False, 1 / (math.pi * layer.cutoff**2))
        self.scale = window.scale
        top = 2 * self.types.max_order
        tables = torch.stack([harmonics(window, f) for f in range(top + 1)])
        self.register_buffer("tables", tables.unflatten(2, (self.k, self.k)))

    def table(self, frequency: int) -> tuple[Tensor, Tensor]:
        cos, sin = self.tables[abs(frequency)].to(self.weight).unbind(-1)
        return cos, -sin if frequency < 0 else sin

    def filters(self, real: Tensor, imaginary: Tensor, frequency: int) -> tuple[Tensor, Tensor]:
        cos, sin = (self.scale * t for t in self.table(frequency))
        first = torch.einsum("qoc,qyx->ocyx", real, cos) - torch.einsum("qoc,qyx->ocyx", imaginary, sin)
        return first, torch.einsum("qoc,qyx->ocyx", real, sin) + torch.einsum("qoc,qyx->ocyx", imaginary, cos)

    def parts(self, rows: slice, columns: slice, m: int, n: int) -> list[tuple[Tensor, Tensor, int, int]]:
        """Of ``B z = a z + b conj(z)``: real and imaginary part, frequency, and the sign of the imaginary input."""
        block = self.weight[:, rows, columns]
        zero = torch.zeros_like(block[:, :: 2 if m else 1, :: 2 if n else 1])
        if not m and not n:
            return [(block, zero, 0, 1)]
        if not n:
            return [(block[:, 0::2], block[:, 1::2], m, 1)]
        if not m:
            return [(block[:, :, 0::2], -block[:, :, 1::2], -n, 1)]
        b00, b01, b10, b11 = (block[:, i::2, j::2] for i in range(2) for j in range(2))
        return [
            ((b00 + b11) / 2, (b10 - b01) / 2, m - n, 1),
            ((b00 - b11) / 2, (b10 + b01) / 2, m + n, -1),
        ]

    def forward(self, x: Tensor) -> Tensor:
        own = self.matrix(self.own)
        out = []
        for (_, m), rows in zip(self.types, self.types.slices(), strict=True):
            re: Tensor | float = 0.0
            im: Tensor | float = 0.0
            for (_, n), columns in zip(self.types, self.types.slices(), strict=True):
                stream = x[:, columns]
                real = stream[:, 0::2] if n else stream
                imaginary = stream[:, 1::2] if n else torch.zeros_like(stream)
                for a, b, frequency, sign in self.parts(rows, columns, m, n):
                    w_re, w_im = self.filters(a, b, frequency)
                    inputs = (real, sign * imaginary)
                    rr, ri = (nn.functional.conv2d(z, w_re, padding=self.k // 2) for z in inputs)
                    ir, ii = (nn.functional.conv2d(z, w_im, padding=self.k // 2) for z in inputs)
                    re, im = re + rr - ii, im + ri + ir
            out.append(torch.stack([re, im], 2).flatten(1, 2) if m else re)  # type: ignore[list-item]
        return torch.cat(out, 1) + torch.einsum("oc,bcyx->boyx", own, x)


def straightforward(problem: Problem):
    layer = Straightforward(build(problem))
    return lambda: forward_backward(layer, problem["x"], problem["grad"], [layer.weight, layer.own])


def graph(problem: Problem):
    """``GaugeConv`` on the graph of the pixels; the graph and its plan were made before."""
    layer = build(problem).graph_layer()
    size, x = problem["x"].size(-1), problem["x"]
    grid = PlaneGauge(problem["k"] / 2, grid=size, dtype=x.dtype)(Data()).to(x.device)
    nodes = x.detach().flatten(2).mT.contiguous().requires_grad_()
    grad = problem["grad"].flatten(2).mT.contiguous()

    def run() -> Results:
        out = layer(nodes, grid.edge_index, grid.polar, grid.transport, grid.area)
        grads = torch.autograd.grad(out, (nodes, layer.weight, layer.self_weight), grad)
        found = {"out": out.mT, "grad x": grads[0].mT}
        return {name: v.unflatten(2, (size, size)) for name, v in found.items()} | {"grad weight": grads[1]}

    return run


def reference(problem: Problem) -> Results:
    """Complex arithmetic in float64, with the weights as the others drew them."""
    layer = Straightforward(build(problem | {"x": problem["x"].float()}).double())
    x = problem["x"].detach().requires_grad_()
    return forward_backward(layer, x, problem["grad"], [layer.weight, layer.own])


SIZES = {f"{c} fields, orders 0..{m}": {"channels": c, "max_order": m} for c in (8, 16) for m in (1, 2)}

CASES = [
    Case(
        "gauge_conv2d",
        "one harmonic convolution of size 5 on 8 images of 28 x 28, forward and backward",
        sizes=SIZES,
        quick={name: size | {"channels": 2, "batch": 2, "size": 9} for name, size in SIZES.items()},
        setup=images,
        contenders={
            "geomeq": geomeq,
            "geomeq, channels last": geomeq_channels_last,
            "conv2d of the kernel": conv2d,
            "four conv2ds per pair of orders": straightforward,
            "graph": graph,
        },
        peer="four conv2ds per pair of orders",
        reference=reference,
        claims=(
            Claim("twice as fast as complex arithmetic", "geomeq", "four conv2ds per pair of orders", 0.5),
            Claim("within 1.1 times plain conv2d and a millisecond", "geomeq", "conv2d of the kernel", 1.1, 1e-3),
            Claim("faster than the graph", "geomeq", "graph"),
        ),
    ),
]
