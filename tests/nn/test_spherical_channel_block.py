"""Spherical channel block: equal to its formulas, its symmetries and where they end, both paths, bad input."""

import pytest
import torch
from torch import Tensor

from geomeq.harmonics import edge_wigner, wigner_blocks
from geomeq.nn import SphericalChannelBlock
from tests.nn._plain_scn import plain_block

F64 = torch.float64


def graph(nodes: int = 5, dtype: torch.dtype = F64, seed: int = 0, spread: float = 2.0):
    """Every pair connected: positions, edge_index sorted by target, vectors, elements."""
    rng = torch.Generator().manual_seed(seed)
    pos = (torch.randn(nodes, 3, generator=rng, dtype=F64) * spread).to(dtype)
    target, source = torch.meshgrid(torch.arange(nodes), torch.arange(nodes), indexing="ij")
    edge_index = torch.stack([source, target])[:, source != target]
    z = torch.randint(1, 10, (nodes,), generator=rng)
    return pos, z, edge_index


def vectors(pos: Tensor, edge_index: Tensor) -> Tensor:
    return pos[edge_index[0]] - pos[edge_index[1]]


def build(dtype: torch.dtype = F64, seed: int = 0, **options) -> SphericalChannelBlock:
    torch.manual_seed(seed)
    settings = {"channels": 3, "lmax": 3, "hidden_channels": 8, "num_basis": 10, "edge_channels": 7, "cutoff": 9.0}
    return SphericalChannelBlock(**(settings | options)).to(dtype)


VARIANTS = {
    "m0": {"mmax": 0},
    "one tap": {"taps": 1},
    "four taps": {"taps": 4},
    "m2": {"mmax": 2, "average_degree": 3.0},
    "m2, one tap": {"mmax": 2, "taps": 1},
    "m3": {"mmax": 3, "envelope": None},
    "bands": {"bands": 2},
    "many bands": {"bands": 4},
    "two resolutions": {"num_resolutions": 2, "near": 2, "lmax": 5, "bands": 2},
    "reduced": {"reduced_channels": 2},
    "no grid": {"grid": False},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_formulas(variant):
    pos, z, edge_index = graph(4)
    x = torch.randn(4, (VARIANTS[variant].get("lmax", 3) + 1) ** 2, 3, dtype=F64)
    want = plain_block(build(**VARIANTS[variant]), x, z, edge_index, vectors(pos, edge_index))
    for dtype, tol in ((torch.float32, 1e-5), (F64, 1e-10)):
        for path in ("nodes", "edges"):
            block = build(dtype, path=path, **VARIANTS[variant])
            got = block(x.to(dtype), z, edge_index, vectors(pos, edge_index).to(dtype))
            assert (got.double() - want).abs().max() < tol * want.abs().max(), (dtype, path)


def test_the_comparison_sees_a_wrong_roll():
    pos, z, edge_index = graph(4)
    x, block, vec = torch.randn(4, 16, 3, dtype=F64), build(taps=1), vectors(pos, edge_index)
    angles = torch.rand(edge_index.size(1), dtype=F64)
    got, want = block(x, z, edge_index, vec), plain_block(block, x, z, edge_index, vec, angles)
    assert (got - want).abs().max() > 1e-3 * want.abs().max()


def test_random_rolls_are_those_of_the_generator():
    pos, z, edge_index = graph(4)
    x, vec = torch.randn(4, 16, 3, dtype=F64), vectors(pos, edge_index)
    block = build(taps=1, roll="random")
    got = block(x, z, edge_index, vec, generator=torch.Generator().manual_seed(3))
    drawn = torch.rand(edge_index.size(1), generator=torch.Generator().manual_seed(3), dtype=F64)
    want = plain_block(block, x, z, edge_index, vec, 2 * torch.pi * drawn)
    assert (got - want).abs().max() < 1e-10 * want.abs().max()
    other = block(x, z, edge_index, vec, generator=torch.Generator().manual_seed(4))
    assert (got - other).abs().max() > 1e-3 * want.abs().max()
    with pytest.raises(ValueError, match=r"generator=torch.Generator"):
        block(x, z, edge_index, vec)
    block.eval()
    torch.testing.assert_close(block(x, z, edge_index, vec), build(taps=1)(x, z, edge_index, vec), rtol=0, atol=0)


def rotation(seed: int = 0) -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=F64, generator=torch.Generator().manual_seed(seed)))
    return q * torch.linalg.det(q)


