"""SO2Irreps: reading, layout, turning. Ambient vectors and tensors: exact isometries that commute with everything."""

import copy
import math
import pickle

import pytest
import torch

from geomeq.groups import SO2Irreps, ambient_types, from_ambient, to_ambient

DTYPES = [(torch.float32, 2e-6), (torch.float64, 1e-14)]


def frames(num: int, seed: int = 0) -> torch.Tensor:
    """Right-handed orthonormal frames, rows e1, e2, n."""
    rng = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(num, 3, 3, generator=rng, dtype=torch.float64))
    return q * torch.linalg.det(q)[:, None, None]


def turned(frame: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Every frame turned by its angle from e1 towards e2."""
    e1, e2, n = frame.unbind(1)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    return torch.stack([cos * e1 + sin * e2, cos * e2 - sin * e1, n], dim=1)


def test_a_type_reads_as_it_prints():
    types = SO2Irreps("16x0+8x1+4x2")
    assert [tuple(b) for b in types] == [(16, 0), (8, 1), (4, 2)]
    assert (types.dim, types.num_fields, types.max_order, len(types)) == (40, 28, 2, 3)
    assert types.slices() == [slice(0, 16), slice(16, 32), slice(32, 40)]
    assert SO2Irreps(str(types)) == types == SO2Irreps([(16, 0), (8, 1), (4, 2)])
    assert SO2Irreps(" 16x0 + 8 x 1+4x2 ") == types
    assert SO2Irreps("1") == SO2Irreps("1x1")
    assert types[1].dim == 16
    assert types[:2] == "16x0+8x1"
    assert pickle.loads(pickle.dumps(types)) == copy.deepcopy(types) == types


def test_equal_things_have_equal_hashes():
    types = SO2Irreps("2x0+1x1")
    assert len({types, SO2Irreps("2x0 + 1x1"), "2x0+1x1"}) == 1
    assert types != "2x0 + 1x1"
    assert types != SO2Irreps("1x1+2x0")
    assert types != 3


def test_sums_repeat_and_regroup():
    types = "1x2" + SO2Irreps("2x0") + [(3, 2)] + "0x5"
    assert str(types) == "1x2+2x0+3x2+0x5"
    assert (types.count(2), types.max_order, types.orders) == (4, 2, (2, 0, 0, 2, 2, 2))
    assert types.regroup() == "2x0+4x2"
    assert SO2Irreps("1x0+1x1") * 2 == "1x0+1x1+1x0+1x1"
    assert SO2Irreps.band(3, 2) == "3x0+3x1+3x2"
    x = torch.arange(types.dim)
    grouped = torch.cat([x[2:4], x[:2], x[4:]])
    assert torch.equal(x[types.permutation()], grouped)


def test_the_empty_type_is_a_type():
    types = SO2Irreps("")
    assert (types.dim, types.max_order, len(types), str(types)) == (0, -1, 0, "")
    assert types.rotate(torch.zeros(4, 0), 1.0).shape == (4, 0)
    assert types.permutation().numel() == 0
    with pytest.raises(ValueError, match="nothing to join"):
        types.join([])


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
def test_rotation_is_multiplication_by_a_phase(dtype, tol):
    types = SO2Irreps("2x1+3x0+1x3")
    x = torch.randn(5, types.dim, dtype=dtype)
    angle = torch.rand(5, dtype=torch.float64) * 2 * math.pi
    ones, zeros, threes = (part.double() for part in types.split(types.rotate(x, angle)))
    z1, z0, z3 = (part.double() for part in types.split(x))
    phase = torch.polar(torch.ones_like(angle), angle)[:, None]
    torch.testing.assert_close(torch.complex(*ones.unbind(-1)), torch.complex(*z1.unbind(-1)) * phase, atol=tol, rtol=0)
    expected = torch.complex(*z3.unbind(-1)) * phase**3
    torch.testing.assert_close(torch.complex(*threes.unbind(-1)), expected, atol=tol, rtol=0)
    assert torch.equal(zeros, z0)
    wrong = types.split(types.rotate(x, -angle))[0].double()
    assert not torch.allclose(wrong, ones, atol=1e-2)  # the check has teeth


def test_a_number_turns_as_precisely_as_a_tensor():
    types, angle = SO2Irreps("1x1+1x7"), 2.3456789
    x = torch.randn(3, 4, dtype=torch.float64)
    assert torch.equal(types.rotate(x, angle), types.rotate(x, torch.tensor(angle, dtype=torch.float64)))
    assert types.rotate(x.float(), angle).dtype == torch.float32


def test_rotations_compose_and_differentiate():
    types = SO2Irreps("2x0+2x1+1x2")
    x = torch.randn(2, 4, types.dim, dtype=torch.float64)
    a, b = torch.randn(4, dtype=torch.float64), torch.randn(2, 1, dtype=torch.float64)
    torch.testing.assert_close(types.rotate(types.rotate(x, a), b), types.rotate(x, a + b))
    torch.testing.assert_close(types.rotate(types.rotate(x, 0.3), -0.3), x)
    assert torch.autograd.gradcheck(types.rotate, (x[0].requires_grad_(), a.requires_grad_()))


def test_one_feature_turned_by_many_angles():
    types = SO2Irreps("1x0+1x1")
    out = types.rotate(torch.tensor([5.0, 1.0, 0.0]), torch.tensor([0.0, math.pi / 2]))
    torch.testing.assert_close(out, torch.tensor([[5.0, 1.0, 0.0], [5.0, 0.0, 1.0]]), atol=1e-6, rtol=0)


def test_join_undoes_split():
    types = SO2Irreps("2x1+3x0")
    x = torch.randn(2, 3, types.dim)
    blocks = types.split(x)
    assert [b.shape for b in blocks] == [(2, 3, 2, 2), (2, 3, 3, 1)]
    assert torch.equal(types.join(blocks), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SO2Irreps("8x0e+8x1o"), "no parity letter"),
        (lambda: SO2Irreps("8y0"), "cannot read '8y0'"),
        (lambda: SO2Irreps("2x0+"), "cannot read ''"),
        (lambda: SO2Irreps("2x-1"), "complex conjugate of order m"),
        (lambda: SO2Irreps([(-1, 0)]), "multiplicity must not be negative"),
        (lambda: SO2Irreps([3]), "pair"),
        (lambda: SO2Irreps(3), "reads '16x0"),
        (lambda: SO2Irreps.band(2, -1), "at least 0"),
        (lambda: SO2Irreps("2x0").rotate(torch.zeros(3, 4), 0.0), "components of 2x0"),
        (lambda: SO2Irreps("2x1").rotate(torch.zeros(3, 4), torch.zeros(2)), "must broadcast"),
        (lambda: SO2Irreps("2x1").split(torch.zeros(3)), "components of 2x1"),
        (lambda: SO2Irreps("2x1").join([]), "has 1 blocks, got 0"),
        (lambda: SO2Irreps([(1.5, 1)]), "a pair of integers"),
        (lambda: SO2Irreps("2x1").join([torch.zeros(2, 1)]), "block 2x1"),
        (lambda: from_ambient(torch.zeros(4, 2), frames(4)), "v must have shape"),
        (lambda: from_ambient(torch.zeros(4, 3), frames(5)), "frame"),
        (lambda: from_ambient(torch.zeros(4, 3), frames(4), rank=3), "rank must be 1"),
        (lambda: to_ambient(torch.zeros(4, 4), frames(4)), "multiple of 3"),
    ],
)
def test_bad_input_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
@pytest.mark.parametrize("rank", [1, 2])
def test_reading_in_frames_is_an_isometry_and_comes_back(rank, dtype, tol):
    v = torch.randn(2, 6, 4, *[3] * rank, dtype=dtype)
    x = from_ambient(v, frames(6), rank)
    assert x.shape == (2, 6, ambient_types(4, rank).dim)
    torch.testing.assert_close(to_ambient(x, frames(6), rank), v, atol=10 * tol, rtol=0)
    torch.testing.assert_close(x.square().sum(-1), v.square().flatten(2).sum(-1), atol=100 * tol, rtol=100 * tol)


@pytest.mark.parametrize("rank", [1, 2])
def test_components_turn_against_the_frame_by_their_order(rank):
    frame, angle = frames(6), torch.rand(6, dtype=torch.float64) * 2 * math.pi
    v = torch.randn(6, 4, *[3] * rank, dtype=torch.float64)
    types = ambient_types(4, rank)
    expected = types.rotate(from_ambient(v, frame, rank), -angle)
    torch.testing.assert_close(from_ambient(v, turned(frame, angle), rank), expected)
    assert not torch.allclose(from_ambient(v, turned(frame, -angle), rank), expected)


@pytest.mark.parametrize("rank", [1, 2])
def test_components_do_not_see_a_rotation_of_space(rank):
    frame, rotation = frames(6), frames(1, seed=3)[0]
    v = torch.randn(6, 4, *[3] * rank, dtype=torch.float64)
    moved = v @ rotation.T if rank == 1 else rotation @ v @ rotation.T
    torch.testing.assert_close(from_ambient(moved, frame @ rotation.T, rank), from_ambient(v, frame, rank))
    assert not torch.allclose(from_ambient(moved, frame, rank), from_ambient(v, frame, rank))


def test_known_components():
    frame = torch.eye(3, dtype=torch.float64)[None]
    v = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(from_ambient(v, frame), torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float64))
    # d d^T of a tangent vector at angle t is an order-2 feature at angle 2 t
    t = torch.tensor(0.7, dtype=torch.float64)
    d = torch.stack([t.cos(), t.sin(), torch.zeros_like(t)])
    x = from_ambient(torch.outer(d, d)[None], frame, rank=2)[0]
    half = math.sqrt(0.5)
    expected = torch.stack([x.new_tensor(half), *x.new_zeros(6), half * (2 * t).cos(), half * (2 * t).sin()])
    torch.testing.assert_close(x, expected)


def test_one_channel_needs_no_axis():
    v = torch.randn(5, 3)
    assert torch.equal(from_ambient(v, frames(5)), from_ambient(v[:, None], frames(5)))
    t = torch.randn(5, 3, 3)
    assert torch.equal(from_ambient(t, frames(5), rank=2), from_ambient(t[:, None], frames(5), rank=2))
