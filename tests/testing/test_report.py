import matplotlib.figure
import pytest
import torch
from e3nn import o3
from torch import nn
from torch_geometric.nn import SAGEConv
from torch_geometric.transforms import BaseTransform, Compose

from geomeq.testing import equivariance_report
from tests.testing._toys import Centre, IrrepsNet, Mix, VectorNet, pull, ring_graph, two_graphs

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@DTYPES
def test_a_correct_network_passes_and_every_submodule_is_listed(dtype):
    report = equivariance_report(VectorNet().to(dtype), two_graphs(dtype), irreps_out="1x1o")
    assert report.passed
    assert report.first_broken is None
    assert [m.name for m in report.modules] == ["centre", "first", "act.lin", "act", "last", "(model)"]
    assert report.symmetries == ("rotation", "reflection", "translation", "permutation")
    assert set(report.skipped) == {"frames"}
    assert max(error for row in report.errors.values() for error in row.values()) < (
        1e-5 if dtype == torch.float32 else 1e-12
    )


@DTYPES
def test_types_are_found_where_nobody_declared_them(dtype):
    report = equivariance_report(VectorNet().to(dtype), ring_graph(dtype=dtype), irreps_out="1x1o")
    found = {m.name: m.type for m in report.modules}
    assert found == {
        "centre": "1x1o",
        "first": "1x1o",
        "act.lin": "invariant",
        "act": "1x1o",
        "last": "1x1o",
        "(model)": "1x1o",
    }


@DTYPES
@pytest.mark.parametrize("seed", range(3))
def test_a_relu_on_a_vector_channel_is_named(dtype, seed):
    torch.manual_seed(seed)
    report = equivariance_report(VectorNet(act=nn.ReLU()).to(dtype), ring_graph(dtype=dtype), irreps_out="1x1o")
    assert report.first_broken == "act"
    assert report.culprits == {"rotation": "act", "reflection": "act"}
    assert report.errors["first"]["rotation"] < 1e-4 < 1e-2 < report.errors["act"]["rotation"]
    assert "rotation: first broken by act" in str(report)
    (last,) = (m for m in report.modules if m.name == "last")
    assert "rotation" in last.inherited  # wrong because of what it was given


@DTYPES
def test_a_relu_on_irreps_is_named(dtype):
    report = equivariance_report(IrrepsNet(act=nn.ReLU()).to(dtype), ring_graph(dtype=dtype))
    assert report.first_broken == "act"
    assert equivariance_report(IrrepsNet().to(dtype), ring_graph(dtype=dtype)).passed


@DTYPES
def test_centring_by_the_wrong_mean_is_named(dtype):
    model = VectorNet(centre=Centre(dim=1)).to(dtype)
    report = equivariance_report(model, ring_graph(dtype=dtype), irreps_out="1x1o")
    assert report.first_broken == "centre"
    assert report.culprits == {"rotation": "centre", "reflection": "centre", "translation": "centre"}


@DTYPES
def test_a_bug_outside_any_submodule_is_placed_in_the_code_around_it(dtype):
    class Inline(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.first, self.last, self.dim = Mix(2, 4), Mix(4, 1), dim

        def forward(self, data):
            pos = data.pos - data.pos.mean(self.dim, keepdim=True)
            v = torch.stack([pos, pull(pos, data.edge_index)], dim=1)
            return self.last(self.first(v))[:, 0]

    report = equivariance_report(Inline(1).to(dtype), ring_graph(dtype=dtype), irreps_out="1x1o")
    assert report.first_broken == "(model)"
    assert report.notes["translation"] == "in its own code, before it calls first"
    assert equivariance_report(Inline(0).to(dtype), ring_graph(dtype=dtype), irreps_out="1x1o").passed


def test_a_bug_after_the_last_submodule_is_placed_there():
    class Late(VectorNet):
        def forward(self, data):
            return super().forward(data).relu()

    report = equivariance_report(Late().double(), ring_graph(), irreps_out="1x1o")
    assert report.first_broken == "(model)"
    assert report.notes["rotation"] == "in its own code, after its submodules"


class CentreStep(BaseTransform):
    def __init__(self, dim):
        self.dim = dim

    def forward(self, data):
        data.pos = data.pos - data.pos.mean(self.dim, keepdim=True)
        return data


class Lengths(BaseTransform):
    def forward(self, data):
        data.edge_dist = (data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]).norm(dim=-1, keepdim=True)
        return data


@DTYPES
def test_a_bug_in_the_data_pipeline_is_named(dtype):
    model, raw = VectorNet(centre=nn.Identity()).to(dtype), two_graphs(dtype)
    for dim, culprit in ((0, None), (1, "transform[1] CentreStep")):
        pipeline = Compose([Lengths(), CentreStep(dim)])
        report = equivariance_report(model, raw, irreps_out="1x1o", transform=pipeline)
        assert report.first_broken == culprit
        assert set(report.culprits) == (set() if culprit is None else {"rotation", "reflection", "translation"})
        assert [m.name for m in report.modules][:2] == ["transform[0] Lengths", "transform[1] CentreStep"]


def test_a_transform_whose_edges_depend_on_the_orientation_is_named():
    def uphill(data):
        source, target = data.edge_index
        data.edge_index = data.edge_index[:, data.pos[source, 2] < data.pos[target, 2]]
        return data

    report = equivariance_report(VectorNet().double(), ring_graph(), irreps_out="1x1o", transform=uphill)
    assert report.culprits == {"rotation": "transform[0] uphill", "reflection": "transform[0] uphill"}


