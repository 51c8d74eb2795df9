"""Plane groups as graphs: the same convolution as conv2d, and exact symmetry where no conv2d goes."""

import itertools

import pytest
import torch
from torch_geometric.data import Data

from geomeq.groups import plane_group
from geomeq.nn import GroupConv2d, LiftingConv2d, TypedConv
from geomeq.ops import TypedPattern, typed_linear
from geomeq.transforms import GroupGrid

SQUARE = ("C1", "C2", "C4", "D1", "D2", "D4")
HEXAGONAL = ("C1", "C2", "C3", "C6", "D1", "D3", "D6")


def pattern_of(data):
    return TypedPattern(data.edge_index, data.edge_type, data.num_types, data.num_nodes)


def to_nodes(x):
    """``[B, C, |H|, Y, X]`` to ``[B, N, C]``."""
    return x.flatten(2).transpose(1, 2)


def close(a, b, tol=1e-12):
    torch.testing.assert_close(a, b, atol=tol, rtol=0)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("boundary", ["zero", "circular"])
@pytest.mark.parametrize("name", SQUARE)
def test_the_graph_gives_the_conv2d_and_all_its_gradients(name, boundary, dtype, tol):
    mode = "zeros" if boundary == "zero" else "circular"
    for k, (nx, ny) in ((3, (6, 6)), (5, (7, 6)), (1, (2, 3))):
        data = GroupGrid((nx, ny), name, k, boundary)(Data())
        layer = GroupConv2d(name, 2, 3, k, padding="same", padding_mode=mode).to(dtype)
        torch.nn.init.normal_(layer.bias)
        x = torch.randn(2, 2, layer.group.order, ny, nx, dtype=dtype, requires_grad=True)
        grad = torch.randn(2, 3, layer.group.order, ny, nx, dtype=dtype)
        wanted = layer(x)
        found = typed_linear(to_nodes(x), layer.graph_weight(), pattern_of(data)) + layer.bias
        close(found, to_nodes(wanted), tol)
        inputs = (x, layer.weight, layer.bias)
        for a, b in zip(
            torch.autograd.grad(found, inputs, to_nodes(grad)), torch.autograd.grad(wanted, inputs, grad), strict=True
        ):
            close(a, b, 10 * tol)


@pytest.mark.parametrize("name", SQUARE)
def test_the_lifting_graph_gives_the_lifting_layer(name):
    for boundary, mode in (("zero", "zeros"), ("circular", "circular")):
        data = GroupGrid((5, 6), name, 3, boundary, lifting=True)(Data())
        layer = LiftingConv2d(name, 2, 3, 3, padding="same", padding_mode=mode).double()
        conv = TypedConv(2, 3, data.lift_num_types).double()
        with torch.no_grad():
            conv.weight.copy_(layer.kernel.flatten(2).permute(2, 1, 0))
        image = torch.randn(2, 2, 6, 5, dtype=torch.float64)
        found = conv(to_nodes(image), data.lift_edge_index, data.lift_edge_type, num_targets=data.num_nodes)
        close(found, to_nodes(layer(image)))


def test_nodes_edges_and_types_are_where_the_page_says():
    data = GroupGrid((4, 3), "C4", 3)(Data())
    assert data.num_nodes == 4 * 3 * 4
    assert data.num_types == 4 * 9
    assert (data.num_orientations, data.num_spatial, data.grid) == (4, 12, (4, 3))
    h, iy, ix = data.element.T
    assert torch.equal(h * 12 + iy * 4 + ix, torch.arange(48))
    source, target = data.edge_index
    key = target * 48 + source
    assert bool((key[1:] >= key[:-1]).all())
    assert int(data.edge_type.max()) == 35
    # a node inside has one neighbour of each type
    inside = (h * 12 + iy * 4 + ix)[(iy == 1) & (ix == 1)]
    for node in inside.tolist():
        assert data.edge_type[target == node].sort().values.tolist() == list(range(36))


def brute_force_types(data, group, matrices, window, size):
    """g_i^-1 g_j for every pair, by integer matrices, the group's table and a search in the window."""
    nx, ny = size
    found = {}
    elements = [tuple(e) for e in data.element.tolist()]
    for (i, (h, y, x)), (j, (k, b, a)) in itertools.product(enumerate(elements), repeat=2):
        back = matrices[group.inverse(h)]
        for shift in itertools.product((-nx, 0, nx), (-ny, 0, ny)) if data.wraps else [(0, 0)]:
            v = back @ torch.tensor([a - x + shift[0], b - y + shift[1]])
            place = [w for w, cell in enumerate(window.tolist()) if cell == v.tolist()]
            if place:
                kind = int(group.left_division[h, k]) * len(window) + place[0]
                found.setdefault((j, i), []).append(kind)
    return found


