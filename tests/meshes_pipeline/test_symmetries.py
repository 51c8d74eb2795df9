"""Mesh to network: what must not matter does not, on made and on real surfaces, and what matters does."""

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from geomeq.groups import SO3, icosahedral_rotations, icosphere
from geomeq.nn import GaugeLinear
from geomeq.transforms import GaugeRandomize, MeshGauge, MultiScale
from tests.meshes_pipeline._networks import TYPES, made, network, prepared, relative, rotate_fields, settled

DTYPES = pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
SLOW = ("blub_fish", "goathead", "penguin", "koala", "wingnut", "skull", "human_man", "scorpion")
SURFACES = ["bumpy", "torus", "open", "two parts", "cube", "spot", "hand"]
each = pytest.mark.parametrize("name", [*SURFACES, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
GAUGES = {
    "one ring": MeshGauge(),
    "projected": MeshGauge(method="projected"),
    "two rings": MeshGauge(rings=2),
    "flipped": MeshGauge(delaunay=True),
    "levels": MultiScale(ratios=(0.3,)),
}
gauges = pytest.mark.parametrize("gauge", GAUGES.values(), ids=GAUGES)


def moved(mesh: Data, seed: int = 0) -> Data:
    """The mesh turned and shifted."""
    turn = SO3.random(seed=seed)
    return Data(pos=mesh.pos @ turn.T + torch.tensor([0.7, -1.1, 0.4], dtype=torch.float64), face=mesh.face)


def options_of(gauge: MeshGauge | MultiScale) -> dict[str, object]:
    return {"num_levels": 2, "num_blocks": 1} if isinstance(gauge, MultiScale) else {}


@each
@DTYPES
def test_redrawn_frames_change_nothing(name, dtype, tol):
    data = prepared(made(name), dtype)
    model = settled(network(dtype), data)
    y = model(data)
    assert relative(model(GaugeRandomize(TYPES)(data.clone())), y) < tol
    half = data.clone()
    half.x = GaugeRandomize(TYPES)(data.clone()).x  # features in new frames, geometry in the old ones
    assert relative(model(half), y) > 1e-2


@each
@DTYPES
def test_rigid_motions_change_nothing(name, dtype, tol):
    mesh = made(name)
    data = prepared(mesh, dtype)
    model = settled(network(dtype), data)
    y = model(data)
    assert relative(model(prepared(moved(mesh), dtype)), y) < tol
    mirrored = Data(pos=mesh.pos * torch.tensor([-1.0, 1, 1], dtype=torch.float64), face=mesh.face.flip(0))
    if name != "cube":  # which is its own mirror image
        assert relative(model(prepared(mirrored, dtype)), y) > 1e-3


@gauges
@DTYPES
def test_every_kind_of_neighbourhood_is_as_good(gauge, dtype, tol):
    mesh = made("bumpy")
    data = prepared(mesh, dtype, gauge)
    model = settled(network(dtype, rings=2, cutoff=0.7, **options_of(gauge)), data)
    y = model(data)
    assert relative(model(GaugeRandomize(TYPES)(data.clone())), y) < tol
    assert relative(model(prepared(moved(mesh), dtype, gauge)), y) < tol


@DTYPES
def test_tangent_vectors_at_the_output_turn_with_the_frames(dtype, tol):
    types = "1x0+2x1+1x2"
    data = prepared(made("bumpy"), dtype)
    model = settled(network(dtype, types_out=types), data)
    y, other = model(data), GaugeRandomize(TYPES)(data.clone())
    assert relative(model(other), rotate_fields(types, y, data, other)) < tol
    assert relative(model(other), y) > 0.1


class Biased(GaugeLinear):
    """The published skip: a bias on every component."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 0.1


def biased_skip(model, data):
    skip = model.down[0].blocks[0].skip
    model.down[0].blocks[0].skip = Biased(skip.types_in, skip.types_out).to(data.x.dtype)


def componentwise(model, data):
    model.down[0].blocks[0].acts[0] = nn.SiLU()


def without_transport(model, data):
    data.transport = torch.zeros_like(data.transport)


def with_angles_turned_over(model, data):
    data.polar = data.polar * torch.tensor([1, -1])


@pytest.mark.parametrize("spoil", [biased_skip, componentwise, without_transport, with_angles_turned_over])
def test_each_of_these_mistakes_shows(spoil):
    data = prepared(made("bumpy"), torch.float64)
    model = network(torch.float64)
    settled(model, data)
    other = GaugeRandomize(TYPES)(data.clone())
    assert relative(model(other), model(data)) < 1e-11
    spoil(model, data)
    if spoil in (without_transport, with_angles_turned_over):
        spoil(model, other)
    assert relative(model(other), model(data)) > 1e-3


@DTYPES
def test_the_sixty_rotations_of_the_icosphere(dtype, tol):
    # Features come from the mesh itself and from a function on it; frames start at other neighbours after a turn.
    sphere = icosphere(1)
    signal = torch.sin(3 * sphere.pos[:, :1]) + sphere.pos[:, 1:2] * sphere.pos[:, 2:]
    data = prepared(Data(pos=sphere.pos, face=sphere.face), dtype)
    data.x = torch.cat([signal.to(dtype), data.x], dim=1)
    model = settled(network(dtype, types_in=f"1x0+{TYPES}"), data)
    y = model(data)
    for turn in icosahedral_rotations().double()[1:]:
        order = (sphere.pos @ turn.T @ sphere.pos.T).argmax(dim=0)  # vertex k is where vertex order[k] went
        torch.testing.assert_close((sphere.pos @ turn.T)[order], sphere.pos)
        turned = data.clone()
        turned.x = torch.cat([data.x[order, :1], data.x[:, 1:]], dim=1)
        assert relative(model(turned), y[order]) < tol
    turned.x = torch.cat([data.x[:, :1].roll(1, 0), data.x[:, 1:]], dim=1)
    assert relative(model(turned), y.roll(1, 0)) > 1e-2


@pytest.mark.parametrize("name", SURFACES)
@DTYPES
def test_numbers_of_vertices_and_faces_do_not_matter(name, dtype, tol):
    mesh = made(name)
    data = prepared(mesh, dtype)
    model = settled(network(dtype), data)
    order, faces = torch.randperm(mesh.num_nodes), torch.randperm(mesh.face.size(1))
    face = order.argsort()[mesh.face][:, faces]
    corner = torch.randint(3, (face.size(1),))
    other = Data(pos=mesh.pos[order], face=face.gather(0, (torch.arange(3)[:, None] + corner) % 3))
    assert relative(model(prepared(other, dtype)), model(data)[order]) < tol


@pytest.mark.parametrize("gauge", [MeshGauge(), MultiScale(ratios=(0.3,))], ids=["one level", "two levels"])
@pytest.mark.parametrize("task", ["node", "graph"])
@DTYPES
def test_a_batch_is_its_parts(gauge, task, dtype, tol):
    surfaces = [prepared(made(name), dtype, gauge) for name in ("bumpy", "torus", "two parts")]
    model = settled(network(dtype, task=task, **options_of(gauge)), *surfaces)
    alone = torch.cat([model(surface) for surface in surfaces])
    assert relative(model(Batch.from_data_list(surfaces)), alone) < tol
    assert relative(model(Batch.from_data_list(surfaces[::-1])), alone) > 1e-2
