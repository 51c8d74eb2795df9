"""Quantities of a mesh written from their definition, with loops."""


def brute_half_edges(face):
    """Dictionaries: directed edge -> half-edges, undirected edge -> half-edges."""
    directed, undirected = {}, {}
    for f, corners in enumerate(face.t().tolist()):
        for c in range(3):
            i, j = corners[c], corners[(c + 1) % 3]
            directed.setdefault((i, j), []).append(3 * f + c)
            undirected.setdefault((min(i, j), max(i, j)), []).append(3 * f + c)
    return directed, undirected


def brute_twins(face):
    directed, undirected = brute_half_edges(face)
    twin = [-1] * (3 * face.size(1))
    for (i, j), sides in undirected.items():
        if len(sides) == 2 and len(directed.get((i, j), [])) == 1:
            twin[sides[0]], twin[sides[1]] = sides[1], sides[0]
    return twin