@pytest.mark.parametrize(
    ("name", "lattice", "boundary"),
    [
        ("C4", "square", "zero"),
        ("D4", "square", "circular"),
        ("C6", "hexagonal", "zero"),
        ("D3", "hexagonal", "circular"),
    ],
)
def test_edges_are_all_pairs_whose_quotient_lies_in_the_window(name, lattice, boundary):
    transform = GroupGrid(3, name, 3, boundary, lattice)
    data = transform(Data())
    data.wraps = boundary == "circular"
    wanted = brute_force_types(data, transform.group, transform._matrices(), transform._window(), (3, 3))
    found = {}
    for (j, i), kind in zip(data.edge_index.T.tolist(), data.edge_type.tolist(), strict=True):
        found.setdefault((j, i), []).append(kind)
    assert {k: sorted(v) for k, v in found.items()} == {k: sorted(v) for k, v in wanted.items()}


@pytest.mark.parametrize(
    ("kind", "lattice"), [("p4", "square"), ("p4m", "square"), ("p6", "hexagonal"), ("p6m", "hexagonal")]
)
def test_on_a_torus_the_type_is_the_quotient_in_the_finite_group(kind, lattice):
    group = plane_group(kind, 4)
    data = GroupGrid(4, kind, 3, "circular", lattice)(Data())
    assert data.num_nodes == group.order
    source, target = data.edge_index
    quotient = group.compose(group.inverse(target), source)
    for kind in range(data.num_types):
        assert quotient[data.edge_type == kind].unique().numel() == 1


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize(
    ("lattice", "name"), [*(("square", n) for n in SQUARE), *(("hexagonal", n) for n in HEXAGONAL)]
)
def test_the_layer_follows_every_element_also_by_60_degrees(lattice, name, dtype, tol):
    for boundary, n, k in (("zero", 7, 3), ("circular", 6, 3), ("zero", 5, 5)):
        data = GroupGrid(n, name, k, boundary, lattice)(Data())
        conv, pattern = TypedConv(2, 3, data.num_types).to(dtype), pattern_of(data)
        x = torch.randn(data.num_nodes, 2, dtype=dtype)
        y = conv(x, pattern)
        assert data.action.shape == (data.num_orientations, data.num_nodes)
        for moved in data.action:
            close(conv(x[moved], pattern), y[moved], tol)
        if data.num_orientations > 1 and boundary == "zero":
            torch.manual_seed(1)
            wrong = data.clone()
            wrong.edge_type = data.edge_type[torch.randperm(data.num_edges)]
            y = conv(x, pattern_of(wrong))
            assert (conv(x[data.action[1]], pattern_of(wrong)) - y[data.action[1]]).abs().max() > 0.1


@pytest.mark.parametrize("name", ["D4", "D6"])
def test_the_action_is_one(name):
    transform = GroupGrid(7, name, 3, lattice="square" if name == "D4" else "hexagonal")
    data, group = transform(Data()), transform.group
    x = torch.randn(data.num_nodes)
    assert torch.equal(data.action[0], torch.arange(data.num_nodes))
    for a, b in itertools.product(range(group.order), repeat=2):
        assert torch.equal(x[data.action[b]][data.action[a]], x[data.action[group.compose(a, b)]])
    assert data.action.unique(dim=0).size(0) == group.order
    if name == "D4":
        grid = x.view(8, 7, 7)
        for h in range(8):
            assert torch.equal(x[data.action[h]].view(8, 7, 7), group.act_on_field(h, grid))


def test_hexagons_lie_on_a_hexagon_and_turn_by_60_degrees():
    data = GroupGrid(7, "C6", 3, lattice="hexagonal")(Data())
    assert data.num_spatial == 37  # 3 R (R + 1) + 1
    assert data.num_nodes == 6 * 37
    x, y = data.pos[:37, 0], data.pos[:37, 1]
    turned = data.action[1][:37] % 37  # the value at p comes from R^-1 p
    c, s = 0.5, 0.75**0.5
    # y runs downwards: counter-clockwise as one looks at it is (c x + s y, -s x + c y)
    torch.testing.assert_close(c * x[turned] + s * y[turned], x)
    torch.testing.assert_close(-s * x[turned] + c * y[turned], y)
    gap = (data.pos[:37, None, :2] - data.pos[None, :37, :2]).norm(dim=-1)
    assert (gap + 9 * torch.eye(37)).min() == pytest.approx(1)
    assert int((gap[18] < 1.01).sum()) == 7  # itself and six neighbours at distance 1


def test_shifts_on_a_hexagonal_torus():
    data = GroupGrid(5, "p6m", 3, "circular", "hexagonal")(Data())
    conv, pattern = TypedConv(1, 2, data.num_types).double(), pattern_of(data)
    x = torch.randn(12, 5, 5, dtype=torch.float64)
    moved = conv(x.roll((1, 2), (1, 2)).reshape(-1, 1), pattern).view(12, 5, 5, 2)
    close(moved, conv(x.reshape(-1, 1), pattern).view(12, 5, 5, 2).roll((1, 2), (1, 2)))


