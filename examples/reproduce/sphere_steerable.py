"""Filters with a direction on the sphere: equivariant to all rotations if features carry a spin, and not at all if not.

    python examples/reproduce/sphere_steerable.py            # a few minutes
    python examples/reproduce/sphere_steerable.py --fine     # also HEALPix with 12,288 nodes, 12 million edges
    python examples/reproduce/sphere_steerable.py --quick    # small grids, seconds, no claims

A random function of degree below L is sampled at the nodes of a grid; a network of two convolutions maps it to scalars
0 -> m -> 0, with norm gates between. The same function, turned by a random rotation, is sampled at the nodes of the
same grid, and its output compared at turned places with the output of the first at the places themselves. No
interpolation is needed: the places join the graph as nodes of area zero, which receive and do not send. The table
has the relative error, root mean square over places and rotations: random ones, and each after a half turn about the x
axis, which turns every meridian round, so that a few rotations stand for all.

The directional filter is the same function of the distance times the cosine of the azimuth from the local meridian, as
in discrete-continuous convolutions: scalars in, scalars out, no transport; one layer.

Success: 0 -> 1 -> 0 at most 1e-3 on Gauss-Legendre and HEALPix grids where the directional filter has more than 1.
Ends with status 1 otherwise.

Measured, one thread, one pair of rotations (* where the claim is made; one minute without --fine, whose rows took ten
minutes each on a machine in heavy use):

    grid                       nodes   L cut-off  0->0->0  0->1->0  0->2->0  directional
    Gauss-Legendre 2L x 4L      1152  12    1.57  7.8e-04  2.4e-04  6.4e-04         1.31  *
    Gauss-Legendre 2L x 4L      3200  20    0.94  9.9e-04  2.6e-04  6.3e-04         1.44  *
    Gauss-Legendre L x 2L       2048  32    0.59  1.9e-02  3.6e-03  8.3e-03         1.40
    HEALPix 16, ring weights    3072  12    0.80  1.9e-05  2.9e-04  7.3e-04         1.45  *
    HEALPix 16                  3072  12    0.80  5.2e-04  6.9e-03  6.7e-03         1.45
    equiangular 2L              1200  12    1.57  7.8e-04  2.3e-04  6.3e-04         1.31
    icosphere 4                 2562  12    0.80  1.0e-03  9.3e-03  1.7e-02         1.45
    Fibonacci 3072              3072  12    0.80  8.8e-05  7.5e-04  1.3e-03         1.45
    HEALPix 32, ring weights   12288  12    0.40  1.2e-05  3.4e-04  7.3e-04         1.44  *
    HEALPix 32                 12288  12    0.40  1.6e-04  1.3e-03  4.3e-03         1.44

With equal weights HEALPix misses 1e-3 (6.9e-3, 1.3e-3): its quadrature is off by 3e-3 at degree 4 already.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq import spheres
from geomeq.groups import S2, SO3
from geomeq.models import SpinNet, SpinNetConfig
from geomeq.transforms import SphereGauge

LIMIT = 1e-3
Field = Callable[[Tensor], Tensor]


def random_field(degree: int, seed: int) -> Field:
    """A random function with equal power in every component of degree below ``degree``.

    A sum of reproducing kernels at many random places; to turn it is to turn the argument.
    """
    rng = torch.Generator().manual_seed(seed)
    centres, weight = S2.random(4 * degree**2, seed=rng), torch.randn(4 * degree**2, generator=rng, dtype=torch.float64)
    kernel = 2.0 * np.arange(degree) + 1

    def value(pos: Tensor) -> Tensor:
        parts = [np.polynomial.legendre.legval((p @ centres.T).numpy(), kernel) for p in pos.split(512)]
        return torch.from_numpy(np.concatenate(parts)) @ weight / (2 * degree**2)

    return value


class Directional(nn.Module):
    """A directional filter in meridian frames, without transport."""

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, data: Data) -> Tensor:
        (j, i), (r, angle) = data.edge_index, data.polar.T
        u = r / self.cutoff
        coef = data.area[j] * u * torch.cos(math.pi / 2 * u).square() * angle.cos()
        return torch.zeros_like(data.x).index_add_(0, i, coef[:, None] * data.x[j])


def network(order: int, cutoff: float) -> SpinNet:
    """Two convolutions, 0 -> order -> 0, with random weights."""
    torch.manual_seed(0)
    config = SpinNetConfig(
        "1x0",
        "1x0",
        cutoff,
        types_hidden=f"4x{order}",
        num_blocks=0,
        rings=1,
        nonlinearity="norm",
        self_interaction=order == 0,
    )
    return SpinNet(config).double()


def rotation_errors(
    models: Sequence[nn.Module],
    sampling: spheres.Sampling,
    cutoff: float,
    field: Field,
    pairs: int,
    places: int = 100,
) -> list[float]:
    """Relative error of each model over random rotations."""
    at = S2.random(places, seed=1)
    turns = SO3.random(pairs, seed=2)
    over = torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64))
    turns = torch.cat([turns, turns @ over])
    wanted = evaluate(models, sampling, cutoff, field, at)
    square = torch.zeros(len(models), dtype=torch.float64)
    for turn in turns:
        got = evaluate(models, sampling, cutoff, lambda pos, turn=turn: field(pos @ turn), at @ turn.T)
        square += (got - wanted).square().sum(dim=1)
    return (square / len(turns) / wanted.square().sum(dim=1)).sqrt().tolist()


def evaluate(
    models: Sequence[nn.Module], sampling: spheres.Sampling, cutoff: float, field: Field, at: Tensor
) -> Tensor:
    """Outputs of each model at any places, which join the graph with area zero, ``[models, places]``."""
    pos = torch.cat([sampling.pos, at])
    area = torch.cat([sampling.area, at.new_zeros(len(at))])
    data = SphereGauge(cutoff, loops=True)(Data(pos=pos, area=area))
    data.x = field(pos)[:, None]
    with torch.no_grad():
        return torch.stack([model(data)[-len(at) :, 0] for model in models])


def grids(quick: bool, fine: bool = False) -> list[tuple[str, spheres.Sampling, int, float, bool]]:
    """Name, sampling, L, cut-off, and whether the claim is made there."""
    if quick:
        return [("Gauss-Legendre 2L x 4L", spheres.gauss_legendre(12), 6, math.pi / 2, False)]
    more = [
        ("HEALPix 32, ring weights", spheres.healpix(32, "ring"), 12, 0.4, True),
        ("HEALPix 32", spheres.healpix(32), 12, 0.4, False),
    ]
    return [
        ("Gauss-Legendre 2L x 4L", spheres.gauss_legendre(24), 12, math.pi / 2, True),
        ("Gauss-Legendre 2L x 4L", spheres.gauss_legendre(40), 20, 6 * math.pi / 20, True),
        ("Gauss-Legendre L x 2L", spheres.gauss_legendre(32), 32, 6 * math.pi / 32, False),
        ("HEALPix 16, ring weights", spheres.healpix(16, "ring"), 12, 0.8, True),
        ("HEALPix 16", spheres.healpix(16), 12, 0.8, False),
        ("equiangular 2L", spheres.equiangular(25), 12, math.pi / 2, False),
        ("icosphere 4", spheres.icosphere(4), 12, 0.8, False),
        ("Fibonacci 3072", spheres.fibonacci(3072), 12, 0.8, False),
        *(more if fine else []),
    ]


def main(argv: Sequence[str] | None = None) -> dict[str, float | bool]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small grid")
    parser.add_argument("--fine", action="store_true", help="also grids of many nodes")
    parser.add_argument("--pairs", type=int, default=1, help="of rotations")
    args = parser.parse_args(argv)
    found: dict[str, float | bool] = {}
    ok = True
    print(f"{'grid':26} nodes   L cut-off  0->0->0  0->1->0  0->2->0  directional  seconds")
    for name, sampling, degree, cutoff, claim in grids(args.quick, args.fine):
        start, field = time.perf_counter(), random_field(degree, seed=0)
        models = [*(network(order, cutoff) for order in (0, 1, 2)), Directional(cutoff)]
        errors = rotation_errors(models, sampling, cutoff, field, args.pairs)
        steerable, directional = errors[1], errors[3]
        ok = ok and (not claim or (steerable <= LIMIT and directional > 1))
        found[f"{name}, L={degree}"] = steerable
        print(
            f"{name:26} {sampling.num_nodes:5} {degree:3} {cutoff:7.2f}  {errors[0]:.1e}  {errors[1]:.1e}  "
            f"{errors[2]:.1e}  {directional:11.2f}  {time.perf_counter() - start:7.0f}{'  *' if claim else ''}",
            flush=True,
        )
        found["directional"] = min(directional, found.get("directional", math.inf))
    print(
        "SUCCESS" if ok else f"MISSED: wanted 0->1->0 at most {LIMIT:g} and directional above 1 in rows marked *",
        flush=True,
    )
    return {**found, "ok": ok}


if __name__ == "__main__":
    raise SystemExit(0 if main()["ok"] else 1)
