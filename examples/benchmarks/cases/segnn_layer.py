"""One SEGNN layer, and a whole model, against the same written with e3nn's fully connected product."""

import torch
from e3nn import o3
from harness import Case, Claim, Problem, Results
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq.harmonics import steerable_attributes
from geomeq.models import SEGNN, SEGNNConfig
from geomeq.nn import SEGNNConv, SteerableGate, SteerableLinear
from geomeq.nn._gate import SIGMOID_FACTOR, SILU_FACTOR
from geomeq.nn._graph import SteerableGraph

HIDDEN = {1: "32x0e+32x1o", 2: "20x0e+20x1o+20x2e"}  # both about as wide as 64 ordinary channels


def molecules(lmax: int, graphs: int = 32, nodes: int = 18) -> Problem:
    """Fully connected graphs of random points, as in the specification of the layer."""
    rng = torch.Generator().manual_seed(0)
    target, source = torch.meshgrid(torch.arange(nodes), torch.arange(nodes), indexing="ij")
    pair = torch.stack([source, target])[:, source != target]
    edge_index = (pair[:, None] + nodes * torch.arange(graphs)[:, None]).flatten(1)
    pos = torch.randn(graphs * nodes, 3, generator=rng)
    made = steerable_attributes(pos[edge_index[0]] - pos[edge_index[1]], edge_index, len(pos), lmax)
    return {
        "lmax": lmax,
        "edge_index": edge_index,
        "edge_attr": made.edge_attr,
        "node_attr": made.node_attr,
        "edge_dist": made.edge_dist,
        "x": torch.randn(len(pos), o3.Irreps(HIDDEN[lmax]).dim, generator=rng).requires_grad_(),
        "grad": torch.randn(len(pos), o3.Irreps(HIDDEN[lmax]).dim, generator=rng),
        "batch": torch.arange(graphs).repeat_interleave(nodes),
    }


class ProductLinear(nn.Module):
    """A SteerableLinear computed by e3nn, with the same weights."""

    def __init__(self, layer: SteerableLinear) -> None:
        super().__init__()
        self.product = o3.FullyConnectedTensorProduct(
            layer.irreps_in, layer.irreps_attr, layer.irreps_out, internal_weights=True, shared_weights=True
        )
        factor = []
        for p in layer.paths.paths:
            size = layer.irreps_in[p.source].mul * layer.irreps_attr[p.attr].mul * layer.irreps_out[p.target].mul
            factor.append(torch.full((size,), layer.paths.fan_in[p.target] ** 0.5))
        with torch.no_grad():
            self.product.weight.copy_(layer.weight * torch.cat(factor))
        self.bias = nn.Parameter(layer.bias.detach().clone())

    def forward(self, x: Tensor, attr: Tensor) -> Tensor:
        y = self.product(x, attr)
        scalars = self.bias.numel()
        return torch.cat([y[:, :scalars] + self.bias, y[:, scalars:]], dim=1)


class ProductGate(nn.Module):
    """A SteerableGate on top of it."""

    def __init__(self, layer: SteerableGate) -> None:
        super().__init__()
        self.linear, self.out = ProductLinear(layer.linear), layer.irreps_out
        self.scalars, self.gates = layer.num_scalars, layer.num_gates

    def forward(self, x: Tensor, attr: Tensor) -> Tensor:
        y = self.linear(x, attr)
        s, g, rest = y.split([self.scalars, self.gates, y.size(1) - self.scalars - self.gates], dim=1)
        gate, parts, at, column = torch.sigmoid(g) * SIGMOID_FACTOR, [nn.functional.silu(s) * SILU_FACTOR], 0, 0
        for mul, ir in self.out:
            if ir.l > 0:
                part = rest[:, column : column + mul * ir.dim].view(-1, mul, ir.dim)
                parts.append((part * gate[:, at : at + mul, None]).flatten(1))
                at, column = at + mul, column + mul * ir.dim
        return torch.cat(parts, dim=1)


class ProductConv(nn.Module):
    """The layer of the published code: gather, concatenate, product, gate, index_add."""

    def __init__(self, conv: SEGNNConv) -> None:
        super().__init__()
        self.first, self.second = ProductGate(conv.message_first), ProductGate(conv.message_second)
        self.update, self.last = ProductGate(conv.update_first), ProductLinear(conv.update_second)

    def forward(self, x, edge_index, edge_attr, node_attr, edge_scalar, graph=None):
        source, target = edge_index
        message = self.first(torch.cat([x[target], x[source], edge_scalar], dim=1), edge_attr)
        message = self.second(message, edge_attr)
        total = torch.zeros_like(x).index_add(0, target, message)
        return x + self.last(self.update(torch.cat([x, total], dim=1), node_attr), node_attr)


