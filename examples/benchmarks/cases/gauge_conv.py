"""One gauge-equivariant layer against the same computed edge by edge, as published code computes it."""

from math import pi

import torch
from harness import Case, Claim, Problem, Results
from torch import Tensor

from geomeq.groups import icosphere
from geomeq.nn import GaugeConv

MAX_ORDER, RINGS = 2, 2


def sphere(level: int, channels: int, hops: int = 1) -> Problem:
    """Vertices of an icosphere with frames at random, edges to all neighbours within some hops."""
    rng = torch.Generator().manual_seed(0)
    mesh = icosphere(level)
    near = torch.cat([mesh.edge, mesh.edge.flip(0)], dim=1)
    adjacency = torch.sparse_coo_tensor(near, torch.ones(near.size(1)), (len(mesh.pos),) * 2)
    reach = adjacency
    for _ in range(hops - 1):
        reach = reach @ adjacency + adjacency
    target, source = reach.coalesce().indices()
    source, target = source[source != target], target[source != target]
    angle, back, r = great_circles(mesh.pos, source, target, rng)
    dim = channels * (2 * MAX_ORDER + 1)
    return {
        "channels": channels,
        "edge_index": torch.stack([source, target]),
        "polar": torch.stack([r, angle], dim=1).float(),
        "transport": (angle - back - pi).float(),
        "cutoff": float(r.max()),
        "x": torch.randn(len(mesh.pos), dim, generator=rng).requires_grad_(),
        "grad": torch.randn(len(mesh.pos), dim, generator=rng),
    }


