"""N-body trajectories: charged particles and gravity, simulated on the spot."""

import os
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geomeq.datasets import _simulate
from geomeq.datasets._cached import CachedDataset

SPLITS = ("train", "valid", "test")
NUM_SYSTEMS = {
    "charged": {"train": 3000, "valid": 2000, "test": 2000},
    "gravity": {"train": 400, "valid": 100, "test": 100},
}


class NBody(CachedDataset):
    r"""Where will every particle be in 1.0 units of time? Simulated charges or masses, free space, no noise.

    **charged** (5 particles, the benchmark of SEGNN, EGNN and others). Positions start
    :math:`\sim N(0, 1)`, velocities isotropic with norm 0.5, charges :math:`\pm 1` with equal
    chance, unit mass. Force :math:`F_i = \sum_j q_i q_j (x_i - x_j) / |x_i - x_j|^3`, each component
    of :math:`F_i` clipped to :math:`\pm 100` (a close encounter then breaks energy and momentum
    conservation, as in the published data). Integration with :math:`\Delta t = 10^{-3}`: one kick
    :math:`v \mathrel{+}= \Delta t F`, then steps of a drift :math:`x \mathrel{+}= \Delta t v` and a
    kick. Frame :math:`k` is taken in step :math:`100 (k + 1)` between drift and kick, so ``vel`` is
    the mean velocity of the step that led to ``pos``. Input: frame 30 (step 3100); target: the
    positions of frame 40 (step 4100), 1.0 units of time later.

    **gravity** (100 particles). Positions and velocities start :math:`\sim N(0, 1)`, the mean
    velocity is subtracted (the centre of mass then rests, wherever it is), unit masses, G = 1,
    force :math:`F_i = \sum_j (x_j - x_i) / (|x_i - x_j|^2 + 0.1^2)^{3/2}`. Velocity Verlet with
    :math:`\Delta t = 10^{-3}`; frame :math:`k` is the state after :math:`100 k` steps. Input: frame
    30, target: positions or forces of frame 40. No edges: add them with ``NearestGraph(6)``.

    All units are those of the formulas. Simulated in float64, stored in float32.

    Attributes of a sample with ``n`` particles:
        - ``pos`` ``[n, 3]``, ``vel`` ``[n, 3]``: the input frame.
        - ``charge`` ``[n, 1]`` (charged), or ``mass`` ``[n, 1]`` and ``force`` ``[n, 3]`` (gravity; of the
          input frame).
        - ``y`` ``[n, 3]``: positions at frame 40 (or forces, with ``target="force"``).
        - ``vel_target`` ``[n, 3]``: velocity with which the particles leave frame 40 (charged). The dynamics run both
          ways: ``(y, -vel_target)`` is an input whose target is ``pos``, a second sample from each trajectory.
        - ``edge_index`` ``[2, n (n - 1)]``: all ordered pairs, sorted by target, then source (charged).
        - ``edge_scalar`` ``[n (n - 1), 1]``: :math:`q_i q_j` (charged).

    Args:
        root: Folder of the processed files; default: the cache folder.
        system: ``"charged"`` or ``"gravity"``.
        split: ``"train"``, ``"valid"`` or ``"test"``; each has random numbers of its own.
        num_systems: How many; default 3,000, 2,000, 2,000 (charged) and 400, 100, 100 (gravity). A smaller
            choice is the beginning of a larger one.
        seed: Of all random numbers. Another seed is another data set.
        target: ``"position"``, or ``"force"`` (gravity only).
        transform: Applied to a sample at every access.
        pre_transform: Applied to every sample once; the result is stored.
        pre_filter: Keeps the samples for which it returns true.
        force_reload: Simulate again even if a processed file is there.

    Raises:
        ValueError: If an argument is none of the above.

    Licence: none needed, the data are made here. Published test errors (mean squared error over
    coordinates): SEGNN 0.0043, linear SEConv 0.0116; predicting ``pos`` gives about 0.27 and
    ``pos + vel`` about 0.11.

    Source: protocol of Brandstetter et al. (2022), https://arxiv.org/abs/2110.02905; charged particles
    after Kipf et al. (2018), https://arxiv.org/abs/1802.04687, and Satorras et al. (2021),
    https://arxiv.org/abs/2102.09844. The published sets are not public as files, so the random
    numbers differ from theirs.

    Example:
        >>> from geomeq.datasets import NBody
        >>> NBody(num_systems=2)[0].pos.shape  # doctest: +SKIP
        torch.Size([5, 3])
    """

    version = "2"

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        system: Literal["charged", "gravity"] = "charged",
        split: Literal["train", "valid", "test"] = "train",
        num_systems: int | None = None,
        seed: int = 0,
        target: Literal["position", "force"] = "position",
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        force_reload: bool = False,
    ) -> None:
        _check_choice("system", system, tuple(NUM_SYSTEMS))
        _check_choice("split", split, SPLITS)
        _check_choice("target", target, ("position", "force") if system == "gravity" else ("position",))
        if num_systems is not None and num_systems < 1:
            raise ValueError(f"num_systems must be at least 1, got {num_systems}")
        self.system, self.split, self.seed, self.target = system, split, seed, target
        self.num_systems = NUM_SYSTEMS[system][split] if num_systems is None else num_systems
        super().__init__(root, transform, pre_transform, pre_filter, force_reload)

    def settings(self) -> dict[str, Any]:
        """The arguments that decide the content."""
        names = ("system", "split", "num_systems", "seed", "target")
        return {name: getattr(self, name) for name in names}

    def build(self) -> tuple[Data, dict[str, Tensor]]:
        """Simulates all systems."""
        stream = np.random.SeedSequence([self.seed, SPLITS.index(self.split)])
        label = f"NBody: {self.system}, {self.split}"
        if self.system == "charged":
            return _collate_charged(_simulate.charged(self.num_systems, stream, label))
        return _collate_gravity(_simulate.gravity(self.num_systems, stream, label), self.target)

    def __repr__(self) -> str:
        return f"NBody({len(self)}, system={self.system!r}, split={self.split!r})"


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def _flat(array: np.ndarray) -> Tensor:
    """``[S, n, k]`` in float64 to ``[S n, k]`` in float32."""
    return torch.from_numpy(array.reshape(-1, array.shape[-1]).astype(np.float32))


