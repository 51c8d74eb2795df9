"""One group convolution on images against a plain conv2d of the expanded shape, and against escnn."""

import time

import torch
from harness import Case, Claim, Problem, Results, Unavailable
from torch import nn

from geomeq.nn import GroupConv2d


def images(group: str, kernel_size: int, batch: int = 16, size: int = 28, ins: int = 8, outs: int = 16) -> Problem:
    """Regular fields as in the specification of the layer."""
    rng = torch.Generator().manual_seed(0)
    order = int(group[1:])
    return {
        "group": group,
        "k": kernel_size,
        "fields": (ins, outs),
        "x": torch.randn(batch, ins, order, size, size, generator=rng).requires_grad_(),
        "grad": torch.randn(batch, outs, order, size, size, generator=rng),
    }


def build(problem: Problem) -> GroupConv2d:
    torch.manual_seed(1)
    layer = GroupConv2d(problem["group"], *problem["fields"], problem["k"], padding=problem["k"] // 2)
    return layer.to(problem["x"].device, problem["x"].dtype)


def forward_backward(layer: nn.Module, x: torch.Tensor, grad: torch.Tensor) -> Results:
    out = layer(x)
    grads = torch.autograd.grad(out, (x, *layer.parameters()), grad)
    return {"out": out.flatten(1, 2) if out.dim() == 5 else out, "grad x": grads[0]}


def geomeq(problem: Problem):
    """As in training: after every step the filters are expanded again."""
    layer = build(problem)

    def run() -> Results:
        layer.clear_cache()
        return forward_backward(layer, problem["x"], problem["grad"])

    return run


def geomeq_cached(problem: Problem):
    """A further pass of the same optimiser step."""
    layer = build(problem)
    return lambda: forward_backward(layer, problem["x"], problem["grad"])


def conv2d(problem: Problem):
    """The floor: the same filters, already expanded, as if they were free."""
    layer = build(problem).export()
    x = problem["x"].detach().flatten(1, 2).requires_grad_()
    grad = problem["grad"].flatten(1, 2)
    return lambda: forward_backward(layer, x, grad)


def escnn(problem: Problem):
    try:
        from escnn import gspaces
        from escnn import nn as enn
    except ImportError as error:
        raise Unavailable("needs escnn: pip install escnn (with numpy < 2)") from error
    space = gspaces.rot2dOnR2(int(problem["group"][1:]))
    types = [enn.FieldType(space, n * [space.regular_repr]) for n in problem["fields"]]
    layer = enn.R2Conv(*types, kernel_size=problem["k"], padding=problem["k"] // 2)
    x = problem["x"].detach().flatten(1, 2).requires_grad_()
    grad = problem["grad"].flatten(1, 2)

    def run() -> Results:  # its own solution of the same shape: times compare, numbers do not
        torch.autograd.grad(layer(enn.GeometricTensor(x, types[0])).tensor, (x, *layer.parameters()), grad)
        return {}

    return run


def reference(problem: Problem) -> Results:
    """Plain conv2d in float64, with the weights as the others drew them."""
    layer = build(problem | {"x": problem["x"].float()}).double().export()
    x = problem["x"].detach().flatten(1, 2).requires_grad_()
    found = forward_backward(layer, x, problem["grad"].flatten(1, 2))
    return found | {"grad x": found["grad x"].view_as(problem["x"])}


def constructor(problem: Problem):
    """Time to make a layer, when others of its kind were made before (tables are shared)."""

    def run() -> Results:
        build(problem)
        return {}

    return run


def five_milliseconds(problem: Problem):
    def run() -> Results:
        stop = time.perf_counter() + 5e-3
        while time.perf_counter() < stop:
            pass
        return {}

    return run


SIZES = {f"{g}, k={k}": {"group": g, "kernel_size": k} for g in ("C4", "C8") for k in (3, 5)}
QUICK = {
    f"{g}, k={k}": {"group": g, "kernel_size": k, "batch": 2, "size": 8, "ins": 2, "outs": 2}
    for g in ("C4", "C8")
    for k in (3, 5)
}

CASES = [
    Case(
        "group_conv2d",
        "one group convolution, forward and backward, batch 16 of 28 x 28, 8 to 16 fields",
        sizes=SIZES,
        quick=QUICK,
        setup=images,
        contenders={
            "geomeq": geomeq,
            "geomeq, filters kept": geomeq_cached,
            "conv2d of the expanded shape": conv2d,
            "escnn": escnn,
        },
        peer="conv2d of the expanded shape",
        reference=reference,
        claims=(
            Claim("within 1.05 times plain conv2d", "geomeq", "conv2d of the expanded shape", 1.05),
            Claim("at par with escnn", "geomeq", "escnn", 1.05),
        ),
    ),
    Case(
        "group_conv2d_constructor",
        "making that layer",
        sizes=SIZES,
        quick=QUICK,
        setup=images,
        contenders={"geomeq": constructor, "5 ms": five_milliseconds},
        peer="5 ms",
        claims=(Claim("made in less than 5 ms", "geomeq", "5 ms"),),
        memory=False,
    ),
]
