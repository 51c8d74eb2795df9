"""Rotation into and out of the frames of edges against the plain definition and the dense matrix."""

import pytest
import torch

from geomeq.ops import EdgeLayout, EdgeRotation
from geomeq.ops import _edge_kernels as kernels
from geomeq.ops._edge_plain import plain_in, plain_out

SIZES = [(0, 0), (1, 1), (2, 1), (3, 3), (6, 2)]


def graph(lmax, mmax, dtype=torch.float64, nodes=7, edges=31, is_sorted=True):
    layout = EdgeLayout(lmax, mmax)
    edge_index = torch.randint(0, nodes - 1, (2, edges))  # the last node has no edge
    if is_sorted:
        edge_index = edge_index[:, edge_index[1].argsort()]
    return EdgeRotation(torch.randn(edges, layout.num_values, dtype=dtype), edge_index, nodes, layout)


def dense(rotation):
    """One matrix from all coefficients to all rows per edge, from the definition of the layout."""
    layout = rotation.layout
    whole = rotation.wigner.new_zeros(rotation.num_edges, layout.num_rows, layout.num_coefficients)
    at = 0
    for row, degree in enumerate(layout.degrees):
        whole[:, row, degree**2 : (degree + 1) ** 2] = rotation.wigner[:, at : at + 2 * degree + 1]
        at += 2 * degree + 1
    return whole


def test_rows_are_sorted_by_order_then_sign_then_degree():
    layout = EdgeLayout(3, 2)
    assert list(zip(layout.degrees, layout.signed_orders, strict=True)) == [
        *((deg, 0) for deg in range(4)),
        *((deg, 1) for deg in range(1, 4)),
        *((deg, -1) for deg in range(1, 4)),
        *((deg, 2) for deg in range(2, 4)),
        *((deg, -2) for deg in range(2, 4)),
    ]
    assert [(o.m, o.rows) for o in layout.orders] == [(0, slice(0, 4)), (1, slice(4, 10)), (2, slice(10, 14))]
    assert [layout.row(deg, m) for deg, m in zip(layout.degrees, layout.signed_orders, strict=True)] == list(range(14))
    assert EdgeLayout(6, 2).num_rows == 29
    assert layout == EdgeLayout(3, 2)
    assert layout != EdgeLayout(3)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("lmax", "mmax"), SIZES)
@pytest.mark.parametrize("is_sorted", [True, False])
def test_equals_the_dense_matrix_and_its_transpose(lmax, mmax, dtype, tol, is_sorted):
    rotation = graph(lmax, mmax, dtype, is_sorted=is_sorted)
    matrix, (source, target) = dense(rotation), rotation.edge_index
    x = torch.randn(7, (lmax + 1) ** 2, 16, dtype=dtype)
    want = {"source": matrix @ x[source], "target": matrix @ x[target]}
    want["both"] = torch.cat([want["source"], want["target"]], dim=2)
    for side, expected in want.items():
        torch.testing.assert_close(rotation.into_frame(x, side), expected, atol=tol, rtol=tol)
    y, weight = torch.randn(31, rotation.layout.num_rows, 16, dtype=dtype), torch.rand(31, dtype=dtype)
    summed = torch.zeros_like(x).index_add(0, target, matrix.mT @ y * weight[:, None, None])
    torch.testing.assert_close(rotation.out_of_frame(y, weight), summed, atol=tol, rtol=tol)
    assert not torch.allclose(rotation.out_of_frame(y), summed)
    assert rotation.out_of_frame(y)[-1].abs().max() == 0


