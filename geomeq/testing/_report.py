"""Which submodule breaks the symmetry, and by how much."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from geomeq.testing._compare import match_rows, output_types
from geomeq.testing._elements import Element, group_name, random_elements
from geomeq.testing._error import TOLERANCES, checked_outputs
from geomeq.testing._hypotheses import Probe, Slot, known_irreps
from geomeq.testing._move import what_moves
from geomeq.testing._recorder import ROOT, Call, Recorder
from geomeq.testing._run import Model, Subject, outputs, undisturbed

#: Symmetries of a report, in the order in which they narrow down unknown types.
SYMMETRIES = ("rotation", "reflection", "translation", "permutation", "frames")


@dataclass(frozen=True)
class ModuleError:
    """How one submodule (or one step of the transform) follows the symmetries.

    Attributes:
        name: As in ``model.named_modules()``, with ``#2`` for a second call; ``"(model)"`` for the whole model.
        kind: Name of its class.
        type: Type of its output: declared (``irreps_out``) or the one that fits best.
        declared: Whether the type was declared.
        errors: Relative error of its output for each symmetry.
        broken: Symmetries that its output does not follow.
        inherited: Those among them that its input did not follow either.
    """

    name: str
    kind: str
    type: str
    declared: bool
    errors: dict[str, float]
    broken: tuple[str, ...]
    inherited: tuple[str, ...]


@dataclass(frozen=True)
class EquivarianceReport:
    """Result of :func:`equivariance_report`.

    Attributes:
        modules: The steps of the transform, then the submodules in the order in which they finish, then the model.
        symmetries: Symmetries tested.
        culprits: For each broken symmetry, the first submodule that breaks it: what goes in is still right,
            what comes out is not.
        notes: For a culprit that contains others, where in its own code it happens.
        tol: Largest relative error that counts as rounding.
        skipped: Symmetries not tested, and why.
    """

    modules: tuple[ModuleError, ...]
    symmetries: tuple[str, ...]
    culprits: dict[str, str]
    tol: float
    notes: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the model follows every symmetry tested."""
        return not self.culprits

    @property
    def first_broken(self) -> str | None:
        """Name of the first submodule, in the order of execution, that breaks a symmetry; ``None`` if none does."""
        return next((m.name for m in self.modules if m.name in self.culprits.values()), None)

    @property
    def errors(self) -> dict[str, dict[str, float]]:
        """Relative error by submodule and symmetry."""
        return {m.name: dict(m.errors) for m in self.modules}

    def table(self) -> str:
        """Returns the report as a text table, one line a submodule."""
        rows = [("submodule", "class", "output type", *self.symmetries)]
        rows += [(m.name, m.kind, _shorten(m.type), *(self._cell(m, s) for s in self.symmetries)) for m in self.modules]
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "-" * max(len(line) for line in lines))
        return "\n".join(lines)

    def _cell(self, module: ModuleError, symmetry: str) -> str:
        text = f"{module.errors.get(symmetry, 0.0):.1e}"
        if self.culprits.get(symmetry) == module.name:
            return f"{text} <-- breaks"
        return f"{text} !" if symmetry in module.broken else text

    def __str__(self) -> str:
        lines = [self.table(), ""]
        if self.passed:
            lines.append(f"Equivariant under {', '.join(self.symmetries)} (relative errors below {self.tol:.0e}).")
        for symmetry, name in self.culprits.items():
            note = self.notes.get(symmetry)
            lines.append(f"{symmetry}: first broken by {name}" + (f" ({note})" if note else ""))
        if not self.passed:
            lines.append("(! = does not follow the symmetry: its input already did not, or its type is unknown)")
        lines += [f"{symmetry}: not tested, {why}" for symmetry, why in self.skipped.items()]
        return "\n".join(lines)

    def plot(self) -> Any:
        """Returns a matplotlib figure with the error of each submodule. Needs the extra ``plot``."""
        return importlib.import_module("geomeq.plot").equivariance_by_layer(self)