def test_a_mask_removes_nodes_and_nothing_else():
    line = torch.arange(7) - 3
    disc = line[:, None] ** 2 + line**2 <= 10
    whole, part = GroupGrid(7, "D4", 3)(Data()), GroupGrid(7, "D4", 3, mask=disc)(Data())
    keep = disc.flatten().repeat(8)
    conv = TypedConv(2, 3, whole.num_types).double()
    x = torch.randn(whole.num_nodes, 2, dtype=torch.float64) * keep[:, None]
    close(conv(x[keep], pattern_of(part)), conv(x, pattern_of(whole))[keep])
    assert torch.equal(whole.element[keep], part.element)
    y = conv(x[keep], pattern_of(part))
    for moved in part.action:  # a disc keeps all symmetries
        close(conv(x[keep][moved], pattern_of(part)), y[moved])
    corner = disc.clone()
    corner[0] = False
    broken = GroupGrid(7, "D4", 3, mask=corner)(Data())
    assert "action" not in broken
    single = torch.rand(8, 7, 7) < 0.5  # nodes, not cells
    thin = GroupGrid(7, "D4", 3, mask=single, lifting=True)(Data())
    assert thin.num_nodes == int(single.sum())
    keep = single.flatten()
    x = torch.randn(whole.num_nodes, 2, dtype=torch.float64) * keep[:, None]
    close(conv(x[keep], pattern_of(thin)), conv(x, pattern_of(whole))[keep])
    assert int(thin.lift_edge_index[0].max()) < thin.num_spatial


def test_an_oblong_has_no_quarter_turn_but_a_half_turn():
    assert "action" not in GroupGrid((6, 4), "C4", 3)(Data())
    data = GroupGrid((6, 4), "D2", 3)(Data())
    conv, pattern = TypedConv(1, 1, data.num_types).double(), pattern_of(data)
    x = torch.randn(data.num_nodes, 1, dtype=torch.float64)
    for moved in data.action:
        close(conv(x[moved], pattern), conv(x, pattern)[moved])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((7, "C8"), "the square lattice has turns by 90 degrees, not those of C8"),
        ((7, "C4", 3, "zero", "hexagonal"), "the hexagonal lattice has turns by 60 degrees, not those of C4"),
        ((7, "C4", 2), "kernel_size must be odd and positive, got 2"),
        ((7, "C4", 3, "reflect"), "boundary must be one of"),
        ((7, "C4", 3, "zero", "round"), "lattice must be one of"),
        ((0, "C4"), "size must be one positive integer or"),
        (((7, 7, 4), "C4"), "size must be one positive integer or"),
        ((6, "C6", 3, "zero", "hexagonal"), "a hexagon of cells has one odd width, got size=6"),
        ((7, "C4", 3, "zero", "square", torch.ones(6, 7)), "mask must have shape .7, 7. or .4, 7, 7., got .6, 7."),
        ((7, "C4", 3, "zero", "square", torch.zeros(7, 7)), "the mask leaves no node"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GroupGrid(*arguments)


def test_repr_names_every_argument():
    mask = torch.ones(7, 7, dtype=torch.bool)
    other = mask.clone()
    other[0, 0] = False
    text = repr(GroupGrid(7, "p4m", 3))
    assert text == (
        "GroupGrid(size=(7, 7), point_group='D4', kernel_size=3, boundary='zero', lattice='square', lifting=False)"
    )
    assert len({text, repr(GroupGrid(7, "p4m", mask=mask)), repr(GroupGrid(7, "p4m", mask=other))}) == 3


def test_typed_conv_keeps_the_pattern_of_a_graph_and_sees_a_new_one():
    data = GroupGrid(5, "C4", 3)(Data())
    conv = TypedConv(2, 3, data.num_types)
    x = torch.randn(2, data.num_nodes, 2)
    y = conv(x, data.edge_index, data.edge_type)
    close(y[1], conv(x[1], data.edge_index, data.edge_type), 1e-5)
    close(y, conv(x, pattern_of(data)), 1e-5)
    data.edge_type[:] = data.edge_type.flip(0)  # written in place
    torch.testing.assert_close(conv(x, data.edge_index, data.edge_type), conv(x, pattern_of(data)), atol=1e-5, rtol=0)
    assert not torch.allclose(conv(x, data.edge_index, data.edge_type), y)
    with pytest.raises(ValueError, match="edge_type is missing"):
        conv(x, data.edge_index)
    with pytest.raises(ValueError, match="num_types must be a positive integer, got 0"):
        TypedConv(2, 3, 0)
