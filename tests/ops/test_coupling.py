"""Couplings against the dense matrix they stand for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geomeq.ops.coupling import Coupling, CouplingPattern, CouplingRows

# Two sides; rows of one and of three components, read in another order than they are stored.
ROWS = CouplingRows(num_in=4, side=(0, 1, 0, 1), start=(1, 1, 0, 0), length=(3, 3, 1, 1))
ONE_SIDE = CouplingRows(num_in=4, side=(0, 0, 0), start=(1, 0, 1), length=(3, 1, 3))


def dense(rows: CouplingRows, index: Tensor, num_nodes: int, value: Tensor) -> Tensor:
    """The matrix from all node rows to all item rows, entry by entry from the definition."""
    matrix = value.new_zeros(len(index), rows.num_out, num_nodes, rows.num_in)
    for e in range(len(index)):
        t = 0
        for out, (side, start, length) in enumerate(zip(rows.side, rows.start, rows.length, strict=True)):
            for k in range(length):
                matrix[e, out, index[e, side], start + k] += value[e, t]
                t += 1
    return matrix.flatten(2).flatten(0, 1)


@given(items=st.integers(0, 9), nodes=st.integers(1, 5), channels=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("rows", [ROWS, ONE_SIDE], ids=["two sides", "one side"])
def test_equals_the_dense_matrix_and_its_transpose(rows, items, nodes, channels, seed):
    torch.manual_seed(seed)
    index = torch.randint(0, nodes, (items, max(rows.side) + 1))
    value = torch.randn(items, rows.num_values, dtype=torch.float64)
    coupling, matrix = Coupling(CouplingPattern(rows, index, nodes), value), dense(rows, index, nodes, value)
    x = torch.randn(nodes, rows.num_in, channels, dtype=torch.float64)
    y = torch.randn(items, rows.num_out, channels, dtype=torch.float64)
    torch.testing.assert_close(coupling.apply(x).flatten(0, 1), matrix @ x.flatten(0, 1), atol=1e-13, rtol=0)
    torch.testing.assert_close(
        coupling.apply_transposed(y).flatten(0, 1), matrix.T @ y.flatten(0, 1), atol=1e-13, rtol=0
    )
    if items and nodes > 1:
        other = CouplingPattern(rows, (index + 1) % nodes, nodes)
        assert not torch.allclose(Coupling(other, value).apply(x), coupling.apply(x))


def test_an_item_may_read_the_node_of_its_own_number():
    value = torch.randn(5, ONE_SIDE.num_values)
    x = torch.randn(5, 4, 2)
    own = Coupling(CouplingPattern(ONE_SIDE, None, 5), value)
    listed = Coupling(CouplingPattern(ONE_SIDE, torch.arange(5)[:, None], 5), value)
    assert torch.equal(own.apply(x), listed.apply(x))


@pytest.mark.parametrize("transposed", [False, True])
def test_derivatives_to_second_order_in_values_and_features(transposed):
    index = torch.randint(0, 3, (4, 2))
    pattern = CouplingPattern(ROWS, index, 3)
    value = torch.randn(4, ROWS.num_values, dtype=torch.float64, requires_grad=True)
    size = (4, ROWS.num_out, 2) if transposed else (3, 4, 2)
    x = torch.randn(*size, dtype=torch.float64, requires_grad=True)

    def run(value: Tensor, x: Tensor) -> Tensor:
        coupling = Coupling(pattern, value)
        return coupling.apply_transposed(x) if transposed else coupling.apply(x)

    torch.autograd.gradcheck(run, (value, x))
    torch.autograd.gradgradcheck(run, (value, x))


def test_large_float64_couplings_take_another_kernel_with_the_same_result():
    index = torch.randint(0, 400, (5000, 1))
    value = torch.randn(5000, ONE_SIDE.num_values, dtype=torch.float64)
    x = torch.randn(400, 4, 16, dtype=torch.float64)
    pattern = CouplingPattern(ONE_SIDE, index, 400)
    whole = Coupling(pattern, value).apply(x)
    few = Coupling(CouplingPattern(ONE_SIDE, index[:50], 400), value[:50]).apply(x)
    torch.testing.assert_close(whole[:50], few, atol=1e-13, rtol=0)


def test_weights_of_items_scale_their_coefficients():
    index, value = torch.randint(0, 3, (4, 2)), torch.randn(4, ROWS.num_values)
    coupling, weight, x = Coupling(CouplingPattern(ROWS, index, 3), value), torch.rand(4), torch.randn(3, 4, 2)
    torch.testing.assert_close(coupling.scaled(weight).apply(x), coupling.apply(x) * weight[:, None, None])


def test_sides_that_read_different_rows_are_refused():
    with pytest.raises(ValueError, match="every side"):
        CouplingRows(num_in=4, side=(0, 1), start=(0, 1), length=(1, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: none here")
def test_same_on_the_gpu():
    index, value, x = torch.randint(0, 3, (4, 2)), torch.randn(4, ROWS.num_values), torch.randn(3, 4, 2)
    here = Coupling(CouplingPattern(ROWS, index, 3), value).apply(x)
    there = Coupling(CouplingPattern(ROWS, index.cuda(), 3), value.cuda()).apply(x.cuda())
    torch.testing.assert_close(there.cpu(), here)
