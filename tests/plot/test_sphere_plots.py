"""Pictures of the sphere: what a pixel shows, partial skies, colours, filters, panoramas, errors by resolution."""

import math
import re
import time

import numpy as np
import pytest
import torch

from geomeq import groups, plot, spheres
from geomeq.harmonics import filter_basis

matplotlib = pytest.importorskip("matplotlib")
from matplotlib.image import AxesImage  # noqa: E402
from matplotlib.patches import Circle  # noqa: E402

from geomeq.plot._sphere_views import Globe, Mollweide, Nearest, Orthographic  # noqa: E402
from tests.plot.test_plot import rendered, texts  # noqa: E402

VIEWS = {"orthographic": Orthographic(30.0, 20.0), "globe": Globe(30.0, 20.0), "mollweide": Mollweide(30.0)}
GREY = 0.88


def image_of(figure, axes=0):
    return next(a for a in figure.axes[axes].get_children() if isinstance(a, AxesImage)).get_array()


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_a_pixel_shows_the_direction_that_is_projected_there(view):
    directions, inside = view.directions(80)
    assert directions.shape[:2] == inside.shape == (round(80 * view.height / view.width), 80)
    np.testing.assert_allclose(np.linalg.norm(directions[inside], axis=1), 1, atol=1e-12)
    place, seen = view.project(directions[inside])
    assert seen.all()
    x = view.width * ((np.arange(80) + 0.5) / 40 - 1)
    rows = len(inside)
    y = view.height * (1 - (np.arange(rows) + 0.5) * 2 / rows)
    expected = np.stack(np.meshgrid(x, y), axis=-1)[inside]
    np.testing.assert_allclose(place, expected, atol=1e-9)


def test_views_have_north_up_east_right_and_their_centre_in_the_middle():
    for view in (Orthographic(40.0, 0.0), Globe(40.0, 0.0), Mollweide(40.0)):
        angle = math.radians(40)
        middle = np.array([[math.cos(angle), math.sin(angle), 0.0]])
        np.testing.assert_allclose(view.project(middle)[0], 0, atol=1e-9)
        north = view.project(np.array([[math.cos(angle) * 0.8, math.sin(angle) * 0.8, 0.6]]))[0][0]
        east = view.project(np.array([[math.cos(angle + 0.3), math.sin(angle + 0.3), 0.0]]))[0][0]
        assert north[1] > 0.3 > abs(north[0])
        assert east[0] > 0.1 > abs(east[1])


def test_mollweide_keeps_areas():
    """Each pixel shows the same solid angle: the mean of z^2 over them is 1/3."""
    directions, inside = Mollweide(0.0).directions(400)
    assert float((directions[inside][:, 2] ** 2).mean()) == pytest.approx(1 / 3, abs=2e-3)
    front, disc = Orthographic(0.0, 0.0).directions(400)
    assert float((front[disc][:, 2] ** 2).mean()) < 0.26  # an orthographic view does not


def test_lines_are_not_torn_across_the_edge_of_a_map():
    turn = np.linspace(0, 2 * np.pi, 361)
    equator = np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1)
    for centre in (0.0, 77.0, 180.0):
        runs = Mollweide(centre).runs(equator)
        assert max(np.abs(np.diff(run[:, 0])).max() for run in runs) < 0.1
        assert sum(np.abs(np.diff(run[:, 0])).sum() for run in runs) == pytest.approx(4, abs=0.05)


SAMPLINGS = {
    "healpix": spheres.healpix(8),
    "equiangular": spheres.equiangular(31),
    "cubed": spheres.cubed(8),
    "random": spheres.random(700, seed=0),
    "many": spheres.fibonacci(30_000),
}


@pytest.mark.parametrize("view", ["hemispheres", "mollweide", "3d"])
@pytest.mark.parametrize(("name", "bare"), [*((name, False) for name in SAMPLINGS), ("equiangular", True)])
def test_every_sampling_is_drawn_in_every_view_without_gaps(name, view, bare):
    s = SAMPLINGS[name]
    figure = plot.sphere_signal(s.pos if bare else s, s.pos[:, 2], view=view, pixels=120, label="height", title="t")
    assert {"height", "t"} <= set(texts(figure))
    if view != "hemispheres" or s.num_nodes > 20_000:
        image = image_of(figure)
        shown = image[image[..., 3] > 0]
        assert not (np.abs(shown[:, :3] - GREY).max(axis=1) < 1e-9).any()
        assert shown[:, 0].std() > 0.05


