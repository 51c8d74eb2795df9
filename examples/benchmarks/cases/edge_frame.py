"""A layer in the frame of the edge against e3nn's product with the harmonics of the edge; messages in chunks."""

import torch
from e3nn import o3
from harness import Case, Claim, Problem, Results
from torch import Tensor

from geomeq.harmonics import edge_wigner, spherical_harmonics
from geomeq.nn import SO2Linear, so2_from_paths
from geomeq.ops import EdgeLayout, EdgeRotation, edge_message

NODES_PER_EDGE = 1 / 16


def product_problem(lmax: int, edges: int = 10_000, channels: int = 32) -> Problem:
    """Random edges sorted by target; geometry is made before the clock starts, for both sides."""
    rng = torch.Generator().manual_seed(0)
    nodes = max(2, int(edges * NODES_PER_EDGE))
    edge_index = torch.randint(0, nodes, (2, edges), generator=rng)
    edge_index = edge_index[:, edge_index[1].argsort()]
    vec = torch.randn(edges, 3, generator=rng, dtype=torch.float64)
    size = (lmax + 1) ** 2
    paths = [
        (l1, l2, l3)
        for l1 in range(lmax + 1)
        for l2 in range(lmax + 1)
        for l3 in range(lmax + 1)
        if abs(l1 - l3) <= l2 <= l1 + l3 and (l1 + l2 + l3) % 2 == 0
    ]
    return {
        "lmax": lmax,
        "channels": channels,
        "edge_index": edge_index,
        "vec": vec,
        "attr": spherical_harmonics(vec, lmax).float(),
        "wigner": edge_wigner(vec, lmax).float(),
        "x": torch.randn(nodes, size, channels, generator=rng).requires_grad_(),
        "grad": torch.randn(nodes, size, channels, generator=rng),
        "paths": paths,
        "weights": torch.randn(len(paths), channels, channels, generator=rng) / channels**0.5,
    }


def by_path(problem: Problem) -> dict[tuple[int, int, int], Tensor]:
    return dict(zip(problem["paths"], problem["weights"].unbind(0), strict=True))


def named(out: Tensor, grad: Tensor) -> Results:
    return {"out": out, "grad x": grad}


def ours(problem: Problem):
    lmax, channels, x = problem["lmax"], problem["channels"], problem["x"]
    layer = SO2Linear(channels, channels, lmax, lmax, bias=False, reflections=True).to(x.dtype)
    with torch.no_grad():
        for own, made in zip(layer.weights, so2_from_paths(by_path(problem), lmax), strict=True):
            own.copy_(made[:1])
    rotation = EdgeRotation(problem["wigner"], problem["edge_index"], x.size(0), EdgeLayout(lmax))

    def run() -> Results:
        out = rotation.out_of_frame(layer(rotation.into_frame(x)))
        grads = torch.autograd.grad(out, [x, *layer.parameters()], problem["grad"])
        return named(out, grads[0])

    return run


def to_irreps(x: Tensor, lmax: int) -> Tensor:
    """``[N, (L+1)^2, C]`` in e3nn's order: channels before components."""
    parts = [x[:, deg**2 : (deg + 1) ** 2].mT.flatten(1) for deg in range(lmax + 1)]
    return torch.cat(parts, dim=1)


def from_irreps(x: Tensor, lmax: int, channels: int) -> Tensor:
    sizes = [channels * (2 * deg + 1) for deg in range(lmax + 1)]
    parts = [p.view(-1, channels, 2 * deg + 1).mT for deg, p in enumerate(x.split(sizes, dim=1))]
    return torch.cat(parts, dim=1)


def product(problem: Problem):
    """e3nn's fully connected product, compiled by e3nn, with the same function of the weights."""
    lmax, channels = problem["lmax"], problem["channels"]
    irreps = o3.Irreps([(channels, (deg, (-1) ** deg)) for deg in range(lmax + 1)])
    layer = o3.FullyConnectedTensorProduct(irreps, o3.Irreps.spherical_harmonics(lmax), irreps).to(problem["x"].dtype)
    ways = by_path(problem)
    with torch.no_grad():
        for ins, view in zip(layer.instructions, layer.weight_views(), strict=True):
            l1, l2, l3 = ins.i_in1, ins.i_in2, ins.i_out
            # e3nn scales a path by path_weight, and its 3j symbol has no sqrt(2 l3 + 1)
            view.copy_(ways[l1, l2, l3][:, None] * (2 * l3 + 1) ** 0.5 / ins.path_weight)
    x = to_irreps(problem["x"].detach(), lmax).requires_grad_()
    grad = to_irreps(problem["grad"], lmax)
    source, target = problem["edge_index"]

    def run() -> Results:
        message = layer(x.index_select(0, source), problem["attr"])
        out = torch.zeros_like(x).index_add(0, target, message)
        grads = torch.autograd.grad(out, [x, layer.weight], grad)
        return {"irreps out": out, "irreps grad": grads[0]}

    def in_common_order() -> Results:
        made = run()
        return named(*(from_irreps(t, lmax, channels) for t in made.values()))

    check = in_common_order()
    mine = ours(problem)()
    for name, tensor in check.items():
        gap = float((tensor - mine[name]).detach().abs().max() / tensor.detach().abs().max())
        if gap > 1e-4:
            raise RuntimeError(f"not the same function: {name} differs by {gap:.1e}")
    return run


