"""Checks of spherical channel networks: dicts of energies, forces and stress, cells, coefficients on an axis."""

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from geomeq.harmonics import edge_wigner
from geomeq.models import ESCN, SCN, ESCNConfig, SCNConfig
from geomeq.nn import SO2Conv, SphericalLinear
from geomeq.ops import EdgeLayout, EdgeRotation
from geomeq.testing import assert_equivariant, equivariance_error, equivariance_report, force_consistency
from geomeq.transforms import CutoffGraph, EdgeFrames, PeriodicGraph

CUTOFF = 2.2
SMALL = {"lmax": 2, "mmax": 1, "channels": 4, "num_layers": 1, "cutoff": CUTOFF, "edge_channels": 8}


def crystal(atoms, seed):
    generator = torch.Generator().manual_seed(seed)
    cell = 3.4 * torch.eye(3, dtype=torch.float64)
    cell = cell + 0.3 * torch.randn(3, 3, dtype=torch.float64, generator=generator)
    data = Data(cell=cell[None], pbc=torch.ones(1, 3, dtype=torch.bool))
    corners = torch.cartesian_prod(*[torch.arange(2.0, dtype=torch.float64)] * 3)[:atoms] / 2
    data.pos = (corners + 0.05 * torch.randn(atoms, 3, dtype=torch.float64, generator=generator)) @ cell
    data.z = torch.randint(1, 9, (atoms,), generator=generator)
    return data


def crystals(dtype=torch.float64):
    batch = Batch.from_data_list([PeriodicGraph(CUTOFF)(crystal(n, n)) for n in (5, 4)])
    return batch.apply(lambda x: x.to(dtype) if x.is_floating_point() else x)


