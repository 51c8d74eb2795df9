"""SEGNN: symmetries of every variant, consistency of forces, chirality, batches, bad input."""

import dataclasses
import json

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import Compose

from geomeq.models import SEGNN, Potential, SEGNNConfig, balanced_irreps
from geomeq.testing import equivariance_error
from geomeq.transforms import CutoffGraph, FullyConnected, SteerableAttributes

VARIANTS = {
    "published": {},
    "L2": {"irreps_hidden": "4x0e+4x1o+4x2e", "lmax_attributes": 3},
    "instance": {"norm": "instance", "pool": "sum"},
    "layer": {"norm": "layer", "radial": "square"},
    "batch": {"norm": "batch"},
    "energy": {"pool": "atoms", "cutoff": 3.0, "radial": "bessel"},
    "node": {"task": "node", "irreps_out": "1x0e+1x1o", "vectors": ("vel",), "radial": "gaussian", "cutoff": 4.0},
    "no-directions": {"lmax_attributes": 0, "irreps_hidden": "8x0e"},
    "scalars": {"edge_scalars": 1},
    "no-layers": {"num_layers": 0},
}


def molecule(nodes: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Data:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)  # noqa: E731
    data = FullyConnected()(Data(pos=draw(nodes, 3), vel=draw(nodes, 3), x=draw(nodes, 3)))
    data.edge_scalar = data.x[data.edge_index[0], :1] * data.x[data.edge_index[1], :1]
    return data


def build(dtype: torch.dtype = torch.float64, **changes) -> SEGNN:
    config = {"irreps_in": "3x0e", "irreps_hidden": "8x0e+8x1o", "irreps_out": "1x0e", "num_layers": 4, **changes}
    return SEGNN(SEGNNConfig(**config)).to(dtype)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-5), (torch.float64, 1e-10)])
def test_symmetries_of_every_variant(variant, dtype, tol):
    model = build(dtype, **VARIANTS[variant])
    data = Batch.from_data_list([molecule(5, 0, dtype), molecule(3, 1, dtype)])
    assert equivariance_error(model, data, group="E(3)") < tol
    assert equivariance_error(model, data, group="permutation") < tol


def test_the_check_of_symmetries_has_teeth():
    class Broken(SEGNN):
        def forward(self, data):
            data = data.clone()
            data.pos = data.pos * torch.tensor([1.0, 1.0, 1.01], dtype=data.pos.dtype)
            return super().forward(data)

    model = Broken(SEGNNConfig("3x0e", "8x0e+8x1o")).double()
    assert equivariance_error(model, molecule(), group="SO(3)") > 1e-6


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_equals_its_graphs_one_by_one(variant):
    model = build(**VARIANTS[variant]).eval()
    graphs = [molecule(n, n) for n in (5, 1, 3)]
    whole = model(Batch.from_data_list(graphs))
    torch.testing.assert_close(whole, torch.cat([model(g) for g in graphs]), atol=1e-12, rtol=1e-10)


def test_attributes_from_a_transform_and_from_positions_agree():
    model, data = build(lmax_attributes=2), molecule()
    stored = SteerableAttributes(2)(data.clone())
    torch.testing.assert_close(model(stored), model(data), atol=1e-12, rtol=0)
    del stored.pos
    torch.testing.assert_close(model(stored), model(data), atol=1e-12, rtol=0)


def test_edge_frame_and_products_agree_in_the_whole_model():
    frame, products = build(path="frame", lmax_attributes=2), build(path="cg", lmax_attributes=2)
    products.load_state_dict(frame.state_dict())
    torch.testing.assert_close(frame(molecule()), products(molecule()), atol=1e-12, rtol=1e-11)


def chiral() -> tuple[Data, Data]:
    """A molecule without mirror plane, and its mirror image."""
    left = molecule(5)
    right = left.clone()
    right.pos = left.pos * torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    return left, right


def test_spherical_parity_cannot_tell_mirror_images_apart_and_pseudo_irreps_can():
    left, right = chiral()
    blind = build(irreps_hidden="8x0e+8x1o+8x2e", lmax_attributes=2)
    torch.testing.assert_close(blind(left), blind(right), atol=1e-12, rtol=0)
    seeing = build(irreps_hidden="6x0e+6x0o+6x1o+6x1e", irreps_out="1x0o", pool="atoms")
    torch.testing.assert_close(seeing(left), -seeing(right), atol=1e-12, rtol=0)
    assert not torch.allclose(seeing(left), seeing(right), rtol=0.1, atol=0)


def test_isolated_node_and_graph_without_edges_are_finite():
    data = CutoffGraph(1.0)(Data(pos=torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [9, 9, 9]]).double(), x=torch.ones(3, 3)))
    model = build()
    assert torch.isfinite(model(data)).all()
    alone = CutoffGraph(1.0)(Data(pos=torch.zeros(1, 3).double(), x=torch.ones(1, 3)))
    assert torch.isfinite(model(alone)).all()
    nothing = CutoffGraph(1.0)(Data(pos=torch.zeros(0, 3).double(), x=torch.ones(0, 3)))
    assert model(nothing).shape == (1, 1)


