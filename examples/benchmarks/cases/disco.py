"""One discrete-continuous convolution on a grid of rings, forward and backward, against compiled torch-harmonics."""

import math

import torch
from harness import Case, Claim, Problem, Results, Unavailable
from torch import Tensor

from geomeq import spheres
from geomeq.nn import DiscoConv

_CSR_NODES = 100_000  # above, sparse rows need gigabytes


def grid(channels: int, rows: int, columns: int, pixels: int) -> Problem:
    """Random features on an equiangular grid; the cut-off is that many steps between rows."""
    rng = torch.Generator().manual_seed(0)
    shape = (1, rows * columns, channels)
    return {
        "size": (rows, columns),
        "cutoff": pixels * math.pi / (rows - 1),
        "x": torch.randn(shape, generator=rng).requires_grad_(),
        "grad": torch.randn(shape, generator=rng),
        "weight": torch.randn(channels, channels, 4, generator=rng) / math.sqrt(4 * channels),
    }


def results(out: Tensor, x: Tensor, weight: Tensor, grad: Tensor) -> Results:
    of_x, of_weight = torch.autograd.grad(out, (x, weight), grad)
    return {"out": out, "grad x": of_x, "grad weight": of_weight}


def layer(problem: Problem, path: str) -> DiscoConv:
    channels, sampling = problem["x"].size(2), spheres.equiangular(*problem["size"])
    built = DiscoConv(
        channels, channels, sampling, sampling, basis="piecewise_linear", cutoff=problem["cutoff"], norm="mean",
        bias=False, path=path,
    )  # fmt: skip
    built.weight.data = problem["weight"].clone()
    return built.to(problem["x"])


def ours(path: str):
    def prepare(problem: Problem):
        if path == "csr" and problem["x"].size(1) > _CSR_NODES:
            raise Unavailable(f"sparse rows of {problem['x'].size(1)} nodes need gigabytes")
        built = layer(problem, path)
        return lambda: results(built(problem["x"]), problem["x"], built.weight, problem["grad"])

    return prepare


def torch_harmonics(fused: bool):
    """Channels before nodes, as that package has them."""

    def prepare(problem: Problem):
        try:
            from torch_harmonics import DiscreteContinuousConvS2
        except ImportError:
            raise Unavailable("pip install torch-harmonics") from None
        size, channels = problem["size"], problem["x"].size(2)
        conv = DiscreteContinuousConvS2(
            channels, channels, size, size, kernel_shape=(3, 3), basis_type="piecewise linear", basis_norm_mode="mean",
            grid_in="equiangular", grid_out="equiangular", theta_cutoff=problem["cutoff"], bias=False,
            optimized_kernel=True, fused=fused,
        ).to(problem["x"])  # fmt: skip
        conv.weight.data = problem["weight"].clone().view_as(conv.weight)
        x = problem["x"].detach().transpose(1, 2).reshape(1, channels, *size).contiguous().requires_grad_()
        grad = problem["grad"].transpose(1, 2).reshape(1, channels, *size).contiguous()

        def run() -> Results:
            found = results(conv(x), x, conv.weight, grad)
            nodes = {name: found[name].flatten(2).transpose(1, 2) for name in ("out", "grad x")}
            return nodes | {"grad weight": found["grad weight"].view_as(problem["weight"])}

        return run

    return prepare


SIZES = {
    f"{rows} x {columns}, {channels} channels, {pixels} pixels": {
        "channels": channels,
        "rows": rows,
        "columns": columns,
        "pixels": pixels,
    }
    for channels, rows, columns in ((32, 91, 180), (32, 181, 360), (16, 256, 512), (16, 512, 1024))
    for pixels in (2, 4)
}
PEERS = ("torch-harmonics", "torch-harmonics, fused")

CASES = [
    Case(
        "disco",
        "one DISCO convolution of shape (3, 3) on an equiangular grid, forward and backward",
        sizes=SIZES,
        quick={name: size | {"channels": 2, "rows": 13, "columns": 24} for name, size in list(SIZES.items())[:2]},
        setup=grid,
        contenders={
            "geomeq": ours("auto"),
            "geomeq, ring": ours("ring"),
            "geomeq, csr": ours("csr"),
            "torch-harmonics": torch_harmonics(False),
            "torch-harmonics, fused": torch_harmonics(True),
        },
        peer="torch-harmonics",
        reference=lambda problem: ours("ring")(problem)(),
        claims=tuple(Claim(f"2.5 times as fast as {peer}", "geomeq", peer, 0.4) for peer in PEERS),
    ),
]