@pytest.mark.parametrize(("lmax", "mmax"), SIZES[:4])
@pytest.mark.parametrize("side", ["source", "target", "both"])
def test_derivatives_to_second_order(lmax, mmax, side):
    made = graph(lmax, mmax, nodes=3, edges=4, is_sorted=False)
    wigner = made.wigner.requires_grad_()
    x = torch.randn(3, (lmax + 1) ** 2, 2, dtype=torch.float64, requires_grad=True)
    y = torch.randn(4, made.layout.num_rows, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(4, dtype=torch.float64, requires_grad=True)

    def into(wigner, x):
        return EdgeRotation(wigner, made.edge_index, 3, made.layout).into_frame(x, side)

    def out(wigner, y, weight):
        return EdgeRotation(wigner, made.edge_index, 3, made.layout).out_of_frame(y, weight)

    for f, inputs in ((into, (wigner, x)), (out, (wigner, y, weight))):
        assert torch.autograd.gradcheck(f, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(f, inputs, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_pieces_and_blocks_give_the_same(dtype, monkeypatch):
    rotation = graph(2, 1, dtype, nodes=20, edges=300)
    x, wigner = torch.randn(20, 9, 16, dtype=dtype), rotation.wigner.requires_grad_()

    def run():
        y = EdgeRotation(wigner, rotation.edge_index, 20, rotation.layout).into_frame(x, "both")
        out = rotation.out_of_frame(y[..., :16] * y[..., 16:])
        return out, torch.autograd.grad(out.square().sum(), wigner)[0]

    whole = run()
    monkeypatch.setattr(kernels, "_ENTRIES", 700)
    monkeypatch.setattr(kernels, "_BLOCK", 100)
    for a, b in zip(run(), whole, strict=True):
        assert (a - b).abs().max() <= (1e-5 if dtype == torch.float32 else 1e-13) * b.abs().max()


def test_chunks_are_the_slices_of_the_whole():
    rotation = graph(2, 1)
    x = torch.randn(7, 9, 3, dtype=torch.float64)
    parts = [rotation.chunk(0, 10), rotation.chunk(10, 31)]
    whole = rotation.into_frame(x, "both")
    torch.testing.assert_close(torch.cat([p.into_frame(x, "both") for p in parts]), whole)
    y = whole[..., :3]
    summed = sum(p.out_of_frame(y[p.start : p.start + p.num_edges]) for p in parts)
    torch.testing.assert_close(summed, rotation.out_of_frame(y))
    with pytest.raises(ValueError, match="edges 5 to 40"):
        rotation.chunk(5, 40)


def test_no_edges_and_no_channels():
    rotation = graph(2, 2, edges=0)
    x = torch.randn(7, 9, 3, dtype=torch.float64)
    assert rotation.into_frame(x, "both").shape == (0, 9, 6)
    assert torch.equal(rotation.out_of_frame(rotation.into_frame(x)), torch.zeros_like(x))


def test_function_transforms_are_not_silently_wrong():
    rotation = graph(2, 1)
    x, tangent = torch.randn(7, 9, 3, dtype=torch.float64), torch.randn(7, 9, 3, dtype=torch.float64)

    def run(x):
        return rotation.out_of_frame(rotation.into_frame(x))

    out, moved = torch.func.jvp(run, (x,), (tangent,))
    torch.testing.assert_close(out, run(x))
    torch.testing.assert_close(moved, run(tangent))
    batch = torch.stack([x, tangent])
    torch.testing.assert_close(torch.func.vmap(run)(batch), torch.stack([run(x), run(tangent)]))


def test_half_precision_features_are_rotated_in_full():
    rotation = graph(2, 1, torch.float32)
    x = torch.randn(7, 9, 8).bfloat16()
    out = rotation.into_frame(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, rotation.into_frame(x.float()).bfloat16())


def test_compiles_in_one_graph(compiled):
    made = graph(2, 1, torch.float32)
    x = torch.randn(7, 9, 8)

    def run(wigner, x):
        rotation = EdgeRotation(wigner, made.edge_index, 7, EdgeLayout(2, 1))
        return rotation.out_of_frame(rotation.into_frame(x).square())

    torch.testing.assert_close(compiled(run)(made.wigner, x), run(made.wigner, x), atol=1e-4, rtol=1e-4)


def test_bad_input_is_refused():
    layout, edge_index = EdgeLayout(2, 1), torch.tensor([[0, 1], [1, 0]])
    with pytest.raises(ValueError, match=r"edge_wigner\(vec, 2, 1\)"):
        EdgeRotation(torch.randn(2, 5), edge_index, 2, layout)
    with pytest.raises(ValueError, match="nodes 0..1"):
        EdgeRotation(torch.randn(2, layout.num_values), edge_index, 1, layout)
    rotation = EdgeRotation(torch.randn(2, layout.num_values), edge_index, 2, layout)
    with pytest.raises(ValueError, match="x must have shape"):
        rotation.into_frame(torch.randn(2, 4, 3))
    with pytest.raises(ValueError, match="side must be one of"):
        rotation.into_frame(torch.randn(2, 9, 3), "left")
    with pytest.raises(ValueError, match="y must have shape"):
        rotation.out_of_frame(torch.randn(2, 9, 3))
    with pytest.raises(ValueError, match="weight must have shape"):
        rotation.out_of_frame(torch.randn(2, 7, 3), torch.ones(3))
    with pytest.raises(ValueError, match="mmax must lie"):
        EdgeLayout(2, 3)
    with pytest.raises(ValueError, match="no row"):
        layout.row(2, 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: none here")
def test_same_on_the_gpu():
    rotation = graph(3, 2, torch.float32)
    x, y = torch.randn(7, 16, 8), torch.randn(31, rotation.layout.num_rows, 8)
    there = EdgeRotation(rotation.wigner.cuda(), rotation.edge_index.cuda(), 7, rotation.layout)
    torch.testing.assert_close(there.into_frame(x.cuda(), "both").cpu(), rotation.into_frame(x, "both"))
    torch.testing.assert_close(there.out_of_frame(y.cuda()).cpu(), rotation.out_of_frame(y))


def test_the_definition_is_its_own_transpose():
    rotation = graph(2, 1)
    x = torch.randn(7, 9, 3, dtype=torch.float64)
    y = torch.randn(31, 7, 3, dtype=torch.float64)
    index = rotation.edge_index[1:].T
    left = (plain_in(rotation.wigner, x, index, 2, 1) * y).sum()
    torch.testing.assert_close((plain_out(rotation.wigner, y, index, 7, 2, 1) * x).sum(), left)
