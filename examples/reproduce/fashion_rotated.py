"""Clothes turned by any angle: networks of equal size on the whole of Fashion-MNIST, in two tasks.

A plain CNN, Chebyshev filters on the isotropic graph of the plane, ChebLieNet on the anisotropic graph of SE(2), a p4
group convolutional network and a harmonic network, 22,000 to 25,000 weights each, trained alike, without augmentation.

*Upright*: the 60,000 training images as they are; the 10,000 test images upright, turned by quarter turns, and turned
by any angle about the centre. *Rotated*: as rotated MNIST, 12,000 images for training and 50,000 others for testing,
each turned once by its own random angle.

    python examples/reproduce/fashion_rotated.py --subset --epochs 20    # the bundled 2,000 + 1,000 images, minutes
    python examples/reproduce/fashion_rotated.py                         # 60,000 + 10,000 images, hours on one core
    python examples/reproduce/fashion_rotated.py --models GCNN           # one network at a time, results add up
    python examples/reproduce/fashion_rotated.py --task rotated --epochs 6 --models HarmonicNet CNN GCNN

Measured with the second command, three epochs, seed 0, one core of a machine in use (accuracy in % of 10,000 images,
upright / quarter turns / any angle; seconds of training): CNN 90.86 / 32.90 / 24.11, 21,750 weights, 339 s; isotropic
88.45 / 88.45 / 58.06, 24,530 weights, 556 s; ChebLieNet 88.43 / 88.43 / 57.79, 24,530 weights, 3,236 s; GCNN 90.64 /
90.64 / 43.22, 24,680 weights, 271 s: SUCCESS. So direction brings the Chebyshev network nothing here, and three epochs
are few for all of them. HarmonicNet came later and was not run upright.

Measured with the last command, six epochs, seed 0 (accuracy in % of 50,000 images; seconds of training, the machine
shared by many): HarmonicNet 78.65, 24,570 weights, 1,326 s; CNN 73.53, 21,750 weights, 317 s; GCNN 81.89, 24,680
weights, 614 s: SUCCESS. The harmonic network makes 0.81 times the errors of the CNN, but p4 makes fewer, in half the
time: with so little training, networks that see the angle learn clothes faster. Nothing was tuned.

A run that was cut goes on from its last whole epoch (checkpoints in ``--out``). Results are kept in a JSON file per
task, one entry per network, and drawn together. Ends with status 1 unless (upright) the equivariant networks lose
nothing under quarter turns, beyond the rounding of float32, while the CNN loses more than 30 points; (rotated) the
harmonic network makes at most 0.9 times the errors of the CNN.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_geometric import seed_everything
from tqdm import tqdm

from geomeq.datasets import FashionMNIST, ImageDataset
from geomeq.groups import SE2, Rn
from geomeq.models import GCNN, ChebLieNet, ChebLieNetConfig, GCNNConfig, HarmonicNet, HarmonicNetConfig
from geomeq.nn import to_batch
from geomeq.transforms import GroupGraph, group_levels

TASKS = {"upright": ("upright", "quarter turns", "any angle"), "rotated": ("turned",)}


class OnNodes(nn.Module):
    """A network on a graph, fed with images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(to_batch(images))


def isotropic() -> nn.Module:
    graphs = group_levels(GroupGraph(Rn(2), (28, 28), k=8), levels=2)
    return OnNodes(ChebLieNet(ChebLieNetConfig(1, 10, (12, 16, 64), pool="max"), graphs))


def cheblienet() -> nn.Module:
    graphs = group_levels(GroupGraph(SE2(), (28, 28, 6), k=16, anisotropy=0.1), levels=2)
    return OnNodes(ChebLieNet(ChebLieNetConfig(1, 10, (12, 16, 64), pool="max"), graphs))


def cnn() -> nn.Module:
    return GCNN(GCNNConfig.p4cnn("C1", dropout=0.0))


def gcnn() -> nn.Module:
    return GCNN(GCNNConfig.p4cnn("C4", dropout=0.0))


def harmonic() -> nn.Module:
    return HarmonicNet(HarmonicNetConfig(channels=(8, 12, 20), mask=True))


