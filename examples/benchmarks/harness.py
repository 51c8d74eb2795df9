"""What a benchmark is, and how it is measured.

A ``Case`` is data: sizes, a function that builds a problem of a size, contenders, a float64 reference. The harness
warms up, then runs the contenders in turns (one call each per round, in rotating order), so that whatever else the
machine does falls on all of them alike.

Time is wall clock of one call. Peak memory is what torch's allocator had handed out at the worst moment of one call,
above what it held before (recorded by torch's profiler on a CPU, ``max_memory_allocated`` on CUDA); scratch space that
MKL or numpy take for themselves is not in it. Saved memory is what autograd keeps from forward to backward, each
storage counted once, tensors of the problem itself included. The error is the largest difference from the reference,
relative to the reference's largest number, over all results the contender has in common with it.
"""

import contextlib
import gc
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity

Problem = dict[str, Any]
Results = dict[str, Tensor]


class Unavailable(Exception):
    """Raised by a contender that cannot run here; the message says what it needs."""


@dataclass(frozen=True)
class Claim:
    """A promise about medians: ``contender`` takes at most ``times`` x ``peer`` + ``plus`` seconds.

    ``sizes`` limits it to those sizes (all, if empty). A promise of "ten times faster" is ``times=0.1``.
    """

    text: str
    contender: str
    peer: str
    times: float = 1.0
    plus: float = 0.0
    sizes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: How the command line knows it.
        about: What is computed, in a line.
        sizes: By label, the arguments of ``setup``; ``quick`` holds those of ``--quick``.
        setup: Builds a problem: a dictionary with the tensors and numbers the contenders read.
        contenders: By name, a function that prepares (untimed) and returns the call that is timed. Every call returns
            its results by name.
        peer: The contender to which ratios refer.
        reference: Results of a problem whose floating-point tensors were widened to float64.
        claims: What is promised; printed as met or missed.
        memory: Whether to measure memory (not for work in other processes).
    """

    name: str
    about: str
    sizes: Mapping[str, Mapping[str, Any]]
    quick: Mapping[str, Mapping[str, Any]]
    setup: Callable[..., Problem]
    contenders: Mapping[str, Callable[[Problem], Callable[[], Results]]]
    peer: str
    reference: Callable[[Problem], Results] | None = None
    claims: tuple[Claim, ...] = field(default=())
    memory: bool = True


@dataclass
class Row:
    """One contender on one size. Times in seconds, memory in bytes."""

    case: str
    size: str
    contender: str
    median: float
    min: float
    iqr: float
    runs: int
    peak_bytes: int | None
    saved_bytes: int | None
    error: float | None
    ratio_to_peer: float | None = None


def measure(
    case: Case, size: str, arguments: Mapping[str, Any], rounds: int, device: str
) -> tuple[list[Row], list[str]]:
    """Rows of all contenders that can run, and a line for each that cannot."""
    problem = to(case.setup(**arguments), device)
    calls, skipped = {}, []
    for name, prepare in case.contenders.items():
        try:
            calls[name] = prepare(problem)
            calls[name]()
        except (Unavailable, ImportError) as reason:
            calls.pop(name, None)
            skipped.append(f"{case.name} [{size}] {name}: left out, {reason}")
    reference = case.reference(to(problem, torch.float64)) if case.reference else None
    times = interleave(calls, rounds, device)
    rows = []
    for name, call in calls.items():
        low, median, high = torch.tensor(times[name], dtype=torch.float64).quantile(QUARTILES).tolist()
        row = Row(case.name, size, name, median, min(times[name]), high - low, len(times[name]), None, None, None)
        if case.memory:
            row.peak_bytes, row.saved_bytes = peak_bytes(call, device), saved_bytes(call)
        if reference is not None:
            row.error = largest_error(call(), reference)
        rows.append(row)
    peer = next((row.median for row in rows if row.contender == case.peer), None)
    for row in rows:
        row.ratio_to_peer = row.median / peer if peer else None
    return rows, skipped


QUARTILES = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)


def interleave(calls: Mapping[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, list[float]]:
    """Wall-clock seconds of each call, in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for call in calls.values():  # the first call was made before; this one finds warm caches and allocators
        call()
    gc.collect()
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            synchronize(device)
            start = time.perf_counter()
            result = calls[name]()
            synchronize(device)
            times[name].append(time.perf_counter() - start)
            del result
    return times


def peak_bytes(call: Callable[[], Any], device: str) -> int:
    """The most memory torch's allocator handed out during one call, above what it held before."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with quiet(), torch.profiler.profile(profile_memory=True, activities=[ProfilerActivity.CPU]) as profile:
        result = call()
    del result
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Sends the process's error stream nowhere: the profiler reports each start and stop there, from C++."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def saved_bytes(call: Callable[[], Any]) -> int:
    """What autograd keeps for the backward pass of one call; each storage once."""
    kept: dict[int, int] = {}
    alive = []  # holding the tensors keeps their addresses from being used twice

    def pack(tensor: Tensor) -> Tensor:
        if tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return sum(kept.values())


def largest_error(results: Results, reference: Results) -> float | None:
    """The largest relative difference over the results that both have."""
    errors = []
    for name in results.keys() & reference.keys():
        wanted = reference[name].double().cpu()
        scale = wanted.abs().max().clamp(min=1e-300) if wanted.numel() else torch.ones(())
        got = results[name].detach().double().cpu().reshape(wanted.shape)
        errors.append(float((got - wanted).abs().max() / scale) if wanted.numel() else 0.0)
    return max(errors) if errors else None


def to(problem: Problem, target: Any) -> Problem:
    """The problem on another device or, for its floating-point tensors, in another precision."""

    def move(value: Any) -> Any:
        if not isinstance(value, Tensor) or (isinstance(target, torch.dtype) and not value.is_floating_point()):
            return value
        return value.detach().to(target).requires_grad_(value.requires_grad)

    return {name: move(value) for name, value in problem.items()}


def synchronize(device: str) -> None:
    """Waits for the device, so that the clock sees its work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def machine(device: str) -> dict[str, Any]:
    """Versions, device and threads: what a figure means nothing without."""
    versions = {}
    for package in ("torch", "torch-geometric", "geomeq", "e3nn", "numpy", "scipy", "torch-sparse", "torch-scatter"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    name = torch.cuda.get_device_name() if device.startswith("cuda") else cpu_name()
    return {
        "device": f"{device} ({name})",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "versions": versions,
    }


def cpu_name() -> str:
    """The processor's name, where the system tells it."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def judge(case: Case, rows: list[Row]) -> list[dict[str, Any]]:
    """Every claim of the case that the rows can decide."""
    verdicts = []
    for claim in case.claims:
        for size in dict.fromkeys(row.size for row in rows):
            medians = {row.contender: row.median for row in rows if row.size == size}
            if (claim.sizes and size not in claim.sizes) or not {claim.contender, claim.peer} <= medians.keys():
                continue
            took, peer = medians[claim.contender], medians[claim.peer]
            verdict = {"case": case.name, "size": size, "took": took, "peer": peer, "ratio": took / peer}
            verdicts.append(asdict(claim) | verdict | {"met": took <= claim.times * peer + claim.plus})
    return verdicts