def _shorten(text: str, most: int = 28) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def equivariance_report(
    model: Model,
    data: Data,
    *,
    irreps: Mapping[str, Any] | None = None,
    irreps_out: Any = None,
    transform: Callable[[Data], Data] | None = None,
    call: Callable[[Any, Data], Any] | None = None,
    symmetries: Sequence[str] | None = None,
    tol: float | None = None,
    samples: int = 2,
    seed: int = 0,
) -> EquivarianceReport:
    """Lists every submodule of a model with its equivariance error, and names the first that breaks a symmetry.

    The model runs once on the graph and then on moved graphs, while hooks compare what goes into and comes out
    of each submodule. The type of an output is ``irreps_out`` or ``types_out`` of the submodule where it has one. Else
    every type that fits the shape competes (invariant, vector, pseudovector, position, spherical harmonics, the types
    that occur in the model, SO(2) orders), and the one that predicts the moved tensor wins. Where none does, the
    tensor may still move by some representation unknown here: it does exactly if lengths and mutual angles
    of its rows are kept, which is then reported as ``isometric``. A submodule is named only if the *model's*
    output is wrong, what goes into the submodule is still right, and what comes out is not.

    Mode, buffers, hooks, random state and data are afterwards as they were before.

    Args:
        model: An ``nn.Module``; for a function or a transform the report has one line.
        data: A graph or a batch, as in :func:`equivariance_error`.
        irreps: Types of attributes by name.
        irreps_out: Type of the model's output.
        transform: Applied after the graph has moved; each step of a ``Compose`` gets a line of its own.
        call: How to call the model.
        symmetries: Some of ``"rotation"``, ``"reflection"``, ``"translation"``, ``"permutation"``, ``"frames"``. By
            default all that move something in the data; the others are listed in ``skipped``.
        tol: Largest relative error that counts as rounding; by default 1e-4 in float32 and 1e-9 in float64.
        samples: Random elements for each symmetry.
        seed: Seed of the elements and of any randomness in the model.

    Returns:
        The report. ``print`` it, ask ``.first_broken``, or ``.plot()`` it.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps: hooks need it eager
    subject = Subject(model, data, irreps, transform, call)
    drawn, skipped = _draw(subject, symmetries, samples, seed)
    tol = _tolerance(subject) if tol is None else tol
    with undisturbed(model):
        recorder = _record(subject, irreps_out, drawn, tol, seed)
    culprits, notes = _blame(recorder, tuple(drawn))
    return EquivarianceReport(
        modules=tuple(_summary(call) for call in recorder.calls.values()),
        symmetries=tuple(drawn),
        culprits=culprits,
        tol=tol,
        notes=notes,
        skipped=skipped,
    )


def _draw(
    subject: Subject, symmetries: Sequence[str] | None, samples: int, seed: int
) -> tuple[dict[str, list[Element]], dict[str, str]]:
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    generator = torch.Generator().manual_seed(seed)
    drawn: dict[str, list[Element]] = {}
    skipped: dict[str, str] = {}
    for name in SYMMETRIES if symmetries is None else symmetries:
        group = group_name(name)
        if group == "batching":
            raise ValueError("a report cannot show batching; use equivariance_error(model, data, 'batching')")
        try:
            elements = random_elements(group, subject.data, samples, generator)
            if not what_moves(subject.data, subject.types, elements[0]):
                raise ValueError("nothing in data moves")
        except ValueError as reason:
            if symmetries is not None:
                raise ValueError(f"cannot test {name}: {reason}") from reason
            skipped[name] = str(reason)
        else:
            drawn[name] = elements
    if not drawn:
        raise ValueError(f"nothing in data moves under any symmetry; its tensors are {sorted(subject.types)}")
    return drawn, skipped


def _tolerance(subject: Subject) -> float:
    tensors = [x for x in subject.data.to_dict().values() if isinstance(x, Tensor)]
    if isinstance(subject.model, torch.nn.Module):
        tensors += list(subject.model.parameters())
    return max((TOLERANCES.get(x.dtype, 1e-9) for x in tensors if x.is_floating_point()), default=1e-9)


def _record(subject: Subject, irreps_out: Any, drawn: Mapping[str, list[Element]], tol: float, seed: int) -> Recorder:
    known = known_irreps(subject.model) + [kind.irreps for kind in subject.types.values() if kind.irreps is not None]
    recorder = Recorder(known, "frames" in drawn, tol)
    base = subject.prepare(observe=recorder.observe)
    with recorder.run(subject.model, None):
        result = checked_outputs(subject, base.data, seed)
    final = _final_call(subject, recorder)
    for key, kind in output_types(subject.model, result, irreps_out, subject.types).items():
        if result[key].is_floating_point() and result[key].numel():
            scale = max((slot.scale_in for slot in final.outputs.values()), default=0.0)
            final.outputs[key] = Slot(result[key].clone(), [kind], True, tol, scale)
    for symmetry, elements in drawn.items():
        for element in elements:
            _replay(subject, recorder, final, base.data, Probe(symmetry, element), seed)
    return recorder


def _final_call(subject: Subject, recorder: Recorder) -> Call:
    """The line for the whole: the model's own call, or one more where ``call`` may do more than call the model."""
    if subject.call is None and ROOT in recorder.calls:
        final = recorder.calls[ROOT]
        final.inputs = {}  # the graph itself, which is right by construction
        return final
    kind = getattr(subject.model, "__name__", type(subject.model).__name__)
    name = ROOT if ROOT not in recorder.calls else "(call)"
    recorder.calls[name] = Call(name, "call" if name == "(call)" else kind, -1, ())
    return recorder.calls[name]


