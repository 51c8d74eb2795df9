import dataclasses
import random
from typing import NamedTuple

import numpy as np
import pytest
import torch
from e3nn import o3
from torch import nn
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.transforms import BaseTransform, Compose

from geomeq.groups import representation
from geomeq.testing import assert_equivariant, equivariance_error, equivariance_report
from geomeq.testing._elements import irrep_matrix, random_elements, random_mirror, random_rotation
from tests.testing._toys import Centre, IrrepsNet, VectorNet, pull, ring_graph, two_graphs

DTYPES = pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
GROUPS = ("SO(3)", "O(3)", "reflection", "inversion", "translation", "SE(3)", "E(3)", "permutation", "batching")


def total_pull(data):
    return pull(data.pos, data.edge_index)


def from_centre(data):
    return data.pos + total_pull(data)


@DTYPES
@pytest.mark.parametrize("group", GROUPS)
def test_an_equivariant_function_passes_under_every_group(group, dtype, tol):
    assert equivariance_error(total_pull, two_graphs(dtype), group, irreps_out="1x1o") < tol


@DTYPES
@pytest.mark.parametrize("group", ["SO(3)", "O(3)", "reflection", "translation", "E(3)", "permutation", "batching"])
def test_a_function_of_raw_coordinates_and_row_numbers_fails_under_every_group(group, dtype, tol):
    def broken(data):
        return data.pos.relu() * torch.arange(1, data.num_nodes + 1)[:, None]

    assert equivariance_error(broken, two_graphs(dtype), group, irreps_out="1x1o") > 1e-2


def test_reflections_tell_vectors_from_pseudovectors_and_rotations_do_not():
    def torque(data):
        return torch.linalg.cross(data.vel, total_pull(data))

    data = ring_graph()
    assert equivariance_error(torque, data, "SO(3)", irreps_out="1x1o") < 1e-12
    assert equivariance_error(torque, data, "O(3)", irreps_out="1x1e") < 1e-12
    assert equivariance_error(torque, data, "O(3)", irreps_out="1x1o") > 1
    assert equivariance_error(torque, data, "inversion", irreps_out="vector") > 1


def test_positions_move_with_a_translation_and_vectors_do_not():
    def step(data):
        return data.pos + 0.1 * data.vel

    assert equivariance_error(step, ring_graph(), "E(3)", irreps_out="position") < 1e-12
    assert equivariance_error(step, ring_graph(), "O(3)", irreps_out="vector") < 1e-12
    assert equivariance_error(step, ring_graph(), "E(3)", irreps_out="vector") > 1e-1


@pytest.mark.parametrize("lmax", [1, 3, 6])
def test_spherical_harmonics_of_edges_have_their_irreps(lmax):
    def harmonics(data):
        source, target = data.edge_index
        return o3.spherical_harmonics(list(range(lmax + 1)), data.pos[source] - data.pos[target], True, "component")

    right = o3.Irreps.spherical_harmonics(lmax)
    wrong = o3.Irreps([(1, (degree, 1)) for degree in range(lmax + 1)])
    assert equivariance_error(harmonics, ring_graph(), "E(3)", irreps_out=right) < 1e-12
    assert equivariance_error(harmonics, ring_graph(), "permutation", irreps_out=right) < 1e-12
    assert equivariance_error(harmonics, ring_graph(), "E(3)", irreps_out=wrong) > 1e-2


@pytest.mark.parametrize("degree", [1, 2, 5, 11])
def test_representation_matrices_multiply_like_the_group(degree):
    generator = torch.Generator().manual_seed(0)
    a, b = random_rotation(generator), random_mirror(generator)
    for parity in (1, -1):
        product = irrep_matrix(degree, parity, a) @ irrep_matrix(degree, parity, b)
        torch.testing.assert_close(irrep_matrix(degree, parity, a @ b), product, atol=1e-12, rtol=0)
    ours, theirs = irrep_matrix(degree, -1, a @ b), o3.Irrep(degree, -1).D_from_matrix(a @ b)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)  # e3nn's own matrix is rounded to float32


