"""What the scripts on segmentation and regression of the globe share: the networks, and one way to train them all."""

import argparse
import copy
import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric import seed_everything
from tqdm import tqdm

from geomeq import spheres
from geomeq.models import DeepSphere, DeepSphereConfig, DiscoUNet, DiscoUNetConfig

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
RATES = (3e-3, 1e-2)
REFERENCE = "DISCO, steerable"  # the others get as many weights


class PlanarConv(nn.Module):
    """A 3 x 3 convolution of an equirectangular image, circular in longitude, zeros beyond the poles."""

    def __init__(self, width_in: int, width_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, 3, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(F.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1)))


class PlanarBlock(nn.Module):
    """Norm, act, convolution, twice, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(m for _ in range(2) for m in (_act(width), PlanarConv(width, width))))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class PlanarUNet(nn.Module):
    """The same network as ``DiscoUNet``, block for block, on the image of the grid.

    Args:
        grid: Rows and columns.
        in_channels: Of the signal.
        out_channels: Of the output.
        widths: On each level.
    """

    def __init__(self, grid: tuple[int, int], in_channels: int, out_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.grid, last = grid, len(widths) - 1
        self.stem, self.final = PlanarConv(in_channels, widths[0]), _act(widths[0])
        self.head = PlanarConv(widths[0], out_channels)
        self.down = nn.ModuleList(PlanarBlock(width) for width in widths)
        self.up = nn.ModuleList(PlanarBlock(width) for width in widths[:last])
        steps = list(pairwise(widths))
        self.coarsen = nn.ModuleList(nn.Sequential(_act(a), PlanarConv(a, b, stride=2)) for a, b in steps)
        self.refine = nn.ModuleList(nn.Sequential(_act(b), nn.ConvTranspose2d(b, a, 2, 2)) for a, b in steps)
        self.merge = nn.ModuleList(nn.Conv2d(2 * a, a, 1) for a, _ in steps)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, N, C]`` to ``[B, N, C']``."""
        x, skips = self.stem(x.transpose(1, 2).unflatten(2, self.grid)), []
        for level, block in enumerate(self.down):
            if level:
                skips.append(x)
                x = self.coarsen[level - 1](x)
            x = block(x)
        for level in reversed(range(len(skips))):
            x = torch.cat([skips[level], self.refine[level](x)], dim=1)
            x = self.up[level](self.merge[level](x))
        return self.head(self.final(x)).flatten(2).transpose(1, 2)


def _act(width: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(width), nn.SiLU())


def count(model: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in model.parameters())


def makers(nside: int, in_channels: int, out_channels: int) -> dict[str, Callable[[int], nn.Module]]:
    """Each network as a function of its width on the finest of three levels; see :func:`samplings`."""
    levels = tuple(("healpix", nside >> k, "ring") for k in range(3))

    def widths(width: int) -> tuple[int, ...]:
        return tuple(width * 2**k for k in range(3))

    def disco(filters: str, width: int) -> nn.Module:
        shape = (2, 3) if filters == "steerable" else (3, 3)
        return DiscoUNet(
            DiscoUNetConfig(levels, in_channels, out_channels, widths(width), filters=filters, kernel_shape=shape)
        )

    return {
        "DISCO, isotropic": lambda width: disco("isotropic", width),
        "DISCO, steerable": lambda width: disco("steerable", width),
        "planar CNN": lambda width: PlanarUNet((3 * nside, 6 * nside), in_channels, out_channels, widths(width)),
        "DeepSphere": lambda width: DeepSphere(DeepSphereConfig(levels, in_channels, out_channels, widths(width), K=4)),
    }


def samplings(nside: int) -> dict[str, spheres.Sampling]:
    """Where each network lives: the sphere's on HEALPix, the planar one on a grid of half as many nodes again."""
    pixels, grid = spheres.healpix(nside, "ring"), spheres.gauss_legendre(3 * nside, 6 * nside)
    return {"DISCO, isotropic": pixels, "DISCO, steerable": pixels, "planar CNN": grid, "DeepSphere": pixels}


def of_size(make: Callable[[int], nn.Module], weights: int, widest: int = 64) -> int:
    """The width at which a network comes nearest to a number of weights."""
    low, high = 1, widest
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(make(middle)) <= weights else (low, middle)
    return min((low, high), key=lambda width: abs(count(make(width)) - weights))


