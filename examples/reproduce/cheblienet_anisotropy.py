"""Filters with a direction: Chebyshev networks on an isotropic graph of the plane and on anisotropic graphs of SE(2).

Claims (Aguettaz, Bekkers and Defferrard, 2021): there is a sweet spot of anisotropy, eps^2 between 0.1 and 0.5, where a
network of oriented filters beats the same network of isotropic ones; and trained upright it still reads turned images.

    python examples/reproduce/cheblienet_anisotropy.py                    # five seeds, both tasks, all networks
    python examples/reproduce/cheblienet_anisotropy.py --seeds 1 --task digits
    python examples/reproduce/cheblienet_anisotropy.py --quick            # does it run? seconds, no claims

Textures: curved against crossed line fields of dense wave packets, which average the same behind any isotropic filter.
One layer of filters, ReLU, a mean over all nodes and a linear map. Digits: 16 x 16 pixels, trained upright, tested
upright and turned by random multiples of 30 degrees, two residual blocks. All Chebyshev networks of a task have equally
many weights; the CNN has the same widths with 3 x 3 filters. Images of digits are drawn at four times the
resolution, turned there, smoothed by a Gaussian of 0.7 pixels and averaged down, so that a turn is a turn and not a
change of sharpness.

Success, each in at least four of five seeds. Textures: both isotropic networks (the plain grid with 8 neighbours, and
eps^2 = 1 on the same group, the published comparison) stay below 60 %, eps^2 = 0.1 exceeds 90 %. Digits: the better of
eps^2 = 0.2 and 0.1 beats both isotropic networks by 3 points upright; turned, it falls by less than 8 points while the
CNN falls by more than 30. Ends with status 1 otherwise.

Textures, measured by `--task textures`, seeds 0 to 4, 74 weights each, 54 s in all on a machine in use, mean (range):
plain grid 53.5 % (50.5 to 57.7), eps^2 = 1 53.5 (51.0 to 58.5), eps^2 = 0.5 70.0 (68.5 to 73.0), eps^2 = 0.2 99.0 (98.0
to 100), eps^2 = 0.1 99.7 (99.3 to 100): success. Networks of two residual stages learn this task on either graph.

Digits, measured by `--task digits --seeds 1`, 192 s, upright / turned: CNN 99.4 / 32.0, plain grid 97.2 / 84.2,
eps^2 = 1 96.0 / 85.2, eps^2 = 0.2 97.0 / 87.4, eps^2 = 0.1 96.4 / 84.4: the first two claims on digits and the bound of
8 points (9.6) are MISSED. Measured while the recipe was sought, seed 0, 12 epochs (the default is 20), one run each,
upright / turned:

    CNN                             99.4 / 31.2
    plain grid                      96.0 / 76.6      (30 epochs: 97.2 / 84.6)
    eps^2 = 1, k = 16               96.4 / 79.2      (k = 32: 96.0 / 83.4)
    eps^2 = 0.2, k = 32             95.0 / 84.8
    eps^2 = 0.1, k = 16             95.2 / 77.8
    eps^2 = 0.1, k = 32, max readout, spectrum scaled by 2: 96.2 / 79.4
    one block only: plain grid 90.2 / 72.4, eps^2 = 1 89.6 / 70.4, eps^2 = 0.1 86.2 / 72.0 (k = 32: 85.4 / 75.6)
    a quarter of the weights, max readout: plain grid 93.4 / 73.2, eps^2 = 0.1 92.0 / 68.8

**So on digits there is at most a weak sweet spot: eps^2 = 0.2 is a point better than eps^2 = 1 upright and two turned,
and level with the plain grid; other settings are worse. Turned it falls by 10 points, the isotropic networks by 11 to
19, the CNN by 67.** Nor is there one on 2,000 images of Fashion-MNIST (plain grid 77.7 %, eps^2 = 0.1 77.8 %, 8
epochs; one layer of filters: 29.4 and 29.8 %). What tells digits apart is where strokes lie, which isotropic filters
see as well; what an anisotropic graph adds is along which direction a texture varies. Without drawing at a higher
resolution and smoothing, all graph networks fall to 45 to 57 at 30 degrees.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric import seed_everything
from torch_geometric.data import Data

from geomeq.datasets import Digits, OrientedTextures
from geomeq.groups import SE2, Rn
from geomeq.models import ChebLieNet, ChebLieNetConfig
from geomeq.nn import ChebConv, lift, to_batch
from geomeq.transforms import GroupGraph, Laplacian, group_levels

FINE, BLUR = 4, 0.7  # images are drawn FINE times as large and smoothed by BLUR of the final pixels
ISOTROPIC, LIFTED, CNN = "R2 isotropic", "SE(2) eps2=1", "CNN"
SWEET = ("SE(2) eps2=0.2", "SE(2) eps2=0.1")


@dataclass(frozen=True)
class Task:
    """A data set and how networks are trained on it."""

    networks: tuple[str, ...]
    size: int
    widths: tuple[int, ...]
    classes: int
    orientations: int
    neighbours: int
    epochs: int
    train: int
    test: int
    batch: int = 32
    rate: float = 0.01


DIGITS = Task((CNN, ISOTROPIC, LIFTED, *SWEET), 16, (8, 16, 32), 10, 6, 32, 20, 1297, 500)
TEXTURES = Task((ISOTROPIC, LIFTED, "SE(2) eps2=0.5", *SWEET), 20, (8,), 2, 6, 16, 20, 600, 400)
TASKS = {"digits": DIGITS, "textures": TEXTURES}


def smooth(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur."""
    reach = int(3 * sigma) + 1
    kernel = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    images = F.conv2d(images, kernel.view(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(images, kernel.view(1, 1, -1, 1), padding=(reach, 0))


def digits(split: str, task: Task, turned: bool = False) -> tuple[Tensor, Tensor]:
    """Images ``[S, 1, size, size]`` and labels; turned ones by random multiples of 30 degrees."""
    margin = 2 * FINE
    data = Digits(split, size=FINE * task.size - 2 * margin, pad=margin)
    if turned:
        steps = torch.randint(12, (len(data),), generator=torch.Generator().manual_seed(1))
        data = data.rotated(30.0 * steps)
    return F.avg_pool2d(smooth(data.images, BLUR * FINE), FINE), data.labels


def splits(name: str, task: Task, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Images and labels to train on and of each test."""
    if name == "textures":
        dense = {"size": task.size, "spacing": 2.5, "width": 3.0, "noise": 0.45, "seed": seed}
        train = OrientedTextures("train", samples=task.train, **dense)
        test = OrientedTextures("test", samples=task.test, **dense)
        std = train.images.std()
        return {"train": (train.images / std, train.labels), "upright": (test.images / std, test.labels)}
    train, rng = digits("train", task), torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(train[1]), generator=rng)[: task.train]
    mean, std = train[0].mean(), train[0].std()
    sets = {"train": (train[0][chosen], train[1][chosen])}
    for key, turned in (("upright", False), ("turned", True)):
        x, y = digits("test", task, turned)
        sets[key] = x[: task.test], y[: task.test]
    return {key: ((x - mean) / std, y) for key, (x, y) in sets.items()}


class OneLayer(nn.Module):
    """Filters, ReLU, the mean over all nodes, a linear map."""

    def __init__(self, task: Task, graph: Data) -> None:
        super().__init__()
        self.orientations, self.laplacian = int(graph.num_orientations), graph.laplacian
        self.filters = ChebConv(1, task.widths[0], K=4)
        self.norm = nn.BatchNorm1d(task.widths[0])
        self.head = nn.Linear(task.widths[0], task.classes)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.filters(lift(x, self.orientations), self.laplacian))
        return self.head(self.norm(y.mean(dim=1)))


def network(name: str, task: Task) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The network and what its input is made of images by."""
    if name == CNN:
        layers, channels = [], 1
        for width in task.widths:
            for a in (channels, width):
                layers += [nn.Conv2d(a, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            layers.append(nn.AvgPool2d(2))
            channels = width
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, task.classes)]
        return nn.Sequential(*layers, *head), lambda images: images
    if name == ISOTROPIC:
        graph = GroupGraph(Rn(2), (task.size, task.size), k=8)
    else:
        size = (task.size, task.size, task.orientations)
        graph = GroupGraph(SE2(), size, k=task.neighbours, anisotropy=float(name.split("=")[1]))
    if len(task.widths) == 1:
        return OneLayer(task, Laplacian(lambda_max="power")(graph(Data()))), to_batch
    graphs = group_levels(graph, len(task.widths) - 1, laplacian=Laplacian(lambda_max="power"))
    config = ChebLieNetConfig(1, task.classes, task.widths, pool="mean", readout="mean")
    return ChebLieNet(config, graphs), to_batch


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """In percent."""
    model.eval()
    with torch.no_grad():
        hits = torch.cat([model(part) for part in x.split(100)]).argmax(1) == y
    return 100 * float(hits.float().mean())


def train(name: str, task_name: str, task: Task, seed: int) -> dict[str, float]:
    """Trains one network and tests it."""
    torch.set_num_threads(1)
    start, data = time.process_time(), splits(task_name, task, seed)
    seed_everything(seed)
    model, prepare = network(name, task)
    (x, y), parameters = data["train"], list(model.parameters())
    x = prepare(x)
    optimizer = torch.optim.Adam(parameters, lr=task.rate, weight_decay=1e-4)
    steps = max(1, len(x) // task.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.rate, total_steps=task.epochs * steps)
    for _ in range(task.epochs):
        model.train()
        for chosen in torch.randperm(len(x))[: steps * task.batch].chunk(steps):
            loss = F.cross_entropy(model(x[chosen]), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    found = {key: accuracy(model, prepare(images), labels) for key, (images, labels) in data.items() if key != "train"}
    return found | {"weights": sum(p.numel() for p in parameters), "seconds": time.process_time() - start}


def judge(results: dict[tuple[str, str, int], dict[str, float]], seeds: Sequence[int]) -> dict[str, int]:
    """In how many seeds each claim holds; only claims whose networks were trained."""
    held: dict[str, int] = {}

    def count(claim: str, holds: bool) -> None:
        held[claim] = held.get(claim, 0) + holds

    for seed in seeds:
        of = {(task, name): r for (task, name, s), r in results.items() if s == seed}
        if ("digits", ISOTROPIC) in of:
            best = max((of["digits", name] for name in SWEET), key=lambda r: r["upright"])
            for name in (LIFTED, ISOTROPIC):
                gain = best["upright"] - of["digits", name]["upright"]
                count(f"digits: anisotropic at least 3 points better upright than {name}", gain >= 3)
            count("digits: anisotropic falls less than 8 points when turned", best["upright"] - best["turned"] < 8)
            cnn = of["digits", CNN]
            count("digits: the CNN falls more than 30 points", cnn["upright"] - cnn["turned"] > 30)
        if ("textures", ISOTROPIC) in of:
            for name in (ISOTROPIC, LIFTED):
                count(f"textures: {name} below 60 %", of["textures", name]["upright"] < 60)
            count("textures: eps^2 = 0.1 above 90 %", of["textures", SWEET[1]]["upright"] > 90)
    return held


def report(results: dict[tuple[str, str, int], dict[str, float]]) -> None:
    """Means over seeds, and the range."""
    for task, name in dict.fromkeys(key[:2] for key in results):
        runs = [r for key, r in results.items() if key[:2] == (task, name)]
        columns = []
        for test in ("upright", "turned"):
            values = [r[test] for r in runs if test in r]
            if values:
                columns.append(f"{test} {sum(values) / len(values):5.1f} ({min(values):.1f} to {max(values):.1f})")
        seconds = sum(r["seconds"] for r in runs) / len(runs)
        print(f"{task:9s} {name:15s} {', '.join(columns)}; {int(runs[0]['weights'])} weights, {seconds:.0f} s each")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--task", choices=[*TASKS, "both"], default="both")
    parser.add_argument("--workers", type=int, default=2, help="networks trained at a time, one core each")
    parser.add_argument("--quick", action="store_true", help="small and short; claims are not judged")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> dict[str, int]:
    """Trains everything; how many seeds each claim holds in."""
    args, start = parse(argv), time.perf_counter()
    tasks = TASKS if args.task == "both" else {args.task: TASKS[args.task]}
    if args.quick:
        small = {
            "epochs": 1,
            "train": 32,
            "test": 32,
            "size": 16,
            "neighbours": 8,
            "orientations": 2,
        }
        tasks = {
            name: Task(**(vars(task) | small | {"widths": (4,) * len(task.widths)})) for name, task in tasks.items()
        }
    seeds = range(1 if args.quick else args.seeds)
    jobs = [(name, task, seed) for seed in seeds for task in tasks for name in tasks[task].networks]
    if args.quick or args.workers < 2:
        found = [train(name, task, tasks[task], seed) for name, task, seed in jobs]
    else:
        with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
            found = list(
                pool.map(train, *zip(*[(name, task, tasks[task], seed) for name, task, seed in jobs], strict=True))
            )
    results = {(task, name, seed): result for (name, task, seed), result in zip(jobs, found, strict=True)}
    report(results)
    held = judge(results, seeds)
    print(f"{time.perf_counter() - start:.0f} s in all")
    if args.quick:
        return held
    wanted = -(-4 * len(seeds) // 5)
    for claim, count in held.items():
        print(f"{'success' if count >= wanted else 'MISSED'}: {claim} in {count} of {len(seeds)} seeds")
    if any(count < wanted for count in held.values()):
        raise SystemExit(1)
    return held


if __name__ == "__main__":
    main()
