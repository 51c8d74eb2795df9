"""S-PSNR and WS-PSNR: values by hand, brute force from the formula, what the poles count, bad input."""

import math
import re

import pytest
import torch

from geomeq import spheres
from geomeq.spheres import s_psnr, ws_psnr

BOTH = pytest.mark.parametrize("score", [s_psnr, ws_psnr], ids=["s_psnr", "ws_psnr"])


def pair(dtype=torch.float64, batch=()):
    random = torch.Generator().manual_seed(0)
    image = torch.rand(*batch, 3, 32, 64, generator=random, dtype=torch.float64).to(dtype)
    return image, (image + 0.05 * torch.randn(image.shape, generator=random, dtype=torch.float64)).to(dtype)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_error_and_none(score, dtype):
    image, _ = pair(dtype)
    assert float(score(image, image + 0.1)) == pytest.approx(20, abs=1e-4)
    assert float(score(image, image + 0.1, peak=2.0)) == pytest.approx(20 + 20 * math.log10(2), abs=1e-4)
    assert float(score(image, image)) == math.inf
    assert score(image, image).dtype == torch.float64


@BOTH
def test_bytes_have_a_peak_of_255_and_do_not_wrap_around(score):
    image = torch.full((3, 16, 32), 250, dtype=torch.uint8)
    assert float(score(image, image + 4)) == pytest.approx(20 * math.log10(255 / 4))
    assert float(score(image + 4, image)) == pytest.approx(20 * math.log10(255 / 4))


def test_ws_psnr_is_the_published_formula():
    image, other = pair()
    total = weights = 0.0
    for i in range(32):
        w = math.cos((i + 0.5 - 16) * math.pi / 32)
        for j in range(64):
            total += w * float((image[:, i, j] - other[:, i, j]).square().mean())
            weights += w
    assert float(ws_psnr(image, other)) == pytest.approx(10 * math.log10(weights / total), rel=1e-12)
    plain = 10 * math.log10(1 / float((image - other).square().mean()))
    assert abs(float(ws_psnr(image, other)) - plain) > 1e-3


@pytest.mark.parametrize("method", ["nearest", "linear"])
def test_s_psnr_is_the_mean_over_its_points(method):
    image, other = pair()
    points = spheres.fibonacci(5000)
    x, y, z = points.pos.T
    row = (torch.atan2((x * x + y * y).sqrt(), z) * 32 / math.pi).long().clamp(max=31)
    column = ((torch.atan2(y, x) + math.pi) * 64 / (2 * math.pi)).long() % 64
    error = (image - other)[:, row, column].square().mean()
    found = float(s_psnr(image, other, points=5000, method=method))
    if method == "nearest":  # the pixel that holds a point, up to points at its corners
        assert found == pytest.approx(-10 * math.log10(float(error)), abs=0.05)
    else:  # interpolation averages noise away
        assert found > -10 * math.log10(float(error)) + 1
    assert found == pytest.approx(float(s_psnr(image, other, points=points, method=method)))


def test_both_agree_with_many_points_and_with_the_published_number_of_them():
    image, other = pair()
    assert spheres.image_quality.POINTS == 10 * 4**8 + 2
    assert float(s_psnr(image, other)) == pytest.approx(float(ws_psnr(image, other)), abs=0.02)
    level = spheres.icosphere(6)
    assert float(s_psnr(image, other, points=level)) == pytest.approx(float(ws_psnr(image, other)), abs=0.05)


def test_errors_at_the_poles_hardly_count():
    image, _ = pair()
    polar, equator = image.clone(), image.clone()
    polar[:, [0, 31]] += 0.3
    equator[:, [15, 16]] += 0.3
    for score in (s_psnr, ws_psnr):
        assert float(score(image, polar)) > float(score(image, equator)) + 12
    assert float((image - polar).square().mean()) == pytest.approx(float((image - equator).square().mean()))


