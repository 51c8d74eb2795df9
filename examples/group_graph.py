"""The graph of SE(2) on a small image, its spectrum, and a picture of one neighbourhood.

    python examples/group_graph.py --anisotropy 0.1 --out group_graph.png

Prints how far a quarter turn of image and orientations is from being a symmetry of the Laplacian (exactly 0), the
first eigenvalues with pygsp, and which orientation the first anisotropic filter prefers.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import Compose

from geomeq.groups import SE2
from geomeq.nn import ChebConv
from geomeq.transforms import GroupGraph, Laplacian, to_pygsp


def quarter_turn(n: int, orientations: int) -> Tensor:
    """Where each node goes: the image turned, orientations shifted by half their number."""
    node = torch.arange(orientations * n * n).view(orientations, n, n)
    return torch.rot90(node, 1, (1, 2)).roll(orientations // 2, 0).flatten()


def response_to_a_line(graph: Data, n: int, orientations: int) -> Tensor:
    """Energy of a blurred horizontal line after smoothing along each orientation, ``[orientations]``."""
    image = torch.zeros(n, n)
    image[n // 2] = 1.0
    smooth = ChebConv.from_response(lambda frequency: torch.exp(-3 * frequency), K=8)
    with torch.no_grad():
        lifted = image.flatten().repeat(orientations)[:, None]
        out = smooth(lifted, graph.laplacian)
    return out.view(orientations, -1).square().sum(dim=1)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Builds, checks and draws; returns the numbers printed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=16, help="side of the image")
    parser.add_argument("--orientations", type=int, default=6, help="an even number")
    parser.add_argument("--anisotropy", type=float, default=0.1, help="1 is isotropic")
    parser.add_argument("--out", type=Path, help="where to write the picture")
    options = parser.parse_args(arguments)
    n, orientations = options.size, options.orientations

    build = GroupGraph(SE2(), (n, n, orientations), k=16, anisotropy=options.anisotropy)
    graph = Compose([build, Laplacian()])(Data())
    print(
        f"{graph.num_nodes} vertices, {graph.num_edges} edges, turning costs {float(graph.metric[0, 2, 2]) ** 0.5:.3f}"
    )

    dense, turn = graph.laplacian.to_dense(), quarter_turn(n, orientations)
    broken = float((dense[turn][:, turn] - dense).abs().max())
    print(f"quarter turn: Laplacian changes by {broken}")

    spectrum = to_pygsp(graph)
    spectrum.compute_fourier_basis()
    print("eigenvalues:", ", ".join(f"{value:.4f}" for value in spectrum.e[:6]), "...", f"{spectrum.e[-1]:.4f}")

    energy = response_to_a_line(graph, n, orientations)
    angle = graph.element[:: graph.num_spatial, 2].rad2deg()
    best = int(energy.argmax())
    print(f"a horizontal line is strongest at {float(angle[best]):.0f} degrees, by {energy.max() / energy.min():.2f}")

    if options.out is not None:
        from geomeq import plot

        plot.group_graph(graph).savefig(options.out)
    return {"broken": broken, "gap": float(spectrum.e[1]), "top": float(spectrum.e[-1]), "angle": float(angle[best])}


if __name__ == "__main__":
    main()