def build(problem: Problem, path: str) -> SEGNNConv:
    torch.manual_seed(1)
    lmax = problem["lmax"]
    conv = SEGNNConv(HIDDEN[lmax], o3.Irreps.spherical_harmonics(lmax), path=path)
    return conv.to(problem["x"].device, problem["x"].dtype)


def forward_backward(problem: Problem, layer: nn.Module, share: bool) -> Results:
    names = ("edge_index", "edge_attr", "node_attr", "edge_dist")
    tensors = [problem[name] for name in names]
    graph = problem.get("graph") if share else None
    out = layer(problem["x"], *tensors, graph=graph)
    grads = torch.autograd.grad(out, (problem["x"], *layer.parameters()), problem["grad"])
    return {"out": out, "grad x": grads[0]}


def ours(path: str, share: bool):
    def prepare(problem: Problem):
        conv = build(problem, path)
        if share:  # as in a model, where all layers share one
            problem["graph"] = SteerableGraph(problem["edge_index"], problem["edge_attr"], problem["node_attr"])
        return lambda: forward_backward(problem, conv, share)

    return prepare


def e3nn(problem: Problem):
    conv = ProductConv(build(problem, "cg")).to(problem["x"].dtype)
    return lambda: forward_backward(problem, conv, share=False)


def reference(problem: Problem) -> Results:
    """The Clebsch-Gordan definition in float64, with weights as the others drew them."""
    torch.manual_seed(1)
    lmax = problem["lmax"]
    conv = SEGNNConv(HIDDEN[lmax], o3.Irreps.spherical_harmonics(lmax), path="cg").double()
    return forward_backward(problem, conv, share=False)


def model_step(e3nn_layers: bool):
    def prepare(problem: Problem):
        torch.manual_seed(1)
        lmax = problem["lmax"]
        model = SEGNN(SEGNNConfig(HIDDEN[lmax], HIDDEN[lmax], lmax_attributes=lmax, num_layers=4))
        model = model.to(problem["x"].device)
        if e3nn_layers:
            model.layers = nn.ModuleList(ProductConv(layer) for layer in model.layers)
        names = ("x", "edge_index", "edge_attr", "node_attr", "edge_dist", "batch")
        data = Data(**{name: problem[name] for name in names})
        data.num_graphs = int(problem["batch"].max()) + 1

        def run() -> Results:
            out = model(data)
            (grad,) = torch.autograd.grad(out.sum(), problem["x"], retain_graph=True)
            torch.autograd.grad(out.sum(), list(model.parameters()))
            return {"out": out, "grad x": grad}

        return run

    return prepare


SIZES = {f"L={lmax}, 9,792 edges": {"lmax": lmax} for lmax in HIDDEN}
QUICK = {f"L={lmax}": {"lmax": lmax, "graphs": 2, "nodes": 4} for lmax in HIDDEN}

CASES = [
    Case(
        "segnn_layer",
        "one SEGNN layer, forward and backward, 32 fully connected graphs of 18 nodes",
        sizes=SIZES,
        quick=QUICK,
        setup=molecules,
        contenders={
            "geomeq": ours("auto", share=True),
            "geomeq, couplings made in the call": ours("auto", share=False),
            "geomeq, products": ours("cg", share=True),
            "e3nn product": e3nn,
        },
        peer="e3nn product",
        reference=reference,
        claims=(
            Claim("at most half of e3nn's time at L = 1", "geomeq", "e3nn product", 1 / 2, sizes=(next(iter(SIZES)),)),
            Claim("at most a third of e3nn's time at L = 2", "geomeq", "e3nn product", 1 / 3, sizes=([*SIZES][1],)),
        ),
    ),
    Case(
        "segnn_model",
        "a SEGNN of 4 layers, forward and backward, same graphs; couplings are made once per call",
        sizes={**SIZES, "L=1, N-body: 100 graphs of 5": {"lmax": 1, "graphs": 100, "nodes": 5}},
        quick=QUICK,
        setup=molecules,
        contenders={"geomeq": model_step(e3nn_layers=False), "e3nn layers": model_step(e3nn_layers=True)},
        peer="e3nn layers",
        claims=(Claim("at most half of the time with e3nn's layers", "geomeq", "e3nn layers", 1 / 2),),
    ),
]