def definition(problem: Problem) -> Results:
    """The sum over paths, in float64, from the formula."""
    lmax, x = problem["lmax"], problem["x"]
    attr = spherical_harmonics(problem["vec"], lmax)
    source, target = problem["edge_index"]
    sides = x.index_select(0, source)
    outs = [x.new_zeros(source.numel(), 2 * deg + 1, x.size(2)) for deg in range(lmax + 1)]
    for (l1, l2, l3), weight in by_path(problem).items():
        symbol = o3.wigner_3j(l1, l2, l3, dtype=x.dtype) * (2 * l3 + 1) ** 0.5
        turn = torch.einsum("abk,eb->eka", symbol, attr[:, l2**2 : (l2 + 1) ** 2])
        outs[l3] = outs[l3] + turn @ (sides[:, l1**2 : (l1 + 1) ** 2] @ weight)
    out = torch.zeros_like(x).index_add(0, target, torch.cat(outs, dim=1))
    (grad,) = torch.autograd.grad(out, x, problem["grad"])
    return named(out, grad)


def chunk_problem(lmax: int, mmax: int, edges: int, channels: int, chunk: int) -> Problem:
    rng = torch.Generator().manual_seed(0)
    nodes = max(2, edges // 25)
    edge_index = torch.randint(0, nodes, (2, edges), generator=rng)
    edge_index = edge_index[:, edge_index[1].argsort()]
    layout = EdgeLayout(lmax, mmax)
    first = SO2Linear(channels, channels, lmax, mmax)
    second = SO2Linear(channels, channels, lmax, mmax)
    mix = torch.nn.Sequential(first, torch.nn.Tanh(), second)  # what a gate costs; not equivariant
    x = torch.randn(nodes, layout.num_coefficients, channels, generator=rng).requires_grad_()
    wigner = edge_wigner(torch.randn(edges, 3, generator=rng), lmax, mmax)
    rotation = EdgeRotation(wigner, edge_index, nodes, layout)
    return {"x": x, "rotation": rotation, "mix": mix, "chunk": chunk, "grad": torch.ones_like(x)}


def chunked(chunks: bool):
    def prepare(problem: Problem):
        x, mix = problem["x"], problem["mix"]

        def run() -> Results:
            size = problem["chunk"] if chunks else None
            out = edge_message(x, problem["rotation"], mix, chunk_size=size)
            grads = torch.autograd.grad(out, [x, *mix.parameters()], problem["grad"])
            return named(out, grads[0])

        return run

    return prepare


LAYERS = {f"L={lmax}": {"lmax": lmax} for lmax in (1, 2, 3, 4)}
FACTORS = {1: 1.5, 2: 2.5, 3: 5.0, 4: 10.0}
BIG = {"100,000 edges, L=6, M=2, C=64": {"lmax": 6, "mmax": 2, "edges": 100_000, "channels": 64, "chunk": 4096}}

CASES = [
    Case(
        "edge_frame",
        "one layer: 10,000 edges, 32 channels of each degree in and out, attribute of degrees 0..L; gather and sum too",
        sizes=LAYERS,
        quick={f"L={lmax}, 60 edges": {"lmax": lmax, "edges": 60, "channels": 4} for lmax in (1, 2)},
        setup=product_problem,
        contenders={"geomeq, edge frame": ours, "e3nn product": product},
        peer="e3nn product",
        reference=definition,
        claims=tuple(
            Claim(
                f"{FACTORS[lmax]:g} times faster at L = {lmax}",
                "geomeq, edge frame",
                "e3nn product",
                1 / FACTORS[lmax],
                sizes=(f"L={lmax}",),
            )
            for lmax in FACTORS
        ),
    ),
    Case(
        "edge_message",
        "one message of two SO(2) layers, forward and backward, all edges at once and 4,096 at a time",
        sizes=BIG,
        quick={"200 edges": {"lmax": 2, "mmax": 1, "edges": 200, "channels": 8, "chunk": 64}},
        setup=chunk_problem,
        contenders={"in chunks": chunked(True), "at once": chunked(False)},
        peer="at once",
        claims=(Claim("chunks cost at most 1.4 times the time", "in chunks", "at once", 1.4),),
    ),
]
