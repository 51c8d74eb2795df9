"""SCN: sizes, symmetries, forces and stress, continuity, periodicity; the defects of published codes; bad input."""

import copy
import json
from dataclasses import asdict

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.models import SCN, SCNConfig
from geomeq.models._sphere_readout import sphere_points
from geomeq.testing import equivariance_error, jacobian_asymmetry
from geomeq.transforms import CutoffGraph, PeriodicGraph

F64 = torch.float64
CUTOFF = 3.0


def molecule(nodes: int = 7, dtype: torch.dtype = F64, seed: int = 0, box: float = 2.5) -> Data:
    rng = torch.Generator().manual_seed(seed)
    pos = torch.rand(nodes, 3, generator=rng, dtype=F64) * box
    return CutoffGraph(CUTOFF)(Data(z=torch.randint(1, 9, (nodes,), generator=rng), pos=pos.to(dtype)))


def crystal(dtype: torch.dtype = F64, nodes: int = 4) -> Data:
    rng = torch.Generator().manual_seed(1)
    cell = (3.4 * torch.eye(3, dtype=F64) + 0.2 * torch.rand(3, 3, generator=rng, dtype=F64))[None]
    pos = torch.rand(nodes, 3, generator=rng, dtype=F64) @ cell[0]
    z = torch.randint(1, 9, (nodes,), generator=rng)
    data = Data(z=z, pos=pos.to(dtype), cell=cell.to(dtype), pbc=torch.ones(1, 3, dtype=torch.bool))
    return CutoffGraph(CUTOFF)(data)


def build(dtype: torch.dtype = F64, seed: int = 0, **options) -> SCN:
    torch.manual_seed(seed)
    small = {"lmax": 3, "channels": 6, "hidden_channels": 8, "edge_channels": 8, "num_basis": 16, "cutoff": CUTOFF}
    return SCN(SCNConfig(**(small | options))).to(dtype).eval()


@pytest.mark.parametrize(
    ("name", "millions"), [("default", 20.544002), ("t1-b1", 123.561474), ("t4-b2", 126.710274), ("all-md", 168.921090)]
)
def test_published_sizes(name, millions):
    """20.5 million by default and 126 as published; counted from one and two layers, as whole models fill memory."""

    def count(layers: int) -> int:
        return sum(p.numel() for p in SCN(SCNConfig.published(name, num_layers=layers)).parameters())

    one = count(1)
    config = SCNConfig.published(name)
    assert one + (config.num_layers - 1) * (count(2) - one) == round(millions * 1e6)
    assert config.envelope is None
    assert config.roll == "fixed"


def test_config_survives_json():
    config = SCNConfig.published("t4-b2", num_layers=2)
    assert SCNConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 5e-4), (F64, 1e-11)])
@pytest.mark.parametrize("forces", ["direct", "autograd"])
def test_exact_symmetries(dtype, tol, forces):
    model = build(dtype, forces=forces)
    data = Batch.from_data_list([molecule(6, dtype), molecule(4, dtype, 1)])
    for group in ("translation", "permutation", "batching"):
        assert equivariance_error(model, data, group=group) < tol


def rotation_error(**options) -> float:
    model = build(forces="direct", **options)
    by, _ = torch.linalg.qr(torch.randn(3, 3, dtype=F64, generator=torch.Generator().manual_seed(0)))
    by = by * torch.linalg.det(by)
    data = molecule()
    moved = data.clone()
    moved.pos = data.pos @ by.T
    with torch.no_grad():
        before, after = model(data)["forces"] @ by.T, model(moved)["forces"]
    return float((before - after).norm() / before.norm())


def test_rotations():
    """With order 0 and no grid only the points of the readout are left, and they converge; one tap is far off."""
    few = rotation_error(mmax=0, grid=False, num_points=20)
    assert rotation_error(mmax=0, grid=False, num_points=400) < min(1e-7, few / 100)
    assert rotation_error(mmax=0, num_points=400) < 0.02
    assert rotation_error(mmax=1, taps=4, num_points=400) < 0.05
    assert few > 1e-6


