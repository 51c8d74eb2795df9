"""Neighbours by the definition: all pairs, all images, one norm."""

import itertools

import torch


def _distances(pos, query):
    return (query.double()[:, None] - pos.double()[None]).norm(dim=-1)  # [targets, sources]


def _same_graph(batch, query_batch, shape):
    if batch is None:
        return torch.ones(shape, dtype=torch.bool)
    return query_batch[:, None] == batch[None]


def radius(pos, cutoff, batch=None, query=None, query_batch=None, loop=False, rtol=1e-9):
    own = query is None
    query, query_batch = (pos, batch) if own else (query, query_batch)
    distance = _distances(pos, query)
    near = (distance <= cutoff * (1 + rtol)) & _same_graph(batch, query_batch, distance.shape)
    if own:
        near.fill_diagonal_(False)
        if loop:
            near.fill_diagonal_(True)
    return near.nonzero().flip(1).T


def knn(pos, k, batch=None, query=None, query_batch=None, ties="keep", loop=False, rtol=1e-9):
    own = query is None
    query, query_batch = (pos, batch) if own else (query, query_batch)
    distance = _distances(pos, query)
    allowed = _same_graph(batch, query_batch, distance.shape)
    if own and not loop:
        allowed.fill_diagonal_(False)
    edges = []
    for i in range(query.size(0)):
        sources = allowed[i].nonzero().flatten().tolist()
        d = {j: float(distance[i, j]) for j in sources}
        if not sources:
            continue
        kth = sorted(d.values())[min(k, len(d)) - 1]
        clear = [j for j in sources if d[j] * (1 + rtol) < kth]
        tied = [j for j in sources if j not in clear and d[j] <= kth * (1 + rtol)]
        chosen = clear + (tied if ties == "keep" else tied[: k - len(clear)])
        edges += [(j, i) for j in sorted(chosen)]
    return torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T


def periodic(pos, cutoff, cell, pbc, images):
    """All pairs with all images up to ``images`` cells away, as sorted tuples (i, j, shift)."""
    ranges = [range(-images, images + 1) if p else (0,) for p in pbc]
    found = []
    for shift in itertools.product(*ranges):
        move = torch.tensor(shift, dtype=torch.float64) @ cell
        distance = (pos[None] - pos[:, None] + move).norm(dim=-1)
        for i, j in (distance <= cutoff * (1 + 1e-9)).nonzero().tolist():
            if i != j or any(shift):
                found.append((i, j, *shift))
    return sorted(found)