def turned(x: Tensor, by: Tensor, lmax: int) -> Tensor:
    return torch.block_diag(*(b[0] for b in wigner_blocks(by[None], lmax))).to(x) @ x


def error_of_rotation(dtype: torch.dtype = F64, **options) -> float:
    block = build(dtype, **options)
    pos, z, edge_index = graph(6, dtype)
    x = torch.randn(6, (block.lmax + 1) ** 2, 3, dtype=dtype)
    by = rotation()
    vec = vectors(pos, edge_index)
    before = turned(block(x, z, edge_index, vec), by, block.lmax)
    after = block(turned(x, by, block.lmax), z, edge_index, vec @ by.T.to(dtype))
    return float(((before - after).abs().max() / before.abs().max()).detach())


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (F64, 1e-12)])
def test_messages_of_order_zero_are_equivariant(dtype, tol):
    assert error_of_rotation(dtype, mmax=0, grid=False) < tol
    assert error_of_rotation(dtype, mmax=0, grid=True) < 0.15  # what SiLU makes beyond the reach of the grid
    assert error_of_rotation(dtype, mmax=1, taps=1, grid=False) > 1e-3


def roll_dependence(**options) -> float:
    """Relative change of the result when every frame is turned by an angle of its own."""
    block = build(roll="random", **options)
    pos, z, edge_index = graph(6)
    x = torch.randn(6, 16, 3, dtype=F64)
    runs = [
        block(x, z, edge_index, vectors(pos, edge_index), generator=torch.Generator().manual_seed(s)) for s in (0, 1)
    ]
    return float(((runs[0] - runs[1]).norm() / runs[0].norm()).detach())


def test_four_taps_hide_the_roll_and_order_zero_has_none():
    zero, four, one = (roll_dependence(grid=False, **o) for o in ({"mmax": 0}, {"taps": 4}, {"taps": 1}))
    assert zero < 1e-12
    assert four < one / 20
    assert one > 1e-3


def test_a_fixed_roll_gives_the_same_bits():
    block = build(torch.float32)
    pos, z, edge_index = graph(6, torch.float32)
    x = torch.randn(6, 16, 3)
    first, again = (block(x, z, edge_index, vectors(pos, edge_index)) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("taps", [1, 4])
def test_derivatives_by_features_and_positions(taps):
    """Frames are part of the gradient; at second order too, as a loss on forces needs."""
    pos, z, edge_index = graph(4)
    x = torch.randn(4, 9, 2, dtype=F64).requires_grad_()
    for path in ("nodes", "edges"):
        block = build(channels=2, lmax=2, taps=taps, hidden_channels=3, edge_channels=3, path=path)
        run = lambda p, x, b=block: b(x, z, edge_index, vectors(p, edge_index))  # noqa: E731
        assert torch.autograd.gradcheck(run, (pos.clone().requires_grad_(), x), fast_mode=True)
        assert torch.autograd.gradgradcheck(run, (pos.clone().requires_grad_(), x), fast_mode=True)


@pytest.mark.parametrize("axis", [(0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (1e-9, 1.0, -1e-9)])
def test_edges_along_the_pole_have_finite_gradients(axis):
    block = build(taps=1)
    vec = torch.tensor([axis, [-a for a in axis]], dtype=F64).requires_grad_()
    out = block(torch.randn(2, 16, 3, dtype=F64), torch.tensor([6, 8]), torch.tensor([[1, 0], [0, 1]]), vec)
    (grad,) = torch.autograd.grad(out.square().sum(), vec)
    assert torch.isfinite(grad).all()
    assert grad.abs().max() < 1e3 * out.abs().max()


@pytest.mark.parametrize("resolutions", [1, 2])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-6), (F64, 1e-13)])
def test_chunks_change_nothing(resolutions, dtype, tol):
    pos, z, edge_index = graph(6, dtype)
    x = torch.randn(6, 16, 3, dtype=dtype).requires_grad_()
    results = []
    for size in (None, 7):
        block = build(dtype, num_resolutions=resolutions, near=3, chunk_size=size)
        out = block(x, z, edge_index, vectors(pos, edge_index))
        grads = torch.autograd.grad(out.square().sum(), [x, *block.parameters()])
        results.append([out, *grads])
    for whole, pieces in zip(*results, strict=True):
        assert (whole - pieces).abs().max() <= 20 * tol * whole.abs().max() + 1e-30


