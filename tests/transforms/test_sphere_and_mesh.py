"""The same sphere as a mesh and as points of the sphere: one geometry, up to the error of the triangles."""

import pytest
import torch
from torch_geometric.data import Data

from geomeq import spheres
from geomeq.groups import SO2Irreps
from geomeq.nn import GaugeConv
from geomeq.transforms import MeshGauge, PlaneGauge, SphereGauge


def both(level, method):
    """The icosphere in the frames of its mesh: as a mesh, and by great circles in the same frames."""
    data = spheres.icosphere(level).to_data(torch.float64)
    mesh = MeshGauge(method)(data)
    e1 = mesh.frame[:, 0] - (mesh.frame[:, 0] * data.pos).sum(1, keepdim=True) * data.pos  # normals differ a little
    e1 = e1 / e1.norm(dim=1, keepdim=True)
    frame = torch.stack([e1, torch.linalg.cross(data.pos, e1), data.pos], dim=1)
    globe = SphereGauge(rings=1, frames="given")(Data(pos=data.pos, area=data.area, face=data.face, frame=frame))
    assert torch.equal(mesh.edge_index, globe.edge_index)
    return mesh, globe


def apart(a, b):
    return float(torch.polar(torch.ones_like(a), a - b).sub(1).abs().max())


@pytest.mark.parametrize("method", ["intrinsic", "projected"])
def test_log_map_and_transport_agree_to_discretisation_error(method):
    errors = []
    for level in (2, 3):
        mesh, globe = both(level, method)
        length = float((mesh.polar[:, 0] / globe.polar[:, 0] - 1).abs().max())
        angle, turn = apart(mesh.polar[:, 1], globe.polar[:, 1]), apart(mesh.transport, globe.transport)
        errors.append((length, angle, turn))
    for coarse, fine in zip(*errors, strict=True):
        assert fine < 0.02
        assert fine < coarse / 1.8 + 1e-9  # halving the edges
    mesh, globe = both(2, method)
    assert apart(mesh.polar[:, 1], -globe.polar[:, 1]) > 1  # a mirror image would not


@pytest.mark.parametrize("method", ["intrinsic", "projected"])
def test_a_gauge_layer_gives_the_same_field(method):
    torch.manual_seed(0)
    types = SO2Irreps("1x0+2x1+1x2")
    layer, errors = GaugeConv(types, types, rings=2, cutoff=0.4).double(), []
    for level in (2, 3):
        mesh, globe = both(level, method)
        v = torch.stack(
            [globe.pos[:, 1] + globe.pos[:, 2] ** 2, -globe.pos[:, 0], globe.pos[:, 0] * globe.pos[:, 1]], 1
        )
        one = torch.einsum("nak,nk->na", globe.frame[:, :2], v)
        z = torch.view_as_complex(one)
        x = torch.cat([globe.pos[:, :1], one, one.flip(1) * torch.tensor([1.0, -1]), torch.view_as_real(z**2)], dim=1)
        outputs = [
            layer(x, graph.edge_index, graph.polar, graph.transport, globe.area).detach() for graph in (mesh, globe)
        ]
        errors.append(float((outputs[0] - outputs[1]).norm() / outputs[1].norm()))
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 1.8
    mesh.transport = -mesh.transport
    wrong = layer(x, mesh.edge_index, mesh.polar, mesh.transport, globe.area).detach()
    assert float((wrong - outputs[1]).norm() / outputs[1].norm()) > 0.1


def test_a_small_cap_of_the_sphere_is_the_plane():
    """Cases SO(3)/SO(2) and SE(2)/SO(2) are one: with frames along the axes, transport vanishes with the area."""
    flat = torch.rand(40, 2, dtype=torch.float64) - 0.5
    plane = PlaneGauge(cutoff=0.4)(Data(pos=flat))
    for size in (1e-2, 1e-3):
        pos = torch.cat([size * flat, torch.ones(40, 1, dtype=torch.float64)], dim=1)
        pos = pos / pos.norm(dim=1, keepdim=True)
        e1 = torch.linalg.cross(torch.tensor([0.0, 1, 0]).double().expand_as(pos), pos)
        e1 = e1 / e1.norm(dim=1, keepdim=True)
        frame = torch.stack([e1, torch.linalg.cross(pos, e1), pos], dim=1)
        area = torch.ones(40, dtype=torch.float64)
        gauge = SphereGauge(0.4 * size, frames="given", allow_isolated=True)
        globe = gauge(Data(pos=pos, area=area, frame=frame))
        assert torch.equal(globe.edge_index, plane.edge_index)
        assert float((globe.polar[:, 0] / size / plane.polar[:, 0] - 1).abs().max()) < size**2
        assert apart(globe.polar[:, 1], plane.polar[:, 1]) < size**2
        assert apart(globe.transport, plane.transport) < size**2
