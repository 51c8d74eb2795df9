"""``geomeq.nn.GroupConv`` and ``geomeq.ops.typed_linear`` against PyG's relational layers and messages per edge."""

import torch
from harness import Case, Claim, Problem, Results
from torch_geometric.nn import FastRGCNConv, RGCNConv

from geomeq import groups
from geomeq.nn import GroupConv
from geomeq.ops import TypedPattern, typed_linear

GROUPS = {
    "icosahedral": groups.icosahedral,
    "octahedral": groups.octahedral,
    "D4": lambda: groups.dihedral(4),
    "C360": lambda: groups.cyclic(360),
    "p4(8)": lambda: groups.plane_group("p4", 8),
}


def signals(group: str, channels: int, batch: int, window: int = 0) -> Problem:
    """Random signals on a group, filters on all of it or on a window of its translations, and a gradient."""
    rng = torch.Generator().manual_seed(0)
    made = GROUPS[group]()
    support = torch.arange(made.order)
    if window:
        reach = [i % made.size for i in range(-(window // 2), window // 2 + 1)]
        torus = support.view(-1, made.size, made.size)
        support = torus[:, reach][:, :, reach].flatten().sort().values
    target = torch.arange(made.order).repeat_interleave(len(support))
    edge_type = torch.arange(len(support)).repeat(made.order)
    return {
        "group": made,
        "support": support,
        "edge_index": torch.stack([made.compose(target, support[edge_type]), target]),
        "edge_type": edge_type,
        "x": torch.randn(batch, made.order, channels, generator=rng).requires_grad_(),
        "weight": (torch.randn(len(support), channels, channels, generator=rng) / len(support) ** 0.5).requires_grad_(),
        "grad": torch.randn(batch, made.order, channels, generator=rng),
    }


def with_gradients(problem: Problem, function, weight) -> Results:
    out = function(problem["x"])
    grad_x, grad_weight = torch.autograd.grad(out, (problem["x"], weight), problem["grad"])
    return {"out": out, "grad x": grad_x, "grad weight": grad_weight}


def group_conv(path: str):
    def contender(problem: Problem):
        channels = problem["x"].size(-1)
        layer = GroupConv(problem["group"], channels, channels, support=problem["support"], bias=False, path=path)
        with torch.no_grad():
            layer.weight.copy_(problem["weight"])
        name = layer.choose_path(len(problem["x"])) if path == "auto" else path
        made = layer._prepare(name)

        def run() -> Results:
            if hasattr(made, "once"):
                made.once.clear()  # as after an optimiser step
            return with_gradients(problem, layer, layer.weight)

        return run

    return contender


def pyg(kind):
    """PyG's layer takes one graph: the batch becomes copies of it, built once outside the clock."""

    def contender(problem: Problem):
        batch, nodes, channels = problem["x"].shape
        types = len(problem["support"])
        layer = kind(channels, channels, types, aggr="sum", root_weight=False, bias=False)
        with torch.no_grad():
            layer.weight.copy_(problem["weight"])
        shift = nodes * torch.arange(batch).view(1, -1, 1)
        edge_index = (problem["edge_index"][:, None] + shift).flatten(1)
        edge_type = problem["edge_type"].repeat(batch)

        def forward(x):
            return layer(x.flatten(0, 1), edge_index, edge_type).view_as(x)

        return lambda: with_gradients(problem, forward, layer.weight)

    return contender


def per_edge(problem: Problem):
    """``x_j W[type]`` for every edge, added at its target."""
    (source, target), edge_type, weight = problem["edge_index"], problem["edge_type"], problem["weight"]

    def forward(x):
        message = torch.einsum("bec,eco->beo", x.index_select(1, source), weight.index_select(0, edge_type))
        return torch.zeros_like(x).index_add(1, target, message)

    return lambda: with_gradients(problem, forward, weight)


def typed(path: str):
    def contender(problem: Problem):
        pattern = TypedPattern(
            problem["edge_index"], problem["edge_type"], len(problem["support"]), problem["x"].size(1)
        )
        weight = problem["weight"]
        return lambda: with_gradients(problem, lambda x: typed_linear(x, weight, pattern, path), weight)

    return contender


def definition(problem: Problem) -> Results:
    """Type by type, in the precision of the problem."""
    (source, target), edge_type, weight = problem["edge_index"], problem["edge_type"], problem["weight"]
    x, grad = problem["x"].detach(), problem["grad"]
    out, grad_x, grad_weight = torch.zeros_like(grad), torch.zeros_like(x), torch.zeros_like(weight)
    for t in range(len(weight)):
        j, i = source[edge_type == t], target[edge_type == t]
        out.index_add_(1, i, x[:, j] @ weight[t].detach())
        grad_x.index_add_(1, j, grad[:, i] @ weight[t].detach().T)
        grad_weight[t] = torch.einsum("bec,beo->co", x[:, j], grad[:, i])
    return {"out": out, "grad x": grad_x, "grad weight": grad_weight}


def random_relations(nodes: int, edges: int, types: int, channels: int, batch: int) -> Problem:
    """A random relational graph."""
    rng = torch.Generator().manual_seed(0)
    return {
        "edge_index": torch.randint(nodes, (2, edges), generator=rng),
        "edge_type": torch.randint(types, (edges,), generator=rng),
        "support": range(types),
        "x": torch.randn(batch, nodes, channels, generator=rng).requires_grad_(),
        "weight": (torch.randn(types, channels, channels, generator=rng) / channels**0.5).requires_grad_(),
        "grad": torch.randn(batch, nodes, channels, generator=rng),
    }


ICOSAHEDRAL = "icosahedral group, 16 channels, batch 64"
PATHS = {f"geomeq, {path}": group_conv(path) for path in ("auto", "graph", "dense", "fourier", "conv2d", "fft")}

CASES = [
    Case(
        "group_conv",
        "forward and backward of a group convolution, filters expanded anew as after each optimiser step",
        sizes={ICOSAHEDRAL: {"group": "icosahedral", "channels": 16, "batch": 64}},
        quick={"octahedral group, 4 channels, batch 2": {"group": "octahedral", "channels": 4, "batch": 2}},
        setup=signals,
        contenders={
            "geomeq": group_conv("auto"),
            "geomeq, dense": group_conv("dense"),
            "geomeq, typed messages": group_conv("graph"),
            "PyG RGCNConv": pyg(RGCNConv),
            "PyG FastRGCNConv": pyg(FastRGCNConv),
            "message per edge": per_edge,
        },
        peer="PyG RGCNConv",
        reference=definition,
        claims=(
            Claim("at least 5x faster than PyG's typed messages", "geomeq", "PyG RGCNConv", times=0.2),
            Claim("at least 5x faster than a message per edge", "geomeq", "message per edge", times=0.2),
        ),
    ),
    Case(
        "group_conv_paths",
        "the paths of GroupConv, forward and backward; auto should be near the best of each size",
        sizes={
            ICOSAHEDRAL: {"group": "icosahedral", "channels": 16, "batch": 64},
            "icosahedral group, 64 channels, batch 64": {"group": "icosahedral", "channels": 64, "batch": 64},
            "D4, 16 channels, batch 64": {"group": "D4", "channels": 16, "batch": 64},
            "C360, 16 channels, batch 16": {"group": "C360", "channels": 16, "batch": 16},
            "p4(8), 3 x 3 window, 8 channels, batch 16": {"group": "p4(8)", "channels": 8, "batch": 16, "window": 3},
        },
        quick={"D4, 2 channels, batch 2": {"group": "D4", "channels": 2, "batch": 2}},
        setup=signals,
        contenders=PATHS,
        peer="geomeq, graph",
        reference=definition,
        claims=(Claim("auto is no slower than typed messages", "geomeq, auto", "geomeq, graph", times=1.1),),
    ),
    Case(
        "typed_linear",
        "messages x_j W[type] summed at the target, forward and backward",
        sizes={
            "5000 nodes, 40000 edges, 8 types, 32 channels": {
                "nodes": 5_000, "edges": 40_000, "types": 8, "channels": 32, "batch": 1,
            },
            "20000 nodes, 40000 edges, 50 types, 32 channels": {
                "nodes": 20_000, "edges": 40_000, "types": 50, "channels": 32, "batch": 1,
            },
        },
        quick={"20 nodes": {"nodes": 20, "edges": 40, "types": 3, "channels": 4, "batch": 1}},
        setup=random_relations,
        contenders={
            "geomeq": typed("auto"),
            "geomeq, rows": typed("rows"),
            "geomeq, sorted": typed("sorted"),
            "PyG RGCNConv": pyg(RGCNConv),
            "message per edge": per_edge,
        },
        peer="PyG RGCNConv",
        reference=definition,
        claims=(Claim("no slower than PyG's layer", "geomeq", "PyG RGCNConv"),),
    ),
]  # fmt: skip
