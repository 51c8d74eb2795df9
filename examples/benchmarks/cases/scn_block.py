"""A spherical channel block against the same as published codes write it."""

import torch
from harness import Case, Claim, Problem, Results
from plain_scn import PlainBlock
from torch import Tensor

from geomeq.harmonics import edge_frames
from geomeq.neighbors import periodic_radius_edges
from geomeq.nn import SphericalChannelBlock


def crystal(channels: int, hidden: int, lmax: int = 6, nodes: int = 50, neighbours: int = 20) -> Problem:
    """Atoms at random in a periodic box, each with its nearest neighbours."""
    rng = torch.Generator().manual_seed(0)
    box = 8.0
    pos = torch.rand(nodes, 3, generator=rng) * box
    edge_index, shift = periodic_radius_edges(pos, box, box * torch.eye(3))
    vec = pos[edge_index[0]] - pos[edge_index[1]] + shift * box
    order = torch.argsort(edge_index[1] * 100 + vec.norm(dim=1))
    keep = torch.cat([own[:neighbours] for own in order.split(torch.bincount(edge_index[1]).tolist())]).sort().values
    shape = (nodes, (lmax + 1) ** 2, channels)
    return {
        "channels": channels,
        "hidden": hidden,
        "lmax": lmax,
        "edge_index": edge_index[:, keep].contiguous(),
        "vec": vec[keep],
        "z": torch.randint(1, 90, (nodes,), generator=rng),
        "x": torch.randn(shape, generator=rng).requires_grad_(),
        "grad": torch.randn(shape, generator=rng),
    }


def build(problem: Problem, **options) -> SphericalChannelBlock:
    torch.manual_seed(1)
    block = SphericalChannelBlock(
        problem["channels"],
        problem["lmax"],
        hidden_channels=problem["hidden"],
        num_basis=400,
        cutoff=8.0,
        envelope=None,
        **options,
    )
    return block.to(problem["x"].device, problem["x"].dtype)


def gradients(problem: Problem, out: Tensor, block: torch.nn.Module) -> Results:
    weights = [p for p in block.parameters() if p.requires_grad]
    grads = torch.autograd.grad(out, (problem["x"], *weights), problem["grad"])
    return {"out": out.detach(), "grad x": grads[0]}


def ours(share: bool, **options):
    """``share``: the geometry made before, as the second and later layers of a network find it."""

    def prepare(problem: Problem):
        block = build(problem, **options)
        args = (problem["z"], problem["edge_index"])
        geometry = block.geometry(problem["edge_index"], problem["vec"], problem["x"].size(0)) if share else None

        def run() -> Results:
            return gradients(problem, block(problem["x"], *args, problem["vec"], geometry=geometry), block)

        return run

    return prepare


def plain(share: bool):
    def prepare(problem: Problem):
        block = PlainBlock(build(problem)).to(problem["x"].device, problem["x"].dtype)
        rotation, length = edge_frames(problem["vec"]), problem["vec"].norm(dim=1)
        args = (problem["z"], problem["edge_index"], length)
        wigner = block.wigner(rotation) if share else None

        def run() -> Results:
            if wigner is None:
                return gradients(problem, block(problem["x"], *args, rotation), block)
            return gradients(problem, block.layer(problem["x"], *args, wigner), block)

        return run

    return prepare


def reference(problem: Problem) -> Results:
    """The plain block in float64."""
    return plain(share=False)(problem)()


CASES = [
    Case(
        "scn_block",
        "one spherical channel block of four taps, forward and backward, 50 atoms, 1,000 periodic edges, L = 6",
        sizes={"C=32": {"channels": 32, "hidden": 128}, "C=128": {"channels": 128, "hidden": 256}},
        quick={"C=4": {"channels": 4, "hidden": 8, "lmax": 3, "nodes": 8, "neighbours": 4}},
        setup=crystal,
        contenders={
            "geomeq": ours(share=False),
            "geomeq, frames made before": ours(share=True),
            "geomeq, map after rotation": ours(share=False, path="edges"),
            "geomeq, chunks of 256": ours(share=False, chunk_size=256),
            "plain": plain(share=False),
            "plain, frames made before": plain(share=True),
        },
        peer="plain",
        reference=reference,
        claims=(
            Claim("at most a third of the plain block's time", "geomeq", "plain", 1 / 3),
            Claim("frames shared", "geomeq, frames made before", "plain, frames made before", 1 / 3),
        ),
    )
]
