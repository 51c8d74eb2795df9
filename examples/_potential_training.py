"""How a potential is trained: batches, loss, averaged weights, schedule, checkpoints. Used by train_potential.py."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from distributed import World, save
from torch import Tensor, nn
from torch_geometric.data import Batch, Data, InMemoryDataset
from tqdm import tqdm

KEPT = ("z", "pos", "cell", "pbc", "shift", "edge_index", "energy", "force", "stress", "fixed")


class Frames:
    """Frames held end to end, from which a batch is gathered in a fraction of the time that collating takes."""

    def __init__(self, frames: Sequence[Data], transform: Callable[[Data], Data]) -> None:
        slim = [slim_down(transform(frame)) for frame in tqdm(frames, desc="edges", disable=len(frames) < 1000)]
        self.data, self.slices = InMemoryDataset.collate(slim)
        if self.slices is None:  # one frame
            self.slices = {key: torch.tensor([0, _length(key, value)]) for key, value in self.data.to_dict().items()}
        self.atoms = self.slices["pos"].diff()

    def __len__(self) -> int:
        return self.atoms.numel()

    def free_atoms(self, index: Tensor) -> int:
        """How many atoms of these frames may move."""
        if "fixed" not in self.data:
            return int(self.atoms[index].sum())
        rows, _ = _places(self.slices["fixed"], index)
        return int((~self.data.fixed[rows]).sum())

    def batch(self, index: Tensor) -> Batch:
        """The frames of these numbers as one ``Batch``."""
        found, rows = {}, {}
        for key, value in self.data.to_dict().items():
            slices = self.slices[key]
            name = id(slices) if key != "edge_index" else "edge_index"
            if name not in rows:
                rows[name] = _places(slices, index)
            found[key] = value.index_select(1 if key == "edge_index" else 0, rows[name][0])
        ptr = torch.zeros(index.numel() + 1, dtype=torch.long)
        torch.cumsum(self.atoms[index], 0, out=ptr[1:])
        found["edge_index"] = found["edge_index"] + torch.repeat_interleave(ptr[:-1], rows["edge_index"][1])
        found["batch"] = torch.repeat_interleave(torch.arange(index.numel()), self.atoms[index])
        return Batch(ptr=ptr, **found)


def slim_down(frame: Data) -> Data:
    """The frame without what training does not read."""
    return Data(**{key: frame[key] for key in KEPT if key in frame})


def _length(key: str, value: Tensor) -> int:
    return value.size(1 if key == "edge_index" else 0)


def _places(slices: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the chosen parts, and how many each part has."""
    begins, counts = slices[index], slices[index + 1] - slices[index]
    ends = counts.cumsum(0)
    return torch.repeat_interleave(begins - (ends - counts), counts) + torch.arange(int(ends[-1])), counts


class LazyFrames:
    """Frames read when they are needed, for files larger than memory."""

    def __init__(self, frames: Sequence[Data], transform: Callable[[Data], Data]) -> None:
        self.frames, self.transform = frames, transform

    def __len__(self) -> int:
        return len(self.frames)

    def free_atoms(self, index: Tensor) -> int:
        """How many atoms of these frames may move."""
        frames = [self.frames[int(k)] for k in index]
        return sum(f.num_nodes - (int(f.fixed.sum()) if "fixed" in f else 0) for f in frames)

    def batch(self, index: Tensor) -> Batch:
        """The frames of these numbers as one ``Batch``."""
        return Batch.from_data_list([slim_down(self.transform(self.frames[int(k)])) for k in index])


@dataclass
class Loss:
    """Weights of energy, force and stress, and how an error counts.

    Errors are divided by the scale of the model. The energy counts per atom, the stress as virial per atom; forces of
    fixed atoms do not count. ``"norm"`` is the mean length of the error (robust; what mean absolute errors ask for),
    ``"square"`` its mean square.
    """

    energy: float = 1.0
    force: float = 1.0
    stress: float = 0.0
    kind: str = "norm"

    def __call__(self, out: dict[str, Tensor], batch: Batch, scale: float, graphs: int, free: int) -> Tensor:
        """The part of the loss that these frames have, of a step with ``graphs`` frames and ``free`` free atoms."""
        atoms = (batch.ptr[1:] - batch.ptr[:-1]).double()
        error = ((out["energy"] - batch.energy) / (atoms * scale)).to(out["forces"].dtype)
        loss = self.energy * self._size(error[:, None]) / graphs
        force = (out["forces"] - batch.force) / scale
        if "fixed" in batch:
            force = force[~batch.fixed]
        loss = loss + self.force * self._size(force) / free
        if self.stress:
            for name, where in (("model", out), ("frame", batch)):
                if "stress" not in where:
                    raise SystemExit(f"--stress-weight {self.stress}, but no {name} gives a stress: set it to 0")
            volume = torch.linalg.det(batch.cell.double()).abs()
            virial = (out["stress"] - batch.stress) * (volume / (atoms * scale)).to(force.dtype)[:, None, None]
            loss = loss + self.stress * self._size(virial.flatten(1)) / graphs
        return loss

    def _size(self, error: Tensor) -> Tensor:
        """Sum over the rows of their length, or its square."""
        square = error.square().sum(1)
        if self.kind == "square":
            return square.sum()
        return (square + 1e-12).sqrt().sum()  # the slope of a length at 0 is not defined