def test_points_are_unit_vectors_with_a_true_quadrature():
    """Published codes scale the points by a density, which takes them off the sphere, and weight them equally."""
    from geomeq.harmonics import spherical_harmonics

    points, weight = sphere_points(128)
    assert (points.norm(dim=1) - 1).abs().max() < 1e-14
    assert (weight > 0).all()
    means = weight @ spherical_harmonics(points, 10)
    assert means[0] == pytest.approx(1, abs=1e-13)
    assert means[1:].abs().max() < 1e-12
    equal = spherical_harmonics(points, 10).mean(dim=0)
    assert equal[1:].abs().max() > 1e-4  # the check has teeth


def test_random_results_of_published_codes_are_not_ours():
    """Repeated on one input: same bits in evaluation and with a fixed roll; in training what the generator says."""
    data = molecule(dtype=torch.float32)
    model = build(torch.float32, roll="random", taps=1)
    first, again = model(data), model(data)
    assert all(torch.equal(first[k], again[k]) for k in first)
    model.train()
    with pytest.raises(ValueError, match="generator"):
        model(data)
    draw = lambda seed: model(data, torch.Generator().manual_seed(seed))["forces"]  # noqa: E731
    assert torch.equal(draw(0), draw(0))
    assert not torch.allclose(draw(0), draw(1), rtol=1e-3)
    fixed = build(torch.float32, taps=1).train()
    assert torch.equal(fixed(data)["forces"], fixed(data)["forces"])


@pytest.mark.parametrize("options", [{}, {"mmax": 0}, {"taps": 1, "bands": 2, "num_resolutions": 2, "near": 3}])
def test_forces_are_the_slope_of_the_energy(options):
    """Published codes detach the frames; then this fails by far, as the control shows."""
    model, data = build(forces="autograd", **options), molecule()
    out = model(data)
    direction = torch.randn_like(data.pos)
    step, energies = 1e-4, []
    for sign in (1, -1):
        moved = data.clone()
        moved.pos = data.pos + sign * step * direction
        energies.append(model(moved)["energy"])
    slope = float(energies[0] - energies[1]) / (2 * step)
    assert float(-(out["forces"] * direction).sum()) == pytest.approx(slope, rel=1e-6)
    assert out["forces"].sum(dim=0).abs().max() < 1e-10

    block, frames = model.blocks[0], type(model.blocks[0]).geometry

    def detached(*args, **kwargs):
        from geomeq.harmonics import edge_wigner

        wigner = edge_wigner(args[1].detach(), block.lmax, block.mmax)
        return frames(block, *args, **kwargs, wigner=wigner)

    model.blocks[0].geometry = detached
    wrong = model(data)["forces"]
    assert (wrong - out["forces"]).abs().max() > 1e-3 * out["forces"].abs().max()


def test_direct_forces_are_no_slope():
    assert jacobian_asymmetry(build(forces="autograd"), molecule(3)) < 1e-6  # by finite differences
    assert jacobian_asymmetry(build(forces="direct"), molecule(3)) > 1e-2


def test_stress_is_the_slope_by_strain():
    model, data = build(forces="autograd"), crystal()
    stress = model(data)["stress"][0]
    torch.testing.assert_close(stress, stress.T)
    strain = torch.randn(3, 3, dtype=F64)
    strain = (strain + strain.T) / 2
    step, energies = 1e-5, []
    for sign in (1, -1):
        moved, turn = data.clone(), torch.eye(3, dtype=F64) + sign * step * strain
        moved.pos, moved.cell = data.pos @ turn, data.cell @ turn
        energies.append(model(moved)["energy"])
    slope = float(energies[0] - energies[1]) / (2 * step * float(torch.linalg.det(data.cell[0])))
    assert float((stress * strain).sum()) == pytest.approx(slope, rel=1e-6)


