"""``geomeq.ops.Stencil`` against per-edge messages, torch-sparse, PyG and the matrix product that follows it."""

from functools import partial

import torch
from harness import Case, Claim, Problem, Results, Unavailable
from torch_geometric.nn import MessagePassing

from geomeq.ops import Stencil, StencilLinear, StencilPattern


def random_stencil(nodes: int, neighbours: int, channels: int, coefs: int, dtype: str = "float32") -> Problem:
    """Every node reads ``neighbours`` random nodes with ``coefs`` random weights each."""
    rng = torch.Generator().manual_seed(0)
    dtype, edges = getattr(torch, dtype), nodes * neighbours
    target = torch.arange(nodes).repeat_interleave(neighbours)
    source = torch.randint(nodes, (nodes, neighbours), generator=rng).sort(dim=1).values.view(-1)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=dtype)

    return {
        "edge_index": torch.stack([source, target]),
        "coef": randn(edges, coefs) / neighbours**0.5,
        "x": randn(nodes, channels).requires_grad_(),
        "grad": randn(nodes, coefs, channels),
        "weight": (randn(coefs * channels, 64) / channels**0.5).requires_grad_(),
        "grad_after_gemm": randn(nodes, 64),
        "size": (nodes, nodes),
    }


def forward_backward(problem: Problem, function, inputs: tuple[str, ...] = ("x",)) -> Results:
    out = function(*(problem[name] for name in inputs))
    grads = torch.autograd.grad(out, [problem[name] for name in inputs], problem["grad"])
    return {"out": out} | {f"grad {name}": grad for name, grad in zip(inputs, grads, strict=True)}


def stencil(problem: Problem, path: str = "auto"):
    layer = Stencil(problem["edge_index"], problem["coef"], problem["size"], path=path)
    return partial(forward_backward, problem, layer)


def messages(problem: Problem):
    (source, target), coef = problem["edge_index"], problem["coef"]

    def run(x):
        message = coef[:, :, None] * x[source][:, None, :]
        return x.new_zeros(problem["size"][1], coef.size(1), x.size(1)).index_add(0, target, message)

    return partial(forward_backward, problem, run)


class WeightedSum(MessagePassing):
    """The same sum as users of PyG write it."""

    def __init__(self):
        super().__init__(aggr="add", node_dim=0)

    def forward(self, x, edge_index, coef):
        return self.propagate(edge_index, x=x, coef=coef)

    def message(self, x_j, coef):
        return coef[:, :, None] * x_j[:, None, :]


def pyg(problem: Problem):
    layer = WeightedSum()
    return partial(forward_backward, problem, lambda x: layer(x, problem["edge_index"], problem["coef"]))


def torch_sparse(problem: Problem):
    """One matrix with rows (i, k), its transpose cached: the most this library can do."""
    try:
        from torch_sparse import SparseTensor, matmul
    except ImportError as error:
        raise Unavailable("needs torch-sparse: pip install 'geomeq[accel]'") from error
    (source, target), coef = problem["edge_index"], problem["coef"]
    coefs, nodes = coef.size(1), problem["size"][1]
    row = (target[:, None] * coefs + torch.arange(coefs)).view(-1)
    adj = SparseTensor(
        row=row, col=source.repeat_interleave(coefs), value=coef.reshape(-1), sparse_sizes=(nodes * coefs, nodes)
    )
    adj.fill_cache_()
    return partial(forward_backward, problem, lambda x: matmul(adj, x, reduce="sum").view(nodes, coefs, -1))


def definition(problem: Problem) -> Results:
    return messages(problem)()


def stencil_then_gemm(problem: Problem):
    layer = Stencil(problem["edge_index"], problem["coef"], problem["size"])
    x, weight = problem["x"], problem["weight"]

    def run() -> Results:
        out = layer(x).flatten(-2) @ weight
        grad_x, grad_weight = torch.autograd.grad(out, (x, weight), problem["grad_after_gemm"])
        return {"out": out, "grad x": grad_x, "grad weight": grad_weight}

    return run


def fused(problem: Problem):
    coefs, channels = problem["coef"].size(1), problem["x"].size(1)
    layer = StencilLinear(problem["edge_index"], problem["coef"], problem["size"])
    x, weight = problem["x"], problem["weight"]

    def run() -> Results:
        out = layer(x, weight.view(coefs, channels, -1))
        grad_x, grad_weight = torch.autograd.grad(out, (x, weight), problem["grad_after_gemm"])
        return {"out": out, "grad x": grad_x, "grad weight": grad_weight}

    return run


def gemm_alone(problem: Problem):
    aggregated = Stencil(problem["edge_index"], problem["coef"], problem["size"])(problem["x"]).detach().flatten(-2)
    aggregated.requires_grad_()
    weight = problem["weight"]

    def run() -> Results:
        out = aggregated @ weight
        _, grad_weight = torch.autograd.grad(out, (aggregated, weight), problem["grad_after_gemm"])
        return {"out": out, "grad weight": grad_weight}

    return run


def gemm_definition(problem: Problem) -> Results:
    x, weight, coef = problem["x"], problem["weight"], problem["coef"]
    source, target = problem["edge_index"]
    message = coef[:, :, None] * x[source][:, None, :]
    h = x.new_zeros(problem["size"][1], coef.size(1), x.size(1)).index_add(0, target, message).flatten(-2)
    grad_x, grad_weight = torch.autograd.grad(h @ weight, (x, weight), problem["grad_after_gemm"])
    return {"out": h @ weight, "grad x": grad_x, "grad weight": grad_weight}