def test_representation_matrices_agree_with_those_of_the_groups():
    generator = torch.Generator().manual_seed(0)
    for g in (random_rotation(generator), random_mirror(generator)):
        for degree in range(6):
            ours = irrep_matrix(degree, -1, g)
            torch.testing.assert_close(ours, representation(o3.Irreps([(1, (degree, -1))]), g), atol=1e-12, rtol=0)


def test_random_elements_are_orthogonal_and_of_the_right_determinant():
    generator = torch.Generator().manual_seed(0)
    for group, signs in (("SO(3)", {1}), ("O(3)", {1, -1}), ("reflection", {-1}), ("E(3)", {1, -1})):
        matrices = [e.matrix for e in random_elements(group, ring_graph(), 6, generator)]
        for m in matrices:
            torch.testing.assert_close(m @ m.T, torch.eye(3, dtype=torch.float64), atol=1e-14, rtol=0)
        assert {round(float(torch.linalg.det(m))) for m in matrices} == signs


def test_permutation_sorts_edges_by_target_and_carries_their_attributes():
    data = two_graphs()
    data.edge_attr = data.pos[data.edge_index[0]] * 2 - data.pos[data.edge_index[1]]
    data.face = torch.tensor([[0, 6], [1, 7], [2, 8]])
    seen = []

    def look(data):
        seen.append(data)
        return total_pull(data)

    assert equivariance_error(look, data, "permutation", irreps_out="vector", samples=2) < 1e-12
    for moved in seen[1:]:
        assert not torch.equal(moved.pos, data.pos)
        assert torch.equal(moved.batch, data.batch)
        key = moved.edge_index[1] * moved.num_nodes + moved.edge_index[0]
        assert bool((key[1:] > key[:-1]).all())
        wanted = moved.pos[moved.edge_index[0]] * 2 - moved.pos[moved.edge_index[1]]
        torch.testing.assert_close(moved.edge_attr, wanted)
        torch.testing.assert_close(moved.pos[moved.face].norm(dim=-1), data.pos[data.face].norm(dim=-1))


def test_edge_outputs_follow_the_order_of_the_edges():
    def lengths(data):
        return (data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]).norm(dim=-1)

    def sorted_lengths(data):
        return lengths(data).sort().values * torch.arange(data.num_edges)

    def numbered(data):
        return lengths(data) * torch.arange(data.num_edges)

    assert equivariance_error(lengths, ring_graph(), "permutation") < 1e-12
    assert equivariance_error(numbered, ring_graph(), "permutation") > 1e-2
    assert equivariance_error(sorted_lengths, ring_graph(), "SO(3)") < 1e-12


def surface_graph(dtype=torch.float64, nodes=8):
    data = ring_graph(nodes, dtype)
    generator = torch.Generator().manual_seed(3)
    data.frame = torch.stack([random_rotation(generator) for _ in range(nodes)]).to(dtype)
    edges = data.num_edges
    data.polar = torch.rand(edges, 2, dtype=torch.float64, generator=generator).to(dtype)
    data.transport = (torch.rand(edges, dtype=torch.float64, generator=generator) * 6).to(dtype)
    data.t = torch.randn(nodes, 4, dtype=torch.float64, generator=generator).to(dtype)  # one scalar pair, one vector
    return data


def rotate(v, angle):
    c, s = angle.cos(), angle.sin()
    return torch.stack([c * v[:, 0] - s * v[:, 1], s * v[:, 0] + c * v[:, 1]], dim=-1)


def gauge_layer(data, sign=1):
    """Transports tangent vectors to the target and adds the direction of the source."""
    source, target = data.edge_index
    r, angle = data.polar.unbind(-1)
    message = rotate(data.t[:, 2:][source], sign * data.transport)
    message = message + (r * data.t[source, 0])[:, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)
    return torch.zeros_like(data.t[:, 2:]).index_add(0, target, message)


