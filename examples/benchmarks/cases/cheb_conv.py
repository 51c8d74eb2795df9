"""``geomeq.nn.ChebConv`` against PyG's layer and against layers that keep every term and concatenate them."""

from functools import partial

import torch
from harness import Case, Claim, Problem, Results
from scipy.spatial import cKDTree
from torch import nn
from torch_geometric.nn import ChebConv as PyGChebConv

from geomeq.nn import ChebConv
from geomeq.ops import rescaled_laplacian


def signals_on_a_graph(nodes: int, neighbours: int, batch: int, channels: int, outputs: int, K: int) -> Problem:
    """Uniform points of the plane, each joined with its nearest ones and they with it, and Gaussian weights."""
    rng = torch.Generator().manual_seed(0)
    pos = torch.rand(nodes, 2, generator=rng, dtype=torch.float64)
    _, index = cKDTree(pos.numpy()).query(pos.numpy(), neighbours + 1)
    near = torch.from_numpy(index[:, 1:]).long()
    node = torch.arange(nodes)[:, None].expand_as(near)
    pair = torch.cat([near.flatten() * nodes + node.flatten(), node.flatten() * nodes + near.flatten()]).unique()
    edge_index = torch.stack([pair % nodes, pair // nodes])
    square = (pos[edge_index[0]] - pos[edge_index[1]]).square().sum(1)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    return {
        "edge_index": edge_index,
        "edge_weight": torch.exp(-square / (0.8 * square.mean())).float(),
        "x": randn(batch, nodes, channels).requires_grad_(),
        "grad": randn(batch, nodes, outputs),
        "weight": (randn(K, channels, outputs) / (K * channels) ** 0.5).requires_grad_(),
        "bias": randn(outputs).requires_grad_(),
    }


def forward_backward(problem: Problem, function) -> Results:
    """The output and the gradients of ``x``, weights and bias."""
    out = function(problem["x"])
    inputs = (problem["x"], problem["weight"], problem["bias"])
    grads = torch.autograd.grad(out, inputs, problem["grad"])
    return {"out": out} | {f"grad {name}": g for name, g in zip(("x", "weight", "bias"), grads, strict=True)}


def operator(problem: Problem):
    return rescaled_laplacian(problem["edge_index"], problem["edge_weight"], problem["x"].size(1))


def geomeq(problem: Problem, path: str = "auto"):
    K, channels, outputs = problem["weight"].shape
    layer, laplacian = ChebConv(channels, outputs, K, path=path), operator(problem)
    layer.weight, layer.bias = nn.Parameter(problem["weight"]), nn.Parameter(problem["bias"])
    problem = problem | {"weight": layer.weight, "bias": layer.bias}
    return partial(forward_backward, problem, lambda x: layer(x, laplacian))


def pyg_layer(problem: Problem):
    """PyG's layer with our weights as its own; gradients are gathered back."""
    K, channels, outputs = problem["weight"].shape
    layer = PyGChebConv(channels, outputs, K)
    with torch.no_grad():
        for lin, weight in zip(layer.lins, problem["weight"], strict=True):
            lin.weight.copy_(weight.T)
        layer.bias.copy_(problem["bias"])
    return layer


def pyg(problem: Problem, replicated: bool = False):
    layer, lambda_max = pyg_layer(problem), torch.tensor(2.0)
    batch, nodes, channels = problem["x"].shape
    edge_index, edge_weight = problem["edge_index"], problem["edge_weight"]
    if replicated:
        offset = torch.arange(batch).repeat_interleave(edge_index.size(1)) * nodes
        edge_index, edge_weight = edge_index.repeat(1, batch) + offset, edge_weight.repeat(batch)

    def run() -> Results:
        x = problem["x"].reshape(-1, channels) if replicated else problem["x"]
        out = layer(x, edge_index, edge_weight, lambda_max=lambda_max).view(batch, nodes, -1)
        inputs = (problem["x"], layer.bias, *(lin.weight for lin in layer.lins))
        grad_x, grad_bias, *grads = torch.autograd.grad(out, inputs, problem["grad"])
        return {"out": out, "grad x": grad_x, "grad bias": grad_bias, "grad weight": torch.stack([g.T for g in grads])}

    return run


def concatenating(problem: Problem, layout: str):
    """All terms in columns [N, B * C], concatenated, one product: the published layer (which keeps a COO matrix)."""
    matrix = operator(problem).to_torch()
    matrix = matrix.to_sparse_coo().coalesce() if layout == "coo" else matrix
    weight, bias = problem["weight"], problem["bias"]

    def layer(x: torch.Tensor) -> torch.Tensor:
        batch, nodes, channels = x.shape
        terms = [x.permute(1, 2, 0).reshape(nodes, channels * batch)]
        for j in range(1, weight.size(0)):
            product = matrix @ terms[-1]
            terms.append(product if j == 1 else 2 * product - terms[-2])
        stacked = torch.stack(terms).view(-1, nodes, channels, batch).permute(3, 1, 2, 0)
        stacked = stacked.reshape(batch * nodes, -1)
        return (stacked @ weight.transpose(0, 1).reshape(stacked.size(1), -1)).view(batch, nodes, -1) + bias

    return partial(forward_backward, problem, layer)


def definition(problem: Problem) -> Results:
    return geomeq(problem, "reference")()


def sizes(*rows: tuple) -> dict[str, dict]:
    names = ("nodes", "neighbours", "batch", "channels", "outputs", "K")
    label = "{} nodes x {}, batch {}, {} -> {}, K={}"
    return {label.format(*row): dict(zip(names, row, strict=True)) for row in rows}


MAIN = sizes((8_000, 16, 8, 32, 32, 4))
MORE = sizes((8_000, 16, 8, 1, 32, 4), (8_000, 16, 8, 64, 16, 4), (1_536, 16, 64, 16, 16, 4))
TINY = sizes((60, 6, 2, 4, 3, 4))
CSR, COO, PYG = "concatenating, CSR", "concatenating, COO", "PyG, static batch"

CASES = [
    Case(
        "cheb_conv",
        "forward and backward of one Chebyshev layer on one graph, gradients for x, weights and bias",
        sizes=MAIN | MORE,
        quick=TINY,
        setup=signals_on_a_graph,
        contenders={
            "geomeq": geomeq,
            PYG: pyg,
            "PyG, replicated batch": partial(pyg, replicated=True),
            CSR: partial(concatenating, layout="csr"),
            COO: partial(concatenating, layout="coo"),
        },
        peer=PYG,
        reference=definition,
        claims=(
            Claim("at least 20x faster than PyG", "geomeq", PYG, 1 / 20, sizes=tuple(MAIN)),
            Claim("at least 2x faster than concatenating with CSR", "geomeq", CSR, 1 / 2, sizes=tuple(MAIN)),
            Claim("at least 2x faster than concatenating with COO", "geomeq", COO, 1 / 2, sizes=tuple(MAIN)),
        ),
    ),
    Case(
        "cheb_conv_paths",
        "the paths that ChebConv(path='auto') chooses from, by channels",
        sizes=MAIN | MORE | sizes((8_000, 16, 8, 16, 64, 4)),
        quick=TINY,
        setup=signals_on_a_graph,
        contenders={path: partial(geomeq, path=path) for path in ("auto", "fused", "clenshaw", "reference")},
        peer="reference",
        reference=definition,
    ),
]