def energy(data: Data, model: SEGNN, pos: torch.Tensor) -> torch.Tensor:
    free = data.clone()
    free.pos = pos
    return model(free).sum()


def test_forces_are_minus_the_gradient_by_central_differences():
    model, data = build(**VARIANTS["energy"], lmax_attributes=2), molecule(5)
    force = Potential(model).eval()(data)["forces"]
    step, numeric = 1e-4, torch.zeros_like(data.pos)
    with torch.no_grad():
        for i in range(5):
            for k in range(3):
                move = torch.zeros_like(data.pos)
                move[i, k] = step
                rise = energy(data, model, data.pos + move) - energy(data, model, data.pos - move)
                numeric[i, k] = -rise / (2 * step)
    torch.testing.assert_close(force, numeric, rtol=1e-6, atol=1e-6 * numeric.abs().max().item())
    assert not torch.allclose(force, -numeric)
    torch.testing.assert_close(force.sum(0), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    torque = torch.linalg.cross(data.pos, force).sum(0)
    torch.testing.assert_close(torque, torch.zeros(3, dtype=torch.float64), atol=1e-11, rtol=0)


@pytest.mark.parametrize("path", ["auto", "cg"])
def test_gradients_to_second_order_with_a_tiny_edge_and_an_isolated_atom(path):
    model = build(**{**VARIANTS["energy"], "num_layers": 1, "irreps_hidden": "2x0e+2x1o", "path": path})
    pos = torch.tensor([[0.0, 0, 0], [1e-6, 0, 0], [0.7, 1.1, 0.2], [9, 9, 9]], dtype=torch.float64)
    data = CutoffGraph(3.0)(Data(pos=pos, x=torch.randn(4, 3).double()))
    assert (data.edge_index[1] != 3).all()
    # The direction of the tiny edge turns by one radian within 1e-6: the step has to be far smaller than that.
    pos = pos.clone().requires_grad_()
    torch.autograd.gradcheck(lambda p: energy(data, model, p), pos, eps=1e-9, rtol=1e-3, atol=1e-2)
    (grad,) = torch.autograd.grad(energy(data, model, pos), pos, create_graph=True)
    (second,) = torch.autograd.grad(grad[2].sum(), pos)
    assert torch.isfinite(second).all()
    far = pos.detach().clone()
    far[1] = torch.tensor([0.9, -0.3, 0.4])
    far.requires_grad_()
    torch.autograd.gradcheck(lambda p: energy(data, model, p), far)
    torch.autograd.gradgradcheck(lambda p: energy(data, model, p), far)


def test_energy_is_continuous_where_an_atom_crosses_the_cutoff():
    model = build(**VARIANTS["energy"])
    rough = build(**{**VARIANTS["energy"], "cutoff": None, "radial": "distance"})

    def jump(net):
        values = []
        for gap in (-1e-7, 1e-7):
            pos = torch.tensor([[0.0, 0, 0], [1.2, 0.3, 0], [0, 0, 3.0 + gap]], dtype=torch.float64)
            values.append(net(CutoffGraph(3.0)(Data(pos=pos, x=torch.ones(3, 3).double()))).item())
        return abs(values[0] - values[1])

    assert jump(model) < 1e-8
    assert jump(rough) > 1e-4


def test_stress_is_the_derivative_by_strain():
    model = build(**VARIANTS["energy"])
    cell = torch.tensor([[[3.0, 0, 0], [0.4, 3.2, 0], [0, 0.3, 2.9]]], dtype=torch.float64)
    pos = torch.rand(4, 3, dtype=torch.float64) @ cell[0]
    data = CutoffGraph(3.0)(Data(pos=pos, x=torch.randn(4, 3).double(), cell=cell))
    out = Potential(model, stress=True).eval()(data)
    torch.testing.assert_close(out["stress"], out["stress"].mT)
    step, volume = 1e-5, torch.linalg.det(cell[0])
    for a, b in ((0, 0), (0, 2), (1, 2)):
        values = []
        for sign in (1, -1):
            strain = torch.eye(3, dtype=torch.float64)
            strain[a, b] += sign * step / 2
            strain[b, a] += sign * step / 2
            moved = data.clone()
            moved.pos, moved.cell = pos @ strain, cell @ strain
            values.append(model(moved).item())
        numeric = (values[0] - values[1]) / (2 * step) / volume
        torch.testing.assert_close(out["stress"][0, a, b], numeric, rtol=1e-6, atol=1e-8)


def test_potential_adds_atom_energies_and_trains_on_forces():
    data = molecule()
    data.z = torch.tensor([1, 6, 1, 1, 8, 1])
    table = torch.zeros(9, dtype=torch.float64)
    table[[1, 6, 8]] = torch.tensor([1.0, 10, 100], dtype=torch.float64)
    model = build(**VARIANTS["energy"])
    plain, shifted = Potential(model).eval()(data), Potential(model, atom_energies=table).eval()(data)
    torch.testing.assert_close(shifted["energy"] - plain["energy"], torch.tensor([114.0], dtype=torch.float64))
    table[[1, 6, 8]] = torch.tensor([-13.123456789, -1030, -2040], dtype=torch.float64)
    single = Potential(model.float(), atom_energies=table).eval()(data)["energy"]  # float32 would round to 0.2 meV
    plain = Potential(model).eval()(data)["energy"]
    assert abs(float(single - plain) - (4 * -13.123456789 - 3070)) < 1e-7
    model.double()
    data.z[2] = -1
    with pytest.raises(ValueError, match="no atom energy for atomic number -1"):
        Potential(model, atom_energies=table)(data)
    out = Potential(model).train()(data)
    out["forces"].square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.layers.parameters())
    assert "pos" in data
    assert not data.pos.requires_grad