MODELS = {"CNN": cnn, "isotropic": isotropic, "ChebLieNet": cheblienet, "GCNN": gcnn, "HarmonicNet": harmonic}


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of right answers, in percent."""
    model.eval()
    with torch.no_grad():
        right = [(model(x).argmax(1) == y).sum() for x, y in zip(images.split(100), labels.split(100), strict=True)]
    return 100.0 * float(torch.stack(right).sum()) / len(labels)


def train(model: nn.Module, data: ImageDataset, args: argparse.Namespace, name: str) -> dict:
    """One-cycle Adam; the mean loss of each epoch, and the seconds they took. Goes on where a former run was cut."""
    steps = args.epochs * (len(data) // args.batch)
    adam = torch.optim.Adam(model.parameters(), lr=args.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, args.rate, total_steps=steps, pct_start=0.2)
    parts = {"model": model, "adam": adam, "schedule": schedule}
    place, done = checkpoint(args, name), {"losses": [], "seconds": 0.0}
    if place.exists():
        saved = torch.load(place, weights_only=True)
        done = saved.pop("done")
        for key, part in parts.items():
            part.load_state_dict(saved[key])
    for epoch in range(len(done["losses"]), args.epochs):
        start = time.perf_counter()
        done["losses"].append(one_epoch(model, data, args, adam, schedule, f"{name}, epoch {epoch + 1}"))
        done["seconds"] += time.perf_counter() - start
        torch.save({"done": done, **{key: part.state_dict() for key, part in parts.items()}}, place)
    return done


def one_epoch(model: nn.Module, data: ImageDataset, args: argparse.Namespace, adam, schedule, title: str) -> float:
    model.train()
    order, total = torch.randperm(len(data)), 0.0
    batches = order[: len(data) // args.batch * args.batch].split(args.batch)
    bar = tqdm(batches, desc=title, mininterval=5)
    for step, index in enumerate(bar):
        loss = nn.functional.cross_entropy(model(data.images[index]), data.labels[index])
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        total += float(loss.detach())
        bar.set_postfix(loss=f"{total / (step + 1):.3f}")
    return total / len(batches)


def checkpoint(args: argparse.Namespace, name: str) -> Path:
    """Settings are part of the name: a run with others begins anew."""
    subset = "-subset" if args.subset else ""
    limit = f"-{args.limit}" if args.limit else ""
    return args.out / f"{args.task}-{name}-{args.epochs}-{args.batch}-{args.rate}-{args.seed}{subset}{limit}.pt"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", choices=list(TASKS), default="upright", help="how the training images lie")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--subset", action="store_true", help="the bundled images instead of the full set")
    parser.add_argument("--limit", type=int, help="so many training images only")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--rate", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fashion_rotated"))
    return parser.parse_args(argv)


def upright(args: argparse.Namespace) -> tuple[ImageDataset, dict[str, ImageDataset]]:
    """The training images as they are, the test images in three ways."""
    data, test = (FashionMNIST(split, subset=args.subset) for split in ("train", "test"))
    if args.limit:
        data, test = data.take(slice(args.limit)), test.take(slice(args.limit))
    turned = (test, test.rotated("quarter", seed=1), test.rotated("uniform", seed=2))
    return data, dict(zip(TASKS["upright"], turned, strict=True))


def rotated(args: argparse.Namespace) -> tuple[ImageDataset, dict[str, ImageDataset]]:
    """As rotated MNIST: 12,000 images for training, 50,000 others for testing, each turned by its own angle, once."""
    parts = [FashionMNIST(split, subset=args.subset) for split in ("train", "test")]
    whole = ImageDataset(torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts]))
    sizes = (1_000, 2_000) if args.subset else (12_000, 50_000)
    data, test = whole.rotated("uniform", seed=3).split(*([args.limit] * 2 if args.limit else sizes), seed=4)
    return data, {"turned": test}


def run(name: str, args: argparse.Namespace) -> dict:
    """Trains and tests one network."""
    seed_everything(args.seed)
    model = MODELS[name]()
    data, tests = {"upright": upright, "rotated": rotated}[args.task](args)
    result = {"weights": sum(p.numel() for p in model.parameters())} | train(model, data, args, name)
    result |= {kind: accuracy(model, part.images, part.labels) for kind, part in tests.items()}
    return result | {"images": len(data), "epochs": args.epochs, "seed": args.seed}


def draw(results: dict[str, dict], tests: Sequence[str], path: Path) -> None:
    """Bars: accuracy of each network on each test."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    colours = ("#0072B2", "#E69F00", "#009E73")
    for i, (kind, colour) in enumerate(zip(tests, colours, strict=False)):
        places = [j + 0.27 * (i - 1) for j in range(len(results))]
        values = [result[kind] for result in results.values()]
        axes.bar(places, values, 0.25, color=colour, label=kind)
        for x, value in zip(places, values, strict=True):
            axes.text(x, value + 1, f"{value:.1f}", ha="center", fontsize=8)
    axes.set_xticks(range(len(results)), [f"{n}\n{r['weights']:,} weights" for n, r in results.items()])
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 108)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.16))
    figure.savefig(path)


def verdict(results: dict[str, dict], task: str = "upright") -> bool | None:
    """Whether the success line holds; ``None`` while a network is missing."""
    if task == "rotated":
        if not {"CNN", "HarmonicNet"} <= results.keys():
            return None
        error = {name: 100 - result["turned"] for name, result in results.items()}
        return error["HarmonicNet"] <= 0.9 * error["CNN"]
    if not {"CNN", "ChebLieNet", "GCNN"} <= results.keys():
        return None
    lost = {name: r["upright"] - r["quarter turns"] for name, r in results.items()}
    exact = [name for name in results if name not in ("CNN", "isotropic")]
    # rounding may flip a tie or two
    return lost["CNN"] > 30 and all(abs(lost[name]) <= 0.1 for name in exact)


def main(argv: Sequence[str] | None = None) -> dict:
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / ("results.json" if args.task == "upright" else f"results-{args.task}.json")
    for name in args.models:
        result = run(name, args)
        results = json.loads(path.read_text()) if path.exists() else {}
        results[name] = result
        path.write_text(json.dumps({n: results[n] for n in MODELS if n in results}, indent=1))
        found = ", ".join(f"{kind} {result[kind]:.2f} %" for kind in TASKS[args.task])
        print(f"{name}: {found}; {result['weights']:,} weights, {result['seconds']:.0f} s", flush=True)
    results = json.loads(path.read_text())
    draw(results, TASKS[args.task], args.out / ("accuracy.png" if args.task == "upright" else f"{args.task}.png"))
    ok = verdict(results, args.task)
    print("SUCCESS" if ok else "not all networks were trained yet" if ok is None else "MISSED")
    return {"results": results, "ok": ok}


if __name__ == "__main__":
    raise SystemExit(0 if main()["ok"] in (True, None) else 1)
