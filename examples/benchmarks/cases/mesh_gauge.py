"""``MeshGauge`` against a plain walk around every vertex, and against potpourri3d's tangent spaces and log maps.

``mesh_gauge``: one ring of a torus. Ours reads positions and triangles, checks and orients them, and writes all
attributes; the walk is given the triangles and only computes angles and transport, one vertex after the other;
potpourri3d builds its solver (which factorises nothing yet) and gives frames and the connection Laplacian, in which
its transport lies. Twice the holonomies of the faces are compared: they do not depend on frames, nor on the signs of
cotangents.

``mesh_gauge_wide``: all neighbours within a radius. potpourri3d offers one log map at a time; it is asked for those of
64 vertices and for their transport, and has to be multiplied by the number of vertices over 64.

Run with ``--threads 1``.
"""

import math

import numpy as np
import torch
from harness import Case, Claim, Problem, Results, Unavailable
from torch_geometric.data import Data

from geomeq.transforms import MeshGauge

LARGEST = 5_000  # vertices up to which the walk is waited for
ASKED = 64


def torus(around: int, across: int) -> Problem:
    """A bumpy torus of ``around * across`` vertices."""
    i, j = torch.meshgrid(torch.arange(around), torch.arange(across), indexing="ij")
    number = lambda a, b: ((a % around) * across + b % across).flatten()  # noqa: E731
    lower = torch.stack([number(i, j), number(i + 1, j), number(i + 1, j + 1)])
    upper = torch.stack([number(i, j), number(i + 1, j + 1), number(i, j + 1)])
    a, b = 2 * math.pi * i / around, 2 * math.pi * j / across
    tube = 1 + 0.1 * torch.sin(5 * a + 3 * b)
    ring = 3 + tube * b.cos()
    pos = torch.stack([ring * a.cos(), ring * a.sin(), tube * b.sin()], dim=-1).flatten(0, 1)
    return {"pos": pos.float(), "face": torch.cat([lower, upper], dim=1)}


def holonomy(transport: torch.Tensor, problem: Problem, key: torch.Tensor) -> torch.Tensor:
    """``e^{2 i (g_ab + g_bc + g_ca)}`` of the faces as pairs of reals, ``[F, 2]``."""
    num, (a, b, c) = len(problem["pos"]), problem["face"]
    total = 2 * sum(transport[torch.searchsorted(key, i * num + j)] for i, j in ((a, b), (b, c), (c, a)))
    return torch.stack([total.cos(), total.sin()], dim=1)


def ours(problem: Problem):
    mesh, transform = Data(pos=problem["pos"], face=problem["face"]), MeshGauge()

    def run() -> Results:
        out = transform(mesh)
        key = out.edge_index[1] * out.num_nodes + out.edge_index[0]
        return {"holonomy": holonomy(out.transport.double(), problem, key)}

    return run


def without_check(problem: Problem):
    """Ours, timed without the comparison of holonomies."""
    mesh, transform = Data(pos=problem["pos"], face=problem["face"]), MeshGauge()
    return lambda: {"area": transform(mesh).area}


def walk(problem: Problem):
    """Angles by a walk around every vertex, in Python."""
    if len(problem["pos"]) > LARGEST:
        raise Unavailable(f"a walk around {len(problem['pos'])} vertices takes too long; compare at {LARGEST}")
    return lambda: {"holonomy": walked(problem)}


def walked(problem: Problem) -> torch.Tensor:
    pos, face = problem["pos"].double().numpy(), problem["face"].t().numpy()
    num = len(pos)
    after: list[dict[int, tuple[int, float]]] = [{} for _ in range(num)]
    for corners in face:
        for c in range(3):
            i, j, k = (int(corners[(c + s) % 3]) for s in range(3))
            u, v = pos[j] - pos[i], pos[k] - pos[i]
            after[i][j] = (k, math.atan2(float(np.linalg.norm(np.cross(u, v))), float(u @ v)))
    angle: dict[tuple[int, int], float] = {}
    for i in range(num):
        scale = 2 * math.pi / sum(step for _, step in after[i].values())
        j, total = min(after[i]), 0.0
        for _ in range(len(after[i])):
            angle[i, j] = total
            j, step = after[i][j]
            total += scale * step
    pairs = sorted(angle)
    transport = torch.tensor([angle[i, j] - angle[j, i] - math.pi for i, j in pairs], dtype=torch.float64)
    return holonomy(transport, problem, torch.tensor([i * num + j for i, j in pairs]))


