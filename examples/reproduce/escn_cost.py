"""What a message costs as its degree grows: SO(2) layers in the frame of the edge against tensor products.

Claim (Passaro and Zitnick, 2023, eSCN, arXiv 2302.03655): turned into the frame of the edge, the product of features of
degree up to L with the harmonics of the edge falls apart into small matrices, and its cost from O(L^6) to O(L^3).

    python examples/reproduce/escn_cost.py                       # some minutes
    python examples/reproduce/escn_cost.py --quick               # L = 1, 2, a few edges, no claims
    python examples/reproduce/escn_cost.py --threads 2 --picture cost.png

A layer gathers the features of the source (32 channels of degrees 0..L), mixes all channels and degrees by linear maps
that know the direction of the edge, and sums at the target; forward and backward to features and weights, float32.

- ``SO(2), mmax = L`` and ``SO(2), mmax = 2``: ``EdgeRotation`` and ``SO2Linear``. Frames are made once for a graph and
  shared by its layers, so their cost is printed apart (``frames``: Wigner rows from edge vectors, forward).
- ``e3nn``: ``FullyConnectedTensorProduct`` with the harmonics of the edge up to degree L, the same types in and out,
  weights shared by all edges. It has the paths of even l1 + l2 + l3 that are mirror-symmetric; the SO(2) layer has all,
  and degrees up to 2L of the harmonics: more weights, a richer map.
- ``SO(2), mirrored``: the SO(2) layer restricted to mirror-symmetric maps (``reflections=True``).

For L = 1 and 2 the script checks that the layer is that product: path weights of the product, converted to SO(2)
weights, give the same outputs.

The times of one L are taken in turns on the same edges: 10,000, and fewer where the product would not fit into memory
(``EDGES``); all are quoted per 10,000 edges. Exponents are slopes of the logarithm of the time over that of L, from
L = 2 on; the crossover is where the straight lines through the ratios reach 1.

Measured with ``--threads 2`` (26 s), ms per 10,000 edges, SO(2) with mmax = L against e3nn: 9.7 and 23.5 (L = 1), 32
and 88, 65 and 561, 120 and 2,274 (L = 4: 19 times), 171 and 2,686, 249 and 4,399 (L = 6). Exponents 1.9 and 3.6: small
matrices are still far from the third and sixth powers of the count of multiplications. No crossover: faster from L = 1.

Success: the SO(2) layer (mmax = L) is as fast at some L <= 2, and more than 5 times as fast at L = 4. Ends with status
1 otherwise.
"""

import argparse
import gc
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from e3nn import o3
from torch import Tensor, nn

from geomeq.harmonics import edge_wigner, spherical_harmonics
from geomeq.nn import SO2Linear, so2_from_paths
from geomeq.ops import EdgeLayout, EdgeRotation

CHANNELS, DEGREES, MMAX = 32, (1, 2, 3, 4, 5, 6), 2
EDGES = {1: 10_000, 2: 10_000, 3: 10_000, 4: 5_000, 5: 1_000, 6: 500}
AIM, AT = 5.0, 4