def test_bytes_are_colours_from_0_to_255():
    ball = spheres.icosphere(2)
    number = torch.rand(len(ball.pos), 3, generator=torch.Generator().manual_seed(0))
    byte = (255 * number).round().to(torch.uint8)
    pictures = [image_of(plot.sphere_signal(ball, v, view="mollweide", pixels=60)) for v in (byte, byte / 255)]
    np.testing.assert_allclose(*pictures, atol=1e-6)
    assert 0.3 < pictures[0][..., :3].mean() < 0.9


def test_colours_are_shown_as_they_are_and_rows_may_differ():
    s = spheres.healpix(16)
    colour = torch.stack([(s.pos[:, 2] > 0).float(), torch.full((3072,), 0.25), torch.zeros(3072)], dim=1)
    figure = plot.sphere_signal(s, {"colour": colour, "beyond": 2 * colour - 0.5}, view="mollweide", pixels=200)
    image = image_of(figure)
    np.testing.assert_allclose(image[10, 100], [1, 0.25, 0, 1], atol=1e-6)
    np.testing.assert_allclose(image[90, 100], [0, 0.25, 0, 1], atol=1e-6)
    assert len(figure.axes) == 2  # colours need no colour bar
    mixed = plot.sphere_signal(s, {"colour": colour, "value": s.pos[:, 0]}, view="mollweide", pixels=100)
    assert len(mixed.axes) == 3
    assert rendered(mixed).std() > 5


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("view", ["hemispheres", "mollweide", "3d"])
def test_what_a_partial_sky_does_not_hold_is_grey(view, bare):
    whole = spheres.healpix(16)
    part = whole.part(whole.pos[:, 2] > 0)
    figure = plot.sphere_signal(part.pos if bare else part, part.pos[:, 2] + 5, view=view, pixels=200, elevation=0.0)
    image = image_of(figure)
    missing = np.isclose(image[..., 0], image[..., 1]) & np.isclose(image[..., 1], image[..., 2]) & (image[..., 3] > 0)
    rows = len(image) // 2
    inside = image[..., 3] > 0
    assert missing[int(1.2 * rows) :].sum() == inside[int(1.2 * rows) :].sum()
    assert missing[: int(0.93 * rows)].sum() == 0


def test_two_hundred_thousand_pixels_take_a_few_seconds():
    s = spheres.healpix(128)
    start = time.perf_counter()
    rendered(plot.sphere_signal(s, s.pos[:, 0] * s.pos[:, 2], view="mollweide"))
    assert time.perf_counter() - start < 20  # one or two on a quiet machine; polygons took minutes


def test_arrows_and_outlines_are_drawn_on_maps_and_globes():
    from matplotlib.quiver import Quiver

    s = spheres.fibonacci(400)
    east = torch.stack([-s.pos[:, 1], s.pos[:, 0], torch.zeros(400)], dim=1)
    coast = np.stack([np.linspace(-170, 170, 50), np.full(50, 30.0)], axis=1)
    for view, most in (("mollweide", 100), ("3d", 60)):
        figure = plot.sphere_signal(s, vectors=east, outlines=[coast], arrows=100, view=view, vector_label="m/s")
        arrows = next(a for a in figure.axes[0].get_children() if isinstance(a, Quiver))
        assert 20 < arrows.N <= most
        assert np.abs(arrows.V).max() < (0.05 if view == "mollweide" else 1)  # east is to the right on a map
        assert (arrows.U > 0).all() or view == "3d"  # beyond the pole of a globe it is to the left
        assert rendered(figure).std() > 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"view": "mercator"}, "view must be 'hemispheres', 'mollweide' or '3d', got 'mercator'"),
        ({"value": torch.rand(11, 3)}, "colours must have shape [12, 3], one for each vertex, got [11, 3]"),
        ({"value": torch.rand(12, 4)}, "value must have shape [12], one for each vertex, got [12, 4]"),
        ({"value": torch.full((12,), math.nan)}, "value must be finite"),
        ({"value": {}}, "there is nothing to draw: value is empty"),
    ],
)
def test_bad_signals_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        plot.sphere_signal(**({"pos": spheres.icosphere(0), "value": torch.rand(12)} | arguments))


