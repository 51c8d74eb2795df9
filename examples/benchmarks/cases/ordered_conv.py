"""``geomeq.nn.OrderedConv`` on HEALPix against the ways in which such layers are computed elsewhere."""

import torch
from harness import Case, Claim, Problem, Results
from torch import Tensor

from geomeq.nn import OrderedConv
from geomeq.spheres import healpix_neighbours


def sphere(nside: int, channels: int, batch: int = 1, stride: int = 1) -> Problem:
    """A random signal in nested order, random weights, a gradient."""
    rng = torch.Generator().manual_seed(0)
    pixels = 12 * nside**2
    return {
        "nside": nside,
        "stride": stride,
        "x": torch.randn(batch, pixels, channels, generator=rng).requires_grad_(),
        "weight": (torch.randn(9, channels, channels, generator=rng) / (9 * channels) ** 0.5).requires_grad_(),
        "bias": torch.randn(channels, generator=rng).requires_grad_(),
        "grad": torch.randn(batch, pixels // stride, channels, generator=rng),
    }


def with_gradients(problem: Problem, out: Tensor, weight: Tensor, bias: Tensor) -> Results:
    grads = torch.autograd.grad(out, (problem["x"], weight, bias), problem["grad"])
    return {"out": out, **dict(zip(("grad x", "grad weight", "grad bias"), grads, strict=True))}


def ours(path: str):
    def prepare(problem: Problem):
        x = problem["x"]
        layer = OrderedConv(x.size(2), x.size(2), problem["nside"], stride=problem["stride"], path=path)
        layer = layer.to(x.device, x.dtype)
        with torch.no_grad():
            layer.weight.copy_(problem["weight"])
            layer.bias.copy_(problem["bias"])
        return lambda: with_gradients(problem, layer(x), layer.weight, layer.bias)

    return prepare


def neighbours_in_turn(problem: Problem):
    """As the published code: one gather and one product for each of the eight neighbours, and a mask where it is not.

    With a stride it computes every pixel, and drops three of four.
    """
    x, weight, bias, stride = (problem[name] for name in ("x", "weight", "bias", "stride"))
    table = healpix_neighbours(problem["nside"]).to(x.device)
    columns, masks = table.clamp(min=0).T.contiguous(), (table >= 0).to(x.dtype).T.contiguous()

    def run() -> Results:
        out = x @ weight[0] + bias
        for column, mask, matrix in zip(columns, masks, weight[1:], strict=True):
            out = out + (x.index_select(1, column) * mask[:, None]) @ matrix
        return with_gradients(problem, out[:, ::stride], weight, bias)

    return run


def gathered_at_once(problem: Problem):
    """All nine inputs of every pixel side by side, ``[N, 9 C]``, and one product; a row of zeros for missing ones."""
    x, weight, bias, stride = (problem[name] for name in ("x", "weight", "bias", "stride"))
    table = healpix_neighbours(problem["nside"]).to(x.device)
    itself = torch.arange(len(table), device=x.device)[:, None]
    table = torch.cat([itself, torch.where(table < 0, len(table), table)], dim=1)[::stride]
    flat, zero = table.flatten(), x.new_zeros(x.size(0), 1, x.size(2))

    def run() -> Results:
        rows = torch.cat([x, zero], dim=1).index_select(1, flat).view(x.size(0), len(table), -1)
        return with_gradients(problem, rows @ weight.flatten(0, 1) + bias, weight, bias)

    return run


CONTENDERS = {
    "geomeq": ours("auto"),
    "geomeq, gather": ours("gather"),
    "gathered at once": gathered_at_once,
    "neighbours in turn": neighbours_in_turn,
}

CASES = [
    Case(
        "ordered_conv",
        "ordered convolution on HEALPix, forward and backward",
        sizes={
            "nside 32, 64 channels": {"nside": 32, "channels": 64},
            "nside 64, 64 channels": {"nside": 64, "channels": 64},
            "nside 128, 32 channels": {"nside": 128, "channels": 32},
            "nside 32, 32 channels, batch 8": {"nside": 32, "channels": 32, "batch": 8},
        },
        quick={"nside 4, 3 channels": {"nside": 4, "channels": 3}},
        setup=sphere,
        contenders=CONTENDERS,
        peer="neighbours in turn",
        reference=lambda problem: neighbours_in_turn(problem)(),
        claims=(
            Claim("at least 2.5 times as fast as the neighbours in turn", "geomeq", "neighbours in turn", 1 / 2.5),
            Claim("at least 3 times as fast as a gather of all at once", "geomeq", "gathered at once", 1 / 3),
            Claim("under 60 ms", "geomeq", "neighbours in turn", 0.0, 0.06, ("nside 64, 64 channels",)),
        ),
    ),
    Case(
        "ordered_conv_stride",
        "ordered convolution on HEALPix with stride 4, forward and backward",
        sizes={"nside 64, 64 channels": {"nside": 64, "channels": 64, "stride": 4}},
        quick={"nside 4, 3 channels": {"nside": 4, "channels": 3, "stride": 4}},
        setup=sphere,
        contenders=CONTENDERS,
        peer="neighbours in turn",
        reference=lambda problem: neighbours_in_turn(problem)(),
        claims=(Claim("at least 4 times as fast as dropping three of four", "geomeq", "neighbours in turn", 1 / 4),),
    ),
]
