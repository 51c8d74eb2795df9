"""Caps, one meridian of them, normalisation: brute force, torch-harmonics, symmetry, bad input."""

import copy
import dataclasses
import gc
import math
import pickle

import pytest
import torch

from geomeq import groups, spheres
from geomeq.harmonics import (
    DiscoGeometry,
    default_cutoff,
    disco_geometry,
    disco_graph,
    find_caps,
    find_meridian,
    meridian_frames,
    shares_meridian,
)
from geomeq.harmonics._disco_norm import NORMS, Groups, normalised

GRIDS = {
    "equiangular": spheres.equiangular,
    "legendre-gauss": spheres.gauss_legendre,
    "lobatto": spheres.lobatto,
}
CASES = [
    ("equiangular", (13, 24), "equiangular", (13, 24)),
    ("equiangular", (17, 32), "legendre-gauss", (8, 16)),
    ("lobatto", (12, 24), "equiangular", (7, 12)),
    ("legendre-gauss", (9, 18), "legendre-gauss", (9, 18)),
]
BASES = {
    "piecewise_linear": ("piecewise linear", (3, 3)),
    "zernike": ("zernike", 3),
    "harmonic": ("harmonic", (2, 3)),
    "fourier_bessel": ("fourier-bessel", (3, 3)),
}
CUTOFF = 0.5


@pytest.mark.parametrize("radius", [0.3, 1.7, math.pi])
def test_caps_hold_what_is_near_and_see_it_where_it_is(radius):
    pos, points = groups.S2.random(40, seed=0), groups.S2.random(300, seed=1)
    points[:5] = pos[:5]  # coincident
    frame = groups.SO3.random(40, seed=2).transpose(1, 2)
    frame = torch.linalg.qr(torch.stack([pos, frame[:, 0], frame[:, 1]], dim=2))[0].permute(0, 2, 1)
    frame = torch.stack([frame[:, 1], torch.linalg.cross(pos, frame[:, 1]), pos], dim=1)
    (j, i), r, angle = find_caps(pos, frame, points, radius)
    dense = 2 * torch.atan2((pos[:, None] - points).norm(dim=2), (pos[:, None] + points).norm(dim=2))
    want_i, want_j = (dense <= radius).nonzero().T
    assert torch.equal(i, want_i)
    assert torch.equal(j, want_j)
    torch.testing.assert_close(r, dense[i, j], atol=1e-14, rtol=0)
    assert torch.all(angle[r == 0] == 0)
    back = torch.stack([r.sin() * angle.cos(), r.sin() * angle.sin(), r.cos()], dim=1)
    torch.testing.assert_close(torch.einsum("ea,eac->ec", back, frame[i]), points[j], atol=1e-14, rtol=0)


def test_frames_at_a_pole_follow_the_longitude_of_the_node():
    grid = spheres.equiangular(5, 8)
    frame = meridian_frames(grid)
    torch.testing.assert_close(frame @ frame.mT, torch.eye(3, dtype=torch.float64).expand_as(frame))
    assert torch.all(torch.linalg.det(frame) > 0)
    turn = groups.SO3.exp(torch.tensor([0.0, 0.0, 2 * math.pi / 8], dtype=torch.float64))
    rows = frame.view(5, 8, 3, 3)
    torch.testing.assert_close(rows.roll(-1, 1), rows @ turn.T, atol=1e-14, rtol=0)
    free = meridian_frames(grid.rotated(torch.eye(3, dtype=torch.float64)))
    torch.testing.assert_close(free[8:-8], frame[8:-8])
    assert not torch.allclose(free[:8], frame[:8])


@pytest.mark.parametrize(("kind_in", "size_in", "kind_out", "size_out"), CASES)
@pytest.mark.parametrize("transposed", [False, True])
def test_one_meridian_stands_for_all_caps(kind_in, size_in, kind_out, size_out, transposed):
    pair = GRIDS[kind_in](*size_in), GRIDS[kind_out](*size_out)
    for cutoff in (CUTOFF, 2.5):
        short = disco_geometry(*(pair[::-1] if transposed else pair), cutoff, norm="none", transposed=transposed)
        assert short.on_rings
        edges, coef = short.edges
        polar = short.polar()
        full = DiscoGeometry(short.source, short.target, short.basis, "none", transposed, cutoff)
        full.on_rings = False
        want_edges, want = full.edges
        assert torch.equal(edges, want_edges)
        torch.testing.assert_close(coef, want, atol=1e-13, rtol=0)
        torch.testing.assert_close(polar[1], full.polar()[1], atol=1e-13, rtol=0)
        assert short.num_edges == edges.size(1) == full.num_edges