def crossing(**options) -> float:
    """Step of the energy when an atom passes the cut-off by 1e-6, relative to the energy."""
    model, energies = build(**options), []
    for gap in (-1e-6, 1e-6):
        pos = torch.tensor([[0.0, 0, 0], [1.0, 0.3, 0], [0.2, 1.1, 0.5]], dtype=F64)
        pos = torch.cat([pos, pos.new_tensor([[-CUTOFF - gap, 0, 0]])])
        data = CutoffGraph(CUTOFF)(Data(z=torch.tensor([6, 1, 8, 7]), pos=pos))
        energies.append(float(model(data)["energy"].detach()))
    return abs(energies[0] - energies[1]) / abs(energies[0])


def test_energy_is_continuous_at_the_cutoff_and_jumps_as_published():
    assert crossing() < 1e-8
    assert crossing(envelope=None) > 1e-5


def test_supercell_and_wrapping():
    model, data = build(forces="autograd"), crystal()
    single = model(data)
    twice = Data(z=data.z.repeat(2), pos=torch.cat([data.pos, data.pos + data.cell[0, 0]]), pbc=data.pbc)
    twice.cell = data.cell * torch.tensor([2.0, 1, 1], dtype=F64)[:, None]
    double = model(CutoffGraph(CUTOFF)(twice))
    assert abs(double["energy"] - 2 * single["energy"]) < 1e-10
    assert (double["forces"] - single["forces"].repeat(2, 1)).abs().max() < 1e-10
    wrapped = Data(z=data.z, pos=data.pos.clone(), cell=data.cell, pbc=data.pbc)
    wrapped.pos[1] += data.cell[0, 2] - data.cell[0, 0]
    assert abs(model(CutoffGraph(CUTOFF)(wrapped))["energy"] - single["energy"]) < 1e-10


def test_edges_along_the_pole():
    """Angles are singular there; entries of the rotation are not."""
    pos = torch.tensor([[0.0, 0, 0], [0, 1.1, 0], [0, -1.2, 1e-9], [1.0, 0, 0]], dtype=F64)
    data = CutoffGraph(CUTOFF)(Data(z=torch.tensor([6, 1, 1, 8]), pos=pos))
    out = build(forces="autograd", mmax=0)(data)
    assert torch.isfinite(out["forces"]).all()
    turned = data.clone()
    by, _ = torch.linalg.qr(torch.randn(3, 3, dtype=F64))
    turned.pos = pos @ by.T
    model = build(mmax=0, grid=False, num_points=400)
    assert abs(model(data)["energy"] - model(turned)["energy"]).item() < 1e-8


def test_training_on_forces_reaches_every_weight():
    model = build(forces="autograd").train()
    out = model(crystal())
    (out["forces"].square().sum() + out["energy"].sum() + out["stress"].square().sum()).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


def test_one_atom_no_atoms_nearby_and_copies():
    model = build(forces="autograd")
    data = CutoffGraph(CUTOFF)(Data(z=torch.tensor([6]), pos=torch.zeros(1, 3, dtype=F64)))
    out = model(data)
    assert out["forces"].abs().max() == 0
    far = CutoffGraph(CUTOFF)(Data(z=torch.tensor([6, 6]), pos=torch.tensor([[0.0, 0, 0], [50, 0, 0]], dtype=F64)))
    assert abs(model(far)["energy"] - 2 * out["energy"]) < 1e-12
    same = copy.deepcopy(model)
    torch.testing.assert_close(same(far)["energy"], model(far)["energy"], rtol=0, atol=0)
    with torch.inference_mode():
        torch.testing.assert_close(model(far)["forces"], model.forward(far)["forces"])


