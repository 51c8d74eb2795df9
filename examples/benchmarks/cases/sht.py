"""``geomeq.harmonics.SHT`` and ``InverseSHT`` one after the other, against torch-harmonics on the same grid."""

from typing import Any

import torch
from harness import Case, Claim, Problem, Results, Unavailable

from geomeq import spheres
from geomeq.harmonics import SHT, InverseSHT


def grid(lmax: int, batch: int, channels: int) -> Problem:
    """A Gauss-Legendre grid, random fields on it, a gradient."""
    rng = torch.Generator().manual_seed(0)
    rows, columns = lmax + 1, 2 * lmax + 2
    x = torch.randn(batch, rows * columns, channels, generator=rng)
    grad = torch.randn(batch, rows * columns, channels, generator=rng)
    return {"lmax": lmax, "rows": rows, "columns": columns, "x": x.requires_grad_(), "grad": grad}


def ours(backward: bool) -> Any:
    def contender(problem: Problem) -> Any:
        s, lmax = spheres.gauss_legendre(problem["rows"], problem["columns"]), problem["lmax"]
        there, back, x = SHT(s, lmax), InverseSHT(s, lmax), problem["x"]
        return lambda: timed(lambda x: back(there(x)), x, problem["grad"], backward)

    return contender


def theirs(backward: bool) -> Any:
    def contender(problem: Problem) -> Any:
        """Channels before latitude and longitude, as it wants them; they are laid out so before the clock starts."""
        try:
            import torch_harmonics
        except ImportError:
            raise Unavailable("pip install torch-harmonics") from None
        size, rows, columns = problem["lmax"] + 1, problem["rows"], problem["columns"]
        options = {"lmax": size, "mmax": size, "grid": "legendre-gauss"}
        there = torch_harmonics.RealSHT(rows, columns, **options)
        back = torch_harmonics.InverseRealSHT(rows, columns, **options)
        x, grad = (planes(problem[name], rows, columns) for name in ("x", "grad"))
        x.requires_grad_()
        dtype = x.dtype
        there, back = there.to(dtype), back.to(dtype)

        def run() -> Results:
            found = timed(lambda x: back(there(x)), x, grad, backward)
            return {name: value.flatten(2).transpose(1, 2) for name, value in found.items()}

        return run

    return contender


def planes(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    return x.detach().transpose(1, 2).unflatten(2, (rows, columns)).contiguous()


def timed(function: Any, x: torch.Tensor, grad: torch.Tensor, backward: bool) -> Results:
    if not backward:
        with torch.no_grad():
            return {"out": function(x)}
    out = function(x)
    return {"out": out, "grad x": torch.autograd.grad(out, x, grad)[0]}


def case(name: str, title: str, backward: bool) -> Case:
    sizes = {
        "lmax 256, batch 8": {"lmax": 256, "batch": 8, "channels": 1},
        "lmax 128, batch 4, 16 channels": {"lmax": 128, "batch": 4, "channels": 16},
    }
    return Case(
        name,
        title,
        sizes=sizes,
        quick={"lmax 8, batch 2": {"lmax": 8, "batch": 2, "channels": 2}},
        setup=grid,
        contenders={"geomeq": ours(backward), "torch-harmonics": theirs(backward)},
        peer="torch-harmonics",
        reference=lambda problem: ours(backward)(problem)(),
        claims=(Claim("at least level with torch-harmonics", "geomeq", "torch-harmonics", 1.0),),
    )


CASES = [
    case("sht", "harmonic analysis and synthesis, float32", backward=False),
    case("sht_backward", "harmonic analysis and synthesis with gradients, float32", backward=True),
]
