"""Gaussian probabilities of rounded latents, and tables that are equal on every machine."""

import hashlib
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from geomeq.nn import FactorizedPrior, GaussianConditional
from geomeq.nn.gaussian_conditional import _upper_tail, scale_table


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_it_is_the_difference_of_two_normal_distribution_functions(dtype, tol):
    gaussian = GaussianConditional()
    y = torch.arange(-30, 31, dtype=dtype)[:, None] + torch.tensor([0.0, 0.3])
    scale = torch.tensor([0.7, 9.0], dtype=dtype).expand_as(y)
    mean = torch.tensor([1.2, -3.4], dtype=dtype).expand_as(y)
    wide = [v.double().numpy() for v in (y, mean, scale)]
    wanted = norm.cdf(wide[0] + 0.5, wide[1], wide[2]) - norm.cdf(wide[0] - 0.5, wide[1], wide[2])
    found = gaussian.likelihood(y, scale, mean).double().numpy()
    np.testing.assert_allclose(found, np.maximum(wanted, 1e-9), atol=tol)


@pytest.mark.parametrize("scale", [0.01, 0.11, 1.0, 20.0, 256.0])
def test_probabilities_of_the_integers_sum_to_one(scale):
    y = torch.arange(-3000, 3001, dtype=torch.float64)
    total = GaussianConditional().likelihood(y, torch.full_like(y, scale), torch.full_like(y, 0.4)).sum()
    assert abs(float(total) - 1) < 1e-4


def test_scales_below_the_least_are_raised_and_can_come_back():
    gaussian, y = GaussianConditional(), torch.tensor([1.0, 0.0])
    scale = torch.tensor([-3.0, -3.0], requires_grad=True)
    torch.testing.assert_close(gaussian.likelihood(y, scale), gaussian.likelihood(y, torch.full((2,), 0.11)))
    (-gaussian.likelihood(y, scale).log().sum()).backward()
    assert scale.grad[0] < 0  # a surprising value asks for a larger scale
    assert scale.grad[1] == 0


def test_gradients_are_those_of_finite_differences():
    gaussian = GaussianConditional()
    inputs = [torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    scale = (torch.rand(5, dtype=torch.float64) + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda y, m, s: gaussian.likelihood(y, s, m), (*inputs, scale))


def test_evaluation_rounds_the_distance_from_the_mean_and_training_adds_noise():
    gaussian = GaussianConditional().eval()
    y, mean, scale = torch.tensor([0.9, 2.2]), torch.tensor([0.3, -0.3]), torch.ones(2)
    torch.testing.assert_close(gaussian(y, scale, mean)[0], torch.tensor([1.3, 1.7]))
    torch.testing.assert_close(gaussian(y, scale)[0], torch.tensor([1.0, 2.0]))
    noisy, _ = gaussian.train()(torch.zeros(1000), torch.ones(1000))
    assert 0.49 < float(noisy.abs().max()) <= 0.5


def test_the_table_of_scales_is_logarithmic_and_the_index_the_nearest():
    scale, gaussian = scale_table(), GaussianConditional()
    torch.testing.assert_close(scale.log().diff(), torch.full((63,), math.log(256 / 0.11) / 63, dtype=torch.float64))
    assert scale[0] == 0.11
    assert scale[-1] == 256
    assert torch.equal(gaussian.index(scale), torch.arange(64))
    random = torch.exp(torch.empty(500).uniform_(-4, 7)).double()
    nearest = (random[:, None].log() - scale.log()).abs().argmin(dim=1)
    assert torch.equal(gaussian.index(random), nearest)
    torch.testing.assert_close(gaussian.float().index(random), nearest)  # a cast of the model moves no edge


def test_tables_hold_the_probabilities_and_lose_next_to_nothing():
    tables, scale = GaussianConditional().tables(), scale_table().numpy()
    for t in (0, 17, 40, 63):
        count = tables.frequencies(t)
        assert count.sum() == 2**20
        k = int(tables.low[t]) + np.arange(len(count) - 1)
        exact = norm.cdf((k + 0.5) / scale[t]) - norm.cdf((k - 0.5) / scale[t])
        assert abs(count[:-1] / 2**20 - exact).max() < 1e-4 * (1 + exact.max())
        live = exact > 0
        assert (exact[live] * np.log2(exact[live] * 2**20 / count[:-1][live])).sum() < 0.002 * max(
            1, np.log2(scale[t] * 4)
        )


def test_tables_are_the_same_on_every_machine():
    # only correctly rounded operations go into them, so this number holds wherever IEEE 754 does
    tables = GaussianConditional().tables()
    digest = hashlib.sha256(tables.count.numpy().tobytes() + tables.low.numpy().tobytes()).hexdigest()
    assert digest[:16] == "9704f672bec45726"
    x = np.linspace(0, 7, 999)
    assert abs(_upper_tail(x) - norm.sf(x)).max() < 1e-13


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"scale must have the shape of y, \[2\], got \[3\]"):
        GaussianConditional()(torch.zeros(2), torch.ones(3))
    with pytest.raises(ValueError, match=r"mean must have the shape of y"):
        GaussianConditional()(torch.zeros(2), torch.ones(2), torch.ones(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_keep_probabilities_in_float32(dtype):
    gaussian, prior = GaussianConditional(), FactorizedPrior(3).eval()
    y, scale = torch.arange(12.0).view(4, 3) - 5, torch.full((4, 3), 2.0)
    assert torch.equal(gaussian.likelihood(y.to(dtype), scale.to(dtype)), gaussian.likelihood(y, scale))
    assert torch.equal(prior.likelihood(y.to(dtype)), prior.likelihood(y))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(prior.likelihood(y), torch.autocast("cpu", enabled=False)(prior.likelihood)(y))


def test_layers_compile():
    gaussian, prior = GaussianConditional().eval(), FactorizedPrior(3).eval()
    y, scale = torch.randn(4, 3) * 3, torch.rand(4, 3)
    for layer, args in ((gaussian, (y, scale)), (prior, (y,))):
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        for found, wanted in zip(compiled(*args), layer(*args), strict=True):
            torch.testing.assert_close(found, wanted)
