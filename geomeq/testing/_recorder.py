"""Listens to every submodule of a model, on the original graph and on each moved one."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from e3nn import o3
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq.groups import SO2Irreps
from geomeq.testing._compare import declared_type, match_rows
from geomeq.testing._hypotheses import Probe, Slot, candidates
from geomeq.testing._move import Moved
from geomeq.testing._run import float_tensors
from geomeq.testing._types import FeatureType, check_type

ROOT = "(model)"


@dataclass
class Call:
    """One call of one submodule.

    Attributes:
        name: Name as in ``model.named_modules()``, with ``#2`` for a second call; ``(model)`` for the whole.
        kind: Name of the class.
        started: Position in the order in which calls start.
        inside: Names of the calls that it runs inside of.
        inputs: What goes in, by name.
        outputs: What comes out, by name.
    """

    name: str
    kind: str
    started: int
    inside: tuple[str, ...]
    inputs: dict[str, Slot] = field(default_factory=dict)
    outputs: dict[str, Slot] = field(default_factory=dict)

    def breaks(self, symmetry: str) -> bool:
        """Says whether what went in was still right and what came out is not."""
        return not self.broken_inside("inputs", symmetry) and self.broken_inside("outputs", symmetry)

    def broken_inside(self, side: str, symmetry: str) -> bool:
        """Says whether some tensor among ``"inputs"`` or ``"outputs"`` no longer follows the symmetry."""
        slots: Iterable[Slot] = getattr(self, side).values()
        return any(symmetry in slot.broken.get(slot.best(), ()) for slot in slots)


class Recorder:
    """Keeps the tensors of the first run and compares those of later runs with them, one at a time.

    Args:
        known: Types that occur in the model.
        frames: Whether SO(2) orders are possible.
        tol: Relative error allowed.
    """

    def __init__(self, known: list[o3.Irreps | SO2Irreps], frames: bool, tol: float) -> None:
        self.known, self.frames, self.tol = known, frames, tol
        self.calls: dict[str, Call] = {}  # in the order in which they end
        self.probe: Probe | None = None
        self._graphs: dict[str, Data] = {}  # after each step of the transform
        self._counts: dict[str, int] = {}
        self._stack: list[tuple[str, int, dict[str, Tensor]]] = []
        self._started = 0

    @contextlib.contextmanager
    def run(self, model: Any, probe: Probe | None) -> Iterator[None]:
        """Listens during one run: the first (``probe=None``) is recorded, later ones are compared."""
        self.probe, self._counts, self._stack, self._started = probe, {}, [], 0
        handles = []
        try:
            for name, module in _listenable(model):
                handles.append(module.register_forward_pre_hook(self._enter(name), with_kwargs=True))
                handles.append(module.register_forward_hook(self._leave(name), with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def observe(self, name: str, data: Data) -> None:
        """Records or compares the graph after one step of a transform, as if the step were a submodule."""
        found = {key.removeprefix("data."): x for key, x in float_tensors(data, "data").items()}
        if self.probe is None:
            previous = next(reversed(self.calls.values())).outputs if self.calls else {}
            call = Call(name, "transform", -1, (), dict(previous))
            call.outputs = {key: self._slot(x, None, _largest(found)) for key, x in found.items()}
            self.calls[name] = call
            self._graphs[name] = data.clone()
            return
        self.probe.before = self._graphs[name]
        try:
            self.probe.rows = match_rows(self._graphs[name], Moved(data, self.probe.element.order))
        except ValueError:  # other edges than before
            found = {}
        self._compare(self.calls[name].outputs, found)

    def _enter(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._counts[name] = self._counts.get(name, 0) + 1
            label = name if self._counts[name] == 1 else f"{name}#{self._counts[name]}"
            # Copied now: the module may write into its own input.
            self._stack.append((label, self._started, float_tensors({**dict(enumerate(args)), **kwargs}, "input")))
            self._started += 1

        return hook

    def _leave(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
            while self._stack and self._stack[-1][0].split("#")[0] != name:
                self._stack.pop()  # a call that raised, and whose error the model caught
            label, started, given = self._stack.pop()
            found = float_tensors(result, "output")
            if self.probe is None:
                inside = tuple(entry[0] for entry in self._stack)
                call = Call(label, type(module).__name__, started, inside)
                call.inputs = {key: self._slot(x, None, _largest(given)) for key, x in given.items()}
                declared = _declared(module)
                call.outputs = {key: self._slot(x, declared, _largest(given)) for key, x in found.items()}
                self.calls[label] = call
            elif label in self.calls:
                self._compare(self.calls[label].inputs, given)
                if label != ROOT:  # the report compares the final output itself
                    self._compare(self.calls[label].outputs, found)

        return hook

    def _slot(self, x: Tensor, declared: FeatureType | None, scale_in: float) -> Slot:
        if declared is not None and _fits(x, declared):
            return Slot(x, [declared], True, self.tol, scale_in)
        return Slot(x, candidates(x, self.known, self.frames), False, self.tol, scale_in)

    def _compare(self, slots: dict[str, Slot], after: dict[str, Tensor]) -> None:
        probe = self.probe
        assert probe is not None
        for key, slot in slots.items():
            slot.compare(after.get(key), probe)


def _listenable(model: Any) -> Iterator[tuple[str, nn.Module]]:
    if not isinstance(model, nn.Module):
        return
    for name, module in model.named_modules():
        # Generated code (e3nn's tensor products) computes in pieces that mean nothing to a reader.
        if not isinstance(module, (torch.fx.GraphModule, torch.jit.ScriptModule)):
            yield name or ROOT, module


def _declared(module: nn.Module) -> FeatureType | None:
    try:
        return declared_type(module)
    except ValueError:  # an attribute of that name which means something else
        return None


def _fits(x: Tensor, kind: FeatureType) -> bool:
    try:
        check_type("", x, kind)
    except ValueError:
        return False
    return True


def _largest(tensors: dict[str, Tensor]) -> float:
    return max((float(x.abs().max()) for x in tensors.values()), default=0.0)
