"""Train on several processes: one per GPU with nccl, or several on a CPU with gloo.

    torchrun --nproc_per_node=2 examples/distributed.py                # two processes on this CPU
    torchrun --nproc_per_node=4 examples/distributed.py --device cuda  # four GPUs
    python examples/distributed.py                                     # the same training in one process
    torchrun --nproc_per_node=2 examples/distributed.py --epochs 12    # goes on where the last run ended

However many processes there are, batches and steps are the same: the batch size is that of all processes together, each
takes its share, and the loss is a sum over the molecules of a process divided by the number of molecules of all.
DistributedDataParallel averages gradients over the processes, hence the factor `world.size` in the loss; a mean in each
process, averaged again, would be wrong whenever shares differ in size. After each epoch a checkpoint is written, first
beside its place and then renamed, so that an interrupted run leaves a whole one, and the next run starts from it.
"""

import argparse
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler
from torch_geometric import seed_everything
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose
from tqdm import tqdm

from geomeq.datasets import QM9
from geomeq.models import SEGNN, SEGNNConfig
from geomeq.transforms import CutoffGraph, SteerableAttributes

CUTOFF = 3.0  # Angstrom
GAP = QM9.targets.index("gap")


class World:
    """Which of how many processes this is, and its device. One process needs no torchrun."""

    def __init__(self, device: str) -> None:
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = torch.device(device)
        if self.device.type == "cuda":
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(self.device)

    def __enter__(self) -> "World":
        if self.size > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        return self

    def __exit__(self, *_: object) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def sum(self, *values: float) -> list[float]:
        """The sum of each value over all processes."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.size > 1:
            dist.all_reduce(total)
        return total.tolist()


def load(world: World) -> tuple[QM9, QM9]:
    """Training and validation molecules; the first process makes the cached file, the others read it."""
    if world.rank > 0:
        world.wait()
    dataset = QM9(subset=True, pre_transform=Compose([CutoffGraph(CUTOFF), SteerableAttributes(1, cutoff=CUTOFF)]))
    if world.rank == 0:
        world.wait()
    train_set, valid_set, _ = dataset.split("random")
    return train_set, valid_set


def absolute_errors(model: nn.Module, batch: Batch, mean: float, std: float) -> Tensor:
    """Of each molecule, in units of the standard deviation of the training set."""
    return (model(batch)[:, 0] - (batch.y[:, GAP] - mean) / std).abs()


@torch.no_grad()
def validate(model: nn.Module, molecules: QM9, mean: float, std: float, world: World) -> float:
    """Mean absolute error in eV; each process takes its share of the molecules."""
    model.eval()
    share = DataLoader(molecules[world.rank :: world.size], batch_size=250)
    error = sum(float(absolute_errors(model, batch.to(world.device), mean, std).sum()) for batch in share)
    total, count = world.sum(error, len(molecules[world.rank :: world.size]))
    return std * total / count


def save(path: Path, **state: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def main(argv: Sequence[str] | None = None) -> float:
    args = parse(argv)
    with World(args.device) as world:
        return train(args, world)


def train(args: argparse.Namespace, world: World) -> float:
    if args.batch % world.size:
        raise SystemExit(
            f"--batch {args.batch} is for all processes: it must be a multiple of their number, {world.size}"
        )
    train_set, valid_set = load(world)
    mean, std = train_set.mean(GAP), train_set.std(GAP)
    train_set = train_set[: args.molecules] if args.molecules else train_set

    seed_everything(args.seed)
    hidden = f"{args.width}x0e+{args.width}x1o"
    model = SEGNN(SEGNNConfig("5x0e", hidden, num_layers=args.layers, radial="bessel", cutoff=CUTOFF))
    model.to(world.device, getattr(torch, args.dtype))
    optimizer = torch.optim.Adam(model.parameters())
    checkpoint, epoch = args.out / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=world.device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        epoch = state["epoch"]
    world.wait()  # nobody writes a checkpoint before all have read the last one

    # Blocks of one permutation, the same in all processes: drop_last keeps a molecule from being seen twice.
    sampler = DistributedSampler(train_set, world.size, world.rank, seed=args.seed, drop_last=True)
    loader = DataLoader(train_set, batch_size=args.batch // world.size, sampler=sampler)
    learner = DistributedDataParallel(model) if world.size > 1 else model
    chief = world.rank == 0
    if chief:
        print(f"{world.size} process(es) on {world.device.type}, {len(train_set):,} molecules, from epoch {epoch}")
    error = validate(model, valid_set, mean, std, world)
    while epoch < args.epochs:
        sampler.set_epoch(epoch)
        learner.train()
        for group in optimizer.param_groups:
            group["lr"] = args.lr * 0.9**epoch
        with tqdm(desc=f"epoch {epoch + 1}", total=len(train_set), unit="mol", disable=not chief) as bar:
            for batch in islice(loader, args.steps or None):
                batch = batch.to(world.device)
                (in_all,) = world.sum(batch.num_graphs)
                loss = absolute_errors(learner, batch, mean, std).sum() * world.size / in_all
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                bar.update(int(in_all))
                bar.set_postfix(loss=f"{std * loss.item():.4f}")
        epoch += 1
        error = validate(model, valid_set, mean, std, world)
        if chief:
            save(checkpoint, model=model.state_dict(), optimizer=optimizer.state_dict(), epoch=epoch)
            print(f"epoch {epoch}: validation MAE {error:.4f} eV; checkpoint {checkpoint}")
        world.wait()
    return error


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--epochs", type=int, default=6, help="epochs in all, those before a restart included")
    add("--batch", type=int, default=64, help="molecules per step, of all processes together")
    add("--steps", type=int, default=0, help="steps of an epoch at most (0: all)")
    add("--molecules", type=int, default=0, help="train on the first few only (0: all)")
    add("--lr", type=float, default=2e-3, help="in the first epoch; a tenth less in each later one")
    add("--width", type=int, default=16, help="channels of each degree")
    add("--layers", type=int, default=3)
    add("--dtype", choices=("float32", "float64"), default="float32")
    add("--device", default="cpu", help="cpu or cuda")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("runs/distributed"), help="folder of the checkpoint; remove it to start anew")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
