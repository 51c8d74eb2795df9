"""ESCN: what it reads and returns, batches, sizes, configs, bad input."""

import json

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.models import ESCN, ESCNConfig
from geomeq.transforms import CutoffGraph
from tests.models._atoms import CUTOFF, crystal, molecule

SMALL = {"channels": 8, "num_layers": 2, "cutoff": CUTOFF, "edge_channels": 16}


def build(dtype: torch.dtype = torch.float64, **options) -> ESCN:
    torch.manual_seed(0)
    return ESCN(ESCNConfig(**{**SMALL, **options})).to(dtype).eval()


VARIANTS = {
    "default": {},
    "direct": {"forces": "direct"},
    "attention": {"attention_heads": 2, "activation": "separable_s2", "mlp": "separable_grid"},
    "escn": {"form": "escn", "activation": "s2", "readout": "grid", "forces": "direct", "degree_embedding": False},
    "no norm, no envelope": {"norm": None, "envelope": None, "radial": "gaussian", "lmax": 3, "mmax": 1},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_batch_equals_its_structures(name):
    model, parts = build(**VARIANTS[name]), [molecule(5, 1), molecule(7, 2), molecule(4, 3)]
    out = model(Batch.from_data_list(parts))
    alone = [model(part) for part in parts]
    assert out["energy"].shape == (3,)
    assert out["forces"].shape == (16, 3)
    for key in ("energy", "energies", "forces"):
        torch.testing.assert_close(out[key], torch.cat([a[key] for a in alone]), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(alone[0]["energies"].sum(), alone[0]["energy"][0])


@pytest.mark.parametrize("name", ["default", "direct"])
def test_periodic_structures_have_a_stress_and_a_batch_of_them_equals_its_parts(name):
    model = build(**VARIANTS[name])
    one, two = crystal(), crystal()
    two.cell = two.cell * 1.05
    two.pos = two.pos * 1.05
    out, alone = model(Batch.from_data_list([one, two])), [model(one), model(two)]
    assert out["stress"].shape == (2, 3, 3)
    torch.testing.assert_close(out["stress"], out["stress"].mT)
    torch.testing.assert_close(out["stress"], torch.cat([a["stress"] for a in alone]), atol=1e-10, rtol=1e-10)
    assert "stress" not in model(molecule())
    assert "stress" not in build(**VARIANTS[name], stress=False)(one)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_order_of_atoms_does_not_matter(name):
    model, data = build(**VARIANTS[name]), molecule()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    mixed = CutoffGraph(CUTOFF)(Data(z=data.z[order], pos=data.pos[order]))
    before, after = model(data), model(mixed)
    torch.testing.assert_close(after["energy"], before["energy"])
    torch.testing.assert_close(after["forces"], before["forces"][order])
    assert not torch.allclose(after["forces"], before["forces"], atol=1e-3)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_input_gives_the_same_bits(name):
    model, data = build(torch.float32, **VARIANTS[name]), molecule(dtype=torch.float32)
    first, second = model(data), model(data)
    assert all(torch.equal(first[key], second[key]) for key in first)
    torch.rand(3)  # whatever was drawn in between
    model.train()
    third = model(data)
    assert torch.equal(first["energy"], third["energy"].detach())
    torch.testing.assert_close(third["forces"].detach(), first["forces"])  # other kernels where a graph is kept


@pytest.mark.parametrize("name", VARIANTS)
def test_no_edges_and_one_atom(name):
    model = build(**VARIANTS[name])
    far = CutoffGraph(CUTOFF)(Data(z=torch.tensor([8, 1]), pos=torch.tensor([[0.0, 0, 0], [50.0, 0, 0]]).double()))
    single = CutoffGraph(CUTOFF)(Data(z=torch.tensor([8]), pos=torch.zeros(1, 3).double()))
    apart, alone = model(far), model(single)
    assert apart["forces"].shape == (2, 3)
    assert apart["forces"].abs().max() < 1e-12
    torch.testing.assert_close(apart["energies"][:1], alone["energies"])
    loss = model.train()(far)["energy"].sum()
    loss.backward()


def test_slices_of_edges_change_nothing():
    whole, data = build(torch.float32), molecule(10, dtype=torch.float32)
    sliced = build(torch.float32, chunk_size=7)
    sliced.load_state_dict(whole.state_dict())
    results = []
    for model in (whole.train(), sliced.train()):
        out = model(data)
        (out["energy"].sum() + out["forces"].square().sum()).backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        results.append([out["energy"].float(), out["forces"], *grads])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5 * max(1.0, a.abs().max().item()), rtol=0)


@pytest.mark.parametrize("forces", ["autograd", "direct"])
def test_every_weight_learns_from_forces(forces):
    model = build(forces=forces).train()
    out = model(molecule())
    (out["energy"].sum() + out["forces"].square().sum()).backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # degree 0 of a head for vectors has nothing to say
    assert not [name for name in unused if not name.startswith(("force.mlp", "tension.mlp"))]


def test_further_invariants():
    model = build(scalars=("charge", "tags"))
    first, second = molecule(5, 1), molecule(6, 2)
    for data, charge in ((first, 0.0), (second, 1.0)):
        data.charge, data.tags = torch.tensor([charge]), torch.zeros(data.num_nodes)
    both = model(Batch.from_data_list([first, second]))["energy"]
    torch.testing.assert_close(both, torch.cat([model(first)["energy"], model(second)["energy"]]))
    second.charge = torch.tensor([-1.0])
    assert not torch.allclose(model(second)["energy"], both[1:])
    del second.charge
    with pytest.raises(ValueError, match="config.scalars names 'charge'"):
        model(second)
    second.charge = torch.zeros(2)
    with pytest.raises(ValueError, match=r"per structure \[1\] or atom \[6\]"):
        model(second)


def test_save_load_and_the_config_as_json():
    model, data = build(torch.float32), molecule(dtype=torch.float32)
    config = ESCNConfig(**json.loads(json.dumps(model.config.to_dict())))
    assert config == model.config
    other = ESCN(config).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(data)["forces"], model(data)["forces"])
    other.reset_parameters()
    assert not torch.allclose(other(data)["energy"], model(data)["energy"])