@torch.no_grad()  # forces that are derivatives know how to do without
def errors(model: nn.Module, frames: Frames | LazyFrames, world: World, batch_size: int) -> dict[str, float]:
    """Energy errors in meV and meV an atom, force errors of free atoms in meV/A, stress errors in meV/A^3."""
    model.eval()
    total = dict.fromkeys(("graphs", "energy", "per_atom", "parts", "force", "square", "stress", "cells"), 0.0)
    own = torch.arange(len(frames))[world.rank :: world.size]
    for index in own.split(batch_size) if len(own) else ():
        batch = frames.batch(index).to(world.device)
        out = model(batch)
        energy = (out["energy"] - batch.energy).abs()
        total["graphs"] += energy.numel()
        total["energy"] += float(energy.sum())
        total["per_atom"] += float((energy / batch.ptr.diff()).sum())
        force = out["forces"] - batch.force
        force = force[~batch.fixed] if "fixed" in batch else force
        total["parts"] += force.numel()
        total["force"] += float(force.abs().sum())
        total["square"] += float(force.double().square().sum())
        if "stress" in out and "stress" in batch:
            total["cells"] += energy.numel()
            total["stress"] += float((out["stress"] - batch.stress).abs().mean((1, 2)).sum())
    total = dict(zip(total, world.sum(*total.values()), strict=True))
    found = {
        "energy": 1000 * total["energy"] / total["graphs"],
        "energy_per_atom": 1000 * total["per_atom"] / total["graphs"],
        "force": 1000 * total["force"] / total["parts"],
        "force_rmse": 1000 * math.sqrt(total["square"] / total["parts"]),
    }
    return {**found, "stress": 1000 * total["stress"] / total["cells"]} if total["cells"] else found


