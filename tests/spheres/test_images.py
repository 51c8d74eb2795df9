"""Panoramas and cube maps: which pixel looks where, there and back, and images that are none."""

import math
import re

import pytest
import torch

from geomeq import groups, spheres
from geomeq.spheres import from_cubemap, from_equirectangular, to_cubemap, to_equirectangular


def smooth(pos):
    x, y, z = pos.T
    return torch.stack([torch.exp(0.7 * x + 0.3 * y * z), torch.sin(2 * x - y + 3 * z), x * y], dim=1)


def one_point(x, y, z):
    return spheres.scattered(torch.nn.functional.normalize(torch.tensor([[x, y, z]]).double(), dim=1), torch.ones(1))


@pytest.mark.parametrize(
    ("s", "exact"), [(spheres.equirectangular(12), 1e-14), (spheres.equirectangular(9, 5, 0.3), 1e-14),
                     (spheres.cubemap(7), 1e-14), (spheres.cubemap(1), 1e-14)]
)  # fmt: skip
def test_pixels_have_their_solid_angles(s, exact):
    """By Monte Carlo as well: the share of random points in a pixel is its area."""
    assert float(s.area.sum()) == pytest.approx(4 * math.pi, rel=exact)
    if s.kind == "equirectangular":
        band = math.cos(math.pi / len(s.rings.count)) - math.cos(2 * math.pi / len(s.rings.count))
        width = int(s.rings.count[0])
        assert float(s.area[width]) == pytest.approx(band * 2 * math.pi / width)
    else:
        points = groups.S2.random(200_000, seed=0)
        size = math.isqrt(s.num_nodes // 6)
        face = points[(points[:, 0] > points[:, 1:].abs().amax(dim=1))]
        column, row = (((face[:, k] / face[:, 0] * sign + 1) * size / 2).long() for k, sign in ((1, 1), (2, -1)))
        count = torch.bincount(row * size + column, minlength=size * size).double()
        spread = 6 * 4 * math.pi * float(count.max()) ** 0.5 / len(points)
        torch.testing.assert_close(count * (4 * math.pi / len(points)), s.area[: size * size], atol=spread, rtol=0)


@pytest.mark.parametrize("lon_start", [-math.pi, 0.0, 1.0])
def test_a_pixel_looks_where_the_convention_says(lon_start):
    image = torch.zeros(1, 8, 16, dtype=torch.float64)
    image[0, 2, 5] = 1
    theta, phi = 2.5 * math.pi / 8, lon_start + 5.5 * math.pi / 8
    there = one_point(math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta))
    assert float(from_equirectangular(image, there, lon_start=lon_start)) == pytest.approx(1)
    assert float(from_equirectangular(image.flip(-1), there, lon_start=lon_start)) == 0
    assert float(from_equirectangular(image.flip(-2), there, lon_start=lon_start)) == 0


def test_the_middle_of_an_image_is_the_x_axis_and_its_top_the_north_pole():
    s = spheres.healpix(32)
    x, y, z = to_equirectangular(s.pos, s, 64)
    assert float(x[31:33, 63:65].mean()) == pytest.approx(1, abs=2e-3)
    assert float(y[31:33, 95:97].mean()) == pytest.approx(1, abs=2e-3)  # east is to the right
    assert float(z[0].mean()) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_to_healpix_and_back(batch, dtype):
    pixels, s = spheres.equirectangular(64), spheres.healpix(64)
    image = smooth(pixels.pos).T.unflatten(1, (64, 128)).expand(*batch, 3, 64, 128).to(dtype)
    x = from_equirectangular(image, s)
    assert x.shape == (*batch, s.num_nodes, 3)
    assert x.dtype == dtype
    torch.testing.assert_close(x, smooth(s.pos).expand_as(x).to(dtype), atol=4e-3, rtol=0)
    back = to_equirectangular(x, s, 64)
    assert back.shape == image.shape
    torch.testing.assert_close(back, image, atol=6e-3, rtol=0)
    again = to_equirectangular(from_equirectangular(image, pixels), pixels, 64)
    assert torch.equal(again, image)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 31])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_cube_maps_of_any_size_go_there_and_back(size, batch):
    grid, fine = spheres.cubemap(size), spheres.fibonacci(20 * size * size + 500)
    faces = smooth(grid.pos).unflatten(0, (6, size, size)).permute(0, 3, 1, 2).expand(*batch, 6, 3, size, size)
    x = from_cubemap(faces, fine)
    assert x.shape == (*batch, fine.num_nodes, 3)
    tolerance = 8.0 / size**2
    torch.testing.assert_close(x, smooth(fine.pos).expand_as(x), atol=tolerance, rtol=0)
    back = to_cubemap(x, fine, size)
    assert back.shape == faces.shape
    torch.testing.assert_close(back, faces, atol=1.2 * tolerance, rtol=0)
    assert torch.equal(to_cubemap(from_cubemap(faces, grid), grid, size), faces)


