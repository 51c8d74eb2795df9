"""The factorised prior is a distribution per channel, and its tables are that distribution in integers."""

import copy
import math

import pytest
import torch

from geomeq.nn import FactorizedPrior


def trained(channels=3, seed=0):
    """Random weights, so that densities are skew and differ."""
    torch.manual_seed(seed)
    prior = FactorizedPrior(channels).double().eval()
    with torch.no_grad():
        for group in (prior.matrix, prior.shift, prior.factor):
            for parameter in group:
                parameter.add_(0.5 * torch.randn_like(parameter))
    return prior


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-4), (torch.float64, 1e-6)])
def test_probabilities_of_the_integers_sum_to_one_and_are_those_of_the_formula(dtype, tol):
    prior = trained().to(dtype)
    z = torch.arange(-3000, 3001, dtype=dtype)[:, None].expand(-1, 3)
    assert ((prior._mass(z).sum(0) - 1).abs() < tol).all()
    assert ((prior.likelihood(z).sum(0) - 1).abs() < 1e-4).all()
    near = z[2980:3020]
    plain = torch.sigmoid(prior.logits(near + 0.5)) - torch.sigmoid(prior.logits(near - 0.5))
    torch.testing.assert_close(prior.likelihood(near), plain.clamp(min=1e-9), atol=tol, rtol=0)


def test_the_logit_rises_and_keeps_its_digits_in_both_tails():
    prior = trained()
    z = torch.linspace(-200, 200, 4001, dtype=torch.float64)[:, None].expand(-1, 3).contiguous().requires_grad_()
    (slope,) = torch.autograd.grad(prior.logits(z).sum(), z)
    assert (slope > 0).all()
    far = torch.full((1, 3), 150.0)
    single, double = prior.float()._mass(far), prior.double()._mass(far.double())
    torch.testing.assert_close(single.double(), double, rtol=2e-3, atol=1e-30)
    naive = torch.sigmoid(prior.float().logits(far + 0.5)) - torch.sigmoid(prior.logits(far - 0.5))
    assert not torch.allclose(naive.double(), double, rtol=2e-3, atol=1e-30)  # without the sign digits are lost


def test_the_middle_of_a_symmetric_density_has_its_probability():
    """There the logits of both ends sum to zero, which has no sign."""
    prior = FactorizedPrior(2).double()
    with torch.no_grad():
        for shift in prior.shift:
            shift.zero_()
    prior.requires_grad_(False)
    ends = prior.logits(torch.tensor([[-0.5, -0.5], [0.5, 0.5]], dtype=torch.float64))
    assert float(ends.sum(dim=0).abs().max()) == 0
    wanted = ends[1].sigmoid() - ends[0].sigmoid()
    assert float(wanted.min()) > 0.01
    torch.testing.assert_close(prior.likelihood(torch.zeros(1, 2, dtype=torch.float64))[0], wanted)


def test_the_formula_layer_by_layer_for_one_channel():
    prior, value = trained(1), 1.7
    u = torch.tensor([[value]], dtype=torch.float64)
    for k, (matrix, shift) in enumerate(zip(prior.matrix, prior.shift, strict=True)):
        u = torch.log1p(matrix[0].exp()) @ u + shift[0]
        if k < len(prior.factor):
            u = u + torch.tanh(prior.factor[k][0]) * torch.tanh(u)
    torch.testing.assert_close(prior.logits(torch.tensor([[value]], dtype=torch.float64)), u)


