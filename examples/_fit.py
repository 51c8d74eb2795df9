"""The training that small experiments share: warm-up, half a cosine, clipped gradients, averaged weights."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from tqdm import tqdm

CLIP, DECAY = 10.0, 0.99


@dataclass
class Spent:
    """What a training took."""

    steps: int
    epochs: float
    wall: float
    cpu: float


def learning_rate(progress: float, peak: float) -> float:
    """Warm-up over the first 2 %, then half a cosine."""
    return peak * min(1.0, (progress + 1e-3) / 0.02) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def fit(
    model: nn.Module,
    loader: DataLoader,
    loss_of: Callable[[nn.Module, Batch], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    epochs: float = math.inf,
    steps: float = math.inf,
    seconds: float = math.inf,
    cpu_time: bool = False,
    label: str = "",
) -> Spent:
    """Trains until the first of the limits is reached, and leaves the averaged weights in ``model``.

    Args:
        model: What is trained.
        loader: Batches.
        loss_of: Loss of a batch.
        optimizer: Its learning rate is the peak.
        epochs: Passes over the batches at most.
        steps: Steps at most.
        seconds: Time at most.
        cpu_time: Whether seconds of CPU count, which is fair on a busy machine.
        label: Of the progress bar.
    """
    if len(loader) == 0:
        raise SystemExit("there is not one whole batch to train on: take more frames, or a smaller --batch")
    peak, average = optimizer.defaults["lr"], copy.deepcopy(model)
    wall, cpu, step, progress = time.perf_counter(), time.process_time(), 0, 0.0
    last = min(steps, epochs * len(loader))
    with tqdm(desc=label, unit="step", mininterval=1.0, total=None if math.isinf(last) else int(last)) as bar:
        model.train()
        while progress < 1:
            for batch in loader:
                spent = time.process_time() - cpu if cpu_time else time.perf_counter() - wall
                progress = max(step / last, spent / seconds)
                if progress >= 1:
                    break
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(progress, peak)
                loss = loss_of(model, batch)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                optimizer.step()
                step += 1
                with torch.no_grad():
                    for a, p in zip(average.parameters(), model.parameters(), strict=True):
                        a.lerp_(p, 1 - min(DECAY, step / (step + 10)))  # forgets the start soon
                bar.update()
                bar.set_postfix(epoch=f"{step / len(loader):.1f}", loss=f"{loss.item():.4f}", refresh=False)
    model.load_state_dict(average.state_dict())
    return Spent(step, step / len(loader), time.perf_counter() - wall, time.process_time() - cpu)
