"""Runs a model for a check and leaves no trace: mode, buffers, random state and data stay as they were."""

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from e3nn import o3
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.data.data import BaseData
from torch_geometric.transforms import Compose

from geomeq.groups import SO2Irreps
from geomeq.testing._elements import Element
from geomeq.testing._move import Moved, attribute_types, copy_data, move
from geomeq.testing._types import FeatureType, parse_type

#: A model, a layer, a transform: whatever turns a graph into tensors.
Model = Callable[..., Any]


@dataclass
class Subject:
    """What is being tested: a model, how to call it, and the graph it is called on.

    Attributes:
        model: The model.
        data: The graph, raw where ``transform`` is given.
        transform: Applied to the graph after the raw geometry has moved.
        call: How to call the model on a graph.
        types: Type of each attribute of ``data``.
    """

    model: Model
    data: Data
    irreps: Mapping[str, Any] | None = None
    transform: Callable[[Data], Data] | None = None
    call: Callable[[Any, Data], Any] | None = None
    types: dict[str, FeatureType] = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.data, Data):
            hint = "heterogeneous graphs are not supported" if isinstance(self.data, BaseData) else "wrap the tensors"
            raise TypeError(f"data must be a torch_geometric Data or Batch, got {type(self.data).__name__}; {hint}")
        if not callable(self.model):
            raise TypeError(f"model must be an nn.Module or a function, got {type(self.model).__name__}")
        given = dict(self.irreps or {})
        features = self.data.get("x")
        if "x" not in given and isinstance(features, Tensor):
            kind = input_type(self.model, features) or stored_type(self.data, features)
            given |= {} if kind is None else {"x": kind}
        self.types = attribute_types(self.data, given)

    def prepare(self, element: Element | None = None, observe: Callable[[str, Data], None] | None = None) -> Moved:
        """Returns a fresh graph, moved by ``element`` and then transformed, with the orders of its nodes and edges.

        Args:
            element: The symmetry, ``None`` to leave the graph where it is.
            observe: Called after each step of the transform with its name and the graph at that point.
        """
        moved = Moved(copy_data(self.data)) if element is None else move(self.data, element, self.types)
        if self.transform is None:
            return moved
        # Most transforms see one graph at a time.
        batched = isinstance(moved.data, Batch)
        parts = moved.data.to_data_list() if isinstance(moved.data, Batch) else [moved.data]
        for name, step in transform_steps(self.transform):
            parts = [step(part) for part in parts]
            if observe is not None:
                observe(name, Batch.from_data_list(parts) if batched else parts[0])
        # The transform may write edges in any order, so where they went is read off the result.
        return Moved(Batch.from_data_list(parts) if batched else parts[0], moved.node_order, None)

    def run(self, data: Data, seed: int) -> Any:
        """Calls the model. The same seed gives the same random numbers inside the model."""
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():  # else torch would keep the seed for later, outside of the check
            torch.cuda.manual_seed_all(seed)
        return self.model(data) if self.call is None else self.call(self.model, data)


def input_type(model: Model, x: Tensor) -> FeatureType | None:
    """Returns ``irreps_in`` (of O(3)) or ``types_in`` (of SO(2)) of a model or its config, if it fits ``data.x``."""
    for owner in (model, getattr(model, "config", None)):
        for name in ("irreps_in", "types_in"):
            spec = getattr(owner, name, None)
            if isinstance(spec, (str, o3.Irreps, SO2Irreps)):
                kind = parse_type(spec)
                if x.dim() >= 2 and x.size(-1) == kind.dim:
                    return kind
    return None


def stored_type(data: Data, x: Tensor) -> FeatureType | None:
    """Returns the SO(2) type in ``data.types`` (a list of equal ones in a batch) if it fits ``data.x``."""
    types = data.get("types")
    types = types[0] if isinstance(types, list) and len(set(types)) == 1 else types
    if not isinstance(types, str):
        return None
    kind = parse_type(SO2Irreps(types))
    return kind if x.size(-1) == kind.dim else None


def transform_steps(transform: Callable[[Data], Data]) -> list[tuple[str, Callable[[Data], Data]]]:
    """Takes a ``Compose`` apart, so that each of its steps can be named: ``transform[1] CutoffGraph``."""
    steps = transform.transforms if isinstance(transform, Compose) else [transform]
    return [(f"transform[{k}] {getattr(step, '__name__', type(step).__name__)}", step) for k, step in enumerate(steps)]


@contextlib.contextmanager
def undisturbed(model: Model) -> Iterator[None]:
    """Puts a model into evaluation mode for a while; afterwards everything is as it was."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    training = [m.training for m in modules]
    buffers = [(m, name, b, b.detach().clone()) for m in modules for name, b in m._buffers.items() if b is not None]
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 (the state to protect)
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            for m in modules:
                m.training = False  # what eval() does, but without calling a user's override of train()
            yield
        finally:
            for m, mode in zip(modules, training, strict=True):
                m.training = mode
            with torch.no_grad():
                for module, name, buffer, before in buffers:
                    module._buffers[name] = buffer
                    if not torch.equal(buffer, before):
                        buffer.copy_(before)
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


def outputs(result: Any, name: str = "output") -> dict[str, Tensor]:
    """Flattens what a model returned into named tensors: ``output``, ``output[0]``, ``output['force']``.

    Classes and masks (integers, bools) become float64; those inside a returned graph are structure and stay.

    Raises:
        ValueError: If there is no tensor in it.
    """
    found = dict(_flatten(result, name))
    if not isinstance(result, Data):
        found = {key: x if x.is_floating_point() else x.double() for key, x in found.items()}
    if not found:
        got = "nothing (None)" if result is None else f"{type(result).__name__} without a tensor"
        raise ValueError(f"the model returned {got}; return a tensor, or a tuple, dict or Data of tensors")
    return found


def _flatten(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        value = value.detach()
        yield name, torch.view_as_real(value) if value.is_complex() else value
    elif isinstance(value, Data):
        for key, part in value.to_dict().items():
            yield from _flatten(part, f"{name}.{key}")
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flatten(part, f"{name}[{key!r}]")
    elif hasattr(value, "_fields"):  # a named tuple
        for key in value._fields:
            yield from _flatten(getattr(value, key), f"{name}.{key}")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for part in dataclasses.fields(value):
            yield from _flatten(getattr(value, part.name), f"{name}.{part.name}")
    elif isinstance(value, (tuple, list)):
        for k, part in enumerate(value):
            yield from _flatten(part, f"{name}[{k}]")


def float_tensors(value: Any, name: str) -> dict[str, Tensor]:
    """Copies the floating-point tensors in the arguments or the result of a submodule."""
    return {key: x.clone() for key, x in _flatten(value, name) if x.is_floating_point() and x.numel() > 0}