def graph(edges: int, lmax: int, seed: int = 0) -> dict[str, Tensor]:
    """A random graph with 20 edges a node, sorted by target; features ``[N, (L + 1)^2, C]``."""
    rng = torch.Generator().manual_seed(seed)
    nodes = max(edges // 20, 2)
    target = torch.randint(nodes, (edges,), generator=rng).sort().values
    source = torch.randint(nodes, (edges,), generator=rng)
    return {
        "edge_index": torch.stack([source, target]),
        "vec": torch.randn(edges, 3, generator=rng),
        "x": torch.randn(nodes, (lmax + 1) ** 2, CHANNELS, generator=rng),
    }


def irreps(lmax: int) -> o3.Irreps:
    """32 channels of each degree, with the parity of harmonics."""
    return o3.Irreps([(CHANNELS, (degree, (-1) ** degree)) for degree in range(lmax + 1)])


def flat(x: Tensor, lmax: int) -> Tensor:
    """``[N, (L + 1)^2, C]`` in e3nn's layout for irreps: degree by degree, channels slower than components."""
    parts = x.split([2 * degree + 1 for degree in range(lmax + 1)], dim=1)
    return torch.cat([part.transpose(1, 2).flatten(1) for part in parts], dim=1)


class SO2Layer(nn.Module):
    """Gather, rotate, mix, rotate back, sum."""

    def __init__(self, data: dict[str, Tensor], lmax: int, mmax: int, reflections: bool = False) -> None:
        super().__init__()
        self.linear = SO2Linear(CHANNELS, CHANNELS, lmax, mmax, bias=False, reflections=reflections)
        wigner = edge_wigner(data["vec"], lmax, mmax)
        self.rotation = EdgeRotation(wigner, data["edge_index"], len(data["x"]), EdgeLayout(lmax, mmax))

    def forward(self, x: Tensor) -> Tensor:
        return self.rotation.out_of_frame(self.linear(self.rotation.into_frame(x)))


class ProductLayer(nn.Module):
    """Gather, product with the harmonics of the edge, sum."""

    def __init__(self, data: dict[str, Tensor], lmax: int) -> None:
        super().__init__()
        types = irreps(lmax)
        self.product = o3.FullyConnectedTensorProduct(types, o3.Irreps.spherical_harmonics(lmax), types)
        self.source, self.target = data["edge_index"]
        self.harmonics = spherical_harmonics(data["vec"], lmax)

    def forward(self, x: Tensor) -> Tensor:
        message = self.product(x.index_select(0, self.source), self.harmonics)
        return torch.zeros_like(x).index_add(0, self.target, message)


def agreement(lmax: int) -> float:
    """Largest relative difference between the product and the SO(2) layer with its weights, in float64."""
    torch.manual_seed(0)
    data = {k: v.double() if v.is_floating_point() else v for k, v in graph(60, lmax).items()}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # in which e3nn tabulates its coefficients
    try:
        product, layer = ProductLayer(data, lmax), SO2Layer(data, lmax, lmax)
    finally:
        torch.set_default_dtype(before)
    paths, at, weight = {}, 0, product.product.weight.detach()
    for i in product.product.instructions:
        size = CHANNELS * CHANNELS
        block = weight[at : at + size].view(CHANNELS, CHANNELS) * i.path_weight  # [in, 1, out], as e3nn scales it
        # e3nn's factor holds the root of 2 l3 + 1 already
        paths[i.i_in1, i.i_in2, i.i_out] = block / math.sqrt(2 * i.i_out + 1)
        at += size
    with torch.no_grad():
        for own, made in zip(layer.linear.weights, so2_from_paths(paths, lmax), strict=True):
            own.copy_(made.view_as(own))
        wanted, found = product(flat(data["x"], lmax)), flat(layer(data["x"]), lmax)
    return float((wanted - found).abs().max() / wanted.abs().max())


def step_of(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    """Forward and backward of a layer."""
    x = x.detach().requires_grad_()
    grad = torch.randn_like(x)
    inputs = [x, *layer.parameters()]

    def run() -> object:
        return torch.autograd.grad(layer(x), inputs, grad)

    return run


def measure(lmax: int, edges: int, rounds: int) -> dict[str, float]:
    """Seconds per 10,000 edges of each contender, the best of several rounds in turns."""
    data = graph(edges, lmax)
    mmax = min(MMAX, lmax)
    x = data["x"]
    calls = {
        "SO(2), mmax = L": step_of(SO2Layer(data, lmax, lmax), x),
        "SO(2), mmax = 2": step_of(SO2Layer(data, lmax, mmax), x),
        "SO(2), mirrored": step_of(SO2Layer(data, lmax, lmax, reflections=True), x),
        "e3nn": step_of(ProductLayer(data, lmax), flat(x, lmax)),
        "frames": lambda: edge_wigner(data["vec"], lmax, lmax),
    }
    for call in calls.values():
        call()  # e3nn compiles its product in the first calls
        call()
    gc.collect()
    best = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: seconds * 10_000 / edges for name, seconds in best.items()}


def exponent(degrees: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of the logarithm of the time over that of L, from L = 2 on (from 1 if there are no two)."""
    chosen = [(d, s) for d, s in zip(degrees, seconds, strict=True) if d >= 2]
    chosen = chosen if len(chosen) > 1 else list(zip(degrees, seconds, strict=True))
    return float(np.polyfit(*np.log(np.array(chosen)).T, 1)[0])


def crossover(degrees: Sequence[int], ratio: Sequence[float]) -> float:
    """The L at which the product takes as long: 0 if the SO(2) layer wins everywhere, infinity if nowhere."""
    if ratio[0] >= 1:
        return 0.0
    for k in range(1, len(ratio)):
        if ratio[k] >= 1:
            a, b = math.log(ratio[k - 1]), math.log(ratio[k])
            return degrees[k - 1] + (degrees[k] - degrees[k - 1]) * -a / (b - a)
    return math.inf


def draw(path: str, degrees: Sequence[int], times: dict[str, list[float]]) -> None:
    """Times over L, with their slopes."""
    from geomeq import plot

    curves = {
        f"{name}, as L^{exponent(degrees, seconds):.1f}": [1e3 * s for s in seconds]
        for name, seconds in times.items()
        if name != "SO(2), mirrored"
    }
    figure = plot.error_by_resolution(
        list(degrees), curves, xlabel="highest degree L", ylabel="ms per 10,000 edges, forward + backward",
        slopes=False, title="Messages of 32 channels",
    )  # fmt: skip
    figure.savefig(path)


def main(argv: Sequence[str] | None = None) -> dict[str, float | bool]:
    args = parse(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    degrees = (1, 2) if args.quick else DEGREES
    same = {lmax: agreement(lmax) for lmax in (1, 2)}
    print(
        "product with converted weights, relative difference: " + ", ".join(f"L={k} {v:.1e}" for k, v in same.items())
    )
    begun, times = time.perf_counter(), dict[str, list[float]]()
    print(f"{torch.get_num_threads()} threads, ms per 10,000 edges")
    for lmax in degrees:
        edges = 200 if args.quick else EDGES[lmax]
        found = measure(lmax, edges, 2 if args.quick else args.rounds)
        for name, seconds in found.items():
            times.setdefault(name, []).append(seconds)
        row = ", ".join(f"{name} {1e3 * seconds:.1f}" for name, seconds in found.items())
        ratio = found["e3nn"] / found["SO(2), mmax = L"]
        print(f"    L={lmax} ({edges} edges): {row}; e3nn / SO(2) {ratio:.1f}", flush=True)
    slopes = {name: exponent(degrees, seconds) for name, seconds in times.items()}
    print("exponents of L: " + ", ".join(f"{name} {slope:.2f}" for name, slope in slopes.items()))
    ratio = [a / b for a, b in zip(times["e3nn"], times["SO(2), mmax = L"], strict=True)]
    at = crossover(degrees, ratio)
    print("crossover: " + ("below L = 1" if at == 0 else f"L = {at:.1f}"))
    if args.picture:
        draw(args.picture, degrees, times)
    speedup = ratio[degrees.index(AT)] if AT in degrees else math.nan
    ok = max(same.values()) < 1e-10 and (args.quick or (at <= 2 and speedup > AIM))
    print(f"{'no claims' if args.quick else 'SUCCESS' if ok else 'MISSED'}, {time.perf_counter() - begun:.0f} s")
    return {
        "crossover": at,
        "speedup": speedup,
        "agreement": max(same.values()),
        "exponent": slopes["SO(2), mmax = L"],
        "exponent e3nn": slopes["e3nn"],
        "ok": ok,
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="L = 1 and 2 on a few edges, no claims")
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=0, help="CPU threads (0: as torch chooses)")
    add("--picture", help="file to draw the times into")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(0 if main()["ok"] else 1)
