import subprocess
import sys

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq import plot
from geomeq.testing import equivariance_report
from tests.testing._toys import Centre, VectorNet, ring_graph

matplotlib = pytest.importorskip("matplotlib")
from matplotlib.colors import to_hex  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.patches import Circle, Polygon  # noqa: E402


def methanol():
    pos = [[-0.047, 0.661, 0.0], [-0.047, -0.758, 0.0], [-1.093, 0.969, 0.0], [0.438, 1.070, 0.889],
           [0.438, 1.070, -0.889], [0.877, -1.055, 0.0]]  # fmt: skip
    return Data(pos=torch.tensor(pos), z=torch.tensor([6, 8, 1, 1, 1, 1]))


def rendered(figure):
    """Draws the figure; returns its pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    assert isinstance(figure, Figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def atoms_of(axes):
    return [p for p in axes.patches if isinstance(p, Circle) and p.get_linewidth() > 0]


def arrows_of(axes):
    return [p for p in axes.patches if isinstance(p, Polygon) and len(p.get_xy()) == 8]  # seven corners, closed


def test_molecule_has_its_atoms_bonds_formula_and_scale():
    figure = plot.molecule(methanol())
    axes = figure.axes[0]
    assert len(atoms_of(axes)) == 6
    assert sum(isinstance(p, Polygon) for p in axes.patches) == 3 * 5  # five bonds, three shades each
    assert {"CH$_{4}$O", "1 Å", "C", "O"} <= set(texts(figure))
    assert rendered(figure).std() > 5  # not an empty page


@pytest.mark.parametrize("view", [(0.0, 0.0), (90.0, 0.0), (30.0, 60.0)])
def test_arrows_point_along_the_projected_vectors(view):
    data = methanol()
    data.force = torch.zeros(6, 3)
    data.force[5] = torch.tensor([1.0, 2.0, 3.0])
    axes = plot.molecule(data, "force", unit="eV/Å", view=view).axes[0]
    arrow, key = arrows_of(axes)
    corners = arrow.get_xy()
    drawn = corners[3] - (corners[0] + corners[6]) / 2  # tip minus middle of the tail
    azimuth, elevation = np.radians(view)
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0])
    up = np.array([-np.sin(elevation) * np.cos(azimuth), -np.sin(elevation) * np.sin(azimuth), np.cos(elevation)])
    wanted = np.array([right @ [1, 2, 3], up @ [1, 2, 3]]) * 1.3 / 14**0.5
    np.testing.assert_allclose(drawn, wanted, atol=1e-6)
    length = np.ptp(key.get_xy()[:, 0])
    assert length == pytest.approx(4 * 1.3 / 14**0.5)  # the key says "force 4 eV/Å"


def test_key_names_the_vector_and_its_unit():
    data = methanol()
    data.force = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    assert any(t.startswith("force ") and t.endswith("eV/Å") for t in texts(plot.molecule(data, "force", unit="eV/Å")))
    assert len(arrows_of(plot.molecule(data, data.force).axes[0])) >= 6


def test_the_default_view_shows_the_molecule_and_not_its_mirror_image():
    from geomeq.plot._molecule import _view_matrix

    rng = np.random.default_rng(0)
    for pos in (rng.normal(size=(7, 3)), rng.normal(size=(1, 3)), rng.normal(size=(2, 3)), np.zeros((3, 3))):
        turn = _view_matrix(pos, None)
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(turn) == pytest.approx(1)


def test_nearer_atoms_hide_farther_ones():
    data = Data(pos=torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 5.0]]), z=torch.tensor([8, 7]))
    from_above = atoms_of(plot.molecule(data, view=(0, 90)).axes[0])
    from_below = atoms_of(plot.molecule(data, view=(0, -90)).axes[0])
    last = [to_hex(patches[-1].get_facecolor()) for patches in (from_above, from_below)]
    assert last[0] != last[1]
    blue, red = (int(last[0][5:], 16), int(last[1][1:3], 16))
    assert blue > 150  # nitrogen is nearer from above
    assert red > 150


def test_bonds_can_come_from_the_edges():
    data = methanol()
    data.edge_index = torch.tensor([[0, 1, 2], [1, 0, 3]])
    count = [
        sum(isinstance(p, Polygon) for p in plot.molecule(data, bonds=b).axes[0].patches) for b in ("edges", "none")
    ]
    assert count == [3 * 2, 0]


@pytest.mark.parametrize(
    ("change", "kwargs", "message"),
    [
        ({"z": None}, {}, r"data.z \[N\]; one of them is missing"),
        ({"z": torch.ones(3)}, {}, r"got \[6, 3\] and \[3\]"),
        ({"pos": torch.full((6, 3), float("nan"))}, {}, "18 of its values are NaN"),
        ({}, {"vectors": "force"}, "no attribute 'force'"),
        ({}, {"vectors": torch.ones(5, 3)}, r"vectors must have shape \[6, 3\], got \[5, 3\]"),
        ({}, {"bonds": "edges"}, "needs data.edge_index"),
        ({}, {"bonds": "covalent"}, "bonds must be"),
    ],
)
def test_bad_molecules_say_what_is_wrong(change, kwargs, message):
    data = methanol()
    for name, value in change.items():
        data[name] = value
    with pytest.raises(ValueError, match=message):
        plot.molecule(data, **kwargs)


def test_a_batch_of_molecules_is_refused_and_one_of_them_is_drawn():
    batch = Batch.from_data_list([methanol(), methanol()])
    with pytest.raises(ValueError, match=r"batch\[0\]"):
        plot.molecule(batch)
    assert len(atoms_of(plot.molecule(batch[1]).axes[0])) == 6


def test_learning_curve_draws_each_curve_with_its_last_value():
    history = {"train": [1.0, 0.5, 0.25], "validation": torch.tensor([1.1, 0.7, 0.42])}
    figure = plot.learning_curve(history, quantity="error", unit="eV", baselines={"mean": 2.0}, title="run")
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [1.1, 0.7, 0.42], rtol=1e-6)
    assert axes.get_yscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "error (eV)")
    assert {"train 0.25", "validation 0.42", "mean 2"} <= set(texts(figure))
    assert rendered(figure).std() > 5


def test_learning_curve_reads_records_with_gaps_and_falls_back_to_a_linear_axis():
    records = [{"step": 0, "loss": 1.0}, {"step": 10, "loss": -0.5, "validation": 0.7}, {"step": 20, "loss": 0.2}]
    axes = plot.learning_curve(records).axes[0]
    assert axes.get_xlabel() == "step"
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0, 10, 20])
    np.testing.assert_allclose(axes.lines[1].get_xdata(), [10])
    assert axes.get_yscale() == "linear"


def test_labels_at_the_ends_of_equal_curves_do_not_touch():
    figure = plot.learning_curve({str(k): [1.0, 0.5] for k in range(6)})
    rendered(figure)
    heights = sorted(t.xy[1] for t in figure.axes[0].texts)
    assert min(np.diff(heights)) > 0.06
    assert heights[0] > -0.1
    assert heights[-1] < 1.1


@pytest.mark.parametrize("history", [{}, [], {"epoch": [1, 2]}, {"epoch": [1, 2], "loss": [1.0]}, {"loss": []}])
def test_bad_histories_are_refused(history):
    with pytest.raises(ValueError, match=r"no curve|one value for each|empty"):
        plot.learning_curve(history)


@pytest.mark.parametrize("count", [5, 5000])
def test_parity_writes_the_errors_it_shows(count):
    rng = np.random.default_rng(0)
    true = rng.normal(size=count)
    pred = true + 0.1 * rng.normal(size=count)
    figure = plot.parity(torch.tensor(true), pred, "eV", quantity="energy", title="test set")
    text = "\n".join(texts(figure))
    assert f"MAE {np.abs(pred - true).mean():.3g} eV" in text
    assert f"RMSE {np.sqrt(((pred - true) ** 2).mean()):.3g} eV" in text
    assert f"R² {1 - ((pred - true) ** 2).sum() / ((true - true.mean()) ** 2).sum():.4f}" in text
    assert "true energy (eV)" in text
    assert f"n = {count:,}" in text
    assert rendered(figure).std() > 5


def test_parity_of_one_value_and_of_wrong_shapes():
    rendered(plot.parity([1.0], [1.0]))
    with pytest.raises(ValueError, match=r"same shape, got \[2\] and \[3\]"):
        plot.parity([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="empty"):
        plot.parity([], [])


def test_equivariance_picture_marks_the_culprit_and_draws_every_error():
    report = equivariance_report(VectorNet(centre=Centre(1)).double(), ring_graph(), irreps_out="1o")
    figure = plot.equivariance_by_layer(report)
    axes = figure.axes[0]
    bold = [label.get_text() for label in axes.get_yticklabels() if label.get_fontweight() == "bold"]
    assert bold == ["centre  Centre"]
    assert "First broken by centre" in texts(figure)
    drawn = {line.get_label(): line.get_xdata() for line in axes.lines if line.get_label() in report.symmetries}
    rotation = [m.errors["rotation"] for m in report.modules]
    np.testing.assert_allclose(drawn["rotation"], rotation)
    low, high = axes.get_xlim()
    assert all(low < x < high for values in drawn.values() for x in values)
    assert rendered(figure).std() > 5


def test_pictures_leave_the_global_state_of_matplotlib_alone():
    code = (
        "import sys, torch; from torch_geometric.data import Data; from geomeq import plot\n"
        "assert not any(m.startswith('matplotlib') for m in sys.modules), 'imported with geomeq.plot'\n"
        "plot.molecule(Data(pos=torch.rand(2, 3), z=torch.tensor([1, 8])))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_without_matplotlib_the_error_carries_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'geomeq\[plot\]'"):
        plot.parity([1.0], [2.0])