def test_signals_on_any_sampling_are_weighed_by_their_areas():
    s = spheres.gauss_legendre(16)
    x = torch.rand(2, s.num_nodes, 3, dtype=torch.float64)
    y = x + 0.1 * s.pos[:, 2:]  # the mean of z^2 over the sphere is 1/3
    expected = [10 * math.log10(3 / 0.01)] * 2
    assert ws_psnr(x, y, area=s).tolist() == pytest.approx(expected)
    assert ws_psnr(x, y, area=s.area).tolist() == pytest.approx(expected)
    assert ws_psnr(x, y, area=torch.ones(s.num_nodes)).tolist() != pytest.approx(expected, abs=0.1)


@BOTH
def test_a_batch_is_its_images_and_gradients_flow(score):
    image, other = pair(batch=(2,))
    both = score(image, other)
    assert both.tolist() == pytest.approx([float(score(a, b)) for a, b in zip(image, other, strict=True)])
    other.requires_grad_()
    score(image, other).sum().backward()
    assert bool(other.grad.isfinite().all())
    assert float(other.grad.abs().sum()) > 0


def test_images_of_different_size_can_be_compared_at_points():
    image = torch.linspace(0, 1, 32, dtype=torch.float64)[None, :, None].expand(1, 32, 64)
    small = torch.nn.functional.avg_pool2d(image, 2)
    assert float(s_psnr(image, small, points=2000, method="linear")) > 35
    with pytest.raises(ValueError, match=r"reference must have shape \[1, 32, 64\], got \[1, 16, 32\]"):
        ws_psnr(image, small)


@BOTH
@pytest.mark.parametrize(
    ("image", "other", "error", "message"),
    [
        (torch.rand(3, 8, 8), torch.rand(3, 8, 8), ValueError, "twice as wide as high, got 8 x 8"),
        (torch.full((1, 4, 8), math.nan), torch.rand(1, 4, 8), ValueError, "the images hold NaN"),
        (
            torch.zeros(1, 4, 8, dtype=torch.uint8),
            torch.rand(1, 4, 8),
            TypeError,
            "image and reference must both hold bytes or both numbers, got torch.uint8 and torch.float32",
        ),
    ],
)
def test_bad_images_are_named(score, image, other, error, message):
    with pytest.raises(error, match=re.escape(message)):
        score(image, other)


def test_bad_peaks_areas_and_channels_are_named():
    image = torch.rand(3, 4, 8)
    with pytest.raises(ValueError, match="peak is the largest value of a pixel and must be positive, got 0"):
        ws_psnr(image, image, peak=0)
    with pytest.raises(ValueError, match=r"area must have shape \[20\], got \[5\]"):
        ws_psnr(torch.rand(20, 3), torch.rand(20, 3), area=torch.ones(5))
    for area in (torch.zeros(20), -torch.ones(20), torch.full((20,), math.nan)):
        with pytest.raises(ValueError, match="area must hold weights of at least 0, not all of them 0"):
            ws_psnr(torch.rand(20, 3), torch.rand(20, 3), area=area)
    with pytest.raises(ValueError, match=r"same channels and batch, got \[3, 4, 8\] and \[1, 4, 8\]"):
        s_psnr(image, image[:1])


def test_area_weighted_scores_compile_and_others_break_the_graph_cleanly():
    image, other = torch.rand(2, 3, 8, 16), torch.rand(2, 3, 8, 16)
    found = torch.compile(spheres.ws_psnr, fullgraph=True, backend="eager")(image, other)
    torch.testing.assert_close(found, spheres.ws_psnr(image, other))
    area, x = spheres.gauss_legendre(4).area, torch.rand(32, 3)
    found = torch.compile(spheres.ws_psnr, fullgraph=True, backend="eager")(x, x.flip(0), area=area)
    torch.testing.assert_close(found, spheres.ws_psnr(x, x.flip(0), area=area))
    found = torch.compile(lambda a, b: spheres.s_psnr(a, b, points=50) + 1, backend="eager")(image, other)
    torch.testing.assert_close(found, spheres.s_psnr(image, other, points=50) + 1)