def test_a_meridian_of_a_shifted_grid():
    shifted = spheres.driscoll_healy(6)
    rings = shifted.rings
    moved = spheres.Rings(rings.colatitude, rings.count, rings.start + 0.1, rings.node)
    turn = groups.SO3.exp(torch.tensor([0.0, 0.0, 0.1], dtype=torch.float64))
    other = spheres.Sampling("shifted", shifted.pos @ turn.T, shifted.area, None, moved)
    geometry = disco_geometry(other, shifted, CUTOFF, norm="none")
    full = DiscoGeometry(other, shifted, geometry.basis, "none")
    full.on_rings = False
    assert torch.equal(geometry.edges[0], full.edges[0])
    torch.testing.assert_close(geometry.edges[1], full.edges[1], atol=1e-13, rtol=0)


def peer_tensor(case, basis, norm, transposed, merge=True):
    """Coefficients of one meridian by torch-harmonics, ``[K, rows out, nodes in]``, and where it has any."""
    convolution = pytest.importorskip("torch_harmonics.disco.convolution")
    peers = pytest.importorskip("torch_harmonics.filter_basis")
    kind_in, size_in, kind_out, size_out = case
    name, shape = BASES[basis]
    filters = peers.get_filter_basis(shape, name)
    settings = {"grid_in": kind_in, "grid_out": kind_out, "theta_cutoff": CUTOFF, "merge_quadrature": merge}
    index, values, _ = convolution._precompute_convolution_tensor_s2(
        size_in, size_out, filters, transpose_normalization=transposed, basis_norm_mode=norm, **settings
    )
    dense = torch.zeros(filters.kernel_size, size_out[0], size_in[0] * size_in[1], dtype=torch.float64)
    dense[tuple(index)] = values
    return dense, index


@pytest.mark.parametrize(
    ("case", "basis"),
    [*((case, "piecewise_linear") for case in CASES), *((CASES[1], basis) for basis in list(BASES)[1:])],
    ids=lambda given: given if isinstance(given, str) else f"{given[0]} to {given[2]}",
)
@pytest.mark.parametrize("transposed", [False, True])
def test_coefficients_are_those_of_torch_harmonics(case, basis, transposed):
    kind_in, size_in, kind_out, size_out = case
    pair = GRIDS[kind_in](*size_in), GRIDS[kind_out](*size_out)
    pair = pair[::-1] if transposed else pair
    for norm in NORMS:
        if basis == "piecewise_linear" and norm in ("modal", "support"):
            continue  # nodes on the feet of hats, which theirs counts by the last digit: the next test
        theirs, _ = peer_tensor(case, basis, norm, transposed)
        geometry = disco_geometry(*pair, CUTOFF, basis, BASES[basis][1], norm, transposed)
        entries = geometry.entries
        ours = torch.zeros_like(theirs)
        ours[:, entries.cap_row, entries.row * size_in[1] + entries.offset] = entries.coef.T
        # theirs takes distances from an arc cosine, which knows eight digits near zero
        torch.testing.assert_close(ours, theirs, atol=1e-6 * float(theirs.abs().max()), rtol=0)
    assert not torch.allclose(ours, theirs.flip(1), atol=1e-3 * float(theirs.abs().max()))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("basis", ["piecewise_linear", "zernike"])
def test_norms_are_those_of_torch_harmonics_to_the_last_digits(norm, transposed, basis):
    case = CASES[1]
    _, size_in, _, size_out = case
    plain, index = peer_tensor(case, basis, "none", transposed, merge=False)
    theirs, _ = peer_tensor(case, basis, norm, transposed)
    inside = torch.zeros(plain.shape, dtype=torch.bool)
    inside[tuple(index)] = True
    cap_row, node = inside.any(dim=0).nonzero().T
    row = node.div(size_in[1], rounding_mode="floor")
    grid_in, grid_out = GRIDS[case[0]](*size_in), GRIDS[case[2]](*size_out)
    if transposed:
        weight = grid_out.area[cap_row * size_out[1]] / (4 * math.pi)
        parts = Groups(row, size_in[0], size_out[1] / size_in[1], None)
    else:
        weight, parts = grid_in.area[node] / (4 * math.pi), Groups(cap_row, size_out[0], 1.0, None)
    isotropic = disco_geometry(grid_in, grid_out, CUTOFF, basis, BASES[basis][1]).basis.isotropic
    psi, mask = plain[:, cap_row, node].T, inside[:, cap_row, node].T
    ours = normalised(psi, mask, weight, parts, norm, isotropic, CUTOFF) * weight[:, None]
    want = theirs[:, cap_row, node].T
    most = float(want.abs().max())
    met = want.abs() > 1e-5 * most  # what is zero but for rounding may be divided by almost nothing
    torch.testing.assert_close(ours[met], want[met], atol=1e-10 * most, rtol=1e-10)
    assert float(ours[~met].abs().max()) < 2e-5 * most


