"""Train a DISCO U-Net on the sphere: land or sea, from relief that has lost its height.

    python examples/train_sphere.py                          # minutes; isotropic filters
    python examples/train_sphere.py --filters steerable      # directional and equivariant, slower
    python examples/train_sphere.py --quick                  # does it run? seconds

A turned earth for each sample (`datasets.EarthTopography`) on HEALPix; every third sector of longitude is kept for
testing. The weights that are best on validation globes are kept in a checkpoint, loaded again and tested. Then the
earth and the same earth turned by a random rotation are given to the network, and its logits compared at the same
places of the earth: the places join the finest level as nodes of area zero, which receive and do not send, so nothing
is interpolated. Ends with a Mollweide map of truth and prediction. Your own data: an `x [S, N, C]` and `y [S, N]` on
any sampling of `geomeq.spheres`.

Measured, seed 0, one thread, isotropic filters, 40,994 weights: F1 of land 89.0 on longitudes kept for testing (35.1
if everything is called land); rotation error 6.9e-2; 15 s of processor time.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import Data
from tqdm import trange

from geomeq import plot, spheres
from geomeq.datasets import EarthTopography
from geomeq.groups import S2
from geomeq.models import DiscoUNet, DiscoUNetConfig
from geomeq.spheres import Sampling, weighted_f1


def network(args: argparse.Namespace) -> DiscoUNetConfig:
    levels = tuple(("healpix", args.nside >> k, "ring") for k in range(3))
    shape = (2, 3) if args.filters == "steerable" else (3, 3)
    channels = tuple(args.width * 2**k for k in range(3))
    return DiscoUNetConfig(levels, 2, 2, channels, filters=args.filters, kernel_shape=shape, cutoff=4.0)


def loss_of(model: DiscoUNet, x: Tensor, y: Tensor, area: Tensor) -> Tensor:
    """Cross entropy by area, where labels count."""
    each = F.cross_entropy(model(x).transpose(1, 2), y, ignore_index=-1, reduction="none")
    return (each * area).sum() / (area * (y >= 0)).sum()


@torch.no_grad()
def predict(model: DiscoUNet, x: Tensor) -> Tensor:
    model.eval()
    return torch.cat([model(part) for part in x.split(8)])


def train(model: DiscoUNet, data: EarthTopography, val: EarthTopography, args: argparse.Namespace) -> None:
    """Saves the weights of the epoch with the best validation score, and the config."""
    optimizer = torch.optim.AdamW(model.parameters(), args.lr, weight_decay=1e-2)
    steps = args.epochs * -(-len(data) // args.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps)
    area, best = (data.area / data.area.mean()).float(), -1.0
    for _ in (bar := trange(args.epochs, desc="train")):
        model.train()
        for index in torch.randperm(len(data)).split(args.batch):
            loss = loss_of(model, data.x[index], data.y[index], area)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        score = weighted_f1(predict(model, val.x).argmax(-1), val.y, val.area)
        bar.set_postfix(loss=f"{loss.item():.3f}", val=f"{score:.3f}")
        if score > best:
            best = score
            torch.save(model.state_dict(), args.out / "best.pt")
            (args.out / "config.json").write_text(json.dumps(asdict(model.config)))


def load(out: Path) -> DiscoUNet:
    """The network of a checkpoint."""
    model = DiscoUNet(DiscoUNetConfig(**json.loads((out / "config.json").read_text())))
    model.load_state_dict(torch.load(out / "best.pt", weights_only=True))
    return model


def rotation_error(model: DiscoUNet, seed: int, places: int = 300) -> float:
    """Difference of the logits for the earth and for the earth turned, at the same places of it, relative to them."""
    config, at = model.config, S2.random(places, seed=seed)
    kind, *arguments = config.samplings[0]
    fine = getattr(spheres, kind)(*arguments)
    turn = EarthTopography(fine, samples=1, noise=0.0, seed=seed).rotation[0]
    logits = []
    for rotation, name in ((torch.eye(3, dtype=torch.float64), "none"), (turn, "random")):
        pos = torch.cat([fine.pos, at @ rotation.T])
        s = Sampling("with places", pos, torch.cat([fine.area, torch.zeros(places).double()]))
        changed = asdict(config) | {"samplings": (s, *config.samplings[1:])}
        other = DiscoUNet(DiscoUNetConfig(**changed))
        other.load_state_dict(model.state_dict())
        earth = EarthTopography(Data(pos=s.pos, area=s.area), rotation=name, samples=1, noise=0.0, seed=seed)
        logits.append(predict(other.double(), earth.x.double())[0, -places:])
    return float((logits[1] - logits[0]).norm() / (logits[0] - logits[0].mean(0)).norm())


def draw(model: DiscoUNet, data: EarthTopography, path: Path) -> None:
    """One turned earth, truth and prediction, whether or not a place was kept for testing."""
    rows = {"truth": data.land[0].long(), "prediction": predict(model, data.x[:1])[0].argmax(-1)}
    figure = plot.sphere_signal(
        data.graph.pos, rows, classes=("sea", "land"), view="mollweide", title="Land or sea, from relief without height"
    )
    figure.savefig(path)
    print(f"picture in {path}")


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    seed_everything(args.seed)
    s = spheres.healpix(args.nside, "ring")
    data = EarthTopography(s, "train", samples=args.samples, seed=args.seed)
    val = EarthTopography(s, "train", samples=max(args.samples // 4, 2), seed=args.seed + 1)
    test = EarthTopography(s, "test", samples=max(args.samples // 2, 2), seed=args.seed)
    model = DiscoUNet(network(args))
    print(f"{model}: {sum(p.numel() for p in model.parameters()):,} weights")
    train(model, data, val, args)

    model = load(args.out)
    score = weighted_f1(predict(model, test.x).argmax(-1), test.y, test.area)
    land = weighted_f1(torch.ones_like(test.y), test.y, test.area)
    error = rotation_error(model, args.seed)
    print(f"F1 of land on kept longitudes: {100 * score:.1f} (all land: {100 * land:.1f})")
    print(f"rotation error: {error:.1e}")
    draw(model, test, args.out / "train_sphere.png")
    return {"f1": score, "all land": land, "rotation error": error}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="few nodes and steps")
    add("--filters", default="isotropic", choices=("isotropic", "directional", "steerable"))
    add("--nside", type=int, default=16)
    add("--width", type=int, default=16, help="channels on the finest level")
    add("--samples", type=int, default=32, help="turned earths to train on")
    add("--epochs", type=int, default=12)
    add("--batch", type=int, default=4)
    add("--lr", type=float, default=5e-3)
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("runs/train_sphere"))
    args = parser.parse_args(argv)
    if args.quick:
        args.nside, args.width, args.samples, args.epochs = 4, 4, 4, 2
    return args


if __name__ == "__main__":
    main()
