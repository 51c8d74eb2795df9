"""``geomeq.ops.segment_*`` against PyG's scatter functions and torch-scatter."""

import torch
from harness import Case, Problem, Results, Unavailable
from torch_geometric.utils import scatter, softmax

from geomeq.ops import segment_max, segment_softmax, segment_sum


def random_segments(segments: int, rows: int, channels: int) -> Problem:
    """``segments`` segments of ``rows`` rows on average, of uneven length."""
    rng = torch.Generator().manual_seed(0)
    index = torch.randint(segments, (segments * rows,), generator=rng).sort().values
    return {
        "src": torch.randn(segments * rows, channels, generator=rng).requires_grad_(),
        "index": index,
        "ptr": torch.searchsorted(index, torch.arange(segments + 1)),
        "segments": segments,
    }


def with_gradient(src: torch.Tensor, out: torch.Tensor) -> Results:
    (grad,) = torch.autograd.grad(out, src, torch.ones_like(out) if out.shape != src.shape else src.detach())
    return {"out": out, "grad": grad}


def by_index(function):
    def prepare(problem: Problem):
        return lambda: with_gradient(problem["src"], function(problem["src"], problem["index"], problem["segments"]))

    return prepare


def by_ptr(function):
    def prepare(problem: Problem):
        return lambda: with_gradient(problem["src"], function(problem["src"], ptr=problem["ptr"]))

    return prepare


def pyg_scatter(reduce: str):
    return by_index(lambda src, index, n: scatter(src, index, 0, n, reduce))


def torch_scatter(reduce: str):
    def prepare(problem: Problem):
        try:
            from torch_scatter import segment_csr
        except ImportError as error:
            raise Unavailable("needs torch-scatter: pip install 'geomeq[accel]'") from error
        return lambda: with_gradient(problem["src"], segment_csr(problem["src"], problem["ptr"], reduce=reduce))

    return prepare


def definition(function):
    def run(problem: Problem) -> Results:
        return with_gradient(problem["src"], function(problem["src"], problem["index"], problem["segments"]))

    return run


def scatter_sum(src, index, n):
    return src.new_zeros(n, src.size(1)).index_add(0, index, src)


def scatter_max(src, index, n):
    where = index[:, None].expand_as(src)
    return src.new_zeros(n, src.size(1)).scatter_reduce(0, where, src, "amax", include_self=False)


def scatter_softmax(src, index, n):
    weight = (src - scatter_max(src, index, n).detach()[index]).exp()
    return weight / scatter_sum(weight, index, n)[index]


SIZES = {
    f"{segments} x {rows} x {channels}": {"segments": segments, "rows": rows, "channels": channels}
    for segments, rows, channels in ((20_000, 16, 1), (20_000, 16, 8), (20_000, 16, 64))
}
TINY = {"20 x 4 x 8": {"segments": 20, "rows": 4, "channels": 8}}


def case(name: str, ours, theirs: dict, reference) -> Case:
    return Case(
        f"segment_{name}",
        f"forward and backward of the {name} over sorted segments of uneven length",
        sizes=SIZES,
        quick=TINY,
        setup=random_segments,
        contenders={"geomeq, index": by_index(ours), "geomeq, ptr": by_ptr(ours), **theirs},
        peer=next(iter(theirs)),
        reference=definition(reference),
    )


CASES = [
    case(
        "sum",
        segment_sum,
        {"PyG scatter": pyg_scatter("sum"), "torch-scatter segment_csr": torch_scatter("sum")},
        scatter_sum,
    ),
    case(
        "max",
        segment_max,
        {"PyG scatter": pyg_scatter("max"), "torch-scatter segment_csr": torch_scatter("max")},
        scatter_max,
    ),
    case(
        "softmax",
        segment_softmax,
        {"PyG softmax": by_index(lambda src, index, n: softmax(src, index, num_nodes=n))},
        scatter_softmax,
    ),
]