@DTYPES
def test_change_of_frames_follows_the_sign_convention(dtype, tol):
    data = surface_graph(dtype)
    kinds = {"irreps": {"t": "2x0+1x1"}}
    assert equivariance_error(gauge_layer, data, "frames", irreps_out="1x1", **kinds) < tol
    assert equivariance_error(lambda d: gauge_layer(d, sign=-1), data, "frames", irreps_out="1x1", **kinds) > 1e-2
    assert equivariance_error(gauge_layer, data, "frames", irreps_out="1x2", **kinds) > 1e-2
    assert equivariance_error(gauge_layer, data, "O(3)", irreps_out="1x1", **kinds) < tol  # intrinsic: nothing moves


def test_components_in_the_frame_turn_against_the_frame():
    def components(data):
        return torch.einsum("nij,nj->ni", data.frame, data.vel)[:, :2]

    def second_order(data):
        a, b = components(data).unbind(-1)
        return torch.stack([a * a - b * b, 2 * a * b], dim=-1)  # the square of a complex number

    data = surface_graph()
    assert equivariance_error(components, data, "frames", irreps_out="1x1") < 1e-12
    assert equivariance_error(second_order, data, "frames", irreps_out="1x2") < 1e-12
    assert equivariance_error(second_order, data, "frames", irreps_out="1x1") > 1e-2
    assert equivariance_error(components, data, "E(3)") < 1e-12  # the frame moves along


def test_cells_stress_and_channels_first_vectors_move():
    data = ring_graph()
    data.cell = torch.randn(1, 3, 3, dtype=torch.float64)
    data.shift = torch.randint(-1, 2, (data.num_edges, 3))

    def stress(data):
        source, target = data.edge_index
        r = data.pos[source] - data.pos[target] + data.shift.double() @ data.cell[0]
        return {"stress": torch.einsum("ei,ej->ij", r, r)[None], "fields": torch.stack([r, 2 * r], dim=1)}

    assert equivariance_error(stress, data, "E(3)", irreps_out={"fields": "2x1o"}) < 1e-12
    assert equivariance_error(stress, data, "E(3)", irreps_out={"fields": "2x1e"}) > 1


def test_outputs_in_a_dict_move_by_name_and_in_a_tuple_by_position():
    def named(data):
        return {"energy": data.pos.std(0).norm()[None], "force": total_pull(data)}

    def listed(data):
        return tuple(named(data).values())

    assert equivariance_error(named, ring_graph(), "O(3)") < 1e-12
    assert equivariance_error(listed, ring_graph(), "O(3)", irreps_out=["1x0e", "1x1o"]) < 1e-12
    assert equivariance_error(listed, ring_graph(), "O(3)") > 1e-2  # unnamed outputs count as invariant
    with pytest.raises(ValueError, match="1 types, but the model returns 2"):
        equivariance_error(listed, ring_graph(), irreps_out=["1x0e"])
    with pytest.raises(ValueError, match="give a list, or a dict"):
        equivariance_error(listed, ring_graph(), irreps_out="1x1o")


def test_outputs_in_a_named_tuple_or_a_dataclass_move_by_name():
    @dataclasses.dataclass
    class Prediction:
        energy: torch.Tensor
        force: torch.Tensor

    class Pair(NamedTuple):
        energy: torch.Tensor
        force: torch.Tensor
        stress: torch.Tensor | None = None

    for kind in (Prediction, Pair):
        right = lambda d: kind(d.pos.std(0).norm()[None], total_pull(d))  # noqa: E731, B023
        wrong = lambda d: kind(d.pos.std(0).norm()[None], total_pull(d).relu())  # noqa: E731, B023
        assert equivariance_error(right, ring_graph(), "O(3)") < 1e-12
        assert equivariance_error(wrong, ring_graph(), "O(3)") > 1e-2