def test_nearest_knows_gaps_from_steps_between_rings():
    pole = spheres.gauss_legendre(30).pos.numpy()  # crowded at the poles, rings far apart
    assert Nearest(pole, None).sees_all()
    assert not Nearest(pole[: len(pole) // 2], None).sees_all()


# globes to turn


def test_interactive_spheres_show_numbers_classes_colours_relief_and_parts():
    go = pytest.importorskip("plotly.graph_objects")
    s = spheres.healpix(8)
    globe = plot.interactive_sphere(s, s.pos[:, 2], rows=31, label="z", relief=0.5)
    surface = globe.data[0]
    assert isinstance(surface, go.Surface)
    radius = np.sqrt(surface.x**2 + surface.y**2 + surface.z**2)
    np.testing.assert_allclose(radius, 1 + 0.5 * surface.surfacecolor / surface.surfacecolor.max(), atol=1e-6)
    named = plot.interactive_sphere(s, (s.pos[:, 0] > 0).long(), classes=["back", "front"], rows=31)
    assert list(named.data[0].colorbar.ticktext) == ["back", "front"]
    coloured = plot.interactive_sphere(s.part(s.pos[:, 2] > 0), torch.rand(int((s.pos[:, 2] > 0).sum()), 3), rows=31)
    mesh = coloured.data[0]
    assert isinstance(mesh, go.Mesh3d)
    corners = np.stack([mesh.i, mesh.j, mesh.k])
    assert 0 < corners.shape[1] < 2 * 30 * 60
    assert mesh.z[corners].min() > -0.2


# filters


def test_filters_of_a_basis_are_evaluated_where_they_are_drawn():
    basis = filter_basis("hann", (3, 3), cutoff=0.4)
    figure = plot.sphere_filters(basis, title="Hann")
    assert {"0", "3", "Hann"} <= set(texts(figure))
    peak = [np.unravel_index(np.nanargmax(image_of(figure, k)), (220, 220)) for k in range(4)]
    assert abs(peak[0][0] - 110) < 3  # the first is a bump in the middle
    assert abs(peak[0][1] - 110) < 3
    turned = plot.sphere_filters(lambda r, angle: torch.exp(-r) * angle.cos(), cutoff=0.5)
    image = image_of(turned)
    assert np.nanargmax(image[:, 110]) > 110 > np.nanargmin(image[:, 110])  # cos(angle) is largest to the south: down
    east = image_of(plot.sphere_filters(lambda r, angle: torch.exp(-r) * angle.sin(), cutoff=0.5))
    assert np.nanargmax(east[110]) > 110  # and sin(angle) to the east: right
    (rim,) = [p for p in figure.axes[0].patches if isinstance(p, Circle)]
    assert rim.radius == pytest.approx(math.sin(0.4))


def test_learned_filters_are_sums_of_the_basis():
    basis = filter_basis("hann", (3, 3), cutoff=0.4)
    weight = torch.tensor([[[2.0, 0, 0, 0], [0, 1, -1, 0]]])
    plain, learned = plot.sphere_filters(basis), plot.sphere_filters(basis, weight, names=["a", "b"])
    np.testing.assert_allclose(image_of(learned, 0), 2 * image_of(plain, 0))
    np.testing.assert_allclose(image_of(learned, 1), image_of(plain, 1) - image_of(plain, 2), atol=1e-12)
    assert {"a", "b"} <= set(texts(learned))


def test_filters_given_at_nodes_are_seen_from_their_middle():
    s = spheres.healpix(32)
    centre = groups.S2.random(1, seed=3)[0]
    r = groups.S2.distance(s.pos, centre.expand_as(s.pos))
    height = torch.where(r < 0.3, s.pos[:, 2] - centre[2] + 2, 0.0)  # largest to the north
    figure = plot.sphere_filters(torch.stack([torch.relu(0.3 - r), height], dim=1), pos=s)
    bump, north = image_of(figure, 0), image_of(figure, 1)
    row, column = np.unravel_index(np.nanargmax(bump), bump.shape)
    assert abs(row - 110) < 8
    assert abs(column - 110) < 8
    assert np.nanargmax(north[:, 110]) < 60


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("hann",), TypeError, "basis must be a FilterBasis, a function of (r, angle) or values, got str"),
        ((torch.rand(5, 2),), ValueError, "values at nodes need pos"),
        ((lambda r, a: r,), ValueError, "cutoff is the radius to draw, from 0 to pi radians, got None"),
        ((filter_basis("hann", 3, 0.2), torch.rand(5, 7)), ValueError, "on its last axis, got [5, 7]"),
    ],
)
def test_bad_filters_are_named(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        plot.sphere_filters(*arguments)


@pytest.mark.parametrize("wrong", [{"most": 0}, {"columns": 0}])
def test_no_pictures_are_no_figure(wrong):
    with pytest.raises(ValueError, match="columns and most must be at least 1"):
        plot.sphere_filters(filter_basis("hann", 3, 0.2), **wrong)


# panoramas


def test_panoramas_say_their_rate_and_show_the_error():
    image = torch.rand(3, 32, 64)
    worse = (image + 0.2).clamp(max=1)
    figure = plot.panorama_comparison(
        image, {"one": image, "two": worse}, {"one": 1.25, "two": 0.123}, {"one": 50.0}, detail=(0, 0, 40), title="t"
    )
    assert {"one, 1.25 bit per pixel, 50.00 dB", "two, 0.123 bit per pixel", "original", "t"} <= set(texts(figure))
    maps = [a for axes in figure.axes for a in axes.get_images() if a.get_array().ndim == 2]
    exact, off = (a.get_array() for a in maps[:2])
    assert float(exact.max()) == 0
    np.testing.assert_allclose(off, (worse - image).abs().mean(0), atol=1e-6)
    assert rendered(figure).std() > 5


def test_panoramas_of_bytes_of_one_channel_and_of_millions_of_pixels():
    image = torch.randint(0, 255, (1, 900, 1800), dtype=torch.uint8)
    figure = plot.panorama_comparison(image, image, 0.5, 40.0)
    assert max(max(a.get_array().shape) for axes in figure.axes for a in axes.get_images()) <= 1600
    assert "decoded, 0.5 bit per pixel, 40.00 dB" in texts(figure)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decoded": torch.rand(3, 16, 32)}, "decoded must be as large as the original, [8, 16, 3], got [16, 32, 3]"),
        ({"original": torch.rand(8, 16)}, "original must have shape [3, H, W] or [1, H, W], got [8, 16]"),
        ({"decoded": torch.full((3, 8, 16), math.nan)}, "decoded must be finite"),
        ({"detail": (175, 0, 30)}, "detail must be a window on the image"),
        ({"decoded": {}}, "decoded must hold at least one image, got none"),
        ({"peak": 0.0}, "peak is the largest value of a pixel and must be positive, got 0.0"),
    ],
)
def test_bad_panoramas_are_named(arguments, message):
    image = torch.rand(3, 8, 16)
    with pytest.raises(ValueError, match=re.escape(message)):
        plot.panorama_comparison(**({"original": image, "decoded": image} | arguments))