def fit(
    model: nn.Module,
    data: tuple[Tensor, Tensor, Tensor],
    loss: Loss,
    steps: int,
    lr: float,
    batch: int = 4,
    label: str = "",
) -> None:
    """Trains by AdamW on one cycle of the learning rate.

    Args:
        model: Maps ``x`` to predictions.
        data: ``x [S, N, C]``, ``y [S, N, ..]`` and the weight of each node in the loss, ``[S, N]``.
        loss: Of prediction, target and weights.
        steps: Of the optimiser.
        lr: Largest learning rate.
        batch: Samples in a step.
        label: Of the progress bar.
    """
    x, y, weight = data
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    order = torch.cat([torch.randperm(len(x)) for _ in range(-(-steps * batch // len(x)))])[: steps * batch]
    model.train()
    for index in (bar := tqdm(order.view(steps, batch), desc=label, mininterval=2.0)):
        value = loss(model(x[index]), y[index], weight[index])
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{value.item():.3f}")


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch: int = 8) -> Tensor:
    """Predictions of all samples."""
    model.eval()
    return torch.cat([model(part) for part in x.split(batch)])


def best_of(
    make: Callable[[], nn.Module],
    train: Callable[[nn.Module, float], None],
    error: Callable[[nn.Module], float],
    rates: Sequence[float],
    seed: int,
) -> tuple[nn.Module, float, float]:
    """The network of the learning rate with the least validation error, that rate, and the seconds of one training."""
    best: tuple[float, nn.Module, float] | None = None
    start = time.perf_counter()
    for rate in rates:
        seed_everything(seed)
        model = make()
        train(model, rate)
        value = error(model)
        value = value if math.isfinite(value) else math.inf
        print(f"    learning rate {rate:g}: validation error {value:.4f}", flush=True)
        if best is None or value < best[0]:
            best = value, copy.deepcopy(model), rate
    assert best is not None
    return best[1], best[2], (time.perf_counter() - start) / len(rates)


class Trial(NamedTuple):
    """What a network is to learn on its sampling.

    Attributes:
        batch: Inputs, targets and weights of the loss.
        error: Of a network, on globes to choose the learning rate by.
        scores: Of a network, on globes that stand upright, and turned.
    """

    batch: tuple[Tensor, Tensor, Tensor]
    error: Callable[[nn.Module], float]
    scores: Callable[[nn.Module], tuple[float, float]]


def compare(
    args: argparse.Namespace,
    made: dict[str, Callable[[int], nn.Module]],
    trial: Callable[[str], Trial],
    loss: Loss,
    line: str,
) -> dict[str, float | bool]:
    """Trains every network, all of about the same number of weights, each at its best rate; scores by name.

    Args:
        args: ``networks`` (which; default all), ``width``, ``steps``, ``quick`` and ``seed``.
        made: Networks by name, from their width.
        trial: What the network of a name is to learn.
        loss: Of predictions, targets and weights.
        line: How both scores are printed, with two places for numbers.
    """
    weights = count(made[REFERENCE](args.width))
    found: dict[str, float | bool] = {}
    for name in args.networks or made:
        make, task = made[name], trial(name)
        width = args.width if name == REFERENCE else of_size(make, weights)
        model, rate, seconds = best_of(
            lambda make=make, width=width: make(width),
            lambda model, rate, name=name, task=task: fit(model, task.batch, loss, args.steps, rate, label=name),
            task.error,
            RATES[:1] if args.quick else RATES,
            args.seed,
        )
        found[name], found[f"{name}, turned"] = scores = task.scores(model)
        nodes = task.batch[0].size(1)
        print(f"{name:18} {nodes:5,} nodes, {count(model):7,} weights, rate {rate:g}, {seconds:4.0f} s: ", end="")
        print(line.format(*scores), flush=True)
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """What both scripts take."""
    add = parser.add_argument
    add("--quick", action="store_true", help="few nodes and steps")
    add("--networks", nargs="+", help="only these; no claims")
    add("--nside", type=int, default=8, help="of HEALPix; the grid of the planar network has 3 x 6 times as many nodes")
    add("--width", type=int, default=8, help="of the steerable network; the others get as many weights")
    add("--steps", type=int, default=200)
    add("--rotations", type=int, default=3)
    add("--seed", type=int, default=0)