def test_node_features_have_the_type_that_the_model_declares():
    class Keep(nn.Module):
        irreps_in = irreps_out = o3.Irreps("1x0e+1x1o")

        def forward(self, data):
            return data.x

    data = ring_graph()
    data.x = torch.cat([data.x[:, :1], data.vel], dim=1)
    assert equivariance_error(Keep(), data, "O(3)") < 1e-12
    assert equivariance_error(Keep(), data, "O(3)", irreps={"x": "4x0e"}) > 1e-2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("group", ["E(3)", "permutation", "batching"])
def test_a_check_runs_where_the_data_are(group):
    model, data = VectorNet().double().cuda(), two_graphs().to("cuda")
    state = torch.cuda.get_rng_state()
    call = lambda model, data: model(data) if group != "batching" else total_pull(data)  # noqa: E731
    assert equivariance_error(model, data, group, irreps_out="1o", call=call) < 1e-12
    assert torch.equal(state, torch.cuda.get_rng_state())
    broken = VectorNet(act=nn.ReLU()).double().cuda()
    assert equivariance_report(broken, data, irreps_out="1o").first_broken == "act"


def test_a_transform_can_be_the_model():
    class Offsets(BaseTransform):
        def forward(self, data):
            data.edge_vec = data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]
            return data

    assert equivariance_error(Offsets(), ring_graph(), "E(3)") < 1e-12
    assert equivariance_error(Offsets(), ring_graph(), "permutation") < 1e-12


class Shuffled(BaseTransform):
    """Connects every pair, in an order that depends on where the points are."""

    def forward(self, data):
        pairs = torch.cartesian_prod(torch.arange(data.num_nodes), torch.arange(data.num_nodes)).T
        pairs = pairs[:, pairs[0] != pairs[1]]
        along_x = data.pos[pairs[0], 0] + 0.3 * data.pos[pairs[1], 0]
        data.edge_index = pairs[:, along_x.argsort()]
        return data


class CentreTransform(BaseTransform):
    def __init__(self, dim):
        self.dim = dim

    def forward(self, data):
        data.pos = data.pos - data.pos.mean(dim=self.dim, keepdim=True)
        return data


@DTYPES
def test_the_whole_pipeline_is_tested_when_the_transform_is_given(dtype, tol):
    def lengths(data):
        return (data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]).norm(dim=-1)

    raw = ring_graph(dtype=dtype)
    for group in ("E(3)", "permutation"):
        assert equivariance_error(lengths, raw, group, transform=Shuffled()) < tol
    good, bad = Compose([CentreTransform(0), Shuffled()]), Compose([CentreTransform(1), Shuffled()])
    for group in ("rotation", "translation"):
        assert equivariance_error(from_centre, raw, group, irreps_out="1o", transform=good) < tol
        assert equivariance_error(from_centre, raw, group, irreps_out="1o", transform=bad) > 1e-2
    # The layer alone is right, which is why testing the layer alone is not enough.
    assert equivariance_error(from_centre, bad(raw.clone()), "O(3)", irreps_out="1o") < tol


def test_a_transform_that_finds_other_edges_is_an_error():
    def along_x(data):
        pairs = torch.combinations(torch.arange(data.num_nodes)).T
        data.edge_index = pairs[:, data.pos[pairs[0], 0] < data.pos[pairs[1], 0]]
        return data

    with pytest.raises(ValueError, match="other edges than the original"):
        equivariance_error(total_pull, ring_graph(), "SO(3)", irreps_out="1o", transform=along_x)


def test_attributes_of_steerable_attributes_are_recognised_and_bond_types_are_not():
    data = ring_graph()
    source, target = data.edge_index
    data.edge_attr = o3.spherical_harmonics([0, 1], data.pos[source] - data.pos[target], True, "component")
    data.node_attr = torch.zeros(data.num_nodes, 4, dtype=torch.float64).index_add(0, target, data.edge_attr)

    def read(data):
        return torch.cat([data.node_attr, data.edge_attr])[:, 1:4]

    assert equivariance_error(read, data, "O(3)", irreps_out="1o") < 1e-12
    bonds = torch.nn.functional.one_hot(torch.arange(data.num_edges) % 4, 4).double()
    data.edge_attr, data.node_attr = bonds, bonds[: data.num_nodes]
    assert equivariance_error(lambda d: d.edge_attr, data, "O(3)") == 0


