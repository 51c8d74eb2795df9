"""``geomeq.neighbors`` against scipy's trees, ASE, and the compiled lists of matscipy and vesin.

Every list holds both directions of each pair. Ours is decided in float64, sorted by target and source, and has torch
tensors at both ends; the peers return what they return, sorted or not. Run it with ``--threads 1`` (the searches
use one core anyway; ours sorts and compares with torch). matscipy and vesin: ``pip install matscipy vesin``.
"""

import math

import numpy as np
import torch
from harness import Case, Claim, Problem, Results, Unavailable
from scipy.spatial import cKDTree

from geomeq.neighbors import farthest_points, knn_edges, periodic_radius_edges, radius_edges

SAMPLE = 500  # targets compared with the definition


def random_points(points: int, neighbors: int) -> Problem:
    """Uniform points in a cube in which each has that many neighbours within 5 (ASE's bins expect Angstrom)."""
    rng = torch.Generator().manual_seed(0)
    cutoff = 5.0
    edge = cutoff * (points * 4 / 3 * math.pi / neighbors) ** (1 / 3)
    return {"pos": edge * torch.rand(points, 3, generator=rng, dtype=torch.float64), "cutoff": cutoff, "k": neighbors}


def random_crystal(points: int, neighbors: int) -> Problem:
    """Uniform points in a skewed cell of the same volume."""
    problem = random_points(points, neighbors)
    skew = torch.tensor([[1.0, 0, 0], [0.4, 1.0, 0], [-0.3, 0.2, 1.0]], dtype=torch.float64)
    edge = problem["cutoff"] * (points * 4 / 3 * math.pi / neighbors) ** (1 / 3)
    return {**problem, "pos": problem["pos"] @ skew, "cell": edge * skew}


def copper(repeats: tuple[int, int, int], cutoff: float, vacuum: float = 0.0) -> Problem:
    """Face-centred cubic copper, each atom moved a little; with vacuum, a slab that repeats in two directions."""
    rng = torch.Generator().manual_seed(0)
    cells = torch.cartesian_prod(*[torch.arange(n, dtype=torch.float64) for n in repeats])
    basis = torch.tensor([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], dtype=torch.float64)
    pos = 3.61 * (cells[:, None] + basis).reshape(-1, 3)
    pos += 0.05 * torch.randn(pos.shape, generator=rng, dtype=torch.float64)
    cell = 3.61 * torch.diag(torch.tensor(repeats, dtype=torch.float64))
    cell[2, 2] += vacuum
    return {"pos": pos, "cell": cell, "cutoff": cutoff, "pbc": (True, True, vacuum == 0)}


def random_molecules(molecules: int, atoms: int) -> Problem:
    """A batch of small clouds."""
    rng = torch.Generator().manual_seed(0)
    pos = torch.randn(molecules * atoms, 3, generator=rng, dtype=torch.float64)
    return {"pos": pos, "batch": torch.arange(molecules).repeat_interleave(atoms), "cutoff": 2.0, "k": 4}


def first_targets(edge_index: torch.Tensor) -> Results:
    """The edges of the first targets, which the definition can check in reasonable time."""
    return {"edges": edge_index[:, : int(torch.searchsorted(edge_index[1].contiguous(), SAMPLE))]}


def sample_distances(problem: Problem) -> torch.Tensor:
    pos = problem["pos"]
    distance = (pos[:SAMPLE, None] - pos[None]).norm(dim=-1)
    distance[torch.arange(distance.size(0)), torch.arange(distance.size(0))] = torch.inf
    if "batch" in problem:
        distance[problem["batch"][:SAMPLE, None] != problem["batch"][None]] = torch.inf
    return distance


def radius_by_definition(problem: Problem) -> Results:
    return {"edges": (sample_distances(problem) <= problem["cutoff"]).nonzero().flip(1).T}


def knn_by_definition(problem: Problem) -> Results:
    nearest = sample_distances(problem).topk(problem["k"], largest=False).indices.sort(dim=1).values
    targets = torch.arange(nearest.size(0)).repeat_interleave(problem["k"])
    return {"edges": torch.stack([nearest.flatten(), targets])}


def ours_radius(problem: Problem):
    return lambda: first_targets(radius_edges(problem["pos"], problem["cutoff"], problem.get("batch")))


def ours_knn(problem: Problem):
    return lambda: first_targets(knn_edges(problem["pos"], problem["k"], problem.get("batch")))


