"""``geomeq.nn.GaugeConv`` on the sphere against the spin convolution as its formula says, in complex messages."""

import math

import torch
from harness import Case, Claim, Problem, Results
from torch import Tensor

from geomeq import spheres
from geomeq.groups import SO2Irreps
from geomeq.nn import GaugeConv
from geomeq.transforms import SphereGauge


def globe(nside: int, cutoff: float, channels: int, spins: int, rings: int) -> Problem:
    """HEALPix, random features of the orders 0 to ``spins``, random kernels, a gradient."""
    rng = torch.Generator().manual_seed(0)
    graph = SphereGauge(cutoff)(spheres.healpix(nside))
    types = str(SO2Irreps.band(channels, spins))
    dim = SO2Irreps(types).dim
    return {
        "types": types,
        "cutoff": cutoff,
        "rings": rings,
        "edge_index": graph.edge_index,
        "polar": graph.polar,
        "transport": graph.transport,
        "area": graph.area,
        "x": torch.randn(graph.num_nodes, dim, generator=rng).requires_grad_(),
        "weight": (torch.randn(rings, dim, dim, generator=rng) / dim**0.5).requires_grad_(),
        "grad": torch.randn(graph.num_nodes, dim, generator=rng),
    }


def with_gradients(problem: Problem, function, weight: Tensor) -> Results:
    out = function(problem["x"])
    grad_x, grad_weight = torch.autograd.grad(out, (problem["x"], weight), problem["grad"])
    return {"out": out, "grad x": grad_x, "grad weight": grad_weight}


def gauge_conv(path: str):
    def contender(problem: Problem):
        types, area = problem["types"], problem["area"]
        options = {"self_interaction": False, "bias": False, "path": path}
        layer = GaugeConv(types, types, problem["rings"], problem["cutoff"], "integral", "smooth", **options)
        layer = layer.to(problem["x"].dtype)
        with torch.no_grad():
            layer.weight.copy_(problem["weight"])
        edges = problem["edge_index"], problem["polar"], problem["transport"], area

        def run() -> Results:
            return with_gradients(problem, lambda x: layer(x, *edges), layer.weight)

        return run

    return contender


def complex_edges(problem: Problem):
    """All spins from -S to S as complex channels, one message per edge and pair of spins; phases made beforehand."""
    types, (j, i), (r, angle) = SO2Irreps(problem["types"]), problem["edge_index"], problem["polar"].T
    top, rings, cutoff = types.max_order, problem["rings"], problem["cutoff"]
    back = angle - problem["transport"] - math.pi  # azimuth of the target in the frame of the source
    knots = torch.arange(rings, dtype=r.dtype)
    inside = ((r[:, None] * (rings / cutoff)) - knots).clamp(-1, 1)
    radial = torch.cos(inside * (math.pi / 2)).square() * (r < cutoff)[:, None] * problem["area"][j, None]
    radial = radial / (math.pi * cutoff**2)
    spins = range(-top, top + 1)
    phase = {s: torch.polar(torch.ones_like(r), s * angle) for s in spins}
    turn = {s: torch.polar(torch.ones_like(r), -s * (back + math.pi)) for s in spins}
    shape = {p: radial * (r / cutoff)[:, None] ** p for p in range(2 * top + 1)}
    columns = dict(zip((order for _, order in types), types.slices(), strict=True))

    def function(x: Tensor) -> Tensor:
        fields = {}
        for order, at in columns.items():
            part = x[:, at]
            z = torch.view_as_complex(part.unflatten(1, (-1, 2))) if order else part + 0j
            fields[order] = z
            fields[-order] = z.conj() if order else z
        moved = {s: turn[s][:, None] * fields[s][j] for s in spins}
        out = []
        for m in columns:
            total: Tensor | float = 0.0
            for n in spins:
                kernel = numbers(problem["weight"], m, n, columns)
                message = torch.einsum("ec,ek,koc->eo", moved[n], shape[abs(m - n)] + 0j, kernel)
                total = total + phase[m][:, None] * message
            y = torch.zeros(len(x), total.size(1), dtype=total.dtype).index_add(0, i, total)
            out.append(torch.view_as_real(y).flatten(1) if m else y.real)
        return torch.cat(out, dim=1)

    return lambda: with_gradients(problem, function, problem["weight"])


def numbers(weight: Tensor, m: int, n: int, columns: dict[int, slice]) -> Tensor:
    """Complex kernels from spin n to spin m, ``[rings, out, in]``, that the real matrices stand for."""
    block = weight[:, columns[m], columns[abs(n)]]
    if m and n:
        block = block.unflatten(1, (-1, 2)).unflatten(3, (-1, 2))  # ring, out, part, in, part
        p, q, r, s = block[:, :, 0, :, 0], block[:, :, 0, :, 1], block[:, :, 1, :, 0], block[:, :, 1, :, 1]
        return torch.complex(p + s, r - q) / 2 if n > 0 else torch.complex(p - s, r + q) / 2
    if m:
        block = block.unflatten(1, (-1, 2))
        return torch.complex(block[:, :, 0], block[:, :, 1])
    if n:
        block = block.unflatten(2, (-1, 2))
        sign = -1 if n > 0 else 1
        return torch.complex(block[..., 0], sign * block[..., 1]) / 2
    return block + 0j


CASES = [
    Case(
        "spin_conv",
        "spin convolution on HEALPix, forward and backward, 16 -> 16 channels of each order",
        sizes={
            "12,288 nodes, 30 neighbours, S = 1": {
                "nside": 32,
                "cutoff": 0.1,
                "channels": 16,
                "spins": 1,
                "rings": 2,
            },
            "3,072 nodes, 30 neighbours, S = 2": {
                "nside": 16,
                "cutoff": 0.2,
                "channels": 16,
                "spins": 2,
                "rings": 2,
            },
        },
        quick={"192 nodes": {"nside": 4, "cutoff": 0.6, "channels": 2, "spins": 1, "rings": 2}},
        setup=globe,
        contenders={"geomeq": gauge_conv("auto"), "geomeq, edge": gauge_conv("edge"), "complex edges": complex_edges},
        peer="complex edges",
        reference=lambda problem: complex_edges(problem)(),
        claims=(
            Claim("under 250 ms", "geomeq", "complex edges", 0.0, 0.25, ("12,288 nodes, 30 neighbours, S = 1",)),
            Claim("at least three times as fast as complex tensors per edge", "geomeq", "complex edges", 1 / 3),
        ),
    )
]