def test_quantiles_by_descent_are_those_by_bisection():
    prior = trained(2)
    prior.solve_quantiles()
    solved = prior.quantiles.detach().clone()
    assert prior.auxiliary_loss().item() < 1e-4
    target = math.log(2 / prior.tail_mass - 1)
    logits = prior.logits(solved.T)
    torch.testing.assert_close(logits[0], torch.full((2,), -target, dtype=torch.float64), atol=1e-6, rtol=0)
    with torch.no_grad():
        prior.quantiles.copy_(torch.tensor([-10.0, 0.0, 10.0]))
    before = prior.auxiliary_loss().item()
    optimizer = torch.optim.Adam([prior.quantiles], lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        prior.auxiliary_loss().backward()
        optimizer.step()
    assert prior.auxiliary_loss().item() < 0.05 * before
    assert all(p.grad is None for p in prior.matrix)  # it moves nothing else


def test_training_adds_uniform_noise_and_evaluation_rounds_to_the_median():
    prior, z = trained(), torch.randn(400, 3, dtype=torch.float64) * 5
    prior.solve_quantiles()
    rounded, likelihood = prior(z)
    steps = rounded - prior.medians
    torch.testing.assert_close(steps, steps.round(), atol=1e-9, rtol=0)
    assert ((rounded - z).abs() <= 0.5 + 1e-9).all()
    assert likelihood.shape == z.shape
    noisy, _ = prior.train()(z)
    noise = noisy - z
    assert float(noise.abs().max()) <= 0.5
    assert abs(float(noise.var()) - 1 / 12) < 0.01


def test_training_lowers_the_bits_to_the_entropy():
    torch.manual_seed(0)
    prior = FactorizedPrior(1)
    optimizer = torch.optim.Adam(prior.parameters(), lr=3e-2)
    for _ in range(250):
        _, likelihood = prior(2.0 * torch.randn(256, 1))
        optimizer.zero_grad()
        (-likelihood.log2().mean()).backward()
        optimizer.step()
    prior.eval().update()
    z = 2.0 * torch.randn(20_000, 1)
    bits = float((-prior(z)[1].log2().mean()).detach())
    entropy = 0.5 * math.log2(2 * math.pi * math.e * (4 + 1 / 12))
    assert entropy - 0.03 < bits < entropy + 0.05


def test_tables_are_the_probabilities_and_travel_with_the_state_dict():
    prior = trained()
    with pytest.raises(ValueError, match="no coding tables yet"):
        prior.tables()
    prior.update()
    tables = prior.tables()
    assert len(tables) == 3
    for c in range(3):
        count = tables.frequencies(c)
        assert count.sum() == 2**20
        assert count.min() >= 1
        symbols = tables.low[c] + torch.arange(len(count) - 1)
        mass = prior._mass((symbols + prior.medians[:, None]).T.double())[:, c].detach()
        assert float((torch.from_numpy(count[:-1] / 2**20) - mass).abs().max()) < 1e-4
    other = FactorizedPrior(3).double()
    other.load_state_dict(prior.state_dict())
    assert torch.equal(other.tables().count, tables.count)
    z = 4 * torch.randn(1000, 3, dtype=torch.float64)
    z_hat, likelihood = prior(z)
    symbols = (z_hat - prior.medians).round().long()
    bits = tables.bits(symbols, torch.arange(3).expand(1000, 3)).sum()
    assert abs(float(bits / -likelihood.detach().log2().sum()) - 1) < 1e-3


def test_tables_know_when_their_densities_were_trained_on():
    prior = trained()
    assert not prior.is_stale  # there are none
    prior.update()
    assert not prior.is_stale
    for parameter in (prior.matrix[1], prior.shift[0], prior.factor[2], prior.quantiles):
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter.mul_(1.001)
        assert prior.is_stale
        other = FactorizedPrior(3).double()
        other.load_state_dict(prior.state_dict())
        assert other.is_stale  # what was saved too late says so
        with torch.no_grad():
            parameter.copy_(before)
        assert not prior.is_stale
    assert not copy.deepcopy(prior).float().is_stale
    state = {name: value for name, value in prior.state_dict().items() if name != "table_source"}
    other = FactorizedPrior(3).double()
    other.load_state_dict(state)  # of a version that kept no such trace
    assert not other.is_stale
    assert torch.equal(other.tables().count, prior.tables().count)
    with torch.no_grad():
        other.shift[0].add_(1e-3)
    assert other.is_stale


def test_tables_do_not_need_trained_quantiles():
    # a median that was never trained costs nothing here: tables come from the densities themselves
    prior = trained()
    with torch.no_grad():
        prior.shift[-1].add_(20.0)  # the density moves far away from where quantiles began
    prior.update()
    low, high = prior.quantiles[:, 0], prior.quantiles[:, 2]
    assert ((prior.medians > low) & (prior.medians < high)).all()
    tables = prior.tables()
    assert all(tables.frequencies(c)[-1] < 2**12 for c in range(3))  # next to nothing is escaped


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"z must have shape"):
        FactorizedPrior(3)(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="must be positive"):
        FactorizedPrior(0)
    prior = FactorizedPrior(1)
    with torch.no_grad():
        prior.matrix[0].fill_(float("nan"))
    with pytest.raises(ValueError, match="reaches beyond 2\\^20 or is not finite"):
        prior.update()