@DTYPES
def test_modules_pass_with_the_irreps_that_they_declare(dtype, tol):
    model = IrrepsNet().to(dtype)
    assert_equivariant(model, two_graphs(dtype), "E(3)")
    assert equivariance_error(model, two_graphs(dtype), "E(3)") < tol
    assert_equivariant(VectorNet().to(dtype), ring_graph(dtype=dtype), "E(3)", irreps_out="1x1o")


def test_layers_that_take_tensors_are_called_by_call():
    layer = o3.Linear("2x0e", "3x0e").double()
    assert_equivariant(layer, ring_graph(), "permutation", call=lambda layer, data: layer(data.x))
    swap = o3.Linear("1x1o", "2x1o").double()
    assert_equivariant(swap, ring_graph(), "O(3)", call=lambda layer, data: layer(data.vel))


def test_the_assertion_names_output_type_and_treatment_of_inputs():
    with pytest.raises(AssertionError) as caught:
        assert_equivariant(VectorNet(act=nn.ReLU()).double(), ring_graph(), "SO(3)", irreps_out="1x1o")
    for part in ("VectorNet", "SO(3)", "1x1o", "pos: position", "vel: 1x1o", "x: invariant", "equivariance_report"):
        assert part in str(caught.value)
    loose = VectorNet(centre=Centre(1)).double()
    assert_equivariant(loose, ring_graph(), "SO(3)", irreps_out="1x1o", tol=10.0)  # the tolerance is the user's