def learned(problem: Problem):
    pattern = StencilPattern(problem["edge_index"], problem["size"], problem["coef"].size(1))
    problem = problem | {"coef": problem["coef"].detach().requires_grad_()}
    return partial(forward_backward, problem, lambda x, coef: Stencil(pattern, coef)(x), ("x", "coef"))


def learned_messages(problem: Problem):
    problem = problem | {"coef": problem["coef"].detach().requires_grad_()}
    source, target = problem["edge_index"]

    def run(x, coef):
        message = coef[:, :, None] * x[source][:, None, :]
        return x.new_zeros(problem["size"][1], coef.size(1), x.size(1)).index_add(0, target, message)

    return partial(forward_backward, problem, run, ("x", "coef"))


def batch_problem(batch: int, **size: int) -> Problem:
    problem = random_stencil(**size)
    nodes, channels = problem["x"].shape
    rng = torch.Generator().manual_seed(1)
    return problem | {
        "x": torch.randn(batch, nodes, channels, generator=rng).requires_grad_(),
        "grad": torch.randn(batch, nodes, size["coefs"], channels, generator=rng),
    }


def one_by_one(problem: Problem):
    layer = Stencil(problem["edge_index"], problem["coef"], problem["size"])
    return partial(forward_backward, problem, lambda x: torch.stack([layer(sample) for sample in x]))


def block_diagonal(problem: Problem):
    batch, nodes, channels = problem["x"].shape
    offset = torch.arange(batch).repeat_interleave(problem["coef"].size(0)) * nodes
    edges = problem["edge_index"].repeat(1, batch) + offset
    layer = Stencil(edges, problem["coef"].repeat(batch, 1), batch * nodes)
    return partial(forward_backward, problem, lambda x: layer(x.reshape(-1, channels)).view(batch, nodes, -1, channels))


def batch_definition(problem: Problem) -> Results:
    layer = Stencil(problem["edge_index"], problem["coef"], problem["size"], path="reference")
    return forward_backward(problem, layer)


def size(nodes: int, neighbours: int, channels: int, coefs: int, **more) -> dict[str, dict]:
    label = f"{nodes} x {neighbours} x {channels}, K={coefs}" + "".join(f", {v}" for v in more.values())
    return {label: {"nodes": nodes, "neighbours": neighbours, "channels": channels, "coefs": coefs, **more}}


def sizes(*rows: tuple) -> dict[str, dict]:
    return {label: setup for row in rows for label, setup in size(*row).items()}


BIG = sizes((20_000, 16, 64, 1), (20_000, 16, 64, 9))
ICOSPHERE = sizes((10_242, 7, 32, 9), (10_242, 7, 32, 25))
TINY = sizes((50, 4, 8, 3))

CASES = [
    Case(
        "stencil",
        "forward and backward of a weighted neighbour sum, fixed coefficients, gradient for x",
        sizes=BIG | ICOSPHERE,
        quick=TINY,
        setup=random_stencil,
        contenders={
            "geomeq": stencil,
            "messages + index_add": messages,
            "PyG MessagePassing": pyg,
            "torch-sparse": torch_sparse,
        },
        peer="messages + index_add",
        reference=definition,
        claims=(Claim("at least 10x faster", "geomeq", "messages + index_add", times=0.1, sizes=tuple(BIG)),),
    ),
    Case(
        "stencil_gemm",
        "the sum and one matrix product over (k, channel) to 64 channels, beside the product alone",
        sizes=BIG | ICOSPHERE,
        quick=TINY,
        setup=random_stencil,
        contenders={
            "geomeq StencilLinear": fused,
            "geomeq Stencil, then GEMM": stencil_then_gemm,
            "GEMM alone": gemm_alone,
        },
        peer="GEMM alone",
        reference=gemm_definition,
        claims=(
            Claim("within 2x of the product alone", "geomeq StencilLinear", "GEMM alone", 2.0, sizes=tuple(BIG)[1:]),
        ),
    ),
    Case(
        "stencil_coef_grad",
        "learned coefficients: gradients for x and for coef, no tensor of edges x K x channels",
        sizes=BIG | ICOSPHERE,
        quick=TINY,
        setup=random_stencil,
        contenders={"geomeq": learned, "messages + index_add": learned_messages},
        peer="messages + index_add",
        reference=lambda problem: learned_messages(problem)(),
        claims=(Claim("faster than messages", "geomeq", "messages + index_add", sizes=tuple(BIG)),),
    ),
    Case(
        "stencil_paths",
        "the paths that Stencil(path='auto') chooses from, by precision and channels",
        sizes={
            label: setup
            for dtype in ("float32", "float64")
            for channels in (1, 4, 16, 64, 256)
            for label, setup in size(5_000, 12, channels, 4, dtype=dtype).items()
        },
        quick=TINY,
        setup=random_stencil,
        contenders={path: partial(stencil, path=path) for path in ("auto", "bag", "csr", "reference")},
        peer="reference",
        reference=definition,
    ),
    Case(
        "stencil_batch",
        "16 signals on one graph: folded into channels, one by one, as a block-diagonal graph",
        sizes={
            f"16 on {label}": setup | {"batch": 16}
            for label, setup in sizes((2_562, 7, 1, 9), (2_562, 7, 16, 9), (2_562, 7, 64, 1)).items()
        },
        quick={"2 on 50 nodes": {"batch": 2, "nodes": 50, "neighbours": 4, "channels": 8, "coefs": 3}},
        setup=batch_problem,
        contenders={"geomeq [B, N, C]": stencil, "one by one": one_by_one, "block-diagonal": block_diagonal},
        peer="one by one",
        reference=batch_definition,
    ),
]