def _starts(systems: int, rows: int) -> Tensor:
    return torch.arange(systems + 1) * rows


def _collate_charged(state: dict[str, np.ndarray]) -> tuple[Data, dict[str, Tensor]]:
    systems, n = state["pos"].shape[:2]
    target, source = np.nonzero(~np.eye(n, dtype=bool))  # row-major, hence sorted by target, then source
    edge_index = torch.from_numpy(np.stack([source, target])).repeat(1, systems)
    charge = state["charge"]
    data = Data(
        pos=_flat(state["pos"]),
        vel=_flat(state["vel"]),
        charge=_flat(charge),
        y=_flat(state["pos_target"]),
        vel_target=_flat(state["vel_target"]),
        edge_index=edge_index,
        edge_scalar=_flat(charge[:, target] * charge[:, source]),
    )
    nodes, edges = _starts(systems, n), _starts(systems, n * (n - 1))
    slices = dict.fromkeys(("pos", "vel", "charge", "y", "vel_target"), nodes) | dict.fromkeys(
        ("edge_index", "edge_scalar"), edges
    )
    return data, slices


def _collate_gravity(state: dict[str, np.ndarray], target: str) -> tuple[Data, dict[str, Tensor]]:
    systems, n = state["pos"].shape[:2]
    data = Data(
        pos=_flat(state["pos"]),
        vel=_flat(state["vel"]),
        force=_flat(state["force"]),
        mass=_flat(np.ones((systems, n, 1))),
        y=_flat(state["pos_target" if target == "position" else "force_target"]),
    )
    return data, dict.fromkeys(("pos", "vel", "force", "mass", "y"), _starts(systems, n))