class Restless(nn.Module):
    """Everything a check must put back: dropout, running statistics, random numbers, writing into the input."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(2).eval()  # frozen by its owner
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1))

    def forward(self, data):
        self.calls += 1
        self.last = self.calls.clone()
        torch.rand(3), np.random.rand(2), random.random()  # noqa: NPY002
        data.x *= 2
        data.pos.requires_grad_()
        energy = self.drop(self.norm(data.x)).sum() * data.pos.std(0).norm() + 0 * torch.randn(1)
        return {"force": -torch.autograd.grad(energy, data.pos)[0]}


def test_model_data_and_random_state_are_left_as_they_were():
    model, data = Restless().double().train(), ring_graph()
    model.norm.eval()
    before = data.clone()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert equivariance_error(model, data, "SO(3)") < 1e-12
    assert model.training
    assert model.drop.training
    assert not model.norm.training
    assert float(model.calls) == float(model.last) == 0
    for key in before.keys():  # noqa: SIM118 (Data is no dict)
        assert torch.equal(before[key], data[key])
    assert not data.pos.requires_grad
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_mode_is_restored_when_the_model_raises():
    class Failing(nn.Module):
        def forward(self, data):
            raise RuntimeError("on purpose")

    model = Failing()
    with pytest.raises(RuntimeError, match="on purpose"):
        equivariance_error(model, ring_graph())
    assert model.training


def test_random_numbers_in_the_model_are_the_same_in_each_run():
    def noisy(data):
        return data.pos.std(0).norm() * torch.randn(4)

    assert equivariance_error(noisy, ring_graph(), "O(3)") < 1e-12


def test_the_same_seed_gives_the_same_number():
    model = VectorNet(act=nn.ReLU()).double()
    errors = [equivariance_error(model, ring_graph(), irreps_out="1o", seed=s) for s in (0, 0, 1)]
    assert errors[0] == errors[1] != errors[2]


@pytest.mark.parametrize(
    ("model", "kwargs", "message"),
    [
        (lambda d: None, {}, r"returned nothing \(None\)"),
        (lambda d: "text", {}, "returned str without a tensor"),
        (lambda d: d.x, {"irreps_out": "1x1o"}, r"type 1x1o of dimension 3, but its shape is \[6, 2\]"),
        (lambda d: d.x / 0, {}, "NaN or infinity"),
        (lambda d: d.x, {"group": "SU(2)"}, "group must be one of"),
        (lambda d: d.x, {"irreps": {"x": "1x1o"}}, r"data.x has type 1x1o of dimension 3, but its shape is \[6, 2\]"),
        (lambda d: d.x, {"irreps_out": "two vectors"}, "cannot read the type 'two vectors'"),
        (lambda d: d.x, {"samples": 0}, "samples must be at least 1"),
        (lambda d: d.x, {"group": "frames"}, "nothing in data moves under frames"),
    ],
)
def test_bad_input_says_what_is_wrong(model, kwargs, message):
    with pytest.raises(ValueError, match=message):
        equivariance_error(model, ring_graph(), **kwargs)


def test_wrong_kinds_of_data_say_what_is_wrong():
    with pytest.raises(TypeError, match="must be a torch_geometric Data or Batch, got Tensor"):
        equivariance_error(lambda d: d, torch.zeros(3))
    with pytest.raises(TypeError, match="heterogeneous graphs are not supported"):
        equivariance_error(lambda d: d, HeteroData())
    with pytest.raises(TypeError, match=r"nn\.Module or a function"):
        equivariance_error(3, ring_graph())
    with pytest.raises(KeyError, match="speed"):
        equivariance_error(lambda d: d.x, ring_graph(), irreps={"speed": "1o"})
    with pytest.raises(ValueError, match=r"needs data\.pos"):
        equivariance_error(lambda d: d.x, Data(x=torch.ones(2, 1)), "translation")
    with pytest.raises(ValueError, match="at least 2 nodes"):
        equivariance_error(lambda d: d.x, Data(x=torch.ones(1, 1)), "permutation")


def test_an_output_that_is_zero_everywhere_is_not_passed_in_silence():
    with pytest.warns(UserWarning, match="zero everywhere"):
        assert equivariance_error(lambda d: 0 * d.pos, ring_graph(), irreps_out="1o") == 0


def test_points_of_the_plane_shift():
    flat = Data(pos=torch.rand(5, 2, dtype=torch.float64))
    assert equivariance_error(lambda d: d.pos - d.pos.mean(0), flat, "translation") < 1e-12
    assert equivariance_error(lambda d: d.pos.sin(), flat, "translation") > 1e-2
    for group in ("SO(3)", "E(3)"):
        with pytest.raises(ValueError, match=r"data.pos is \[5, 2\], not \[N, 3\]"):
            equivariance_error(lambda d: d.pos, flat, group)
    assert equivariance_report(lambda d: d.pos, flat, irreps_out="invariant", tol=10).symmetries == (
        "translation",
        "permutation",
    )


def test_graphs_that_leak_into_each_other_are_found_by_batching():
    def leaky(data):
        return data.pos - data.pos.mean(0)

    assert equivariance_error(leaky, two_graphs(), "E(3)", irreps_out="1o") < 1e-12
    assert equivariance_error(leaky, two_graphs(), "batching", irreps_out="1o") > 1e-2
    assert equivariance_error(leaky, ring_graph(), "batching", irreps_out="1o") > 1e-2  # one graph is doubled


def test_integer_and_complex_outputs_are_compared_too():
    assert equivariance_error(lambda d: (d.pos[:, 0] > 0).long(), ring_graph(), "SO(3)") > 0
    phase = lambda d: torch.exp(1j * d.pos[:, 0])  # noqa: E731
    assert equivariance_error(phase, ring_graph(), "SO(3)") > 1e-2
    assert equivariance_error(lambda d: torch.exp(1j * d.x), ring_graph(), "SO(3)") < 1e-12


def test_a_batch_of_one_atom_molecules_does_not_confuse_rows():
    atoms = Batch.from_data_list([Data(pos=torch.randn(1, 3), x=torch.randn(1, 1)) for _ in range(4)])
    assert equivariance_error(lambda d: d.x * d.pos, atoms, "O(3)", irreps_out="1o") < 1e-5
    assert equivariance_error(lambda d: d.x, atoms, "permutation") == 0
