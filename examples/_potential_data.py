"""What train_potential.py trains on and tests with."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from _potential_compiled import one_topology
from _potential_training import Frames, LazyFrames
from torch import Tensor
from torch_geometric.data import Data

from geomeq.datasets import MD, OC20, Slabs, atom_energies
from geomeq.transforms import CutoffGraph


@dataclass
class Task:
    """Frames for training, validation and tests, elements, and the energy of each."""

    name: str
    train: Frames | LazyFrames
    valid: Frames | LazyFrames | None
    tests: dict[str, Frames | LazyFrames]
    elements: list[int]
    atom_energies: Tensor


def load(args: argparse.Namespace) -> Task:
    """The frames that ``--data`` names; edges are found once, unless ``--lazy``."""
    graph = CutoffGraph(args.cutoff)
    train, valid, tests = _sets(args)
    if args.test_frames:
        tests = {name: frames[: args.test_frames] for name, frames in tests.items()}
    sample = _some(train)
    for name in ("energy", "force"):
        if any(name not in frame for frame in sample):
            raise SystemExit(f"training frames of {args.data} lack {name}, which has to be learned")
    elements = sorted({int(z) for part in (sample, *map(_some, tests.values())) for f in part for z in f.z.unique()})
    energies = torch.zeros(1 + max(elements), dtype=torch.float64)
    fitted = atom_energies(sample)
    energies[: fitted.numel()] = fitted
    kind = LazyFrames if args.lazy else Frames

    def keep(frames: Sequence[Data]) -> Frames | LazyFrames:
        return kind(frames, graph)

    if args.compile and args.lazy:
        raise SystemExit("--compile needs frames in memory: leave --lazy away")
    kept = {name: keep(frames) for name, frames in tests.items()}
    learned = one_topology(keep(train)) if args.compile else keep(train)
    return Task(args.data, learned, keep(valid) if len(valid) else None, kept, elements, energies)


def _some(frames: Sequence[Data], count: int = 2000) -> list[Data]:
    """Frames spread over the whole set, few enough to read at once."""
    return [frames[k] for k in range(0, len(frames), max(1, len(frames) // count))]


def _sets(args: argparse.Namespace) -> tuple[Sequence[Data], Sequence[Data], dict]:
    kind, _, molecule = args.data.partition(":")
    if kind in ("gfn2", "rmd17"):
        pool = MD(molecule, source=kind)
        tests = {"test": MD(molecule, "test", source=kind)}
    elif kind in ("3bpa", "acac"):
        pool = MD(kind, source=kind)
        names = {"3bpa": {"mixed T": "train_mixedT"}, "acac": {"300 K": "test_MD_300K", "600 K": "test_MD_600K"}}
        tests = {name: MD(kind, split, source=kind) for name, split in names[kind].items()}
    elif kind == "slabs":
        pool, valid = (Slabs(split) for split in ("train", "val_id"))
        splits = ("val_id", "val_ood_ads", "val_ood_cat", "val_ood_both")
        tests = {split: Slabs(split) for split in splits}
        return pool[: args.train or len(pool)], valid[: args.valid], tests
    elif Path(args.data).exists():
        pool = OC20(args.data)
        tests = {"test": OC20(args.test)} if args.test else {}
    else:
        raise SystemExit(f"--data must be gfn2:NAME, rmd17:NAME, 3bpa, acac, slabs or a file, got {args.data!r}")
    return *_divide(pool, args), tests


def _divide(pool: Sequence[Data], args: argparse.Namespace) -> tuple[Sequence[Data], Sequence[Data]]:
    """Training and validation frames, drawn by the seed."""
    count = args.train or len(pool) - args.valid
    if not 0 < count <= len(pool) - args.valid:
        raise SystemExit(f"{args.train} training and {args.valid} validation frames asked for, of {len(pool)}")
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(args.seed))
    return pool[order[:count]], pool[order[count : count + args.valid]]