# errors


def test_slopes_are_those_of_the_curves():
    size = np.array([8, 16, 32, 64])
    figure = plot.error_by_resolution(
        size, {"square": size**-2.0, "flat": np.full(4, 1.5), "exact": [0.1, 0.05, 0, 0]}, target=1e-3, xlabel="L"
    )
    words = set(texts(figure))
    assert {"square  (slope -2.0)", "flat  (slope 0.0)", "exact  (slope -1.0)", "aim 0.001", "L", "64"} <= words
    assert rendered(figure).std() > 5
    single = plot.error_by_resolution({"a": [1, 2], "b": [4, 8, 16]}, {"a": [1, 0.5], "b": [1, 2, 3]}, slopes=False)
    assert {"a", "b"} <= set(texts(single))


@pytest.mark.parametrize(
    ("resolution", "errors", "message"),
    [
        ([8, 16], {"a": [1.0]}, "errors a must have one number for each resolution"),
        ([0, 16], [1.0, 1.0], "resolutions must be positive"),
        ([8, 16], {"a": [1.0, -1.0]}, "errors a not negative"),
        ([8, 16], {"a": [0.0, 0.0]}, "there is nothing to draw: no error is above zero"),
        ({"b": [8, 16]}, {"a": [1.0, 1.0]}, r"resolution must name every curve, got \['b'\] without a"),
    ],
)
def test_bad_errors_are_named(resolution, errors, message):
    with pytest.raises(ValueError, match=message):
        plot.error_by_resolution(resolution, errors)