def test_bad_input():
    model, data = build(), molecule()
    without = data.clone()
    del without.z
    with pytest.raises(ValueError, match="data has no z"):
        model(without)
    with pytest.raises(TypeError, match="reads a Data"):
        model(data.pos)
    for z, found in ((0, "0..0"), (91, "91..91")):
        strange = data.clone()
        strange.z = torch.full_like(data.z, z)
        with pytest.raises(ValueError, match=f"between 1 and num_elements=90, got {found}"):
            model(strange)
    fuzzy = data.clone()
    fuzzy.z = data.z.double()
    with pytest.raises(TypeError, match="z must hold atomic numbers as integers"):
        model(fuzzy)
    loose = data.clone()
    loose.pbc = torch.ones(1, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="pbc but no cell"):
        model(loose)
    on_top = data.clone()
    on_top.pos[1] = on_top.pos[0]
    with pytest.raises(ValueError, match="has no direction"):
        model(on_top)
    broken = data.clone()
    broken.pos[2, 1] = torch.nan
    with pytest.raises(ValueError, match="pos must be finite, but row 2"):
        model(broken)
    with pytest.raises(ValueError, match="forces must be"):
        SCNConfig(forces="both")
    with pytest.raises(ValueError, match="name must be one of"):
        SCNConfig.published("tiny")


def test_neighbours_of_equal_length_are_near_together():
    """In a bcc crystal the 12th of 8 + 6 neighbours ties: the order of the atoms must not say which of them is near."""
    model, graph = build(num_resolutions=2, near=12, lmax=5, cutoff=3.5), PeriodicGraph(3.5)
    corner = torch.cartesian_prod(*[torch.arange(2.0)] * 3)
    pos = 2.87 * torch.cat([corner, corner + 0.5]).to(F64)
    cell, pbc = 5.74 * torch.eye(3, dtype=F64)[None], torch.ones(1, 3, dtype=torch.bool)
    z = torch.tensor([26, 28, 26, 13]).repeat(4)
    whole = graph(Data(z=z, pos=pos, cell=cell, pbc=pbc))
    out = model(whole)
    for seed in range(3):
        order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
        moved = model(graph(Data(z=z[order], pos=pos[order], cell=cell, pbc=pbc)))
        torch.testing.assert_close(moved["energy"], out["energy"], rtol=0, atol=1e-12)
    nudged = whole.clone()
    nudged.pos = nudged.pos + 1e-3 * torch.randn(16, 3, dtype=F64)
    assert abs(model(nudged)["energy"] - out["energy"]) > 1e-9


def test_energies_are_float64_and_whole_models_compile(compiled):
    model, data = build(torch.float32), molecule(dtype=torch.float32)
    out = model(data)
    assert out["energy"].dtype == F64
    assert out["forces"].dtype == torch.float32
    fast = compiled(model, backend="eager")(data)
    torch.testing.assert_close(fast, out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "low", "high"),
    [({"mmax": 0}, 0, 1e-4), ({"taps": 4}, 1e-7, 5e-3), ({"taps": 1}, 0.02, 10)],
    ids=["m0", "four taps", "one tap"],
)
def test_table_of_roll_dependence(options, low, high):
    """50 atoms, 1,000 edges, L = 6, C = 32, two layers, float32: change of forces when frames roll at random."""
    torch.manual_seed(0)
    config = {"lmax": 6, "channels": 32, "hidden_channels": 128, "num_basis": 400, "cutoff": 8.0, "envelope": None}
    model = SCN(SCNConfig(**config, roll="random", **options)).train()
    pos = torch.rand(50, 3) * 8
    near = torch.cdist(pos, pos).fill_diagonal_(torch.inf).topk(20, largest=False).indices
    edge_index = torch.stack([near.flatten(), torch.arange(50).repeat_interleave(20)])
    data = Data(z=torch.randint(1, 90, (50,)), pos=pos, edge_index=edge_index)
    with torch.no_grad():
        first, second = (model(data, torch.Generator().manual_seed(s))["forces"] for s in (0, 1))
    assert low <= float((first - second).norm() / first.norm()) < high
