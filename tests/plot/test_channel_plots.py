"""Pictures of spherical channel networks: channels, energies of a run, forces, errors by grid, curves over time."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from geomeq import plot
from geomeq.harmonics import spherical_harmonics

matplotlib = pytest.importorskip("matplotlib")
from matplotlib.collections import PolyCollection  # noqa: E402
from matplotlib.image import AxesImage  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

from tests.plot.test_plot import rendered, texts  # noqa: E402


def image_of(figure, axes=0):
    return next(a for a in figure.axes[axes].get_children() if isinstance(a, AxesImage)).get_array()


def outline_of(figure, axes=0):
    """Corners of everything that is drawn as polygons, ``[K, 2]``."""
    cells = next(a for a in figure.axes[axes].get_children() if isinstance(a, PolyCollection))
    return np.concatenate([path.vertices for path in cells.get_paths()])


def coordinate(name):
    """The function x, y or z on the sphere as one channel, ``[4, 1]`` (e3nn's order is x, y, z)."""
    x = torch.zeros(4, 1, dtype=torch.float64)
    x[1 + "xyz".index(name)] = 1 / 3**0.5
    return x


# spherical channels


@pytest.mark.parametrize(("name", "view"), [("y", (0.0, 0.0)), ("y", (70.0, 10.0)), ("x", (0.0, 0.0)), ("z", (90, 0))])
def test_a_ball_shows_the_function_with_y_upwards(name, view):
    """The eye of view (0, 0) looks from z: x is to the right; from (90, 0) it looks from x: z is to the left."""
    image = np.ma.masked_invalid(image_of(plot.spherical_channels(coordinate(name), style="colour", view=view)))
    up, right = image[:70].mean() - image[70:].mean(), image[:, 70:].mean() - image[:, :70].mean()
    if name == "y":
        assert up > 0.5 > 10 * abs(right)
    else:
        assert (right if name == "x" else -right) > 0.5 > 10 * abs(up)


def test_a_pixel_is_the_value_there():
    x = torch.randn(16, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image = np.asarray(image_of(plot.spherical_channels(x, style="colour", view=(0, 0)), 1))
    line = (np.arange(140) + 0.5) / 70 - 1
    right, up = line[100], -line[30]
    there = torch.tensor([right, up, math.sqrt(1 - right**2 - up**2)])
    value = float(spherical_harmonics(there, 3) @ x[:, 1])
    middle = torch.tensor([line[70], -line[70], math.sqrt(1 - 2 * line[70] ** 2)])
    other = float(spherical_harmonics(middle, 3) @ x[:, 1])
    assert image[30, 100] / image[70, 70] == pytest.approx(value / other, rel=1e-9)
    assert math.isnan(image[0, 0])


def test_a_surface_reaches_as_far_as_the_function_is_large():
    """|y| is two balls of diameter 1 that touch in the middle; a constant is one ball around it."""
    lobes = outline_of(plot.spherical_channels(coordinate("y"), view=(0, 0)))
    assert np.abs(lobes[:, 1]).max() == pytest.approx(1, abs=0.01)
    assert np.abs(lobes[:, 0]).max() == pytest.approx(0.5, abs=0.01)
    ball = outline_of(plot.spherical_channels(torch.ones(1, 1)))
    assert np.linalg.norm(ball, axis=1).max() == pytest.approx(1, abs=0.01)
    bump = outline_of(plot.spherical_channels(coordinate("x") + torch.eye(4, 1), view=(0, 0)))
    assert bump[:, 0].max() == pytest.approx(1, abs=0.01)
    assert bump[:, 0].min() > -0.4


def test_channels_are_chosen_named_and_scaled():
    x = torch.randn(9, 30, generator=torch.Generator().manual_seed(0))
    x[:, 1] *= 100
    figure = plot.spherical_channels(x, most=12, title="carbon", neighbours=torch.eye(3))
    assert {"carbon, 12 of 30 channels", "0", "11", "x", "y", "z"} <= set(texts(figure))
    chosen = plot.spherical_channels(x, channels=[1, 7], names=["a", "b"], shared_scale=True, style="colour")
    assert {"a", "b", "2 of 30 channels"} <= set(texts(chosen))
    assert np.nanmax(np.abs(image_of(chosen, 0))) == pytest.approx(1)
    assert np.nanmax(np.abs(image_of(chosen, 1))) < 0.1  # on the scale of the first
    assert rendered(figure).std() > 5


@pytest.mark.parametrize("style", ["radius", "colour"])
def test_atoms_are_rows_and_silent_channels_stay_empty(style):
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    x[:, 2] = 0
    atoms = {"C": x, "O": 2 * x}
    figure = plot.spherical_channels(atoms, neighbours={"C": torch.eye(3), "O": torch.ones(1, 3)}, style=style)
    assert len(figure.axes) == 6
    assert {"C", "O", "±0"} <= set(texts(figure))
    rendered(plot.spherical_channels(atoms, shared_scale=True, style=style))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.rand(5, 2)}, "x must be [(L + 1)^2, C], the channels of one atom, got [5, 2]"),
        ({"x": torch.rand(7, 4, 2)}, "give several atoms by name"),
        ({"x": {}}, "there is nothing to draw: x is empty"),
        ({"x": {"C": torch.rand(4, 2), "O": torch.rand(9, 2)}}, "all atoms must have the same channels"),
        ({"x": torch.full((4, 2), math.nan)}, "x must be finite"),
        ({"channels": [2]}, "channels must be numbers from 0 to 1, got [2]"),
        ({"names": ["a"]}, "names must have one entry for each of the 2 channels, got 1"),
        ({"neighbours": torch.rand(3)}, "neighbours must be vectors [K, 3], got [3]"),
        ({"neighbours": {"C": torch.rand(2, 3)}}, "neighbours must name every atom"),
        ({"style": "cube"}, "style must be 'radius' or 'colour', got 'cube'"),
        ({"columns": 0}, "columns and most must be at least 1"),
    ],
)
def test_bad_channels_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        plot.spherical_channels(**({"x": torch.rand(4, 2)} | arguments))