def ours_periodic(problem: Problem):
    given = (problem["pos"], problem["cutoff"], problem["cell"], problem.get("pbc", True))
    return lambda: first_targets(periodic_radius_edges(*given)[0])


def periodic_by_definition(problem: Problem) -> Results:
    """All images that the cutoff may reach from inside of the cell."""
    pos, cell = problem["pos"], problem["cell"]
    reach = (problem["cutoff"] * torch.linalg.inv(cell).norm(dim=0)).ceil() + 1
    reach[~torch.tensor(problem.get("pbc", (True,) * 3))] = 0
    steps = torch.cartesian_prod(*[torch.arange(-r, r + 1, dtype=torch.float64) for r in reach.tolist()])
    found = []
    for step in steps:
        near = (pos[None] - pos[:SAMPLE, None] + step @ cell).norm(dim=-1) <= problem["cutoff"]
        if not step.any():
            near.fill_diagonal_(False)
        found.append(near.nonzero())
    pairs = torch.cat(found)
    return {"edges": pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].flip(1).T}


def scipy_pairs(problem: Problem):
    """The bare search: each pair once, unsorted."""
    pos = problem["pos"].numpy()
    return lambda: {"pairs": torch.from_numpy(cKDTree(pos).query_pairs(problem["cutoff"], output_type="ndarray"))}


def scipy_lists(problem: Problem):
    """A list of neighbours per point, then the edges of those lists."""
    pos = problem["pos"].numpy()

    def run() -> Results:
        lists = cKDTree(pos).query_ball_point(pos, problem["cutoff"], return_sorted=True)
        target = np.repeat(np.arange(len(pos)), [len(row) for row in lists])
        edges = np.stack([np.concatenate(lists), target])
        return first_targets(torch.from_numpy(edges[:, edges[0] != edges[1]]))

    return run


def scipy_knn(problem: Problem):
    """The bare search, itself included, nearest first, ties at random."""
    pos = problem["pos"].numpy()
    return lambda: {"indices": torch.from_numpy(cKDTree(pos).query(pos, problem["k"] + 1)[1])}


def per_molecule(problem: Problem):
    """What a transform does that sees one molecule at a time."""
    parts = problem["pos"].split(torch.bincount(problem["batch"]).tolist())

    def run() -> Results:
        start, edges = 0, []
        for part in parts:
            edges.append(radius_edges(part, problem["cutoff"]) + start)
            start += part.size(0)
        return first_targets(torch.cat(edges, dim=1))

    return run


def ase_list(problem: Problem):
    from ase import Atoms
    from ase.neighborlist import neighbor_list

    if len(problem["pos"]) > 20_000:
        raise Unavailable("one call takes about 20 s at this size; compare at 10,000 points")
    pos, cell = problem["pos"].numpy(), problem["cell"].numpy()
    atoms = Atoms(numbers=np.ones(len(pos), int), positions=pos, cell=cell, pbc=problem.get("pbc", True))
    return lambda: {"i": torch.from_numpy(neighbor_list("ijS", atoms, problem["cutoff"])[0])}


def matscipy_list(problem: Problem):
    from matscipy.neighbours import neighbour_list

    pos, cell, pbc = problem["pos"].numpy(), problem["cell"].numpy(), np.array(problem.get("pbc", (True,) * 3))

    def run() -> Results:
        i, *_ = neighbour_list("ijS", cutoff=problem["cutoff"], positions=pos, cell=cell, pbc=pbc)
        return {"i": torch.from_numpy(i)}

    return run


def vesin_list(ordered: bool):
    def prepare(problem: Problem):
        from vesin import NeighborList

        calculator = NeighborList(cutoff=problem["cutoff"], full_list=True, sorted=ordered)
        cell = problem["cell"].numpy() if "cell" in problem else np.eye(3)
        pos, pbc = problem["pos"].numpy(), problem.get("pbc", ("cell" in problem,) * 3)

        def run() -> Results:
            i, *_ = calculator.compute(pos, box=cell, periodic=list(pbc), quantities="ijS", copy=True)
            return {"i": torch.from_numpy(i.astype(np.int64))}

        return run

    return prepare