def test_only_the_symmetry_that_breaks_is_reported():
    class Handed(nn.Module):
        def forward(self, v):
            return v + torch.linalg.cross(v, v.roll(1, dims=1))

    class Numbered(nn.Module):
        def forward(self, v):
            return v * torch.arange(1, 1 + v.size(0), dtype=v.dtype)[:, None, None]

    data = ring_graph()
    assert equivariance_report(VectorNet(act=Handed()).double(), data, irreps_out="1o").culprits == {
        "reflection": "act"
    }
    assert equivariance_report(VectorNet(act=Numbered()).double(), data, irreps_out="1o").culprits == {
        "permutation": "act"
    }


def test_layouts_without_a_name_are_found_isometric_and_not_accused():
    class Repack(nn.Module):  # scalars and vectors in one row, mixed by a fixed orthogonal matrix
        def __init__(self):
            super().__init__()
            self.register_buffer("q", torch.linalg.qr(torch.randn(24, 24, dtype=torch.float64))[0])

        def forward(self, v):
            return (v.flatten(1) @ self.q) if v.dim() == 3 else (v @ self.q.T).unflatten(1, (8, 3))

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.pack = Repack()
            self.unpack = lambda v: self.pack.forward(v)

        def forward(self, v):
            return self.unpack(self.pack(v))

    report = equivariance_report(VectorNet(act=Wrapped()).double(), ring_graph(), irreps_out="1o")
    assert report.passed
    assert {m.name: m.type for m in report.modules}["act.pack"] == "isometric"


def test_modules_called_twice_are_listed_twice():
    class Twice(VectorNet):
        def __init__(self):
            super().__init__()
            self.first, self.last = Mix(2, 2), Mix(2, 1)
            self.act = nn.Sequential(self.first, self.first)

    names = [m.name for m in equivariance_report(Twice().double(), ring_graph(), irreps_out="1o").modules]
    assert {"first", "first#2", "first#3"} <= set(names)


def test_change_of_frames_is_tested_where_there_are_frames():
    class Tangent(nn.Module):
        def __init__(self, bug):
            super().__init__()
            self.lin = nn.Identity()
            self.act = nn.ReLU() if bug else nn.Identity()

        def forward(self, data):
            v = torch.einsum("nij,nj->ni", data.frame, data.vel)[:, :2]
            return self.act(self.lin(v))

    data = ring_graph()
    data.frame = torch.linalg.qr(torch.randn(6, 3, 3, dtype=torch.float64))[0]
    good = equivariance_report(Tangent(False), data, irreps_out="1x1")
    assert good.passed
    assert "frames" in good.symmetries
    assert equivariance_report(Tangent(True), data, irreps_out="1x1").culprits == {"frames": "act"}


def test_a_message_passing_layer_of_pyg_is_listed():
    class Invariant(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = SAGEConv(2, 4)

        def forward(self, data):
            return self.conv(data.x * data.vel.norm(dim=-1, keepdim=True), data.edge_index)

    report = equivariance_report(Invariant().double(), ring_graph())
    assert report.passed
    assert "conv" in report.errors


def test_functions_and_calls_get_one_line_for_the_whole():
    assert [m.name for m in equivariance_report(lambda d: d.x, ring_graph()).modules] == ["(model)"]
    layer = o3.Linear("1x1o", "2x1o").double()
    report = equivariance_report(layer, ring_graph(), irreps_out="1x1o", call=lambda m, d: m(d.vel)[:, :3].relu())
    assert [m.name for m in report.modules] == ["(model)", "(call)"]
    assert report.first_broken == "(call)"


def test_hooks_and_modes_are_left_as_they_were():
    class Failing(VectorNet):
        fail = False

        def forward(self, data):
            out = super().forward(data)
            if self.fail:
                raise RuntimeError("on purpose")
            return out

    model = Failing().double().train()
    model.act.eval()
    calls = []
    handle = model.first.register_forward_hook(lambda *_: calls.append(1))
    equivariance_report(model, ring_graph(), irreps_out="1o")
    model.fail = True
    with pytest.raises(RuntimeError, match="on purpose"):
        equivariance_report(model, ring_graph(), irreps_out="1o")
    assert all(len(m._forward_hooks) == (m is model.first) and not m._forward_pre_hooks for m in model.modules())
    assert calls
    assert model.training
    assert model.first.training
    assert not model.act.training
    handle.remove()


def test_a_compiled_model_is_looked_into():
    model = torch.compile(VectorNet(act=nn.ReLU()).double(), backend="eager")
    assert equivariance_report(model, ring_graph(), irreps_out="1o").first_broken == "act"


def test_symmetries_can_be_chosen_and_bad_choices_are_refused():
    model = VectorNet().double()
    assert equivariance_report(model, ring_graph(), irreps_out="1o", symmetries=["translation"]).symmetries == (
        "translation",
    )
    with pytest.raises(ValueError, match="cannot test frames: nothing in data moves"):
        equivariance_report(model, ring_graph(), irreps_out="1o", symmetries=["frames"])
    with pytest.raises(ValueError, match="equivariance_error"):
        equivariance_report(model, ring_graph(), irreps_out="1o", symmetries=["batching"])
    with pytest.raises(ValueError, match="samples"):
        equivariance_report(model, ring_graph(), irreps_out="1o", samples=0)


def test_the_picture_has_one_bar_for_each_submodule():
    pytest.importorskip("matplotlib")
    report = equivariance_report(VectorNet(act=nn.ReLU()).double(), ring_graph(), irreps_out="1o")
    figure = report.plot()
    assert isinstance(figure, matplotlib.figure.Figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [text.split("\n")[0].split(" ")[0] for text in labels] == [m.name for m in report.modules]