# energies of a run


def run(slope=0.0, samples=501):
    time = np.linspace(0, 5, samples)
    kinetic = 0.4 + 0.1 * np.sin(60 * time)
    return {"time": time, "kinetic": torch.from_numpy(kinetic), "potential": -5 - kinetic + slope * time}


def test_energies_are_drawn_from_the_start_with_their_drift():
    figure = plot.energy_conservation({"autograd": run(1e-6), "direct": run(0.1)}, title="Ethanol")
    above, below = figure.axes[0], figure.axes[3]
    np.testing.assert_allclose([line.get_ydata()[0] for line in above.lines[:3]], 0, atol=1e-12)
    np.testing.assert_allclose(below.lines[0].get_ydata()[-1], 0.5 / 0.4, rtol=1e-2)
    np.testing.assert_allclose(np.ptp(below.lines[1].get_ydata()), 0.5 / 0.4, rtol=1e-2)
    words = " ".join(texts(figure))
    assert "drift 1.2e-05, largest change 1.2e-05" in words
    assert "drift 1.2e+00" in words
    assert {"Ethanol", "autograd", "direct", "time (ps)", "total"} <= set(texts(figure))
    assert rendered(figure).std() > 5
    assert len(plot.energy_conservation(run()).axes) == 2


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "there is nothing to draw"),
        ({"a": {"time": [1.0]}}, "run 'a' must hold time, kinetic, potential, got ['time']"),
        ({"a": [1.0]}, "run 'a' must hold time, kinetic, potential, got list"),
        (run() | {"potential": np.full(501, np.nan)}, "must be finite"),
        ({k: v[:2] for k, v in run().items()}, "at least 3 samples"),
    ],
)
def test_bad_runs_are_named(runs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        plot.energy_conservation(runs)


# forces


@pytest.mark.parametrize("count", [40, 3000])
def test_forces_are_compared_by_component_element_and_angle(count):
    rng = np.random.default_rng(0)
    true, z = rng.normal(size=(count, 3)), rng.choice([1, 8], count)
    pred = true + 0.01 * z[:, None] * rng.normal(size=true.shape)
    figure = plot.force_parity(torch.from_numpy(true), pred, torch.from_numpy(z), title="test set")
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    wanted = [np.abs(pred - true)[rows].mean() for rows in (z > 0, z == 1, z == 8)]
    np.testing.assert_allclose(heights, wanted)
    assert {"all", "H", "O", "test set", "true component (eV/Å)"} <= set(texts(figure))
    assert f"MAE {wanted[0]:.3g} eV/Å" in "\n".join(texts(figure))
    assert rendered(figure).std() > 5


def test_the_angle_is_exact_where_it_is_small_and_where_it_is_half_a_turn():
    true = np.array([[1.0, 0, 0], [0, 2, 0], [0, 0, 3], [0, 0, 0]])
    turned = np.array([[1, 0.01, 0], [0, -1, 0], [5, 0, 5], [1, 1, 1]])
    axes = plot.force_parity(true, turned).axes[2]
    size, angle = axes.collections[0].get_offsets().T
    order = np.argsort(size)
    np.testing.assert_allclose(size[order], [1, 2, 3])
    np.testing.assert_allclose(angle[order], [np.degrees(np.arctan(0.01)), 180, 45], rtol=1e-9)
    rendered(plot.force_parity(np.zeros((2, 3)), np.ones((2, 3))))


def test_bad_forces_are_named():
    with pytest.raises(ValueError, match=r"\[N, 3\], got \[2, 3\] true ones and \[3, 3\] predicted"):
        plot.force_parity(torch.rand(2, 3), torch.rand(3, 3))
    with pytest.raises(ValueError, match="for each of the 2 forces, got 3"):
        plot.force_parity(torch.rand(2, 3), torch.rand(2, 3), [1, 1, 8])


# errors by resolution of a grid


def report(errors, tol=1e-4):
    modules = tuple(SimpleNamespace(name=k, kind=k.title(), errors={"rotation": v}) for k, v in errors.items())
    return SimpleNamespace(modules=modules, symmetries=("rotation",), tol=tol)


def test_errors_by_grid_are_written_and_the_broken_ones_framed():
    reports = {6: report({"mix": 1e-7, "act": 1e-2, "first": 1.0}), 12: report({"mix": 0.0, "act": 1e-5})}
    figure = plot.equivariance_by_resolution(reports, xlabel="rings")
    words = texts(figure)
    assert {"mix  Mix", "act  Act", "-2.0", "-5.0", "-7.0", "exact", "6", "12", "rings"} <= set(words)
    assert "first  First" not in words  # only in one of them
    frames = [p.get_xy() for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    assert [(round(x + 0.47), round(y + 0.45)) for x, y in frames] == [(0, 1)]
    assert rendered(figure).std() > 5
    rendered(plot.equivariance_by_resolution({1: report({"a": 0.0})}))
    assert "∞" in texts(plot.equivariance_by_resolution({1: report({"a": math.inf})}))


def test_what_fits_no_type_in_a_model_that_is_right_is_left_out():
    good, bad = {"in frame": 1.0, "act": 1e-6, "model": 1e-6}, {"in frame": 1.0, "act": 1e-2, "model": 1e-3}
    words = texts(plot.equivariance_by_resolution({3: report(bad), 9: report(good)}))
    assert "act  Act" in words
    assert "in frame  In Frame" not in words
    assert "in frame  In Frame" in texts(plot.equivariance_by_resolution({3: report(bad)}))  # here nobody can tell


def test_reports_that_do_not_compare_are_refused():
    with pytest.raises(ValueError, match="reports is empty"):
        plot.equivariance_by_resolution({})
    with pytest.raises(ValueError, match="report 3 did not test 'frames'; it has rotation"):
        plot.equivariance_by_resolution({3: report({"a": 1.0})}, symmetry="frames")
    with pytest.raises(ValueError, match="no submodule in common"):
        plot.equivariance_by_resolution({3: report({"a": 1.0}), 4: report({"b": 1.0})})


# learning curves of several runs over time


def test_runs_have_times_of_their_own():
    runs = {
        "ethanol": [{"epoch": 1, "hours": 0.1, "error": 30.0}, {"epoch": 2, "hours": 0.2, "error": 10.0}],
        "aspirin": {"hours": [0.0, 0.3, 0.6], "error": [90.0, 50.0, 20.0]},
    }
    axes = plot.learning_curve(runs, against="hours", quantity="force error", unit="meV/Å").axes[0]
    assert axes.get_xlabel() == "time (h)"
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0.1, 0.2])
    np.testing.assert_allclose(axes.lines[1].get_xdata(), [0, 0.3, 0.6])
    assert {"ethanol 10", "aspirin 20"} <= {t.get_text() for t in axes.texts}
    logarithmic = plot.learning_curve(runs, against="hours", log_steps=True)
    assert logarithmic.axes[0].get_xscale() == "log"
    np.testing.assert_allclose(logarithmic.axes[0].lines[1].get_xdata(), [0.3, 0.6])  # no logarithm of 0
    rendered(logarithmic)
    by_epoch = plot.learning_curve(runs["ethanol"]).axes[0]
    assert by_epoch.get_xlabel() == "epoch"
    assert len(by_epoch.lines) == 1  # hours are no curve


@pytest.mark.parametrize(
    ("runs", "arguments", "message"),
    [
        ({"a": {"hours": [1, 2], "e": [1, 2]}, "b": {"epoch": [1, 2], "e": [1, 2]}}, {}, "share one horizontal axis"),
        ({"a": {"epoch": [1, 2], "e": [1, 2]}}, {"against": "hours"}, "got 'hours'; there are ['e', 'epoch']"),
        ({"a": [{"epoch": 1}]}, {}, "no curve in any of its runs"),
        ({"epoch": [0], "e": [1.0]}, {"log_steps": True}, "log_steps needs steps above 0"),
    ],
)
def test_runs_that_do_not_compare_are_refused(runs, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        plot.learning_curve(runs, **arguments)
