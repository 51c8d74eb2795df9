"""One block of ESCN against a plain implementation of the published one."""

import torch
from harness import Case, Claim, Problem, Results
from plain_escn import PlainBlock, dense_wigner, norms
from torch import Tensor, nn

from geomeq.harmonics import edge_wigner
from geomeq.nn import GatedMLP, SO2Conv
from geomeq.ops import EdgeLayout, EdgeRotation

EDGE_CHANNELS, MMAX = 64, 2


def atoms(lmax: int, channels: int, edges: int = 1_000, nodes: int = 50) -> Problem:
    """Nodes with 20 edges each: features, directions, invariants and envelope of the edges."""
    rng = torch.Generator().manual_seed(0)
    index = torch.randint(nodes, (2, edges), generator=rng)
    return {
        "lmax": lmax,
        "channels": channels,
        "nodes": nodes,
        "edge_index": index[:, index[1].argsort(stable=True)],
        "vec": torch.randn(edges, 3, generator=rng),
        "scalars": torch.randn(edges, EDGE_CHANNELS, generator=rng),
        "envelope": torch.rand(edges, generator=rng),
        "x": torch.randn(nodes, (lmax + 1) ** 2, channels, generator=rng).requires_grad_(),
        "grad": torch.randn(nodes, (lmax + 1) ** 2, channels, generator=rng),
    }


class Block(nn.Module):
    """Norm, message, norm, network at the nodes."""

    def __init__(self, problem: Problem, chunk_size: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        lmax, channels = problem["lmax"], problem["channels"]
        self.norms = norms(channels, lmax)
        mmax = min(MMAX, lmax)
        self.conv = SO2Conv(
            channels, channels, lmax, mmax, EDGE_CHANNELS, average_degree=20.0, chunk_size=chunk_size
        )  # fmt: skip
        self.mlp = GatedMLP(channels, channels, lmax)
        self.to(problem["x"].device, problem["x"].dtype)

    def forward(self, x: Tensor, rotation: EdgeRotation, scalars: Tensor, envelope: Tensor) -> Tensor:
        x = x + self.conv(self.norms[0](x), rotation, scalars, envelope)
        return x + self.mlp(self.norms[1](x))


def gradients(problem: Problem, out: Tensor, layer: nn.Module) -> Results:
    parameters = [p for p in layer.parameters() if p.requires_grad]
    found = torch.autograd.grad(out, [problem["x"], *parameters], problem["grad"])
    return {"out": out, "grad x": found[0]}


def ours(chunk_size: int | None = None, whole: bool = False):
    """``whole``: the frames are made in the call, too."""

    def prepare(problem: Problem):
        block = Block(problem, chunk_size)
        lmax, nodes = problem["lmax"], problem["nodes"]
        mmax = min(MMAX, lmax)

        def rotation() -> EdgeRotation:
            wigner = edge_wigner(problem["vec"], lmax, mmax)
            return EdgeRotation(wigner, problem["edge_index"], nodes, EdgeLayout(lmax, mmax))

        kept = rotation()

        def run() -> Results:
            out = block(problem["x"], rotation() if whole else kept, problem["scalars"], problem["envelope"])
            return gradients(problem, out, block)

        return run

    return prepare


def plain(problem: Problem):
    """Dense matrices are made once, as in the published codes; they do not count."""
    block, lmax = Block(problem), problem["lmax"]
    peer = PlainBlock(block.norms, block.conv, block.mlp).to(problem["x"].device, problem["x"].dtype)
    wigner = dense_wigner(edge_wigner(problem["vec"], lmax, lmax), EdgeLayout(lmax, lmax))

    def run() -> Results:
        out = peer(problem["x"], wigner, problem["edge_index"], problem["scalars"], problem["envelope"])
        return gradients(problem, out, peer)

    return run


def reference(problem: Problem) -> Results:
    """The plain block in float64."""
    return plain(problem)()


SIZES = {
    f"L={lmax}, C={channels}": {"lmax": lmax, "channels": channels} for lmax in (2, 4, 6) for channels in (32, 128)
}
MANY = {"100,000 edges, L=6, C=64": {"lmax": 6, "channels": 64, "edges": 100_000, "nodes": 5_000}}

CASES = [
    Case(
        "escn_block",
        "message and node update of ESCN (eSEN form, mmax = 2), forward and backward, 50 atoms, 1,000 edges",
        sizes=SIZES,
        quick={"L=2, C=4": {"lmax": 2, "channels": 4, "edges": 40, "nodes": 6}},
        setup=atoms,
        contenders={
            "geomeq": ours(),
            "geomeq, frames made in the call": ours(whole=True),
            "geomeq, chunks of 256": ours(chunk_size=256),
            "plain": plain,
        },
        peer="plain",
        reference=reference,
        claims=(Claim("no slower than the plain block", "geomeq", "plain"),),
    ),
    Case(
        "escn_block_large",
        "the same on 100,000 edges, with and without chunks",
        sizes=MANY,
        quick={"L=2, C=4": {"lmax": 2, "channels": 4, "edges": 60, "nodes": 6}},
        setup=atoms,
        contenders={"geomeq, chunks of 4,096": ours(chunk_size=4_096), "geomeq, at once": ours()},
        peer="geomeq, at once",
        claims=(Claim("at most 1.4 times the time at once", "geomeq, chunks of 4,096", "geomeq, at once", 1.4),),
    ),
]
