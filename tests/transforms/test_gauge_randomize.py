"""GaugeRandomize: what turns and what does not, on graphs, batches and levels."""

import math

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.groups import SO2Irreps, from_ambient, to_ambient, wrap_angle
from geomeq.nn import GaugeConv
from geomeq.transforms import GaugeFeatures, GaugeRandomize, MeshGauge, MultiScale, PlaneGauge

from ..meshes._shapes import F64, sphere, torus

TYPES = "2x0+3x1+1x2"


def mesh(dtype=F64):
    out = MeshGauge()(torus(9, 7, dtype=dtype))
    out.x = torch.randn(63, SO2Irreps(TYPES).dim, dtype=dtype)
    return out


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-5), (F64, 1e-12)])
def test_a_layer_follows_and_its_scalars_stay(dtype, tol):
    a = mesh(dtype)
    b = GaugeRandomize(TYPES)(a)
    types = SO2Irreps("2x0+2x1+2x2")
    conv = GaugeConv(TYPES, types, rings=1).to(dtype)
    out = [conv(g.x, g.edge_index, g.polar, g.transport, g.area) for g in (a, b)]
    x, y = torch.einsum("nij,nj->in", a.frame[:, :2].double(), b.frame[:, 0].double())
    turn = torch.atan2(y, x).to(dtype)
    torch.testing.assert_close(out[1], types.rotate(out[0], -turn), atol=tol, rtol=tol)
    torch.testing.assert_close(out[1][:, :2], out[0][:, :2], atol=tol, rtol=tol)
    assert not torch.allclose(out[1], out[0], atol=0.1)
    wrong = conv(b.x, b.edge_index, a.polar, b.transport, b.area)
    assert not torch.allclose(wrong[:, :2], out[0][:, :2], atol=0.1)


def test_vectors_of_space_stay_where_they_are():
    a = mesh()
    v = torch.randn(63, 4, 3, dtype=F64)
    a.x = from_ambient(v, a.frame)
    b = GaugeRandomize("4x0+4x1")(a)
    torch.testing.assert_close(to_ambient(b.x, b.frame), v)
    torch.testing.assert_close(b.frame @ b.frame.mT, torch.eye(3, dtype=F64).expand(63, 3, 3))
    torch.testing.assert_close(b.frame[:, 2], a.frame[:, 2])
    assert not torch.allclose(b.x, a.x)
    steps = b.frame[b.edge_index[1], :2]
    flat = torch.einsum("eij,ej->ei", steps, b.pos[b.edge_index[0]] - b.pos[b.edge_index[1]])
    before = torch.einsum("eij,ej->ei", a.frame[a.edge_index[1], :2], a.pos[a.edge_index[0]] - a.pos[a.edge_index[1]])
    shift = torch.atan2(flat[:, 1], flat[:, 0]) - torch.atan2(before[:, 1], before[:, 0])
    assert float(wrap_angle(b.polar[:, 1] - a.polar[:, 1] - shift).abs().max()) < 1e-9


def test_seeds_and_types():
    a = mesh()
    again = [GaugeRandomize(TYPES, seed=3)(a).polar for _ in range(2)]
    assert torch.equal(*again)
    free = [GaugeRandomize(TYPES)(a).polar for _ in range(2)]
    assert not torch.equal(*free)
    assert "polar" in a
    assert not torch.equal(a.polar, again[0])  # what was given stays
    a.y = torch.randn(63, 2, dtype=F64)
    both = GaugeRandomize({"x": TYPES, "y": "1x1"}, seed=3)(a)
    torch.testing.assert_close(both.y.norm(dim=1), a.y.norm(dim=1))
    assert not torch.allclose(both.y, a.y)
    a.types = TYPES
    assert torch.equal(GaugeRandomize(seed=3)(a).x, both.x)
    assert repr(GaugeRandomize(TYPES, seed=3)) == "GaugeRandomize(types='2x0+3x1+1x2', seed=3)"


def test_batches_and_features():
    meshes = [GaugeFeatures(("matrix", "tangents"))(MeshGauge()(m)) for m in (torus(9, 7), sphere(1))]
    batch = Batch.from_data_list(meshes)
    out = GaugeRandomize(seed=0)(batch)
    kind = SO2Irreps(meshes[0].types)
    for before, after in zip(kind.split(batch.x), kind.split(out.x), strict=True):
        torch.testing.assert_close(before.norm(dim=-1), after.norm(dim=-1))
    again = GaugeFeatures(("matrix", "tangents"))(out)  # read from space in the new frames
    torch.testing.assert_close(again.x, out.x, atol=1e-9, rtol=0)


def test_levels_turn_on_their_own():
    a = MultiScale((0.4, 0.4))(torus(16, 10))
    v = torch.randn(160, 1, 3, dtype=F64)
    a.x = from_ambient(v, a.frame)
    b = GaugeRandomize("1x0+1x1")(a)
    for k in (1, 2):
        fine, coarse = (a.level(k - 1), b.level(k - 1)), (a.level(k), b.level(k))
        index = coarse[0].pool_index
        turns = []
        for old, new in (fine, coarse):
            x, y = torch.einsum("nij,nj->in", old.frame[:, :2], new.frame[:, 0])
            turns.append(torch.atan2(y, x))
        gap = coarse[1].pool_transport - coarse[0].pool_transport + turns[1][index] - turns[0]
        assert float(wrap_angle(gap).abs().max()) < 1e-9
        assert float(turns[1].abs().max()) > 0.1
        i = coarse[0].edge_index[1]
        assert float(wrap_angle(coarse[1].polar[:, 1] - coarse[0].polar[:, 1] + turns[1][i]).abs().max()) < 1e-9


def test_edges_of_length_zero_keep_angle_zero():
    data = Data(
        edge_index=torch.tensor([[0, 1], [0, 0]]),
        polar=torch.tensor([[0.0, 0.0], [1.0, 0.5]]),
        transport=torch.zeros(2),
        num_nodes=2,
    )
    out = GaugeRandomize(seed=0)(data)
    assert out.polar[0].tolist() == [0.0, 0.0]
    assert float(out.transport[0]) == 0.0
    assert float(out.polar[1, 1]) != 0.5


def test_what_is_missing():
    with pytest.raises(ValueError, match="needs polar and transport"):
        GaugeRandomize()(torus(4, 4))
    a = mesh()
    with pytest.raises(ValueError, match=r"x \[63, 10\] turns with the frames.*GaugeRandomize\(types="):
        GaugeRandomize()(a)
    with pytest.raises(ValueError, match="10"):
        GaugeRandomize("2x1")(a)
    plane = PlaneGauge(cutoff=1.5, grid=4)(Data())
    out = GaugeRandomize(seed=1)(plane)
    assert float(out.polar[:, 1].abs().max()) <= math.pi
    assert "x" not in out