def great_circles(pos: Tensor, source: Tensor, target: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Direction of the source at the target, of the target at the source, and the distance."""
    e1 = torch.randn(pos.shape, generator=rng, dtype=pos.dtype)
    e1 = torch.nn.functional.normalize(e1 - (e1 * pos).sum(1, keepdim=True) * pos, dim=1)
    e2 = torch.linalg.cross(pos, e1)

    def direction(here: Tensor, there: Tensor) -> Tensor:
        return torch.atan2((e2[here] * pos[there]).sum(1), (e1[here] * pos[there]).sum(1))

    r = 2 * torch.asin((pos[source] - pos[target]).norm(dim=1) / 2)
    return direction(target, source), direction(source, target), r


def build(problem: Problem, **options) -> GaugeConv:
    torch.manual_seed(1)
    types = "+".join(f"{problem['channels']}x{order}" for order in range(MAX_ORDER + 1))
    conv = GaugeConv(types, types, rings=RINGS, cutoff=problem["cutoff"], weight="mean", **options)
    return conv.to(problem["x"].device, problem["x"].dtype)


def forward_backward(problem: Problem, conv: GaugeConv, layer) -> Results:
    out = layer(problem["x"])
    names = [name for name, _ in conv.named_parameters()]
    grads = torch.autograd.grad(out, (problem["x"], *conv.parameters()), problem["grad"])
    return {"out": out, **{f"grad {name}": g for name, g in zip(["x", *names], grads, strict=True)}}


def geometry(problem: Problem) -> tuple[Tensor, ...]:
    return problem["edge_index"], problem["polar"], problem["transport"]


def ours(share: bool = True, **options):
    def prepare(problem: Problem):
        conv = build(problem, **options)
        nodes = len(problem["x"])
        plan = conv.plan(*geometry(problem), num_nodes=nodes)

        def run() -> Results:
            used = plan if share else conv.plan(*geometry(problem), num_nodes=nodes)
            return forward_backward(problem, conv, lambda x: conv(x, used))

        return run

    return prepare


def per_edge(problem: Problem):
    """Edges with self loops, which carry the self interaction as one more ring; everything on ``[E, C, D]``."""
    conv = build(problem)
    (source, target), polar, transport = geometry(problem)
    nodes, channels = torch.arange(len(problem["x"]), device=source.device), problem["channels"]
    source, target = torch.cat([source, nodes]), torch.cat([target, nodes])
    near = torch.ones_like(transport)
    degree = torch.zeros(len(nodes), dtype=near.dtype, device=near.device).index_add(0, target[: len(near)], near)
    none = near.new_zeros(len(nodes))
    share = torch.cat([1 / degree[target[: len(near)]], none + 1])
    angle, transport = torch.cat([polar[:, 1], none]), torch.cat([transport, none])
    far = (polar[:, 0] / conv.cutoff).clamp(max=1)
    zero = torch.zeros_like(far)
    rings = torch.cat([torch.stack([zero, 1 - far, far], dim=1), torch.stack([none + 1, none, none], dim=1)])
    scalars = torch.arange(channels, device=source.device)

    def columns(order: int) -> slice:
        return slice(channels * max(2 * order - 1, 0), channels * (2 * order + 1))

    def by_channel(x: Tensor) -> Tensor:
        """``[..., dim]`` to ``[..., C, D]``."""
        parts = [x[..., columns(m)].unflatten(-1, (channels, -1)) for m in range(MAX_ORDER + 1)]
        return torch.cat(parts, dim=-1)

    def turned(x: Tensor, angle: Tensor) -> Tensor:
        parts = [x[..., :1]]
        for order in range(1, MAX_ORDER + 1):
            c, s = torch.cos(order * angle)[:, None], torch.sin(order * angle)[:, None]
            a, b = x[..., 2 * order - 1], x[..., 2 * order]
            parts.append(torch.stack([c * a - s * b, s * a + c * b], dim=-1))
        return torch.cat(parts, dim=-1)

    def layer(x: Tensor) -> Tensor:
        weight = torch.cat([conv._self.matrix(conv.self_weight)[None], conv.weight])
        weight = by_channel(by_channel(weight).permute(0, 2, 3, 1))  # [ring, C, D, C', D']
        neighbour = by_channel(x)[source]
        along = turned(neighbour, transport - angle)
        mixed = torch.einsum("eci,er,rcioj->eoj", along, rings, weight)
        message = turned(mixed, angle) * share[:, None, None]
        out = torch.zeros_like(message[: len(nodes)]).index_add(0, target, message)
        flat = torch.cat([out[..., columns_of].flatten(1) for columns_of in (slice(0, 1), slice(1, 3), slice(3, 5))], 1)
        return flat.index_add(1, scalars, conv.bias.expand(len(nodes), -1))

    return lambda: forward_backward(problem, conv, layer)


def reference(**options):
    """The formula in float64, with the weights that the others drew."""
    return lambda problem: ours(path="edge", **options)(problem)()


SIZES = {
    f"V={10 * 4**level + 2}, C={channels}": {"level": level, "channels": channels}
    for level in (4, 5)
    for channels in (16, 32, 64)
}
TWO_HOPS = {"V=2562, C=16, two hops": {"level": 4, "channels": 16, "hops": 2}}

CASES = [
    Case(
        "gauge_conv",
        "one gauge-equivariant layer, orders up to 2, two rings, forward and backward",
        sizes=SIZES | TWO_HOPS,
        quick={"V=42, C=2": {"level": 1, "channels": 2}},
        setup=sphere,
        contenders={
            "geomeq": ours(),
            "geomeq, plan made in the call": ours(share=False),
            "geomeq, a message per edge": ours(path="edge"),
            "per edge": per_edge,
        },
        peer="per edge",
        reference=reference(),
        claims=(Claim("at least six times faster than per edge", "geomeq", "per edge", 1 / 6),),
    ),
    Case(
        "gauge_conv_smooth",
        "the same layer with smooth rings and powers of the radius",
        sizes={size: SIZES[size] for size in ("V=2562, C=16", "V=2562, C=32")},
        quick={"V=42, C=2": {"level": 1, "channels": 2}},
        setup=sphere,
        contenders={
            "geomeq": ours(basis="smooth"),
            "geomeq, a message per edge": ours(path="edge", basis="smooth"),
        },
        peer="geomeq, a message per edge",
        reference=reference(basis="smooth"),
    ),
]
