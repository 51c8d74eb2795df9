"""Land or sea? Segmentation of a turned earth on an icosphere, from relief that has lost its height.

A U-shaped ChebLieNet on the anisotropic graph of SO(3), with four orientations at each of 642 places, against the same
network, weight for weight, on the isotropic graph of the sphere, and against a network that sees one node at a time.
Scores are area-weighted F1 of land, on longitudes that no training label covered (see `geomeq.datasets.LandSea`).

    python examples/land_sea.py             # two networks, minutes
    python examples/land_sea.py --quick     # a few steps, to see that it runs

The paper found no gain from anisotropy on climate data (Aguettaz et al., 2021: F1 85.3 against 85.6 without). Ends with
status 1 if the anisotropic network is more than 1 point below the isotropic one, or either is not above the network of
one node.

Measured, seeds 0, 1, 2, one thread on a busy machine: F1 90.4, 91.5, 90.9 (anisotropic), 88.3, 89.1, 89.2 (isotropic),
56.9, 57.6, 56.9 (one node): a gain of 2.1, 2.4 and 1.7 points; training 40 s against 15 s. With `--anisotropy 1.0`,
SO(3) with an isotropic metric, the gain is 0.3 (seed 0), so direction makes it, not orientations or more neighbours.
This task is not the paper's: there is one earth, and longitudes kept for testing lie beside trained ones.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric import seed_everything
from torch_geometric.data import Data
from tqdm import tqdm

from geomeq import plot
from geomeq.datasets import LandSea, SharedGraphLoader, weighted_f1, weighted_iou
from geomeq.groups import S2, SO3, icosphere
from geomeq.models import ChebLieNet, ChebLieNetConfig
from geomeq.transforms import GroupGraph, group_levels


class OneNode(nn.Module):
    """A network without neighbours."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 2)

    def forward(self, batch: Data) -> Tensor:
        return self.head(self.layers(batch.x))


def networks(args: argparse.Namespace) -> dict[str, tuple[nn.Module, Data]]:
    """Each network with the graph that its samples live on."""
    transforms = {
        "anisotropic, SO(3)": GroupGraph(SO3(), (args.level, args.orientations), k=16, anisotropy=args.anisotropy),
        "isotropic, sphere": GroupGraph(S2(), args.level, k=8),
    }
    config = ChebLieNetConfig(2, 2, (16, 16, 32, 32)[: args.level + 1], task="segment", pool="max")
    found: dict[str, tuple[nn.Module, Data]] = {}
    for name, transform in transforms.items():
        graphs = group_levels(transform, levels=len(config.widths) - 1)
        seed_everything(args.seed)  # the same first weights
        found[name] = ChebLieNet(config, graphs), graphs[0]
    found["one node"] = OneNode(), found["isotropic, sphere"][1]
    return found


def train(model: nn.Module, graph: Data, data: LandSea, args: argparse.Namespace, label: str) -> None:
    loader = SharedGraphLoader(data.on(graph), batch_size=args.batch, shuffle=True, drop_last=True)
    steps = args.epochs * len(loader)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps)
    area = data.area.float() / data.area.mean()
    model.train()
    with tqdm(total=steps, desc=label, mininterval=1.0) as bar:
        for _ in range(args.epochs):
            for batch in loader:
                each = F.cross_entropy(model(batch).transpose(1, 2), batch.y, ignore_index=-1, reduction="none")
                weight = area * (batch.y >= 0)
                loss = (each * weight).sum() / weight.sum()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
                bar.set_postfix(loss=f"{loss.item():.3f}")


@torch.no_grad()
def predict(model: nn.Module, graph: Data, data: LandSea, batch: int) -> Tensor:
    model.eval()
    return torch.cat([model(b).argmax(-1) for b in SharedGraphLoader(data.on(graph), batch_size=batch)])


def draw(data: LandSea, predictions: dict[str, Tensor], out: Path) -> None:
    """One turned earth: every true label, and what each network says, seen or not in training."""
    sphere, whole = icosphere(data.level), LandSea(data.level, data.split, len(data), holdout=False, seed=data.seed)
    rows = {"truth": whole.y[0]} | {name: p[0] for name, p in predictions.items()}
    figure = plot.sphere_signal(
        sphere.pos, rows, face=sphere.face, classes=("sea", "land"), title="Land or sea, from relief without height"
    )
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "land_sea.png")
    print(f"picture in {out / 'land_sea.png'}")


def main(argv: Sequence[str] | None = None) -> dict[str, float | bool]:
    args = parse(argv)
    train_set, test_set = (
        LandSea(args.level, split, samples, seed=args.seed)
        for split, samples in (("train", args.samples), ("test", args.samples // 2))
    )
    scores, predictions = {}, {}
    for name, (model, graph) in networks(args).items():
        seed_everything(args.seed)
        start = time.perf_counter()
        train(model, graph, train_set, args, name)
        seconds, prediction = time.perf_counter() - start, predict(model, graph, test_set, args.batch)
        scores[name], predictions[name] = weighted_f1(prediction, test_set.y, test_set.area), prediction
        iou, count = weighted_iou(prediction, test_set.y, test_set.area), sum(p.numel() for p in model.parameters())
        print(f"{name}: {count:,} weights, F1 {100 * scores[name]:.1f}, IoU {100 * iou:.1f}, {seconds:.0f} s")
    draw(test_set, predictions, args.out)
    anisotropic, isotropic, alone = scores.values()
    gain = 100 * (anisotropic - isotropic)
    ok = gain >= -1 and min(anisotropic, isotropic) > alone
    print(f"gain of anisotropy: {gain:+.1f} points of F1")
    print("SUCCESS" if ok else "MISSED: wanted at most 1 point lost, and both above the network of one node")
    return {**scores, "gain": gain, "ok": ok}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="a small sphere and a few steps")
    add("--level", type=int, default=3, help="of the icosphere")
    add("--orientations", type=int, default=4)
    add("--anisotropy", type=float, default=0.1)
    add("--samples", type=int, default=64, help="rotations to train on; half as many to test")
    add("--epochs", type=int, default=20)
    add("--batch", type=int, default=8)
    add("--lr", type=float, default=5e-3)
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("runs/land_sea"))
    args = parser.parse_args(argv)
    if args.quick:
        args.level, args.samples, args.epochs = 2, 8, 2
    return args


if __name__ == "__main__":
    raise SystemExit(0 if main()["ok"] else 1)
