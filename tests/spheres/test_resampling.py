"""Resampling: exact for constants, second order, adjoint, across seams and poles, parts, missing values, areas."""

import math
import re
import warnings

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from geomeq import groups, spheres
from geomeq.spheres import Resampler, resample

KINDS = {
    "equiangular": lambda n: spheres.equiangular(n + 1),
    "lobatto": lambda n: spheres.lobatto(n + 1),
    "gauss_legendre": spheres.gauss_legendre,
    "reduced_gauss_legendre": spheres.reduced_gauss_legendre,
    "driscoll_healy": lambda n: spheres.driscoll_healy(n // 2),
    "healpix": lambda n: spheres.healpix(n // 2),
    "icosphere": lambda n: spheres.icosphere(int(math.log2(n / 2))),
    "fibonacci": lambda n: spheres.fibonacci(3 * n * n),
    "cubed": lambda n: spheres.cubed(n // 2),
    "cubemap": lambda n: spheres.cubemap(n // 2),
    "random": lambda n: spheres.random(3 * n * n, seed=1),
    "equirectangular": spheres.equirectangular,
    "turned healpix": lambda n: spheres.healpix(n // 2).rotated(groups.SO3.random(seed=2)),
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
TARGETS = spheres.scattered(
    torch.cat(
        [groups.S2.random(4000, seed=5), spheres.icosphere(0).pos, torch.eye(3).double(), -torch.eye(3).double()]
    ),
    area=torch.ones(4018),
)


def smooth(pos):
    x, y, z = pos.T
    return torch.stack([torch.exp(0.7 * x + 0.3 * y * z), torch.sin(2 * x - y + 3 * z)], dim=1)


@EVERY_KIND
@pytest.mark.parametrize("method", ["linear", "nearest"])
def test_weights_are_shares_and_constants_stay(kind, method):
    resampler = Resampler(KINDS[kind](16), TARGETS, method)
    matrix = resampler.matrix()
    assert matrix.data.min() > 0
    assert abs(matrix.sum(axis=1) - 1).max() < 4e-15
    assert bool(resampler.covered.all())
    for dtype, tol in ((torch.float64, 1e-14), (torch.float32, 5e-7)):
        y = resampler(torch.full((resampler.num_in,), 3.7, dtype=dtype))
        assert y.dtype == dtype
        torch.testing.assert_close(y, torch.full_like(y, 3.7), atol=3.7 * tol, rtol=0)


@EVERY_KIND
def test_linear_interpolation_is_of_second_order_everywhere(kind):
    """The largest error, poles and corners included. Gaps between random points shrink a little more slowly."""
    error = []
    for n in (16, 64):
        s = KINDS[kind](n)
        error.append(float((resample(smooth(s.pos), s, TARGETS) - smooth(TARGETS.pos)).abs().max()))
    assert error[1] < 0.02
    assert math.log(error[0] / error[1], 4) > (1.5 if kind == "random" else 1.75)
    s = KINDS[kind](64)
    coarse = (resample(smooth(s.pos), s, TARGETS, "nearest") - smooth(TARGETS.pos)).abs().max()
    assert float(coarse) > 5 * error[1]  # a method of the first order would not pass


@EVERY_KIND
def test_a_band_limited_signal_converges(kind):
    """A harmonic of degree 6 on finer and finer samplings: root mean square, smooth and exact in the limit."""
    from scipy.special import sph_harm_y

    def harmonic(pos):
        x, y, z = pos.numpy().T
        return torch.from_numpy(sph_harm_y(6, 3, np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)).real)

    wanted = harmonic(TARGETS.pos)
    error = []
    for n in (16, 32, 64):
        s = KINDS[kind](n)
        error.append(float((resample(harmonic(s.pos), s, TARGETS) - wanted).norm() / wanted.norm()))
    assert error[0] > 3 * error[1] > 9 * error[2]
    assert error[2] < 0.015


@EVERY_KIND
@pytest.mark.parametrize("method", ["linear", "nearest"])
def test_at_a_node_stands_its_value(kind, method):
    s = KINDS[kind](16)
    field = smooth(s.pos)
    same = spheres.scattered(s.pos, area=s.area)  # the same places, but another sampling: no identity by name
    torch.testing.assert_close(resample(field, s, same, method), field, atol=1e-11, rtol=0)
    assert torch.equal(resample(field, s, KINDS[kind](16), method), field)


@EVERY_KIND
def test_nearest_is_the_nearest_by_brute_force_and_idempotent(kind):
    s, coarse = KINDS[kind](16), spheres.fibonacci(311)
    matrix = Resampler(s, TARGETS, "nearest").matrix()
    distance = np.linalg.norm(TARGETS.pos.numpy() - s.pos.numpy()[matrix.indices], axis=1)
    np.testing.assert_allclose(distance, cKDTree(s.pos.numpy()).query(TARGETS.pos.numpy())[0], atol=1e-14)
    labels = torch.arange(s.num_nodes).double()
    once = resample(labels, s, coarse, "nearest")
    back = resample(once, coarse, s, "nearest")
    again = resample(back, s, coarse, "nearest")
    assert set(once.tolist()) <= set(labels.tolist())  # no new labels
    assert torch.equal(resample(resample(again, coarse, s, "nearest"), s, coarse, "nearest"), again)


def test_nearest_on_strange_rings_is_still_the_nearest():
    """Long thin pixels: the nearest node need not lie on the rings beside the point."""
    for s in (spheres.gauss_legendre(64, 3), spheres.gauss_legendre(3, 64), spheres.equiangular(2, 4)):
        matrix = Resampler(s, TARGETS, "nearest").matrix()
        distance = np.linalg.norm(TARGETS.pos.numpy() - s.pos.numpy()[matrix.indices], axis=1)
        np.testing.assert_allclose(distance, cKDTree(s.pos.numpy()).query(TARGETS.pos.numpy())[0], atol=1e-14)


@pytest.mark.parametrize("method", ["linear", "nearest", "conservative"])
def test_the_adjoint_is_the_adjoint_and_the_gradient(method):
    s_in, s_out = spheres.healpix(8), spheres.gauss_legendre(9)
    resampler = Resampler(s_in, s_out, method)
    x, y = torch.randn(2, 768, 3).double(), torch.randn(2, s_out.num_nodes, 3).double()
    x.requires_grad_()
    out = resampler(x)
    torch.testing.assert_close((out * y).sum(), (x * resampler.adjoint(y)).sum())
    (grad,) = torch.autograd.grad((out * y).sum(), x)
    torch.testing.assert_close(grad, resampler.adjoint(y))
    dense = torch.from_numpy(resampler.matrix().toarray())
    torch.testing.assert_close(out, dense @ x)
    torch.testing.assert_close(resampler.operator() @ x[0], out[0])
    torch.testing.assert_close(resampler(x[0]), out[0])
    torch.testing.assert_close(resampler(x[0, :, 0]), out[0, :, 0])


def test_gradcheck_and_the_second_derivative():
    resampler = Resampler(spheres.equiangular(4, 6), spheres.fibonacci(20))
    x = torch.randn(24, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(resampler, x)
    assert torch.autograd.gradgradcheck(lambda v: resampler(v).square(), x)


def test_what_is_built_in_inference_mode_serves_training():
    s_in, s_out = spheres.fibonacci(70), spheres.fibonacci(50)
    x = torch.rand(70, 1, requires_grad=True)
    with torch.inference_mode():
        resample(x.detach(), s_in, s_out)
    resample(x, s_in, s_out).sum().backward()
    assert x.grad is not None


def test_half_precision_function_transforms_and_compilation():
    resampler = Resampler(spheres.healpix(4), spheres.gauss_legendre(6))  # rings beside the poles: both factors
    x = torch.randn(2, 192, 3)
    y = resampler(x)
    half = resampler(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), y, atol=0.05, rtol=0.02)
    _, slope = torch.func.jvp(resampler, (x,), (x,))
    torch.testing.assert_close(slope, y)  # not silently zero
    torch.testing.assert_close(torch.func.vmap(resampler)(x), y)
    compiled = torch.compile(lambda v: 2 * resampler(v), fullgraph=True)
    x.requires_grad_()
    torch.testing.assert_close(compiled(x), 2 * y)
    (grad,) = torch.autograd.grad(compiled(x).sum(), x)
    torch.testing.assert_close(grad, 2 * resampler.adjoint(torch.ones_like(y)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_as_on_the_cpu():
    s_in, s_out, x = spheres.healpix(16), spheres.cubed(20), torch.randn(3072, 4)
    x[7] = math.nan
    for missing in ("propagate", "renormalise"):
        y = resample(x.cuda(), s_in, s_out, missing=missing)
        torch.testing.assert_close(y.cpu(), resample(x, s_in, s_out, missing=missing), equal_nan=True)


def test_a_turn_by_one_column_turns_the_result_seams_and_poles_included():
    s, columns = spheres.gauss_legendre(6, 12), 12
    angle = 2 * math.pi / columns
    rotation = torch.tensor(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]], dtype=torch.float64
    )
    field = torch.randn(72, dtype=torch.float64)
    rolled = field.view(6, 12).roll(1, 1).flatten()
    before = resample(field, s, TARGETS)
    torch.testing.assert_close(resample(rolled, s, TARGETS.rotated(rotation)), before, atol=1e-12, rtol=0)
    assert not torch.allclose(resample(rolled, s, TARGETS), before)


def test_values_by_hand_between_rings_across_the_seam_and_at_the_pole():
    """Many columns, so that a chord is its ring: the plain bilinear rule."""
    s = spheres.equirectangular(4, 4000)
    value = torch.arange(4.0, dtype=torch.float64)[:, None] * 10 + torch.linspace(0, 1, 4000, dtype=torch.float64) ** 2

    def at(theta, phi):
        point = [math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)]
        return float(resample(value.flatten(), s, spheres.scattered(torch.tensor([point]).double(), torch.ones(1)))[0])

    middle = (value[1] + value[2])[2000:2002].mean() / 2
    assert at(math.pi / 2, 2 * math.pi / 4000) == pytest.approx(float(middle), abs=1e-5)
    assert at(math.pi * 3 / 8, math.pi) == pytest.approx(float(value[1, [0, -1]].mean()), abs=1e-5)
    assert at(0.0, 1.0) == pytest.approx(float(value[0].mean()))
    assert at(math.pi, 1.0) == pytest.approx(float(value[3].mean()))
    ring = float(value[0, 2000:2002].mean())
    assert at(math.pi / 16, 2 * math.pi / 4000) == pytest.approx((ring + float(value[0].mean())) / 2, abs=1e-5)


def test_healpix_is_healpys_bilinear_rule_in_the_belt_and_better_at_the_poles():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        healpy = pytest.importorskip("healpy")
    error = []
    for nside in (16, 64):
        s = spheres.healpix(nside)
        x, y, z = TARGETS.pos.numpy().T
        theirs = np.stack(
            [healpy.get_interp_val(f, np.arctan2(np.hypot(x, y), z), np.arctan2(y, x), nest=True)
             for f in smooth(s.pos).numpy().T], axis=1,
        )  # fmt: skip
        ours, wanted = resample(smooth(s.pos), s, TARGETS).numpy(), smooth(TARGETS.pos).numpy()
        belt = np.abs(z) < 0.6
        assert np.abs(ours - theirs)[belt].max() < 0.4 * np.abs(ours - wanted)[belt].max()
        error.append([np.abs(f - wanted).max() for f in (ours, theirs)])
    ours, theirs = np.log(np.divide(*error)) / np.log(4)
    assert ours > 1.8
    assert theirs < 1.6  # first order around the poles
    assert error[1][1] > 3 * error[1][0]


def test_linear_functions_are_exact_at_the_poles_of_healpix():
    """Around a pole rings have 4, 8, ... nodes: weights must be those of chords."""
    s, flat = spheres.healpix(64), TARGETS.pos[:500] * 0.02
    flat[:, 2] = 1.0
    targets = spheres.scattered(torch.nn.functional.normalize(flat, dim=1), torch.ones(500))
    assert float((resample(s.pos[:, :2], s, targets) - targets.pos[:, :2]).abs().max()) < 5e-6


def test_tiny_and_lopsided_samplings_still_give_means():
    tiny = [spheres.gauss_legendre(1, 1), spheres.gauss_legendre(5, 2), spheres.equiangular(2, 1), spheres.healpix(1)]
    tiny += [spheres.equiangular(3, 3), spheres.cubed(1), spheres.cubemap(2), spheres.equirectangular(50, 3)]
    for s in tiny:
        for method in ("linear", "nearest"):
            matrix = Resampler(s, TARGETS, method).matrix()
            assert matrix.data.min() > 0
            assert abs(matrix.sum(axis=1) - 1).max() < 4e-15


@pytest.mark.parametrize("shape", [(0, 48, 3), (2, 48, 0), (48, 0)])
@pytest.mark.parametrize("missing", ["propagate", "renormalise"])
def test_nothing_stays_nothing(shape, missing):
    resampler = Resampler(spheres.healpix(2), spheres.fibonacci(10))
    y = resampler(torch.zeros(shape), missing)
    assert y.shape == tuple(10 if size == 48 else size for size in shape)
    assert resampler.adjoint(y).shape == shape


def test_any_number_of_threads_gives_the_same_matrix():
    s_in, s_out = spheres.healpix(32), spheres.equirectangular(160)  # two chunks
    threads = torch.get_num_threads()
    matrices = []
    for count in (1, 3):
        torch.set_num_threads(count)
        matrices.append(Resampler(s_in, s_out).matrix())
    torch.set_num_threads(threads)
    assert (matrices[0] != matrices[1]).nnz == 0


# areas


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("equirectangular", "healpix"),
        ("driscoll_healy", "gauss_legendre"),
        ("healpix", "healpix"),
        ("healpix", "equirectangular"),
        ("fibonacci", "icosphere"),
        ("random", "cubed"),
        ("cubemap", "fibonacci"),
    ],
)
def test_conservative_keeps_every_integral_and_constants(source, target):
    s_in, s_out = KINDS[source](48 if source != "healpix" else 64), KINDS[target](16)
    resampler = Resampler(s_in, s_out, "conservative")
    matrix = resampler.matrix()
    assert matrix.data.min() > 0
    assert abs(matrix.sum(axis=1) - 1).max() < 1e-14
    given = s_out.area.numpy() @ matrix
    assert (abs(given - s_in.area.numpy()) <= 1e-9 * s_in.area.numpy().mean()).all()
    linear = s_out.area.numpy() @ Resampler(s_in, s_out).matrix()
    assert abs(linear - s_in.area.numpy()).max() > 0.5 * s_in.area.numpy().mean()  # interpolation does not


def test_conservative_averages_where_linear_folds():
    """Noise of the finest scale: the average of k values has variance near 1 / k, a value between four has not."""
    s_in, s_out = spheres.equirectangular(128), spheres.healpix(8)
    noise = torch.randn(s_in.num_nodes, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = s_in.num_nodes / s_out.num_nodes
    belt = s_out.pos[:, 2].abs() < 0.5
    assert float(resample(noise, s_in, s_out, "conservative")[belt].var()) < 2 / share
    assert float(resample(noise, s_in, s_out)[belt].var()) > 5 / share


def test_nested_healpix_goes_to_the_mean_of_its_children():
    x = torch.randn(768, 2, dtype=torch.float64)
    y = resample(x, spheres.healpix(8), spheres.healpix(2), "conservative")
    torch.testing.assert_close(y, x.view(48, 16, 2).mean(dim=1))


def test_conservative_says_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"are too few for the 3072 cells .* use method='linear'"):
        Resampler(spheres.healpix(4), spheres.healpix(16), "conservative")
    with pytest.raises(ValueError, match="needs two samplings of the whole sphere"):
        Resampler(spheres.healpix(8).part(torch.arange(99)), spheres.healpix(2), "conservative")


# parts and missing values


@pytest.mark.parametrize("method", ["linear", "nearest"])
@pytest.mark.parametrize("kind", ["healpix", "fibonacci", "gauss_legendre", "icosphere"])
def test_a_part_knows_its_surroundings_and_nothing_else(kind, method):
    whole = KINDS[kind](32)
    part = whole.part(whole.pos[:, 0] > 0.3)  # a cap, 73 degrees wide
    resampler = Resampler(part, TARGETS, method)
    depth = torch.acos(torch.tensor(0.3)) - torch.acos(TARGETS.pos[:, 0].clamp(-1, 1))  # inside, radians
    assert bool(resampler.covered[depth > part.spacing].all())
    assert not bool(resampler.covered[depth < -2.5 * part.spacing].any())
    y = resampler(smooth(part.pos))
    assert torch.equal(y.isnan().any(dim=1), ~resampler.covered)
    error = (y - smooth(TARGETS.pos))[depth > 2 * part.spacing].abs().max()
    assert float(error) < (0.03 if method == "linear" else 0.5)
    with pytest.raises(ValueError, match=r"of 4018 targets lie outside Sampling\('.*pass outside='nan'"):
        Resampler(part, TARGETS, method, outside="error")
    assert Resampler(part, TARGETS, method, reach=4.0).covered.all() or method == "linear"


def test_holes_of_a_part_stay_open():
    whole = spheres.fibonacci(3000)
    ring = whole.part((whole.pos[:, 2] < 0.8) & (whole.pos[:, 2] > 0.2))  # no cap, no south
    covered = Resampler(ring, TARGETS).covered
    z = TARGETS.pos[:, 2]
    assert bool(covered[(z < 0.78) & (z > 0.25)].all())
    assert not bool(covered[(z > 0.92) | (z < 0.08)].any())


def test_scattered_points_of_a_hemisphere_reach_to_their_hull():
    pos = groups.S2.random(2000, seed=0)
    half = spheres.scattered(pos[pos[:, 2] > 0.2], torch.ones(int((pos[:, 2] > 0.2).sum())))
    covered = Resampler(half, TARGETS).covered
    assert bool(covered[TARGETS.pos[:, 2] > 0.3].all())
    assert not bool(covered[TARGETS.pos[:, 2] < 0.1].any())


def test_missing_values_spread_are_left_out_or_refused():
    s_in, s_out = spheres.gauss_legendre(16), spheres.fibonacci(500)
    x = smooth(s_in.pos)
    x[s_in.pos[:, 1] > 0.5, 0] = math.nan  # in the first channel only
    x.requires_grad_()
    resampler = Resampler(s_in, s_out)
    spread, left_out = resampler(x), resampler(x, missing="renormalise")
    assert spread.isnan()[:, 0].sum() > left_out.isnan()[:, 0].sum() > 0
    assert not left_out[:, 1].isnan().any()
    bare, full = resampler(x, "renormalise", least=0.0), resampler(x, "renormalise", least=1.0)
    assert bare.isnan().sum() < left_out.isnan().sum() < full.isnan().sum() == spread.isnan().sum()
    known = ~bare.isnan()
    assert float((bare - smooth(s_out.pos))[known].abs().max().detach()) < 0.3
    (grad,) = torch.autograd.grad(left_out.nan_to_num().sum(), x)
    assert bool(grad.isfinite().all())
    assert bool((grad[x.isnan()] == 0).all())
    constant = torch.where(x.isnan(), math.nan, 2.0).double()
    kept = resampler(constant, "renormalise")
    assert float((kept[~kept.isnan()] - 2).abs().max()) < 1e-14
    with pytest.raises(ValueError, match=r"x holds \d+ NaN; pass missing='renormalise'"):
        resampler(x, "error")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: Resampler(s, s, "cubic"), "method must be one of 'nearest', 'linear', 'conservative', got 'cubic'"),
        (lambda s: Resampler(s, s, outside="zero"), "outside must be one of 'nan', 'error', got 'zero'"),
        (lambda s: Resampler(s, s, reach=-1.0), "reach must be a positive angle in radians, got -1.0"),
        (lambda s: Resampler(s, s)(torch.rand(5, 2)), "x must have shape [48], [48, C] or [B, 48, C], one row for"),
        (lambda s: Resampler(s, s)(torch.rand(2, 2, 48, 3)), "x must have shape [48], [48, C] or [B, 48, C]"),
        (lambda s: Resampler(s, s)(torch.rand(48), "drop"), "missing must be one of 'propagate', 'renormalise', "),
        (
            lambda s: Resampler(spheres.scattered(torch.eye(3), torch.ones(3)), s),
            "interpolation needs at least 4 different points that are in no plane, got 3; use method='nearest'",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(spheres.healpix(2))


def test_integers_are_refused():
    with pytest.raises(TypeError, match="x must be a floating-point tensor, got torch.int64"):
        resample(torch.arange(48), spheres.healpix(2), spheres.healpix(1))


def test_the_matrix_is_kept_by_content():
    from geomeq.spheres import resampling

    resampling._CACHE.clear()
    for _ in range(3):
        resample(torch.rand(48), spheres.healpix(2), spheres.healpix(1))  # new objects, equal content
    assert len(resampling._CACHE) == 1
    resample(torch.rand(48), spheres.healpix(2).rotated(groups.SO3.random(seed=0)), spheres.healpix(1))
    assert len(resampling._CACHE) == 2


def test_compiles_as_the_docstrings_say():
    s_in, s_out, x = spheres.healpix(2), spheres.cubed(3), torch.rand(48, 3)
    resampler = spheres.Resampler(s_in, s_out)
    wanted = resampler(x)
    torch.testing.assert_close(torch.compile(resampler, fullgraph=True, backend="eager")(x), wanted)
    found = torch.compile(lambda x: spheres.resample(2 * x, s_in, s_out) / 2, backend="eager")(x)
    torch.testing.assert_close(found, wanted)