def test_nodal_sums_are_one_for_every_node_of_any_sampling():
    for s_in, s_out in ((spheres.healpix(4), spheres.fibonacci(50)), (spheres.cubed(6), spheres.icosphere(1))):
        for transposed in (False, True):
            geometry = disco_geometry(s_in, s_out, 0.7, norm="nodal", transposed=transposed)
            (_, target), coef = geometry.edges
            total = torch.zeros(s_out.num_nodes, 4, dtype=torch.float64).index_add_(0, target, coef.abs())
            met = total > 1e-6  # all nodes can lie where a filter is zero but for rounding
            assert int((~met).sum()) <= 2
            torch.testing.assert_close(total[met], torch.ones_like(total[met]), atol=1e-12, rtol=0)
            mean = disco_geometry(s_in, s_out, 0.7, norm="mean", transposed=transposed).edges[1]
            plain = disco_geometry(s_in, s_out, 0.7, norm="none", transposed=transposed).edges[1]
            factor = (mean.abs().sum(0) / plain.abs().sum(0)).expand_as(plain)
            torch.testing.assert_close(mean, plain * factor, atol=1e-14, rtol=1e-10)  # one number for each filter
            total = torch.zeros(s_out.num_nodes, 4, dtype=torch.float64).index_add_(0, target, mean.abs())
            torch.testing.assert_close((total * s_out.area[:, None]).sum(0) / (4 * math.pi), torch.ones(4).double())


def test_equal_arguments_share_one_geometry_until_nobody_holds_it():
    first = disco_geometry(spheres.healpix(2), spheres.healpix(1), 0.9, "hann", (3, 3))
    assert disco_geometry(spheres.healpix(2), spheres.healpix(1), 0.9, "hann", [3, 3]) is first
    assert copy.deepcopy(first) is first
    assert pickle.loads(pickle.dumps(first)) is first
    for other in (
        disco_geometry(spheres.healpix(2), spheres.healpix(1), 0.9, "hann", (3, 1)),
        disco_geometry(spheres.healpix(2), spheres.healpix(1), 0.91),
        disco_geometry(spheres.healpix(2), spheres.healpix(1), 0.9, norm="none"),
        disco_geometry(spheres.healpix(2), spheres.healpix(2), 0.9),
    ):
        assert other is not first
    from geomeq.harmonics.disco import _KEPT

    kept = len(_KEPT)
    del first
    gc.collect()
    assert len(_KEPT) < kept


def test_graph_for_layers_of_your_own():
    s_in, s_out = spheres.healpix(4), spheres.gauss_legendre(5)
    graph = disco_graph(s_in, s_out, 0.6, "zernike", 2, "none")
    (j, i), (r, angle) = graph.edge_index, graph.polar.T
    assert torch.equal(graph.edge_index[:, (i * 1000 + j).argsort()], graph.edge_index)
    torch.testing.assert_close(r.cos(), (s_in.pos[j] * s_out.pos[i]).sum(1), atol=1e-12, rtol=0)
    filters = disco_geometry(s_in, s_out, 0.6, "zernike", 2, "none").basis
    torch.testing.assert_close(graph.psi, filters(r, angle) * s_in.area[j, None] / (4 * math.pi))
    assert graph.pos_dst is s_out.pos
    assert graph.psi.dtype == torch.float64


def test_default_cutoff_reaches_a_few_steps_of_the_coarser_sampling():
    fine, coarse = spheres.healpix(8), spheres.healpix(4)
    for pair in ((fine, coarse), (coarse, fine)):
        assert default_cutoff(*pair, (3, 3)) == pytest.approx(2 * coarse.spacing)
    assert default_cutoff(coarse, coarse, 5) == pytest.approx(3 * coarse.spacing)
    grid = spheres.gauss_legendre(9, 90)
    assert default_cutoff(grid, grid, 1) == pytest.approx(float(grid.rings.colatitude.diff().max()))
    assert default_cutoff(spheres.healpix(1), spheres.healpix(1), 9) == math.pi
    for pair in ((fine, coarse), (grid, coarse), (spheres.lobatto(9), spheres.equiangular(9))):
        assert disco_geometry(*pair).num_edges > 0