def _replay(subject: Subject, recorder: Recorder, final: Call, before: Data, probe: Probe, seed: int) -> None:
    recorder.probe = probe
    moved = subject.prepare(probe.element, recorder.observe)
    try:
        probe.rows = match_rows(before, moved)
    except ValueError:  # the transform found other edges, so nothing after it can be compared
        for slot in final.outputs.values():
            slot.compare(None, probe)
        return
    probe.before = before
    with recorder.run(subject.model, probe):
        result = outputs(subject.run(moved.data, seed))
    for key, slot in final.outputs.items():
        slot.compare(result.get(key), probe)


def _blame(recorder: Recorder, symmetries: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    calls = list(recorder.calls.values())
    culprits, notes = {}, {}
    for symmetry in symmetries:
        if not calls[-1].broken_inside("outputs", symmetry):
            continue  # an odd intermediate result is nobody's fault while the answer is right
        culprit = next(call for call in calls if call.breaks(symmetry))
        culprits[symmetry] = culprit.name
        note = _where(culprit, [call for call in calls if call.inside[-1:] == (culprit.name,)], symmetry)
        if note:
            notes[symmetry] = note
    return culprits, notes


def _where(culprit: Call, children: list[Call], symmetry: str) -> str:
    """Says where in the code of a module with submodules a symmetry breaks, though no submodule breaks it."""
    spoiled = [call for call in children if call.broken_inside("inputs", symmetry)]
    if spoiled:
        return f"in its own code, before it calls {min(spoiled, key=lambda call: call.started).name}"
    return "in its own code, after its submodules" if children else ""


def _summary(call: Call) -> ModuleError:
    slots = list(call.outputs.values())
    chosen = [(slot, slot.best()) for slot in slots]
    errors: dict[str, float] = {}
    for slot, kind in chosen:
        for symmetry, error in slot.errors.get(kind, {}).items():
            errors[symmetry] = max(errors.get(symmetry, 0.0), error)
    broken = [s for s in errors if call.broken_inside("outputs", s)]
    prefix = call.kind == "transform"  # its outputs are attributes, which have names
    labels = dict.fromkeys((f"{key}: " if prefix else "") + _label(slot) for key, slot in call.outputs.items())
    return ModuleError(
        name=call.name,
        kind=call.kind,
        type=", ".join(labels) if labels else "no tensor",
        declared=bool(slots) and all(slot.declared for slot in slots),
        errors=errors,
        broken=tuple(broken),
        inherited=tuple(s for s in broken if call.broken_inside("inputs", s)),
    )


def _label(slot: Slot) -> str:
    kind = slot.best()
    return str(kind) if slot.declared or not slot.broken.get(kind) else f"none fits ({kind}?)"