def farthest_numpy(problem: Problem):
    """The greedy rule in numpy."""
    pos = problem["pos"].numpy()

    def run() -> Results:
        chosen, nearest = [0], np.full(len(pos), np.inf)
        for _ in range(len(pos) // 10 - 1):
            nearest = np.minimum(nearest, ((pos - pos[chosen[-1]]) ** 2).sum(1))
            chosen.append(int(nearest.argmax()))
        return {"chosen": torch.tensor(chosen)}

    return run


SIZES = {
    "10,000 points, 30 neighbours": {"points": 10_000, "neighbors": 30},
    "100,000 points, 30 neighbours": {"points": 100_000, "neighbors": 30},
}
TINY = {"1,000 points, 10 neighbours": {"points": 1000, "neighbors": 10}}
CRYSTALS = {
    "copper, 4 atoms, 6 A": {"repeats": (1, 1, 1), "cutoff": 6.0},
    "copper slab, 100 atoms, 6 A": {"repeats": (5, 5, 1), "cutoff": 6.0, "vacuum": 12.0},
    "copper, 500 atoms, 6 A": {"repeats": (5, 5, 5), "cutoff": 6.0},
    "copper, 4,000 atoms, 6 A": {"repeats": (10, 10, 10), "cutoff": 6.0},
}
LARGEST = ("100,000 points, 30 neighbours",)

CASES = [
    Case(
        "radius_edges",
        "all pairs within a cutoff, both directions, sorted",
        sizes=SIZES,
        quick=TINY,
        setup=random_points,
        contenders={
            "geomeq radius_edges": ours_radius,
            "scipy query_pairs, half and unsorted": scipy_pairs,
            "scipy query_ball_point": scipy_lists,
            "vesin": vesin_list(ordered=False),
            "vesin, sorted": vesin_list(ordered=True),
        },
        peer="scipy query_ball_point",
        reference=radius_by_definition,
        claims=(
            Claim("under 1.5 s", "geomeq radius_edges", "scipy query_ball_point", times=0.0, plus=1.5, sizes=LARGEST),
        ),
    ),
    Case(
        "knn_edges",
        "the k nearest of each point, ties kept, sorted",
        sizes={"100,000 points, k = 16": {"points": 100_000, "neighbors": 16}},
        quick=TINY,
        setup=random_points,
        contenders={"geomeq knn_edges": ours_knn, "scipy query, itself included": scipy_knn},
        peer="scipy query, itself included",
        reference=knn_by_definition,
    ),
    Case(
        "periodic_radius_edges",
        "all pairs and images within a cutoff in a skewed cell, with integer shifts",
        sizes=SIZES,
        quick=TINY,
        setup=random_crystal,
        contenders={
            "geomeq periodic_radius_edges": ours_periodic,
            "ASE neighbor_list": ase_list,
            "matscipy neighbour_list": matscipy_list,
            "vesin": vesin_list(ordered=False),
            "vesin, sorted": vesin_list(ordered=True),
        },
        peer="ASE neighbor_list",
        reference=periodic_by_definition,
    ),
    Case(
        "periodic_crystals",
        "the same for metals as one simulates them: many neighbours, small cells, slabs",
        sizes=CRYSTALS,
        quick={"copper, 4 atoms, 3 A": {"repeats": (1, 1, 1), "cutoff": 3.0}},
        setup=copper,
        contenders={
            "geomeq periodic_radius_edges": ours_periodic,
            "ASE neighbor_list": ase_list,
            "matscipy neighbour_list": matscipy_list,
            "vesin": vesin_list(ordered=False),
            "vesin, sorted": vesin_list(ordered=True),
        },
        peer="ASE neighbor_list",
        reference=periodic_by_definition,
        claims=(Claim("no slower than ASE", "geomeq periodic_radius_edges", "ASE neighbor_list"),),
    ),
    Case(
        "radius_edges_batch",
        "a batch of small molecules in one call",
        sizes={"5,000 molecules of 18 atoms": {"molecules": 5000, "atoms": 18}},
        quick={"20 molecules of 18 atoms": {"molecules": 20, "atoms": 18}},
        setup=random_molecules,
        contenders={"geomeq, one call": ours_radius, "geomeq, molecule by molecule": per_molecule},
        peer="geomeq, molecule by molecule",
        reference=radius_by_definition,
    ),
    Case(
        "farthest_points",
        "a tenth of the points, farthest first",
        sizes={"10,000 points": {"points": 10_000, "neighbors": 1}},
        quick=TINY,
        setup=random_points,
        contenders={
            "geomeq farthest_points": lambda p: lambda: {"chosen": farthest_points(p["pos"], len(p["pos"]) // 10)},
            "numpy": farthest_numpy,
        },
        peer="numpy",
        reference=lambda p: farthest_numpy(p)(),
    ),
]
