"""Maps of rows: the matrix they stand for, their gradients, and misuse."""

import pytest
import torch
from torch import Tensor

from geomeq.ops import RowMap


def example(weighted: bool) -> tuple[RowMap, Tensor]:
    """A map with rows selected several times, never, empty ones and further entries; and its matrix."""
    index = torch.tensor([2, 0, 2, -1, 3, 2, -1, 0])
    rows, sources = torch.tensor([3, 3, 1, 6]), torch.tensor([0, 4, 1, 2])
    weight = torch.tensor([0.5, 0.25, -1.0, 2.0], dtype=torch.float64) if weighted else None
    matrix = torch.zeros(8, 5, dtype=torch.float64)
    there = index >= 0
    matrix[there.nonzero()[:, 0], index[there]] = 1
    matrix.index_put_((rows, sources), torch.ones(4).double() if weight is None else weight, accumulate=True)
    return RowMap(index, 5, rows, sources, weight), matrix


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-6), (torch.float64, 1e-15)])
def test_it_is_its_matrix_and_so_are_transpose_and_gradient(weighted, dtype, tol):
    rows, matrix = example(weighted)
    matrix = matrix.to(dtype)
    x, y = torch.randn(3, 5, 2, dtype=dtype, requires_grad=True), torch.randn(3, 8, 2, dtype=dtype)
    torch.testing.assert_close(rows(x), matrix @ x, atol=tol, rtol=0)
    torch.testing.assert_close(rows.transposed(y), matrix.T @ y, atol=tol, rtol=0)
    (grad,) = torch.autograd.grad(rows(x), x, y)
    torch.testing.assert_close(grad, matrix.T @ y, atol=tol, rtol=0)
    assert not torch.allclose(rows(x), matrix.roll(1, 1) @ x)  # the check has teeth


def test_gradients_of_any_order_and_both_ways():
    rows, _ = example(weighted=True)
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 8, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rows, (x,))
    assert torch.autograd.gradcheck(rows.transposed, (y,))
    assert torch.autograd.gradgradcheck(lambda x: rows(x).square(), (x,))


def test_what_is_not_a_number_stays_where_it_is():
    rows, matrix = example(weighted=True)
    x = torch.randn(1, 5, 1)
    x[0, 3] = float("nan")
    assert torch.equal(rows(x)[0, :, 0].isnan(), matrix[:, 3] != 0)


def test_transforms_of_functions_take_the_plain_way():
    rows, matrix = example(weighted=True)
    x = torch.randn(4, 2, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(torch.func.vmap(rows)(x), matrix @ x)
    out, tangent = torch.func.jvp(rows, (x[0],), (x[1],))
    torch.testing.assert_close((out, tangent), (matrix @ x[0], matrix @ x[1]))


def test_empty_batches_and_maps():
    rows, _ = example(weighted=False)
    assert rows(torch.zeros(0, 5, 2)).shape == (0, 8, 2)
    nothing = RowMap(torch.full((3,), -1), 2)
    assert torch.equal(nothing(torch.ones(1, 2, 4)), torch.zeros(1, 3, 4))
    assert RowMap(torch.zeros(0).long(), 2)(torch.ones(1, 2, 4)).shape == (1, 0, 4)


def test_it_compiles_in_one_graph(compiled):
    rows, matrix = example(weighted=True)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(compiled(lambda x: 2 * rows(x), backend="aot_eager")(x), 2 * (matrix @ x))


def test_indices_out_of_range_are_refused():
    with pytest.raises(ValueError, match="index names row 5"):
        RowMap(torch.tensor([5]), 5)
    with pytest.raises(ValueError, match="sources names row 7"):
        RowMap(torch.tensor([0]), 5, torch.tensor([0]), torch.tensor([7]))
    with pytest.raises(ValueError, match="weight"):
        RowMap(torch.tensor([0]), 5, torch.tensor([0]), torch.tensor([1]), torch.ones(2))