def test_potential_ignores_stored_attributes_which_would_freeze_the_forces():
    model, data = build(**VARIANTS["energy"]), molecule()
    frozen = SteerableAttributes(1, cutoff=3.0)(data.clone())
    torch.testing.assert_close(Potential(model).eval()(frozen)["forces"], Potential(model).eval()(data)["forces"])
    assert "edge_attr" in frozen


def test_compiles_in_one_graph(compiled):
    model, data = build(torch.float32, num_layers=2), SteerableAttributes(1)(molecule(dtype=torch.float32))
    torch.testing.assert_close(compiled(model)(data), model(data), atol=1e-6, rtol=1e-5)


def test_config_survives_json_and_rebuilds_the_model(tmp_path):
    config = SEGNNConfig("3x0e", "4x0e + 4x1o", vectors=["vel"], cutoff=2.0)
    assert config.irreps_hidden == "4x0e+4x1o"
    text = json.dumps(dataclasses.asdict(config))
    assert SEGNNConfig(**json.loads(text)) == config
    model = SEGNN(config)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = SEGNN(SEGNNConfig(**json.loads(text)))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    data = molecule(dtype=torch.float32)
    assert torch.equal(model(data), other(data))


def test_published_sizes():
    model = SEGNN(SEGNNConfig("1x0e+2x1o", "32x0e+32x1o", "1x1o", task="node", edge_scalars=1))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(147_000, rel=0.03)
    assert balanced_irreps(64, 1) == "32x0e+32x1o"
    assert balanced_irreps(64, 2) == "20x0e+20x1o+20x2e"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "edge"}, "task must be one of"),
        ({"pool": "max"}, "pool must be one of"),
        ({"norm": "group"}, "norm must be one of"),
        ({"irreps_hidden": "8 scalars"}, "no irreps string"),
        ({"radial": "bessel"}, "needs a cutoff"),
        ({"num_layers": -1}, "must not be negative"),
    ],
)
def test_bad_config(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.__delitem__("x"), "data has no x"),
        (lambda d: d.update({"x": d.x[:, :2]}), r"x must have shape \[N, 3\]"),
        (lambda d: d.__delitem__("edge_index"), "apply CutoffGraph"),
        (lambda d: d.__delitem__("pos"), "neither pos nor edge_attr"),
        (lambda d: d.pos.__setitem__((2, 0), torch.nan), "pos must be finite, but row 2"),
        (lambda d: d.update(SteerableAttributes(2)(d).to_dict()), "needs SteerableAttributes"),
        (lambda d: d.__setattr__("edge_index", d.edge_index + 3), "only 6 nodes"),
    ],
)
def test_bad_data(change, message):
    data = molecule()
    change(data)
    with pytest.raises(ValueError, match=message):
        build()(data)


def test_a_batch_that_lost_its_assignment_is_refused():
    batch = Batch.from_data_list([molecule(3), molecule(4)])
    del batch.batch
    with pytest.raises(ValueError, match="without batch"):
        build()(batch)


def test_pipeline_with_the_config_of_the_readme():
    pipeline = Compose([CutoffGraph(5.0), SteerableAttributes(lmax=1)])
    model = build(torch.float32, irreps_hidden="16x0e+16x1o", num_layers=3)
    assert model(Batch.from_data_list([pipeline(molecule(dtype=torch.float32)) for _ in range(2)])).shape == (2, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: none here")
@pytest.mark.parametrize("variant", VARIANTS)
def test_same_on_the_gpu(variant):
    model, data = build(torch.float32, **VARIANTS[variant]).eval(), molecule(dtype=torch.float32)
    here = model(data)
    torch.testing.assert_close(model.cuda()(data.cuda()).cpu(), here, atol=1e-4, rtol=1e-3)