@pytest.mark.parametrize("norm", ["rms", "layer", "degree"])
def test_double_precision_does_not_depend_on_the_default_dtype(norm):
    model, data = build(norm=norm, invariants=True), molecule()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        other = build(norm=norm, invariants=True)
    finally:
        torch.set_default_dtype(before)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(data)["energy"], model(data)["energy"], atol=1e-12, rtol=1e-12)


def test_weights_drawn_again_are_of_the_size_they_were():
    model = ESCN(ESCNConfig(mlp="separable_grid", activation="separable_s2", attention_heads=2, readout="grid"))
    before = {name: p.detach().square().mean().sqrt() for name, p in model.named_parameters()}
    old = model.energy.grid.layers[0].weight.clone()
    model.reset_parameters()
    assert not torch.equal(model.energy.grid.layers[0].weight, old)
    for name, p in model.named_parameters():
        size = p.detach().square().mean().sqrt()
        if p.numel() < 100 or before[name] == 0:
            assert (size == 0) == (before[name] == 0), name
        else:
            assert 0.8 < size / before[name] < 1.25, name


@pytest.mark.parametrize("activation", ["gate", "s2", "separable_s2"])
@pytest.mark.parametrize("heads", [0, 2])
def test_invariants_alone(activation, heads):
    model = build(lmax=0, mmax=0, activation=activation, attention_heads=heads)
    data = molecule()
    out = model(data)
    mirrored = Data(z=data.z, pos=-data.pos, edge_index=data.edge_index)
    assert out["forces"].abs().max() > 1e-6
    torch.testing.assert_close(model(mirrored)["forces"], -out["forces"])


def test_the_published_form_has_no_norms():
    names = [name for name, _ in build(form="escn", activation="s2").named_parameters()]
    assert not [name for name in names if "norm" in name]
    assert [name for name, _ in build().named_parameters() if "norm" in name]


def test_energies_before_training_are_of_unit_size():
    """Otherwise the first steps only undo the initialisation."""
    out = build(torch.float32, channels=32, average_degree=6.0)(molecule(12, dtype=torch.float32))
    assert 0.05 < out["energies"].std() < 3
    assert 0.05 < out["forces"].std() < 10


