"""``GroupGraph`` against a plain search, one vertex after the other or in chunks, with formulas in numpy.

Ours chooses the price of turning and the radius, samples the group and writes all attributes; the plain searches are
given elements, metric and radius, and only look for the pairs within it. Distances of their edges must agree. Run it
with ``--threads 1``. The last contender starts an interpreter of its own and fails if building the graph takes 2 GB
beyond what the imports take.
"""

import math
import subprocess
import sys

import numpy as np
import torch
from harness import Case, Claim, Problem, Results, Unavailable
from torch_geometric.data import Data

from geomeq.groups import SE2, SO3, quaternion_from_rotation
from geomeq.transforms import GroupGraph

LARGEST = 5_000  # vertices up to which all pairs are looked at here


def se2(side: int, orientations: int) -> Problem:
    return problem("SE2", (side, side, orientations))


def so3(level: int, orientations: int) -> Problem:
    return problem("SO3", (level, orientations))


def problem(group: str, size: tuple[int, ...]) -> Problem:
    transform = GroupGraph({"SE2": SE2, "SO3": SO3}[group](), size=size, k=16, anisotropy=0.1)
    graph = transform(Data())
    element = graph.element if group == "SE2" else quaternion_from_rotation(graph.element)
    square = float(graph.edge_sqdist.max()) * (1 + 1e-9)
    return {"group": group, "transform": transform, "element": element, "metric": graph.metric[0], "square": square}


def ours(problem: Problem):
    return lambda: {"sqdist": problem["transform"](Data()).edge_sqdist}


def se2_log(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of ``a^-1 b``, ``[..., 3]``."""
    cos, sin = np.cos(a[..., 2]), np.sin(a[..., 2])
    dx, dy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    half = ((b[..., 2] - a[..., 2] + math.pi) % (2 * math.pi) - math.pi) / 2
    small = np.abs(half) < 1e-9
    cot = np.where(small, 1.0, half / np.tan(np.where(small, 1.0, half)))
    return np.stack([cot * x + half * y, cot * y - half * x, 2 * half], axis=-1)


def so3_log(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of ``a^-1 b`` for quaternions, ``[..., 3]``."""
    w = (a * b).sum(axis=-1)
    u = a[..., :1] * b[..., 1:] - b[..., :1] * a[..., 1:] - np.cross(a[..., 1:], b[..., 1:])
    sine = np.linalg.norm(u, axis=-1)
    scale = np.where(sine > 1e-12, 2 * np.arctan2(sine, np.abs(w)) / np.maximum(sine, 1e-12), 2.0)
    return (np.where(w < 0, -scale, scale))[..., None] * u


def half_turned(group: str, element: np.ndarray) -> np.ndarray:
    """The other representatives: orientations have no head."""
    if group == "SE2":
        return element + np.array([0.0, 0.0, math.pi])
    w, x, y, z = element.T
    return np.stack([-z, y, -x, w], axis=-1)


def plain_search(rows: int):
    """All distances of so many vertices at a time."""

    def prepare(problem: Problem):
        element = problem["element"].numpy()
        if len(element) > LARGEST:
            raise Unavailable(f"quadratic: {len(element)} vertices would take minutes; compare at {LARGEST}")
        log = {"SE2": se2_log, "SO3": so3_log}[problem["group"]]
        metric, square = problem["metric"].numpy(), problem["square"]

        def run() -> Results:
            found = []
            other = half_turned(problem["group"], element)
            for start in range(0, len(element), rows):
                part = element[start : start + rows, None]
                sqdist = np.minimum(*(((c @ metric) * c).sum(-1) for c in (log(part, element), log(part, other))))
                own = np.arange(len(part))
                sqdist[own, start + own] = np.inf
                found.append(sqdist[sqdist <= square])
            return {"sqdist": torch.from_numpy(np.concatenate(found))}

        return run

    return prepare


MEASURE = """
import resource
from torch_geometric.data import Data
from geomeq.groups import SE2, SO3
from geomeq.transforms import GroupGraph
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{transform}(Data())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def in_a_process_of_its_own(problem: Problem):
    transform = problem["transform"]
    call = (
        f"GroupGraph({problem['group']}(), size={transform.size}, k={transform.k}, anisotropy={transform.anisotropy})"
    )

    def run() -> Results:
        command = [sys.executable, "-c", MEASURE.format(transform=call)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        kilobytes = int(done.stdout)
        if kilobytes > 2_000_000:
            raise MemoryError(f"{call} took {kilobytes / 1e6:.2f} GB")
        return {}

    return run


GRID = {"28 x 28 x 6": {"side": 28, "orientations": 6}}
SPHERES = {
    "level 3, 3,852 vertices": {"level": 3, "orientations": 6},
    "level 4, 15,372 vertices": {"level": 4, "orientations": 6},
    "level 5, 61,452 vertices": {"level": 5, "orientations": 6},
}
CONTENDERS = {"geomeq": ours, "row by row": plain_search(1), "chunks of 64 rows": plain_search(64)}

CASES = [
    Case(
        "group_graph_grid",
        "graph of SE(2) on a grid, 16 neighbours",
        sizes=GRID,
        quick={"8 x 8 x 4": {"side": 8, "orientations": 4}},
        setup=se2,
        contenders=CONTENDERS,
        peer="row by row",
        reference=lambda problem: plain_search(64)(problem)(),
        claims=(
            Claim("under 30 ms", "geomeq", "geomeq", times=0.0, plus=0.03),
            Claim("a hundred times faster than a row at a time", "geomeq", "row by row", times=0.01),
        ),
    ),
    Case(
        "group_graph_sphere",
        "graph of SO(3) over an icosphere, 16 neighbours",
        sizes=SPHERES,
        quick={"level 1": {"level": 1, "orientations": 6}},
        setup=so3,
        contenders=CONTENDERS | {"geomeq, below 2 GB in a fresh process": in_a_process_of_its_own},
        peer="row by row",
        claims=(
            Claim("under 20 s", "geomeq", "geomeq", times=0.0, plus=20.0),
            Claim("and below 2 GB", "geomeq, below 2 GB in a fresh process", "geomeq", times=0.0, plus=30.0),
        ),
    ),
]
