"""One number for one symmetry: how far a model is from equivariance."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from geomeq.testing._compare import difference, expected, match_rows, output_types, relative
from geomeq.testing._elements import group_name, random_elements
from geomeq.testing._move import what_moves
from geomeq.testing._run import Model, Subject, outputs, undisturbed
from geomeq.testing._types import FeatureType

#: Default tolerance on the relative error, by the dtype of the output.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 2e-1}


@dataclass(frozen=True)
class Deviation:
    """What one output did: its relative error, its type, and the dtype that sets the tolerance."""

    error: float
    kind: FeatureType
    dtype: torch.dtype


def equivariance_error(
    model: Model,
    data: Data,
    group: str = "O(3)",
    *,
    irreps: Mapping[str, Any] | None = None,
    irreps_out: Any = None,
    transform: Callable[[Data], Data] | None = None,
    call: Callable[[Any, Data], Any] | None = None,
    samples: int = 4,
    seed: int = 0,
) -> float:
    r"""Measures how far a model is from equivariance under a group.

    .. math:: \max_{g} \frac{\max |f(g \cdot x) - g \cdot f(x)|}{\max |f(x)|}

    over random elements :math:`g` and over the tensors that the model returns. An equivariant model
    reaches rounding: about 1e-6 in float32 and 1e-14 in float64. A broken one reaches 1e-3 to 1.

    The model runs in evaluation mode; its mode, its buffers, the random state and the data are
    afterwards as they were before.

    Args:
        model: An ``nn.Module``, a function or a transform. Called as ``model(data)``.
        data: A graph or a batch. ``pos`` (``[N, 3]``) moves as a point; ``vel``, ``v``, ``force``, ``edge_vec``,
            ``normal`` and ``dipole`` as vectors, the rows of ``cell`` and ``frame`` too; a pair ``edge_attr``,
            ``node_attr`` written by ``SteerableAttributes`` as spherical harmonics, ``x`` by ``model.irreps_in`` or
            ``model.types_in`` where it has that width, else by ``data.types``. All else stays,
            unless ``irreps`` says otherwise.
        group: ``"SO(3)"`` (or ``"rotation"``), ``"O(3)"``, ``"reflection"``, ``"inversion"``, ``"translation"``,
            ``"SE(3)"``, ``"E(3)"``, ``"permutation"`` of the nodes within each graph (edges are relabelled and sorted
            by target), ``"frames"`` (the frame at each node turns by its own angle), or ``"batching"`` (a batch must
            give what its parts give).
        irreps: Types of attributes by name: irreps of O(3) (``{"x": "5x0e", "edge_attr": "1x0e+1x1o"}``), orders of
            SO(2) in the frames (``"8x0+4x1"``), ``"position"``, ``"matrix"`` or ``"invariant"``.
        irreps_out: Type of the output, in the same form; a list or a dict where the model returns several
            tensors. By default outputs with the names above (``force`` in a dict, a named tuple or a ``Data``; also
            ``stress``, a matrix) have their types, others ``irreps_out`` or ``types_out`` of the model or its
            config, and without these they are invariant.
        transform: Applied to the graph *after* it has moved, so that the whole pipeline is tested and not only
            the layer. ``data`` must then hold the raw graph.
        call: How to call the model, for layers that take tensors:
            ``call=lambda model, data: model(data.x, data.edge_index)``.
        samples: Number of random elements.
        seed: Seed of the elements and of any randomness in the model.

    Returns:
        The relative error, 0 where nothing deviates.

    Raises:
        ValueError: If nothing in the graph moves under the group, if a type does not fit its tensor, or if the
            model returns no tensor or NaN.
        TypeError: If ``data`` is no PyG graph.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> data = Data(pos=torch.randn(5, 3, dtype=torch.float64))
        >>> equivariance_error(lambda data: torch.cdist(data.pos, data.pos).sum(1), data, "E(3)") < 1e-12
        True
        >>> equivariance_error(lambda data: data.pos.relu().sum(1), data, "E(3)") > 1e-2
        True
    """
    deviations = _deviations(model, data, group, irreps, irreps_out, transform, call, samples, seed)
    return max(d.error for d in deviations.values())


def assert_equivariant(
    model: Model,
    data: Data,
    group: str = "O(3)",
    *,
    tol: float | None = None,
    irreps: Mapping[str, Any] | None = None,
    irreps_out: Any = None,
    transform: Callable[[Data], Data] | None = None,
    call: Callable[[Any, Data], Any] | None = None,
    samples: int = 4,
    seed: int = 0,
) -> None:
    """Raises unless a model is equivariant under a group, up to rounding.

    Args:
        model: An ``nn.Module``, a function or a transform.
        data: A graph or a batch.
        group: As in :func:`equivariance_error`.
        tol: Largest relative error allowed. Defaults to 1e-9 for outputs in float64, 1e-4 in float32, 5e-2 in
            float16, 2e-1 in bfloat16.
        irreps: As in :func:`equivariance_error`, like the arguments after it.
        irreps_out: Type of the output.
        transform: Applied to the graph after it has moved.
        call: How to call the model.
        samples: Number of random elements.
        seed: Seed of the elements and of any randomness in the model.

    Raises:
        AssertionError: If the error is larger; the message names the output, its type and how each input moved.
    """
    deviations = _deviations(model, data, group, irreps, irreps_out, transform, call, samples, seed)
    for name, d in deviations.items():
        allowed = TOLERANCES.get(d.dtype, 1e-9) if tol is None else tol
        if not d.error <= allowed:
            raise AssertionError(_message(model, data, group, irreps, name, d, allowed))


def _message(model: Model, data: Data, group: str, irreps: Any, name: str, d: Deviation, allowed: float) -> str:
    types = Subject(model, data, irreps).types
    treated = ", ".join(f"{key}: {kind}" for key, kind in types.items() if data[key].is_floating_point())
    return (
        f"{type(model).__name__} is not equivariant under {group_name(group)}: "
        f"relative error {d.error:.2e} > {allowed:.0e} in its {name}, read as {d.kind}.\n"
        f"Inputs moved as {treated or 'nothing'}.\n"
        "If a type is wrong, pass irreps={...} for inputs or irreps_out=... for outputs; "
        "geomeq.testing.equivariance_report(model, data) names the submodule at fault."
    )


def _deviations(
    model: Model,
    data: Data,
    group: str,
    irreps: Mapping[str, Any] | None,
    irreps_out: Any,
    transform: Callable[[Data], Data] | None,
    call: Callable[[Any, Data], Any] | None,
    samples: int,
    seed: int,
) -> dict[str, Deviation]:
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    subject = Subject(model, data, irreps, transform, call)
    with undisturbed(model):
        if group_name(group) == "batching":
            return _batching(subject, irreps_out, seed)
        return _symmetry(subject, group_name(group), irreps_out, samples, seed)


def _symmetry(subject: Subject, group: str, irreps_out: Any, samples: int, seed: int) -> dict[str, Deviation]:
    generator = torch.Generator().manual_seed(seed)
    elements = random_elements(group, subject.data, samples, generator)
    if not what_moves(subject.data, subject.types, elements[0]):
        known = ", ".join(f"{name}: {kind}" for name, kind in subject.types.items())
        raise ValueError(
            f"nothing in data moves under {group}, so the check would say nothing; it has {known or 'nothing'}"
        )
    base = subject.prepare()
    before = checked_outputs(subject, base.data, seed)
    kinds = output_types(subject.model, before, irreps_out, subject.types)
    errors = dict.fromkeys(before, 0.0)
    for element in elements:
        moved = subject.prepare(element)
        rows = match_rows(base.data, moved)
        after = outputs(subject.run(moved.data, seed))
        for name, value in before.items():
            if not value.is_floating_point():
                continue
            wanted = expected(kinds[name], value, element, base.data)
            deviation = difference(wanted, after[name].double(), rows) if name in after else float("inf")
            errors[name] = max(errors[name], relative(deviation, float(wanted.abs().max()) if wanted.numel() else 0.0))
    return {name: Deviation(errors[name], kinds[name], before[name].dtype) for name in before}


def checked_outputs(subject: Subject, data: Data, seed: int) -> dict[str, Tensor]:
    """Runs the model on the unmoved graph and refuses answers that cannot be compared."""
    found = outputs(subject.run(data, seed))
    for name, value in found.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"the model's {name} holds NaN or infinity already on the graph as it came")
    floats = [value for value in found.values() if value.is_floating_point() and value.numel()]
    if floats and not any(bool(value.any()) for value in floats):
        warnings.warn("the model's output is zero everywhere, so an equivariance check says nothing", stacklevel=5)
    return found


def _batching(subject: Subject, irreps_out: Any, seed: int) -> dict[str, Deviation]:
    parts = subject.data.to_data_list() if isinstance(subject.data, Batch) else [subject.data, _stretched(subject.data)]
    parts = [part if subject.transform is None else subject.transform(part.clone()) for part in parts]
    together = checked_outputs(subject, Batch.from_data_list([part.clone() for part in parts]), seed)
    alone = [outputs(subject.run(Batch.from_data_list([part.clone()]), seed)) for part in parts]
    kinds = output_types(subject.model, together, irreps_out, subject.types)
    found = {}
    for name, value in together.items():
        error = 0.0
        if value.is_floating_point():
            try:
                joined = torch.cat([part[name] for part in alone]).double()
            except (KeyError, RuntimeError):
                joined = value.new_empty(0)  # another set of outputs or shapes: an infinite error
            same = joined.shape == value.shape
            deviation = (
                float((joined - value.double()).abs().max())
                if same and value.numel()
                else 0.0
                if same
                else float("inf")
            )
            error = relative(deviation, float(value.abs().max()) if value.numel() else 1.0)
        found[name] = Deviation(error, kinds[name], value.dtype)
    return found


def _stretched(data: Data) -> Data:
    """A second graph that differs from the first, so that a batch of one graph can be tested."""
    other = data.clone()
    for name in ("pos", "x"):
        value = other.get(name)
        if value is not None and value.is_floating_point():
            other[name] = value * 1.25
    return other
