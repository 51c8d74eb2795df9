"""Products of float32 matrices by oneDNN and as torch computes them, by MKL."""

import torch
from harness import Case, Problem, Results

from geomeq.ops._product import linear


def rows(rows: int, inputs: int, outputs: int) -> Problem:
    """A linear map of many rows, as messages have them."""
    rng = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(rows, inputs, generator=rng).requires_grad_(),
        "weight": (torch.randn(outputs, inputs, generator=rng) / inputs**0.5).requires_grad_(),
        "grad": torch.randn(rows, outputs, generator=rng),
    }


def by(function):
    def prepare(problem: Problem):
        def run() -> Results:
            out = function(problem["x"], problem["weight"])
            found = torch.autograd.grad(out, (problem["x"], problem["weight"]), problem["grad"])
            return {"out": out.detach(), "grad x": found[0], "grad weight": found[1]}

        return run

    return prepare


def reference(problem: Problem) -> Results:
    return by(torch.nn.functional.linear)(problem)()


SIZES = ((1_000, 128, 128), (4_000, 128, 608), (4_000, 256, 2_432), (20_000, 64, 64), (20_000, 384, 256))

CASES = [
    Case(
        "product",
        "linear map, forward and backward",
        sizes={f"{r:,} x {i} to {o}": {"rows": r, "inputs": i, "outputs": o} for r, i, o in SIZES},
        quick={"300 x 64 to 64": {"rows": 300, "inputs": 64, "outputs": 64}},
        setup=rows,
        contenders={"geomeq": by(linear), "torch": by(torch.nn.functional.linear)},
        peer="torch",
        reference=reference,
    )
]