def escn(dtype=torch.float64, **options):
    torch.manual_seed(0)
    return ESCN(ESCNConfig(**SMALL, **options)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("forces", ["autograd", "direct"])
def test_escn_passes_with_its_cell_turned_along(dtype, forces):
    report = equivariance_report(escn(dtype, forces=forces), crystals(dtype), samples=1,
                                 symmetries=("rotation", "translation", "permutation"))  # fmt: skip
    assert report.passed, str(report)
    assert "1x1o" in report.modules[-1].type  # forces are vectors
    assert "matrix" in report.modules[-1].type  # stress
    assert max(report.modules[-1].errors.values()) < (1e-4 if dtype == torch.float32 else 1e-10)


def test_a_batch_is_its_parts():
    assert equivariance_error(escn(), crystals(), "batching") < 1e-12


def test_a_cell_that_stays_behind_is_seen():
    """What users forget: positions turned, the cell not."""
    wrong = equivariance_error(escn(), crystals(), "SO(3)", irreps={"cell": "invariant"}, samples=1)
    assert wrong > 1e-3 > 1e6 * equivariance_error(escn(), crystals(), "SO(3)", samples=1)


class Skewed(nn.Module):
    """Changes one component of degree 1 only."""

    def forward(self, x):
        return torch.cat([x[:, :1], 1.1 * x[:, 1:2], x[:, 2:]], dim=1)


def test_a_block_that_spoils_one_coefficient_is_named():
    model = escn()
    model.blocks[0].mlp = nn.Sequential(model.blocks[0].mlp, Skewed())
    report = equivariance_report(model, crystals(), samples=1, symmetries=("rotation", "translation"))
    assert report.culprits == {"rotation": "blocks.0.mlp.1"}
    kinds = {m.name: m.type for m in report.modules}
    assert kinds["blocks.0.mlp.0"] == "1x0e+1x1o+1x2e on axis -2"  # found without being declared


def test_scn_is_told_apart_by_its_culprits():
    torch.manual_seed(0)
    options = {"lmax": 2, "channels": 4, "hidden_channels": 8, "num_layers": 1, "cutoff": CUTOFF, "edge_channels": 8}
    for wanted, extra in (("messages.0", {"mmax": 1, "taps": 1}), ("aggregate", {"mmax": 0})):
        model = SCN(SCNConfig(**options, **extra)).double()
        report = equivariance_report(model, crystals(), samples=1, symmetries=("rotation", "translation"))
        assert report.culprits["rotation"].endswith(wanted)
        assert set(report.culprits) == {"rotation"}


def test_forces_and_stress_of_escn_are_slopes():
    found = force_consistency(escn(), crystals(), directions=2)
    assert found.error < 1e-6
    assert found.stress_error < 1e-6
    assert found.net_force < 1e-10
    direct = force_consistency(escn(forces="direct"), crystals(), directions=2)
    assert direct.error > 1e-2  # forces of their own are no slope


def layer_call(model, data):
    rotation = EdgeRotation(data.edge_wigner, data.edge_index, len(data.pos), EdgeLayout(2, 1))
    return model(data.x, rotation, data.edge_scalar)


def molecule():
    data = crystal(6, 0)
    del data.cell, data.pbc
    data = EdgeFrames(2, 1)(CutoffGraph(CUTOFF)(data))
    generator = torch.Generator().manual_seed(1)
    data.x = torch.randn(6, 9, 4, dtype=torch.float64, generator=generator)
    data.edge_scalar = torch.randn(data.num_edges, 5, dtype=torch.float64, generator=generator)
    return data


def test_a_layer_is_checked_on_stored_frames():
    """Rows of Wigner matrices move with the edges: as vectors of each degree, under rotations and reflections."""
    torch.manual_seed(0)
    conv, data = SO2Conv(4, 4, lmax=2, mmax=1, edge_channels=5).double(), molecule()
    kind = "1x0e+1x1o+1x2e on axis -2"
    options = {"irreps": {"x": kind}, "irreps_out": kind, "call": layer_call}
    assert_equivariant(conv, data, "SO(3)", tol=1e-12, **options)
    frozen = options | {"irreps": {"x": kind, "edge_wigner": "invariant"}}
    assert equivariance_error(conv, data, "SO(3)", **frozen) > 1e-2
    with pytest.raises(AssertionError, match="1x0e\\+1x1o\\+1x2e on axis -2"):
        assert_equivariant(conv, data, "SO(3)", **(options | {"irreps_out": "invariant"} | {"irreps": {"x": kind}}))


def test_a_layer_that_notices_the_roll_of_stored_frames_is_caught():
    data = molecule()
    kind = "1x0e+1x1o+1x2e on axis -2"
    for options, low, high in (({}, 0, 1e-12), ({"activation": "s2", "nlat": 3, "nlon": 3}, 1e-2, 10)):
        torch.manual_seed(0)
        conv = SO2Conv(4, 4, lmax=2, mmax=1, edge_channels=5, **options).double()
        error = equivariance_error(conv, data, "SO(3)", irreps={"x": kind}, irreps_out=kind, call=layer_call)
        assert low <= error < high


def test_moved_frames_are_frames_of_the_moved_edges():
    """Up to a turn about the edge, which the first row of each degree (order 0) does not see."""
    from geomeq.testing._elements import Element, random_mirror, random_rotation
    from geomeq.testing._move import attribute_types, move

    data, generator = molecule(), torch.Generator().manual_seed(0)
    layout = EdgeLayout(2, 1)
    vec = data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]
    types = attribute_types(data)
    for matrix in (random_rotation(generator), random_mirror(generator)):
        moved = move(data, Element(matrix=matrix), types).data
        own = layout.blocks(moved.edge_wigner)
        fresh = layout.blocks(edge_wigner(vec @ matrix.T, 2, 1))
        for degree, (a, b) in enumerate(zip(own, fresh, strict=True)):
            middle = min(degree, 1)
            torch.testing.assert_close(a[:, middle], b[:, middle], atol=1e-10, rtol=0)
            gram = a @ a.mT
            torch.testing.assert_close(gram, torch.eye(2 * middle + 1).double().expand_as(gram), atol=1e-10, rtol=0)


@pytest.mark.parametrize(("lmax", "mmax"), [(0, 0), (2, 1), (4, 0), (6, 2)])
def test_layouts_are_read_from_the_rows(lmax, mmax):
    """Degree 2 of order 1 and degree 4 of order 0 both have 25 numbers."""
    from geomeq.testing._types import wigner_layout

    layout = wigner_layout(edge_wigner(torch.randn(7, 3), lmax, mmax))
    assert (layout.lmax, layout.mmax) == (lmax, mmax)
    with pytest.raises(ValueError, match="no Wigner rows have 2 numbers"):
        wigner_layout(torch.ones(3, 2))


def test_types_are_read_as_they_are_written():
    from geomeq.testing._types import parse_type

    for text in ("1x0e+1x1o on axis -2", "4x0e+4x1o", "8x0+4x1", "matrix"):
        assert str(parse_type(text)) == text
    with pytest.raises(ValueError, match="cannot read the type"):
        parse_type("1x0e on axis q")
    report = equivariance_report(
        SphericalLinear(4, 4, 2).double(), molecule(), call=lambda m, d: m(d.x), irreps={"x": "0e+1o+2e on axis -2"},
        irreps_out="0e+1o+2e on axis -2", symmetries=("rotation", "reflection"),
    )  # fmt: skip
    assert report.passed