def learning_rate(progress: float, step: int, peak: float, warmup: int, final: float = 0.01) -> float:
    """Grows over the first steps, then falls as half a cosine to ``final`` of the peak."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return peak * min(1.0, (step + 1) / max(1, warmup)) * (final + (1 - final) * cosine)


@dataclass
class Settings:
    """How long and how to train."""

    epochs: int = 100
    seconds: float = math.inf
    batch: int = 5
    lr: float = 2e-3
    warmup: int = 100
    clip: float = 10.0
    decay: float = 0.999
    weight_decay: float = 0.0
    seed: int = 0
    halt: int = 0
    validate_every: int = 1
    loss: Loss = field(default_factory=Loss)


class Trainer:
    """Model, averaged model, optimizer, and how far they are.

    Args:
        model: What is trained.
        settings: How.
        world: Of how many processes this is one.
        checkpoint: Where it is kept, and from where it goes on.
        about: What must be the same when it goes on, data and model say.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: Settings,
        world: World,
        checkpoint: Path | None = None,
        about: dict[str, object] | None = None,
    ) -> None:
        self.model, self.settings, self.world, self.checkpoint = model.to(world.device), settings, world, checkpoint
        self.average = copy.deepcopy(model)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.averages = [p for p in self.average.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.lr, weight_decay=settings.weight_decay, amsgrad=True
        )
        self.scale = float(model.scale)
        self.about = {**(about or {}), "batch": settings.batch, "seed": settings.seed}
        self.epoch, self.step, self.seconds, self.history = 0, 0, 0.0, []
        if checkpoint is not None and checkpoint.exists():
            self.load(checkpoint)

    def load(self, path: Path) -> None:
        """Goes back to a checkpoint, random numbers included."""
        state = torch.load(path, map_location=self.world.device, weights_only=True)
        other = {name: value for name, value in state.get("about", {}).items() if self.about.get(name) != value}
        if other:
            was = ", ".join(f"{name} {value!r} and not {self.about.get(name)!r}" for name, value in other.items())
            raise SystemExit(f"{path} is of another training, with {was}: name another folder (--out), or delete it")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"].cpu())
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.history = state["history"]

    def save(self) -> None:
        """Writes a checkpoint, whole or not at all."""
        if self.checkpoint is None or self.world.rank > 0:
            return
        parts = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimizer")}
        now = {name: getattr(self, name) for name in ("epoch", "step", "seconds", "history", "about")}
        save(self.checkpoint, random=torch.get_rng_state(), **parts, **now)

    def fit(self, train: Frames | LazyFrames, valid: Frames | LazyFrames | None, learn: Callable | None = None) -> None:
        """Trains to the end of epochs, seconds, or this call's ``halt`` steps; then the average is the result.

        Args:
            train: Frames to learn from.
            valid: Frames to watch; nothing is chosen by them.
            learn: Computes loss and gradients of a step, ``learn(batch, graphs, free) -> loss``; default: eagerly.
        """
        learn = learn or self.learn
        set_out, before = time.perf_counter(), self.seconds
        per_epoch = max(1, len(train) // self.settings.batch)
        last = self.step + self.settings.halt if self.settings.halt else math.inf
        with tqdm(
            total=self.settings.epochs * per_epoch, initial=self.step, unit="step", disable=self.world.rank > 0
        ) as bar:
            while self.epoch < self.settings.epochs:
                total, done = 0.0, self.step - self.epoch * per_epoch
                self.model.train()
                for index in self._indices(len(train), done, per_epoch):
                    progress = self._progress(per_epoch, before + time.perf_counter() - set_out)
                    if progress >= 1 or self.step >= last:
                        break
                    for group in self.optimizer.param_groups:
                        group["lr"] = learning_rate(progress, self.step, self.settings.lr, self.settings.warmup)
                    batch = train.batch(index[self.world.rank :: self.world.size]).to(self.world.device)
                    loss = learn(batch, index.numel(), train.free_atoms(index))
                    self._update()
                    self.step += 1
                    total += loss
                    bar.update()
                whole = self.step == (self.epoch + 1) * per_epoch
                self.epoch += whole
                self.seconds = before + time.perf_counter() - set_out
                steps = self.step - (self.epoch - whole) * per_epoch - done
                ending = not whole or self.epoch == self.settings.epochs
                if steps and valid is not None and (ending or self.epoch % self.settings.validate_every == 0):
                    self._validate(valid, total / steps, self.step / per_epoch, bar)
                self.save()
                if not whole:
                    break

    def _progress(self, per_epoch: int, seconds: float) -> float:
        """Which part of the training is over; by the clock of the first process, since all must agree when to stop."""
        by_steps = self.step / (self.settings.epochs * per_epoch)
        if math.isinf(self.settings.seconds):
            return by_steps
        shared = torch.tensor(seconds, dtype=torch.float64, device=self.world.device)
        if self.world.size > 1:
            dist.broadcast(shared, 0)
        return max(by_steps, float(shared) / self.settings.seconds)

    def _indices(self, count: int, done: int, per_epoch: int) -> Iterator[Tensor]:
        """The steps of this epoch that are left: parts of a permutation that seed and epoch decide."""
        generator = torch.Generator().manual_seed(1_000_003 * self.settings.seed + self.epoch)
        order, size = torch.randperm(count, generator=generator), min(count, self.settings.batch)
        yield from (order[k * size : (k + 1) * size] for k in range(done, per_epoch))

    def learn(self, batch: Batch, graphs: int, free: int) -> float:
        """Loss and gradients of one step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.settings.loss(self.model(batch), batch, self.scale, graphs, free)
        loss.backward()
        return loss.item()

    def _update(self) -> None:
        """Sums gradients over the processes, clips them, takes the step, moves the average."""
        if self.world.size > 1:
            sum_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.optimizer.step()
        decay = min(self.settings.decay, (self.step + 1) / (self.step + 10))  # forgets the start soon
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.parameters, 1 - decay)

    def _validate(self, valid: Frames | LazyFrames, loss: float, epoch: float, bar: tqdm) -> None:
        with torch.random.fork_rng(devices=[]):  # a model that draws numbers goes on as if nobody had looked
            found = errors(self.average, valid, self.world, 4 * self.settings.batch)
        record = {"epoch": epoch, "step": self.step, "minutes": self.seconds / 60, "loss": loss, **found}
        self.history.append(record)
        bar.set_postfix(epoch=f"{epoch:.1f}", loss=f"{loss:.4f}", force=f"{found['force']:.1f} meV/A")


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Adds up the gradients of all processes, each of which had its share of the step's loss."""
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad.copy_(part.view_as(p))