def solver(problem: Problem):
    try:
        import potpourri3d
    except ImportError as error:
        raise Unavailable("needs potpourri3d: pip install 'geomeq[mesh]'") from error
    pos, face = problem["pos"].double().numpy(), problem["face"].t().numpy().copy()
    return lambda: potpourri3d.MeshVectorHeatSolver(pos, face, use_intrinsic_delaunay=False)


def potpourri(problem: Problem):
    build = solver(problem)

    def run() -> Results:
        made = build()
        made.get_tangent_frames()
        laplacian = made.get_connection_laplacian().tocsr()
        laplacian.sort_indices()
        row = np.repeat(np.arange(laplacian.shape[0]), np.diff(laplacian.indptr))
        off = row != laplacian.indices
        key = torch.from_numpy((row * laplacian.shape[0] + laplacian.indices)[off].astype(np.int64))
        return {"holonomy": holonomy(torch.from_numpy(np.angle(-laplacian.data[off])), problem, key)}

    return run


def wide(problem: Problem):
    mesh, transform = Data(pos=problem["pos"], face=problem["face"]), MeshGauge(radius=problem["radius"])
    return lambda: {"pairs": torch.tensor(float(transform(mesh).num_edges))}


def wide_projected(problem: Problem):
    mesh = Data(pos=problem["pos"], face=problem["face"])
    transform = MeshGauge("projected", radius=problem["radius"])
    return lambda: {"pairs_in_space": torch.tensor(float(transform(mesh).num_edges))}


def wide_potpourri(problem: Problem):
    build = solver(problem)
    asked = np.linspace(0, len(problem["pos"]) - 1, ASKED).astype(int)

    def run() -> Results:
        made = build()
        for i in asked:
            made.compute_log_map(int(i))
            made.transport_tangent_vector(int(i), [1.0, 0.0])
        return {}

    return run


def wide_torus(around: int, across: int, radius: float) -> Problem:
    return torus(around, across) | {"radius": radius}


CASES = [
    Case(
        "mesh_gauge",
        "frames, polar coordinates and transport of one ring",
        sizes={
            "3,000 vertices": {"around": 80, "across": 38},
            "100,000 vertices": {"around": 500, "across": 200},
        },
        quick={"600 vertices": {"around": 30, "across": 20}},
        setup=torus,
        contenders={
            "geomeq": without_check,
            "geomeq, and holonomies": ours,
            "a walk around every vertex": walk,
            "potpourri3d, and holonomies": potpourri,
        },
        peer="potpourri3d, and holonomies",
        reference=lambda problem: ours(problem)(),
        claims=(
            Claim("under 3 s", "geomeq", "geomeq", times=0.0, plus=3.0),
            Claim(
                "ten times faster than the walk",
                "geomeq",
                "a walk around every vertex",
                times=0.1,
                sizes=("3,000 vertices",),
            ),
        ),
    ),
    Case(
        "mesh_gauge_wide",
        "log maps and transport of all neighbours within a radius of about three edges",
        sizes={"3,000 vertices": {"around": 80, "across": 38, "radius": 0.6}},
        quick={"600 vertices": {"around": 30, "across": 20, "radius": 0.8}},
        setup=wide_torus,
        contenders={
            "geomeq, paths": wide,
            "geomeq, projected": wide_projected,
            f"potpourri3d, {ASKED} vertices": wide_potpourri,
        },
        peer="geomeq, paths",
    ),
]