def test_faces_look_where_the_convention_says_and_meet_at_their_edges():
    s = spheres.healpix(32)
    faces = to_cubemap(s.pos, s, 9)
    look = [(1, 0, 0), (0, 1, 0), (-1, 0, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    torch.testing.assert_close(faces[:, :, 4, 4], torch.tensor(look).double(), atol=2e-3, rtol=0)
    assert bool((faces[:4, 2, 0] > faces[:4, 2, 8]).all())  # rows go south
    assert bool((faces[0, 1, :, 8] > faces[0, 1, :, 0]).all())  # columns go east
    pairs = [(faces[f, :, :, 8], faces[(f + 1) % 4, :, :, 0]) for f in range(4)]  # around the equator
    pairs += [(faces[4, :, 8], faces[0, :, 0]), (faces[5, :, 0], faces[0, :, 8])]
    for one, other in pairs:
        assert float((one - other).norm(dim=0).max()) < 0.25  # a step of one pixel
    assert float((faces[4, :, 0] - faces[0, :, 0]).norm(dim=0).max()) > 1  # the other way round it would not


def test_seams_of_a_cube_map_do_not_show():
    """A step across an edge is as small as one inside a face."""
    faces = smooth(spheres.cubemap(32).pos).unflatten(0, (6, 32, 32)).permute(0, 3, 1, 2)
    angle = math.pi / 4 + torch.linspace(-0.02, 0.02, 41).double()
    arc = torch.stack([angle.cos(), angle.sin(), torch.full_like(angle, 0.3)], dim=1)
    s = spheres.scattered(torch.nn.functional.normalize(arc, dim=1), torch.ones(41))
    steps = from_cubemap(faces, s).diff(dim=0).abs().amax(dim=1)
    assert float(steps.max()) < 2.5 * float(steps.median())


def test_missing_pixels_and_partial_skies():
    s = spheres.healpix(16)
    image = torch.ones(1, 32, 64)
    image[0, :8] = math.nan
    assert bool(from_equirectangular(image, s).isnan().any())
    x = from_equirectangular(image, s, missing="renormalise")
    known = s.pos[:, 2] < math.cos(math.pi * 8.6 / 32)
    assert bool((x[known] == 1).all())
    assert bool(x[s.pos[:, 2] > math.cos(math.pi * 7 / 32)].isnan().all())
    patch = s.part(torch.arange(256))
    drawn = to_equirectangular(torch.ones(256, 1), patch, 32)
    assert 0 < float(drawn.isfinite().double().mean()) < 0.25


def test_gradients_reach_the_pixels():
    image = torch.rand(2, 8, 16, dtype=torch.float64, requires_grad=True)
    s = spheres.healpix(4)
    assert torch.autograd.gradcheck(lambda v: from_equirectangular(v, s), image)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: from_equirectangular(torch.rand(3, 64, 64), s), ValueError, "twice as wide as high, got 64 x 64"),
        (lambda s: from_equirectangular(torch.rand(3, 128, 64), s), ValueError, "twice as wide as high, got 128 x 64"),
        (lambda s: from_equirectangular(torch.rand(8, 16), s), ValueError, "[C, H, W] or [B, C, H, W], got [8, 16]"),
        (
            lambda s: from_equirectangular(torch.zeros(3, 8, 16, dtype=torch.uint8), s),
            TypeError,
            "image must be a floating-point tensor, got torch.uint8; bytes become numbers from 0 to 1 by",
        ),
        (lambda s: to_equirectangular(s.pos, s, 8, 8), ValueError, "twice as wide as high, got 8 x 8"),
        (lambda s: to_equirectangular(s.pos, s, 0), ValueError, "height must be an integer of at least 1, got 0"),
        (lambda s: to_equirectangular(s.pos[:5], s, 8), ValueError, "x must have 48 rows, one for each node of Samp"),
        (lambda s: to_equirectangular(s.pos[:, 0], s, 8), ValueError, "x must have shape [N, C], got [48]"),
        (lambda s: from_cubemap(torch.rand(5, 3, 8, 8), s), ValueError, "[6, C, S, S] or [B, 6, C, S, S], got [5,"),
        (lambda s: from_cubemap(torch.rand(6, 3, 8, 9), s), ValueError, "[6, C, S, S] or [B, 6, C, S, S], got [6,"),
        (lambda s: to_cubemap(s.pos, s, 0), ValueError, "size must be an integer of at least 1, got 0"),
        (lambda s: spheres.equirectangular(4, lon_start=math.inf), ValueError, "lon_start is a longitude in radians"),
    ],
)
def test_images_that_are_none_are_named(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(spheres.healpix(2))


@pytest.mark.slow
def test_an_image_of_eight_million_pixels_takes_seconds_and_modest_memory():
    import resource
    import time

    image = torch.rand(3, 2048, 4096)
    s = spheres.healpix(512)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    x = from_equirectangular(image, s)
    assert time.perf_counter() - start < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 3e6  # kilobytes
    assert x.shape == (3_145_728, 3)
    assert float(x.mean()) == pytest.approx(0.5, abs=1e-3)
