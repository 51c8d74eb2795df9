"""Quantities of a mesh written from their definition, with loops."""

import math


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


def parts(nodes, links):
    """Connected parts by repeated relabelling."""
    label = {n: n for n in nodes}
    changed = True
    while changed:
        changed = False
        for a, b in links:
            low = min(label[a], label[b])
            if label[a] != low or label[b] != low:
                label[a] = label[b] = low
                changed = True
    return label


def brute_report(points, corners):
    """Counts of a mesh given as lists of points and of corners."""
    finite = [all(math.isfinite(x) for x in p) for p in points]
    twice = [len(set(f)) < 3 for f in corners]
    kept = [f for f, bad in zip(corners, twice, strict=True) if not bad and all(finite[v] for v in f)]
    edges = {}
    for number, f in enumerate(kept):
        for c in range(3):
            i, j = f[c], f[(c + 1) % 3]
            edges.setdefault((min(i, j), max(i, j)), []).append((number, i < j))
    used = {v for f in kept for v in f}
    linked = parts(used, edges)
    bows = 0
    for v in used:
        around = [n for n, f in enumerate(kept) if v in f]
        links = [(x[0], y[0]) for e, s in edges.items() if v in e for x in s for y in s]
        bows += len(set(parts(around, links).values())) > 1
    seen, repeated = set(), 0
    for f in kept:
        repeated += tuple(sorted(f)) in seen
        seen.add(tuple(sorted(f)))
    good = [tuple(x + 0.0 for x in p) for p, ok in zip(points, finite, strict=True) if ok]
    return {
        "vertices": len(points),
        "faces": len(corners),
        "edges": len(edges),
        "components": len(set(linked.values())),
        "euler_characteristic": len(used) - len(edges) + len(kept),
        "boundary_edges": sum(len(s) == 1 for s in edges.values()),
        "nonmanifold_edges": sum(len(s) > 2 for s in edges.values()),
        "nonmanifold_vertices": bows,
        "inconsistent_edges": sum(len(s) == 2 and s[0][1] == s[1][1] for s in edges.values()),
        "degenerate_faces": sum(twice),
        "duplicate_faces": repeated,
        "zero_area_faces": sum(_flat(*(points[v] for v in f)) for f in kept),
        "duplicate_vertices": len(good) - len(set(good)),
        "isolated_vertices": len(points) - len({v for f in corners for v in f}),
        "nonfinite_vertices": finite.count(False),
    }


def _flat(a, b, c):
    u, v = [x - y for x, y in zip(b, a, strict=True)], [x - y for x, y in zip(c, a, strict=True)]
    return u[1] * v[2] == u[2] * v[1] and u[2] * v[0] == u[0] * v[2] and u[0] * v[1] == u[1] * v[0]
