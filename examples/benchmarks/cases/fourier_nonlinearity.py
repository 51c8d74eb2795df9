"""``FourierNonlinearity`` against the same function by plain autograd, which keeps its samples."""

import torch
from harness import Case, Claim, Problem, Results

from geomeq.groups import SO2Irreps
from geomeq.nn import FourierNonlinearity


def features(nodes: int, channels: int, max_order: int, act: str = "silu", samples: int | None = None) -> Problem:
    """Normal features of every order up to ``max_order``."""
    rng = torch.Generator().manual_seed(0)
    types = SO2Irreps.band(channels, max_order)
    count = samples or FourierNonlinearity(types, act).default_samples()
    return {
        "types": str(types),
        "act": act,
        "samples": count,
        "x": torch.randn(nodes, types.dim, generator=rng).requires_grad_(),
        "grad": torch.randn(nodes, types.dim, generator=rng),
    }


def derivative(problem: Problem, y: torch.Tensor) -> Results:
    (grad,) = torch.autograd.grad(y, problem["x"], problem["grad"])
    return {"y": y.detach(), "grad": grad}


def geomeq(problem: Problem):
    layer = FourierNonlinearity(problem["types"], problem["act"], problem["samples"])
    return lambda: derivative(problem, layer(problem["x"]))


def tables(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples of unit coefficients, and the way back, for channels that have all orders."""
    layer = FourierNonlinearity(problem["types"], problem["act"], problem["samples"])
    basis = layer._bases[problem["samples"]][0].like(problem["x"])
    return basis, basis.t() * layer._scales[problem["samples"]][0]


def plain(problem: Problem, x: torch.Tensor, there: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
    """Three lines, as one would write them."""
    types = SO2Irreps(problem["types"])
    table = torch.cat(types.split(x), dim=-1)
    u = getattr(torch.nn.functional, problem["act"])(table @ there)
    return types.join((u @ back).split([1] + [2] * types.max_order, dim=-1))


def autograd(problem: Problem):
    there, back = tables(problem)
    return lambda: derivative(problem, plain(problem, problem["x"], there, back))


def checkpointed(problem: Problem):
    from torch.utils.checkpoint import checkpoint

    there, back = tables(problem)
    return lambda: derivative(problem, checkpoint(plain, problem, problem["x"], there, back, use_reentrant=False))


def reference(problem: Problem) -> Results:
    there, back = tables(problem)
    return derivative(problem, plain(problem, problem["x"], there, back))


SIZES = {
    f"{nodes} nodes, {channels} channels, M={order}": {"nodes": nodes, "channels": channels, "max_order": order}
    for nodes, channels, order in ((2_562, 16, 2), (10_242, 32, 2), (10_242, 32, 1), (10_242, 16, 4))
}

CASES = [
    Case(
        "fourier_nonlinearity",
        "SiLU on the circle, forward and backward",
        sizes=SIZES,
        quick={"20 nodes, 4 channels, M=2": {"nodes": 20, "channels": 4, "max_order": 2}},
        setup=features,
        contenders={"geomeq": geomeq, "plain autograd": autograd, "checkpoint": checkpointed},
        peer="plain autograd",
        reference=reference,
        claims=(Claim("no slower than plain autograd", "geomeq", "plain autograd"),),
    )
]
