"""The signs of docs/conventions.md, each in numbers, each with the opposite sign shown to fail."""

import math

import torch
from torch_geometric.data import Data

from geomeq import neighbors
from geomeq.groups import representation, rotation_from_vector
from geomeq.harmonics import spherical_harmonics
from geomeq.nn import SteerableLinear
from geomeq.testing._elements import Element
from geomeq.testing._move import move


def rotation(angle: torch.Tensor) -> torch.Tensor:
    """R(angle), ``[..., 2, 2]``, counter-clockwise."""
    c, s = angle.cos(), angle.sin()
    return torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)


def turned(x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    return torch.einsum("...ab,...b->...a", rotation(angle), x)


def flat_surface(nodes: int = 12, seed: int = 0) -> Data:
    """Points of the plane z = 0, a frame with normal z at each, turned by its own angle; all edges."""
    generator = torch.Generator().manual_seed(seed)
    pos = torch.zeros(nodes, 3, dtype=torch.float64)
    pos[:, :2] = torch.randn(nodes, 2, generator=generator, dtype=torch.float64)
    angle = 2 * math.pi * torch.rand(nodes, generator=generator, dtype=torch.float64)
    zero = torch.zeros_like(angle)
    e1 = torch.stack([angle.cos(), angle.sin(), zero], -1)
    e2 = torch.stack([-angle.sin(), angle.cos(), zero], -1)
    normal = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(nodes, 3)
    frame = torch.stack([e1, e2, normal], -2)
    target, source = (torch.ones(nodes, nodes) - torch.eye(nodes)).nonzero().T
    local = torch.einsum("eab,eb->ea", frame[target], pos[source] - pos[target])
    polar = torch.stack([local.norm(dim=-1), torch.atan2(local[:, 1], local[:, 0])], -1)
    # in the plane transport compares angles: components in j's frame, turned by a_j - a_i, are components in i's
    transport = angle[source] - angle[target]
    return Data(pos=pos, frame=frame, edge_index=torch.stack([source, target]), polar=polar, transport=transport)


def test_edge_vec_points_from_target_to_source_and_edges_are_sorted_by_target():
    pos = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    edge_index = neighbors.radius_edges(pos, 1.5)
    assert edge_index.tolist() == [[1, 0], [0, 1]]
    source, target = edge_index
    assert (pos[source] - pos[target])[:, 0].tolist() == [1.0, -1.0]  # node 0 sees node 1 in direction +x


def test_the_cell_holds_lattice_vectors_in_rows():
    cell = torch.tensor([[[2.0, 0.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 9.0]]])
    edge_index, shift = neighbors.periodic_radius_edges(torch.zeros(1, 3), 2.1, cell)
    assert edge_index.tolist() == [[0, 0], [0, 0]]
    assert (shift.to(cell.dtype) @ cell[0]).tolist() == [[-2.0, 0.0, 0.0], [2.0, 0.0, 0.0]]
    # read by columns, the same shifts would be longer than the cutoff
    assert (shift.to(cell.dtype) @ cell[0].T).norm(dim=-1).min() > 2.1


def test_a_frame_gives_components_and_angles_run_from_e1_to_e2():
    data = flat_surface()
    source, target = data.edge_index
    r, angle = data.polar.unbind(-1)
    e1, e2, _ = data.frame[target].unbind(-2)
    seen = r[:, None] * (angle.cos()[:, None] * e1 + angle.sin()[:, None] * e2)
    torch.testing.assert_close(seen, data.pos[source] - data.pos[target])


def test_transport_turns_components_of_the_source_into_those_of_the_target():
    data = flat_surface()
    source, target = data.edge_index
    v = torch.tensor([0.3, -1.1, 0.0], dtype=torch.float64)  # one vector, the same everywhere
    components = (data.frame @ v)[:, :2]
    arrived = turned(components[source], data.transport)
    torch.testing.assert_close(arrived, components[target])
    assert not torch.allclose(turned(components[source], -data.transport), components[target])


def test_a_feature_of_order_m_turns_by_minus_m_t_with_its_frame():
    data = flat_surface()
    turn = torch.linspace(-3, 3, data.num_nodes, dtype=torch.float64)
    v = torch.tensor([0.3, -1.1, 0.0], dtype=torch.float64)
    moved = move(data, Element(turn=turn), {}).data
    before, after = (data.frame @ v)[:, :2], (moved.frame @ v)[:, :2]
    torch.testing.assert_close(after, turned(before, -turn))
    assert not torch.allclose(after, turned(before, turn))


def test_polar_and_transport_follow_a_change_of_frames():
    data = flat_surface()
    source, target = data.edge_index
    turn = torch.linspace(-3, 3, data.num_nodes, dtype=torch.float64)
    moved = move(data, Element(turn=turn), {}).data
    torch.testing.assert_close(rotation(moved.polar[:, 1]), rotation(data.polar[:, 1] - turn[target]))
    torch.testing.assert_close(rotation(moved.transport), rotation(data.transport - turn[target] + turn[source]))

    # a message of order m read in i's frame turns by R(-m t_i), whatever happened to j's frame
    x = torch.randn(data.num_nodes, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for m in (1, 2, 3):
        message = turned(x[source], m * data.transport)
        again = turned(turned(x, -m * turn)[source], m * moved.transport)
        torch.testing.assert_close(again, turned(message, -m * turn[target]))
        wrong = turned(turned(x, m * turn)[source], m * moved.transport)
        assert not torch.allclose(wrong, turned(message, -m * turn[target]))


def directions(number: int = 200) -> torch.Tensor:
    return torch.randn(number, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_degree_one_is_x_y_z_and_harmonics_are_component_normalised():
    vec = directions()
    y = spherical_harmonics(vec, lmax=3)
    unit = vec / vec.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(y[:, 1:4], math.sqrt(3) * unit)
    assert not torch.allclose(y[:, 1:4], math.sqrt(3) * unit.roll(1, dims=-1))  # another order of x, y, z
    for degree in range(4):
        square = y[:, degree**2 : (degree + 1) ** 2].square().sum(-1)
        torch.testing.assert_close(square, torch.full_like(square, 2 * degree + 1))


def test_turns_about_the_polar_axis_y_leave_the_middle_component_alone():
    about_y, about_z = (rotation_from_vector(1.1 * torch.eye(3, dtype=torch.float64)[axis]) for axis in (1, 2))
    for degree in (1, 2, 3):
        fixed = torch.zeros(2 * degree + 1, dtype=torch.float64)
        fixed[degree] = 1
        torch.testing.assert_close(representation(f"{degree}e", about_y) @ fixed, fixed)
        assert not torch.allclose(representation(f"{degree}e", about_z) @ fixed, fixed)


def test_the_zero_vector_has_no_direction_and_a_finite_gradient():
    vec = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    y = spherical_harmonics(vec, lmax=2)
    assert y.tolist() == [[1.0] + [0.0] * 8]
    (gradient,) = torch.autograd.grad(y.sum(), vec)
    assert bool(torch.isfinite(gradient).all())


def test_multiplicity_is_the_slower_index_and_odd_vectors_change_sign_with_the_mirror():
    turn = rotation_from_vector(torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64))
    x = directions(3)
    scalars = torch.tensor([2.0, 5.0], dtype=torch.float64)
    feature = torch.cat([scalars, x.flatten()])
    expected = torch.cat([scalars, (x @ turn.T).flatten()])
    torch.testing.assert_close(representation("2x0e + 3x1o", turn) @ feature, expected)
    interleaved = torch.cat([scalars, x.T.flatten()])
    assert not torch.allclose(representation("2x0e + 3x1o", turn) @ interleaved, expected)
    mirrored = representation("0e + 0o + 1o + 1e", -torch.eye(3, dtype=torch.float64)).diagonal()
    assert mirrored.tolist() == [1, -1, -1, -1, -1, 1, 1, 1]


def test_a_steerable_layer_starts_like_a_linear_layer_with_biases_on_even_scalars_only():
    torch.manual_seed(0)
    layer = SteerableLinear("64x0e + 64x0o + 64x1o + 64x2e", "0e + 1o + 2e", "64x0e + 64x0o + 64x1o + 64x2e")
    assert layer.bias is not None
    assert layer.bias.numel() == 64
    attr = spherical_harmonics(directions(2000).float(), lmax=2)
    out = layer(torch.randn(2000, layer.irreps_in.dim), attr).detach()
    for part in layer.irreps_out.slices():
        assert abs(float(out[:, part].std()) * math.sqrt(3) - 1) < 0.1  # 2000 draws, 64 columns of weights
