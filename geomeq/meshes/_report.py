"""What is unusual about a mesh, counted."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch_geometric.data import Data

from ._connect import boundary_loops, characteristic, touching_vertices, vertex_parts
from ._half_edges import half_edges
from ._orient import orient
from ._read import LARGEST, degenerate, read_mesh

_FLAT = 1e-12  # an area below this part of the square of the longest side is zero


@dataclass(frozen=True)
class MeshReport:
    """Counts of everything that is unusual about a mesh, as it was given, and of what was done to it.

    Attributes:
        vertices: Number of vertices.
        faces: Number of faces.
        edges: Number of undirected edges; from here on, faces that name a vertex twice or a point that is not finite
            are left out.
        components: Parts that hang together by edges; isolated vertices left out.
        euler_characteristic: Vertices - edges + faces, isolated vertices left out.
        boundary_edges: Edges of a single triangle.
        boundary_loops: Closed curves that these form.
        nonmanifold_edges: Edges of more than two triangles.
        nonmanifold_vertices: Vertices where sheets touch that share no edge there (bow ties).
        inconsistent_edges: Edges of two triangles that disagree which side is outside.
        orientable: Whether triangles can be turned so that all agree (no Moebius strip, no Klein bottle).
        inside_out: Whether triangles agree, and some closed part encloses a negative volume.
        degenerate_faces: Faces that name a vertex twice.
        duplicate_faces: Faces whose three vertices an earlier face has, in any order.
        zero_area_faces: Further faces without an area.
        duplicate_vertices: Vertices at exactly the position of an earlier one.
        isolated_vertices: Vertices of no face.
        nonfinite_vertices: Vertices at NaN or infinity (or beyond 1e150).
        removed_faces: Faces taken away.
        removed_vertices: Vertices taken away.
        merged_vertices: Vertices merged into an earlier one.
        split_vertices: Vertices added to part sheets that touched.
        turned_faces: Faces turned over.
        flipped_edges: Flips on the way to an intrinsic Delaunay triangulation.
        mollified: Length added to every edge.
    """

    vertices: int
    faces: int
    edges: int = 0
    components: int = 0
    euler_characteristic: int = 0
    boundary_edges: int = 0
    boundary_loops: int = 0
    nonmanifold_edges: int = 0
    nonmanifold_vertices: int = 0
    inconsistent_edges: int = 0
    orientable: bool = True
    inside_out: bool = False
    degenerate_faces: int = 0
    duplicate_faces: int = 0
    zero_area_faces: int = 0
    duplicate_vertices: int = 0
    isolated_vertices: int = 0
    nonfinite_vertices: int = 0
    removed_faces: int = 0
    removed_vertices: int = 0
    merged_vertices: int = 0
    split_vertices: int = 0
    turned_faces: int = 0
    flipped_edges: int = 0
    mollified: float = 0.0

    @property
    def problems(self) -> list[str]:
        """What needs repair before areas, frames and transport mean anything, in words."""
        found = [_words(getattr(self, name), one, many) for name, one, many in _PROBLEMS if getattr(self, name)]
        if not self.orientable:
            found.append("one-sided (no orientation exists)")
        if self.inside_out:
            found.append("inside out (encloses a negative volume)")
        return found

    @property
    def notes(self) -> list[str]:
        """What is unusual but harmless, and what was done, in words."""
        found = [_words(getattr(self, name), one, many) for name, one, many in _NOTES if getattr(self, name)]
        if self.components > 1:
            found.append(f"{self.components} components")
        if self.mollified:
            found.append(f"every edge lengthened by {self.mollified:.3g}")
        return found

    @property
    def ok(self) -> bool:
        """Whether nothing needs repair. Boundaries, several components and isolated vertices are fine."""
        return not self.problems

    @property
    def closed(self) -> bool:
        """Whether every edge has two triangles."""
        return self.faces > 0 and self.boundary_edges == 0 and self.nonmanifold_edges == 0

    def __str__(self) -> str:
        head = (
            f"mesh: {self.vertices} vertices, {self.edges} edges, {self.faces} faces, "
            f"Euler characteristic {self.euler_characteristic}"
        )
        lines = [f"  problem: {text}" for text in self.problems] + [f"  note: {text}" for text in self.notes]
        return "\n".join([head, *(lines or ["  nothing unusual"])])

    def __repr__(self) -> str:
        shown = [f for f in fields(self) if f.name in ("vertices", "faces") or getattr(self, f.name) != f.default]
        return f"MeshReport({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in shown)})"


_PROBLEMS = (
    ("nonfinite_vertices", "vertex that is not finite", "vertices that are not finite"),
    ("degenerate_faces", "face that names a vertex twice", "faces that name a vertex twice"),
    ("duplicate_faces", "face that repeats an earlier one", "faces that repeat earlier ones"),
    ("zero_area_faces", "face without an area", "faces without an area"),
    ("nonmanifold_edges", "edge of more than two triangles", "edges of more than two triangles"),
    ("nonmanifold_vertices", "vertex where sheets only touch", "vertices where sheets only touch"),
    (
        "inconsistent_edges",
        "edge whose triangles face opposite ways",
        "edges whose triangles face opposite ways",
    ),
)
_NOTES = (
    ("boundary_edges", "boundary edge", "boundary edges"),
    ("boundary_loops", "boundary loop", "boundary loops"),
    ("duplicate_vertices", "vertex at the place of an earlier one", "vertices at the place of earlier ones"),
    ("isolated_vertices", "vertex of no face", "vertices of no face"),
    ("removed_faces", "face removed", "faces removed"),
    ("removed_vertices", "vertex removed", "vertices removed"),
    ("merged_vertices", "vertex merged", "vertices merged"),
    ("split_vertices", "vertex split off", "vertices split off"),
    ("turned_faces", "face turned over", "faces turned over"),
    ("flipped_edges", "edge flipped", "edges flipped"),
)


def inspect(data: Data) -> MeshReport:
    """Counts everything that is unusual about a mesh; takes any faces and positions, NaN included.

    Args:
        data: Holds ``pos`` ``[N, 3]`` and ``face`` ``[3, F]``.

    Returns:
        The report; ``print`` it, or ask ``.ok``, ``.problems`` and its counts.

    Raises:
        TypeError: If ``data`` is no ``Data``, or a dtype is wrong.
        ValueError: If an attribute is missing or misshapen, or a vertex is out of range.

    Example:
        >>> pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> print(inspect(Data(pos=pos, face=torch.tensor([[0, 0], [1, 1], [2, 1]]))))
        mesh: 4 vertices, 3 edges, 2 faces, Euler characteristic 1
          problem: 1 face that names a vertex twice
          note: 3 boundary edges
          note: 1 boundary loop
          note: 1 vertex of no face
    """
    pos, face = read_mesh(data)
    pos = pos.detach().double()
    bad = ~(pos.abs() < LARGEST).all(dim=1)  # NaN fails the comparison too
    twice = degenerate(face)
    kept = face[:, ~twice & ~bad[face].any(dim=0)]
    he = half_edges(kept, pos.size(0))
    part = vertex_parts(he)[kept[0]]
    isolated = torch.ones_like(bad)
    isolated[face.flatten()] = False
    repeated = repeated_faces(kept)
    safe = pos.masked_fill(bad[:, None], 0.0)
    oriented, orientable = orient(kept[:, ~repeated], safe)
    agree = not bool(he.inconsistent_edge.any())
    return MeshReport(
        vertices=pos.size(0),
        faces=face.size(1),
        edges=he.num_edges,
        components=torch.unique(part).numel(),
        euler_characteristic=characteristic(he),
        boundary_edges=int(he.boundary_edge.sum()),
        boundary_loops=boundary_loops(he),
        nonmanifold_edges=int(he.nonmanifold_edge.sum()),
        nonmanifold_vertices=int(touching_vertices(he).sum()),
        inconsistent_edges=int(he.inconsistent_edge.sum()),
        orientable=orientable,
        inside_out=agree and orientable and not torch.equal(oriented, kept[:, ~repeated]),
        degenerate_faces=int(twice.sum()),
        duplicate_faces=int(repeated.sum()),
        zero_area_faces=int(flat_faces(safe, kept).sum()),
        duplicate_vertices=int(repeated_points(pos[~bad]).sum()),
        isolated_vertices=int(isolated.sum()),
        nonfinite_vertices=int(bad.sum()),
    )


def flat_faces(pos: Tensor, face: Tensor) -> Tensor:
    """Which triangles have no area next to their longest side, bool ``[F]``."""
    a, b, c = pos[face]
    u, v = b - a, c - a
    longest = torch.stack([x.square().sum(dim=1) for x in (u, v, c - b)]).amax(dim=0)
    return torch.linalg.cross(u, v).norm(dim=1) / 2 <= _FLAT * longest


def repeated_points(pos: Tensor) -> Tensor:
    """Which points lie exactly where an earlier one does, bool ``[N]``."""
    return first_points(pos) != torch.arange(len(pos), device=pos.device)


def first_points(pos: Tensor) -> Tensor:
    """Number of the first point at the same position, ``[N]``."""
    return _first_equal([column + 0.0 for column in pos.t()])  # -0.0 becomes 0.0


def repeated_faces(face: Tensor) -> Tensor:
    """Which faces have the three vertices of an earlier one, bool ``[F]``."""
    first = _first_equal(list(face.sort(dim=0).values))
    return first != torch.arange(face.size(1), device=face.device)


def _first_equal(columns: list[Tensor]) -> Tensor:
    """For each row the first row equal to it."""
    order = torch.arange(columns[0].numel(), device=columns[0].device)
    if order.numel() == 0:
        return order
    for column in reversed(columns):
        order = order[torch.sort(column[order], stable=True).indices]
    new = torch.ones_like(order, dtype=torch.bool)
    new[1:] = torch.stack([c[order][1:] != c[order][:-1] for c in columns]).any(dim=0)
    first = torch.empty_like(order)
    first[order] = order[new][new.cumsum(0) - 1]  # stable sorts: the lowest number leads its group
    return first


def _words(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