@pytest.mark.parametrize("make", [spheres.gauss_legendre, spheres.equiangular, spheres.healpix], ids=["gl", "eq", "hp"])
def test_a_rotated_grid_has_the_default_cutoff_of_the_grid(make):
    s = make(8) if make is spheres.healpix else make(9, 90)
    turned = s.rotated(groups.SO3.random(1, seed=1)[0]).rotated(groups.SO3.random(1, seed=2)[0])
    assert default_cutoff(turned, turned) == default_cutoff(s, s)
    assert default_cutoff(turned.part(turned.pos[:, 2] > 0), turned) == pytest.approx(default_cutoff(s, s))
    assert turned.step == s.step >= s.spacing
    assert (s.step > s.spacing) == (make is not spheres.healpix)  # else the test could not fail
    assert disco_geometry(turned, turned).cutoff == disco_geometry(s, s).cutoff


def test_partial_skies_see_their_part():
    whole = spheres.healpix(4)
    part = whole.part(whole.pos[:, 2] > 0.3)
    geometry = disco_geometry(part, part, 0.5, norm="none")
    full = disco_geometry(whole, whole, 0.5, norm="none")
    number = torch.full((192,), -1)
    number[part.node] = torch.arange(part.num_nodes)
    edges, coef = full.edges
    keep = (number[edges] >= 0).all(dim=0)
    assert torch.equal(number[edges[:, keep]], geometry.edges[0])
    torch.testing.assert_close(coef[keep], geometry.edges[1])


@pytest.mark.parametrize("transposed", [False, True])
def test_masked_nodes_of_a_grid_have_their_own_weights(transposed):
    """Rows whose weights differ are no copies of each other, whatever the first column says."""
    grid = spheres.gauss_legendre(6, 8)
    area = grid.area * (grid.pos[:, 1] < 0.5)
    masked, plain = dataclasses.replace(grid, area=area), dataclasses.replace(grid, area=area, rings=None)
    for norm in ("none", "support"):
        found, wanted = (disco_geometry(s, s, 0.8, norm=norm, transposed=transposed) for s in (masked, plain))
        assert not found.on_rings
        assert torch.equal(found.edges[0], wanted.edges[0])
        torch.testing.assert_close(found.edges[1], wanted.edges[1], atol=1e-15, rtol=0)
        assert bool((found.edges[1][area[found.edges[0][0]] == 0] == 0).all())


def test_what_is_no_pair_of_grids_has_no_meridian():
    grid, odd, pixels = spheres.gauss_legendre(4), spheres.gauss_legendre(4, 7), spheres.healpix(2)
    assert shares_meridian(grid, grid)
    assert shares_meridian(spheres.gauss_legendre(4, 4), grid)
    for caps, points in ((grid, odd), (grid, spheres.gauss_legendre(4, 4)), (grid, pixels), (pixels, grid)):
        assert not shares_meridian(caps, points)
        with pytest.raises(ValueError, match="one meridian stands for all"):
            find_meridian(caps, points, 0.5)
    reduced = spheres.reduced_gauss_legendre(8)
    assert not shares_meridian(reduced, reduced)


@pytest.mark.parametrize("radius", [0.0, -1.0, 4.0, math.nan])
def test_caps_of_no_radius(radius):
    grid = spheres.gauss_legendre(4)
    with pytest.raises(ValueError, match="cutoff is an angle in radians"):
        find_meridian(grid, grid, radius)
    with pytest.raises(ValueError, match="cutoff is an angle in radians"):
        find_caps(grid.pos, meridian_frames(grid), grid.pos, radius)
    with pytest.raises(ValueError, match="cutoff is an angle in radians"):
        disco_geometry(grid, grid, radius)


def test_unknown_norm_and_filters():
    grid = spheres.gauss_legendre(4)
    with pytest.raises(ValueError, match="norm must be one of none, mean, nodal, modal, support, geometric, got 'l2'"):
        disco_geometry(grid, grid, norm="l2")
    with pytest.raises(ValueError, match="basis must be one of"):
        disco_geometry(grid, grid, basis="boxes")