def test_features_keep_unit_variance_through_the_layers():
    torch.manual_seed(0)
    model = ESCN(ESCNConfig(lmax=3, mmax=3, channels=32, num_layers=4, cutoff=CUTOFF, average_degree=6.0)).eval()
    sizes = []
    for block in model.blocks:
        block.conv.register_forward_hook(lambda _, __, y: sizes.append(y.square().mean().item()))
        block.mlp.register_forward_hook(lambda _, __, y: sizes.append(y.square().mean().item()))
    model(Batch.from_data_list([molecule(12, s, torch.float32) for s in range(5)]))
    assert len(sizes) == 8
    assert all(0.1 < s < 4 for s in sizes), sizes


PARAMETERS = {  # published numbers, millions
    "escn-l6-m2": 51,
    "escn-l6-m3": 200,
    "equiformer-v2-31m": 31,
    "equiformer-v2-83m": 83,
    "equiformer-v2-153m": 153,
    "esen-30m": 30,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_sizes(name):
    with torch.device("meta"):
        model = ESCN(ESCNConfig.published(name))
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert abs(count / PARAMETERS[name] - 1) < 0.1, count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lmax": 1, "mmax": 2}, "mmax must lie between"),
        ({"forces": "gradient"}, "forces must be one of"),
        ({"norm": "batch"}, "norm must be one of"),
        ({"cutoff": 0.0}, "cutoff must be positive"),
        ({"channels": 0}, "channels must be at least 1"),
        ({"envelope": 0}, "envelope must be at least 1"),
        ({"mlp": "grid", "invariants": True}, "write mlp='gate'"),
        ({"forces": "direct", "lmax": 1, "mmax": 1, "stress": True}, "need lmax >= 2"),
        ({"forces": "direct", "lmax": 0, "mmax": 0}, "need lmax >= 1"),
    ],
)
def test_bad_configs(options, message):
    with pytest.raises(ValueError, match=message):
        ESCNConfig(**options)


def test_a_name_instead_of_names_and_unknown_sizes():
    with pytest.raises(TypeError, match="write \\('charge',\\)"):
        ESCNConfig(scalars="charge")
    with pytest.raises(ValueError, match="name must be one of"):
        ESCNConfig.published("escn-l8")


def _without(name: str) -> Data:
    data = molecule()
    del data[name]
    return data


def _changed(data: Data | None = None, **values) -> Data:
    data = molecule() if data is None else data
    for name, value in values.items():
        data[name] = value
    return data


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _without("edge_index"), "CutoffGraph"),
        (lambda: _without("z"), "data has no z"),
        (lambda: _changed(z=torch.full((8,), 99)), "raise num_elements"),
        (lambda: _changed(z=torch.zeros(8, dtype=torch.long)), "between 1 and num_elements=90"),
        (lambda: _changed(pos=torch.full((8, 3), torch.nan).double()), "pos must be finite"),
        (lambda: _changed(pos=torch.zeros(7, 3).double()), "pos must have shape"),
        (lambda: _changed(pbc=torch.tensor([[True, True, True]])), "pbc but no cell"),
        (lambda: _changed(crystal(), cell=torch.zeros(2, 3, 3).double()), r"cell must have shape \[1, 3, 3\]"),
        (lambda: _changed(edge_index=torch.tensor([[0], [0]])), "from an atom to itself"),
        (lambda: _changed(edge_index=torch.tensor([[0], [12]])), "only 8 nodes"),
    ],
)
def test_bad_data(make, message):
    with pytest.raises(ValueError, match=message):
        build()(make())


def test_overlapping_atoms_no_graph_at_all_and_elements_as_floats():
    data = molecule()
    source, target = data.edge_index[:, 0].tolist()
    data.pos[source] = data.pos[target]
    with pytest.raises(ValueError, match="two atoms at the same place"):
        build()(data)
    with pytest.raises(TypeError, match="reads a Data"):
        build()(torch.zeros(3, 3))
    with pytest.raises(TypeError, match="atomic numbers as integers"):
        build()(_changed(z=torch.ones(8)))
    with pytest.raises(ValueError, match="leave stress=None"):
        build(stress=True)(molecule())
