"""The three norms: symmetry, statistics, and which of them couple graphs."""

import pytest
import torch
from e3nn import o3

from geomeq.nn import SteerableBatchNorm, SteerableInstanceNorm, SteerableLayerNorm
from tests.harmonics.test_spherical import random_rotations
from tests.nn.test_steerable_linear import representation

IRREPS = o3.Irreps("4x0e+3x1o+2x0o+2x2e")
NORMS = [SteerableInstanceNorm, SteerableLayerNorm, SteerableBatchNorm]
BATCH = torch.tensor([0] * 6 + [1] * 9)


def features(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return (3 * torch.randn(15, IRREPS.dim) + 1).to(dtype)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("mirrored", [False, True], ids=["rotation", "reflection"])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_equivariance_in_training_and_evaluation(norm, mirrored, dtype, tol):
    layer = norm(IRREPS).to(dtype)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    turn = representation(IRREPS, random_rotations(1)[0], mirrored).to(dtype)
    x = features(dtype)
    torch.testing.assert_close(layer(x @ turn.T, BATCH), layer(x, BATCH) @ turn.T, atol=tol, rtol=tol)
    layer.eval()
    torch.testing.assert_close(layer(x @ turn.T, BATCH), layer(x, BATCH) @ turn.T, atol=tol, rtol=tol)
    assert not torch.allclose(layer(x @ turn.T, BATCH), layer(x, BATCH), atol=1e-3)


def test_instance_norm_has_zero_mean_and_unit_square_in_each_graph():
    y = SteerableInstanceNorm(IRREPS).double()(features(), BATCH)
    for graph in (0, 1):
        part = y[graph == BATCH]
        torch.testing.assert_close(part[:, :4].mean(0), torch.zeros(4, dtype=torch.float64), atol=1e-12, rtol=0)
        vectors = part[:, 4:13].view(-1, 3, 3).square().mean((0, 2))
        torch.testing.assert_close(vectors, torch.ones(3, dtype=torch.float64), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("norm", "couples"), [(SteerableInstanceNorm, False), (SteerableLayerNorm, False), (SteerableBatchNorm, True)]
)
def test_which_norms_couple_the_graphs_of_a_batch_in_training(norm, couples):
    layer, x = norm(IRREPS).double(), features()
    alone = torch.cat([layer(x[:6]), layer(x[6:])])
    assert torch.allclose(layer(x, BATCH), alone) is not couples


def test_batch_norm_learns_running_statistics_and_uses_them():
    layer, x = SteerableBatchNorm(IRREPS, momentum=1.0).double(), features()
    trained = layer(x)
    torch.testing.assert_close(layer.eval()(x), trained, atol=1e-10, rtol=0)
    assert layer(x[:1]).isfinite().all()


@pytest.mark.parametrize("norm", NORMS)
def test_empty_graph_and_wrong_width(norm):
    assert norm(IRREPS)(torch.zeros(0, IRREPS.dim), BATCH[:0]).shape == (0, IRREPS.dim)
    with pytest.raises(ValueError, match="built for irreps"):
        norm(IRREPS)(torch.zeros(3, 5))