def test_resolutions_send_the_nearest_edges_through_the_larger_network():
    """With the smaller network silenced, a node hears its two nearest neighbours only."""
    pos, z, edge_index = graph(5)
    x, vec = torch.randn(5, 16, 3, dtype=F64), vectors(pos, edge_index)
    block = build(num_resolutions=2, near=2, grid=False, envelope=None)
    assert block.messages[1].hidden == block.messages[0].hidden // 4
    with torch.no_grad():
        block.messages[1].weight_out.zero_()
        block.messages[1].bias_out.zero_()
    whole = block(x, z, edge_index, vec)
    own = (edge_index[1] == 0).nonzero().flatten()
    near = own[vec[own].norm(dim=1).argsort()[:2]].sort().values
    alone = block(x, z, edge_index[:, near], vec[near])
    torch.testing.assert_close(whole[0], alone[0])


def test_permutation_no_edges_one_node_and_stored_frames():
    block = build()
    pos, z, edge_index = graph(5)
    x = torch.randn(5, 16, 3, dtype=F64)
    vec = vectors(pos, edge_index)
    out = block(x, z, edge_index, vec)
    order = torch.randperm(5)
    back = order.argsort()
    moved = back[edge_index]
    sort = (moved[1] * 5 + moved[0]).argsort()
    permuted = block(x[order], z[order], moved[:, sort], vec[sort])
    torch.testing.assert_close(permuted, out[order])
    none = torch.empty(2, 0, dtype=torch.long)
    for nodes in (0, 1, 3):
        for path in ("auto", "nodes", "edges"):
            lonely = build(path=path)
            lonely.load_state_dict(block.state_dict())
            alone = lonely(x[:nodes], z[:nodes], none, vec[:0])
            assert alone.shape == (nodes, 16, 3)
            torch.testing.assert_close(alone, block.aggregate(x[:nodes], torch.zeros_like(x[:nodes])))
    stored = block.geometry(edge_index, vec, 5, wigner=edge_wigner(vec, 3, 1))
    torch.testing.assert_close(block(x, z, edge_index, geometry=stored), out, rtol=0, atol=0)


@pytest.mark.parametrize("path", [pytest.param("nodes", marks=pytest.mark.slow), "edges"])
def test_compiles(path, compiled):
    block = build(torch.float32, path=path)
    pos, z, edge_index = graph(4, torch.float32)
    x = torch.randn(4, 16, 3)
    shared = block.geometry(edge_index, vectors(pos, edge_index), 4)
    fast = compiled(lambda x: block(x, z, edge_index, geometry=shared), backend="eager")
    torch.testing.assert_close(fast(x), block(x, z, edge_index, geometry=shared))


BAD = {
    "taps": ({"taps": 3}, "taps must be one of"),
    "mmax": ({"mmax": 4}, "mmax must lie between 0 and lmax=3"),
    "roll": ({"roll": "any"}, "roll must be one of"),
    "path": ({"path": "all"}, "path must be one of"),
    "bands": ({"bands": 5}, "bands must lie between"),
    "resolutions": ({"num_resolutions": 3}, "num_resolutions must be one of"),
    "channels": ({"channels": 0}, "channels must be at least 1"),
    "basis": ({"num_basis": 0}, "num_basis must be at least 1"),
    "reduced": ({"reduced_channels": 0}, "reduced_channels must be at least 1"),
    "cutoff": ({"cutoff": 0.0}, "must be positive"),
    "chunks": ({"chunk_size": 0}, "chunk_size must be at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings(case):
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_bad_input():
    block = build()
    pos, z, edge_index = graph(4)
    x, vec = torch.randn(4, 16, 3, dtype=F64), vectors(pos, edge_index)
    with pytest.raises(ValueError, match=r"x must have shape \[N, 16, 3\]"):
        block(x[:, :9], z, edge_index, vec)
    with pytest.raises(ValueError, match="edge_vec"):
        block(x, z, edge_index)
    with pytest.raises(ValueError, match="sorted by target"):
        block(x, z, edge_index.flip(1), vec)
    with pytest.raises(ValueError, match="edge 2 from node 3 to node 0 has no direction"):
        block(x, z, edge_index, torch.where(torch.arange(12)[:, None] == 2, 0.0, vec))
    with pytest.raises(ValueError, match="edge_vec must be finite"):
        block(x, z, edge_index, vec * torch.nan)
    with pytest.raises(ValueError, match="wigner must have shape"):
        block.geometry(edge_index, vec, 4, wigner=torch.zeros(12, 7))
