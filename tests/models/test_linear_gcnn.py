import pytest
import torch
import torch.nn.functional as F

from geomeq.groups import alternating, cyclic, dihedral, icosahedral, plane_group, quaternion
from geomeq.models import (
    LinearGCNN,
    LinearMLP,
    effective_rank,
    fit_direction,
    fourier_rank_report,
    hard_margin,
    linearize,
    local_linearization,
    schatten,
    spectral_summary,
)
from geomeq.nn import GroupConv, GroupConv2d, LiftingConv2d

GROUPS = {"D5": lambda: dihedral(5), "A4": lambda: alternating(4), "Q8": quaternion, "C12": lambda: cyclic(12)}
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12}


def data(n, samples, models=None, seed=0):
    rng = torch.Generator().manual_seed(seed)
    lead = () if models is None else (models,)
    x = torch.randn(*lead, samples, n, generator=rng, dtype=torch.float64)
    return x, torch.randint(2, (*lead, samples), generator=rng) * 2 - 1


def started(net, std, seed=0):
    net.reset_parameters(std, seed)
    return net


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("channels", "models"), [(1, None), (3, None), (2, 4)])
def test_beta_is_what_the_network_computes(name, dtype, channels, models):
    group = GROUPS[name]()
    for depth in (1, 2, 4):
        net = LinearGCNN(group, depth, channels, num_models=models, dtype=dtype)
        x = torch.randn(6, group.order, dtype=dtype)
        out = net(x)
        assert out.shape == (6,) if models is None else (models, 6)
        torch.testing.assert_close(out, (net.beta() @ x.T), atol=TOLERANCE[dtype], rtol=1e-4)
        if models:
            own = torch.randn(models, 6, group.order, dtype=dtype)
            wanted = torch.einsum("sbn,sn->sb", own, net.beta())
            torch.testing.assert_close(net(own), wanted, atol=TOLERANCE[dtype], rtol=1e-4)


def test_layers_are_those_of_group_conv():
    group = alternating(4)
    net = LinearGCNN(group, 3, channels=2, support=range(7))
    h = x = torch.randn(5, 12, dtype=torch.float64)
    h = h.unsqueeze(-1)
    for weight, widths in zip(net.weights[:-1], [(1, 2), (2, 2)], strict=True):
        conv = GroupConv(group, *widths, support=range(7), bias=False).double()
        conv.weight.data.copy_(weight)
        h = conv(h)
    torch.testing.assert_close(net(x), (h * net.weights[-1]).sum((1, 2)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", GROUPS)
def test_fourier_blocks_of_beta_are_products_of_those_of_the_filters(name):
    group = GROUPS[name]()
    net = LinearGCNN(group, 4)
    hats = [group.fourier(w[:, 0, 0]) for w in net.filters()]
    for k, block in enumerate(group.fourier(net.beta())):
        product = hats[3][k] @ hats[2][k] @ hats[1][k] @ hats[0][k]
        torch.testing.assert_close(block, product, atol=1e-10, rtol=0)
        if block.size(-1) > 1:
            assert not torch.allclose(block, hats[0][k] @ hats[1][k] @ hats[2][k] @ hats[3][k], atol=1e-3)


@pytest.mark.parametrize("name", GROUPS)
def test_plancherel(name):
    group = GROUPS[name]()
    beta = torch.randn(3, group.order, dtype=torch.float64)
    torch.testing.assert_close(schatten(group.fourier(beta), 2), group.order**0.5 * beta.norm(dim=-1))


def test_gradient_of_beta_is_exact_twice():
    net = LinearGCNN(alternating(4), 3, channels=2, num_models=2)
    names = [name for name, _ in net.named_parameters()]

    def beta(*weights):
        for module_weight, w in zip(net.weights, weights, strict=True):
            assert module_weight.shape == w.shape
        filters, b = weights[:-1], weights[-1]
        from geomeq.models.linear_gcnn import _Convolve

        for w in reversed(filters):
            b = _Convolve.apply(b, w.transpose(-1, -2), net.table, net.back)
        return b

    inputs = tuple(w.detach().clone().requires_grad_() for w in net.weights)
    assert len(names) == 3
    assert torch.autograd.gradcheck(beta, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(beta, inputs, fast_mode=True)


def test_linearize_reads_linear_networks_and_refuses_others():
    net = LinearGCNN(dihedral(5), 3, num_models=2)
    torch.testing.assert_close(linearize(net), net.beta().detach(), atol=1e-12, rtol=0)
    mlp = LinearMLP(7, 3)
    torch.testing.assert_close(linearize(mlp), mlp.beta().detach(), atol=1e-12, rtol=0)
    conv = GroupConv(dihedral(3), 1, 2, bias=False).double()
    matrix = linearize(lambda x: conv(x.unsqueeze(-1)), 6)  # [place out, channel out, place in]
    torch.testing.assert_close(matrix, conv.matrix()[..., 0].detach(), atol=1e-12, rtol=0)
    for bad in (torch.nn.Linear(4, 1), lambda x: torch.relu(x).sum(1)):
        with pytest.raises(ValueError, match="not linear"):
            linearize(bad, 4)
    with pytest.raises(ValueError, match="shape must be given"):
        linearize(lambda x: x)


def test_local_linearization_is_the_gradient_at_each_input():
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    net = net.double()
    x = torch.randn(5, 4, dtype=torch.float64)
    local = local_linearization(net, x)
    assert net.training
    net.eval()
    torch.testing.assert_close(
        local, torch.stack([torch.autograd.functional.jacobian(lambda v: net(v[None])[0], row) for row in x])
    )
    linear = LinearGCNN(dihedral(3), 2)
    once = local_linearization(linear, torch.randn(5, 6, dtype=torch.float64))
    torch.testing.assert_close(once, linear.beta().detach().expand(5, 6), atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match=r"must return \[B\] or \[B, K\]"):
        local_linearization(lambda v: v[:, :, None], x)


def test_hard_margin_equals_the_support_vector_machine():
    svm = pytest.importorskip("sklearn.svm")
    x, y = data(30, 10)
    beta = hard_margin(x, y)
    assert float((y * (x @ beta)).min()) == pytest.approx(1)
    gram = (x @ x.T).numpy()  # a linear kernel has no bias only if it is given none: project it out by mirror images
    machine = svm.SVC(kernel="precomputed", C=1e8)
    both = torch.cat([x, -x])
    machine.fit((both @ both.T).numpy(), torch.cat([y, -y]).numpy())
    direction = torch.from_numpy(machine.dual_coef_[0]) @ both[machine.support_]
    assert float(F.cosine_similarity(direction, beta, dim=0)) > 0.999
    assert gram.shape == (10, 10)
    with pytest.raises(ValueError, match="cannot be separated"):
        hard_margin(torch.tensor([[1.0], [-1.0]]), torch.tensor([1, 1]))


def test_depth_one_tends_to_the_hard_margin_direction():
    x, y = data(30, 8, models=4)
    exact = torch.stack([hard_margin(a, b) for a, b in zip(x, y, strict=True)])
    for options, cosine in (({"lr": 0.05}, 0.999), ({"lr": 0.2, "stop": 0, "steps": 2000}, 0.99999)):
        fit = fit_direction(started(LinearGCNN(dihedral(15), 1, num_models=4), 0.1), x, y, **options)
        assert float(F.cosine_similarity(fit.beta, exact).min()) > cosine
    deep = fit_direction(started(LinearGCNN(dihedral(15), 3, num_models=4), 0.1), x, y, lr=0.002)
    assert float(F.cosine_similarity(deep.beta, exact).max()) < 0.95  # the bias is another one


def nuclear_minimum(group, x, y, steps=4000):
    """min ||beta_hat||_{S,1} with margins >= 1 by Douglas-Rachford: soft singular values, and a projection."""
    n, signed = group.order, x * y[:, None]
    beta = z = hard_margin(x, y)
    for _ in range(steps):
        # prox: c = sqrt(d / n) beta_hat is orthonormal, and d ||beta_hat|| = sqrt(d n) ||c||
        blocks = []
        for block in group.fourier(z):
            d = block.size(-1)
            u, s, vh = torch.linalg.svd(block * (d / n) ** 0.5)
            s = (s - 0.02 * (d * n) ** 0.5).clamp(min=0).to(block.dtype)
            blocks.append(u @ torch.diag(s) @ vh * (n / d) ** 0.5)
        beta = group.inverse_fourier(blocks).real
        mirrored = 2 * beta - z
        slack = 1 - signed @ mirrored
        # the nearest point with margins >= 1, by dual coordinate ascent
        dual, gram = torch.zeros(len(y), dtype=x.dtype), signed @ signed.T
        for _ in range(60):
            for i in range(len(y)):
                dual[i] = (dual[i] + (slack[i] - gram[i] @ dual) / gram[i, i]).clamp(min=0)
        projected = mirrored + signed.T @ dual
        if float((projected - beta).norm()) < 1e-7:
            break
        z = z + projected - beta
    return projected


def test_depth_two_tends_to_the_smallest_nuclear_norm():
    group = dihedral(4)
    x, y = data(8, 3, seed=3)
    best = float(schatten(group.fourier(nuclear_minimum(group, x, y, 600)), 1))
    net = started(LinearGCNN(group, 2), 0.01)
    for lr in (0.003, 0.002, 0.001):  # directions settle as slowly as margins grow, so it never stops
        beta = fit_direction(net, x, y, lr=lr, steps=1500, stop=0).beta
    beta = beta / (y * (x @ beta)).min()
    assert best * (1 - 1e-3) < float(schatten(group.fourier(beta), 1)) < best * 1.01
    plain = hard_margin(x, y)
    assert float(schatten(group.fourier(plain), 1)) > best * 1.01  # the shortest functional is another one


def test_abelian_depth_three_follows_the_path_of_circular_conv1d():
    n, steps, lr = 10, 100, 0.002
    x, y = data(n, 4)
    net = started(LinearGCNN(cyclic(n), 3), 0.3)
    weights = [w.detach().clone().flatten().requires_grad_() for w in net.weights]
    for _ in range(steps):
        h = x[:, None]
        for w in weights[:-1]:
            h = F.conv1d(F.pad(h, (0, n - 1), mode="circular"), w[None, None])
        loss = torch.logsumexp(-y * (h[:, 0] @ weights[-1]), 0)
        for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            w.data.sub_(g, alpha=lr)
    fit_direction(net, x, y, lr=lr, steps=steps)
    for ours, theirs in zip(net.weights, weights, strict=True):
        torch.testing.assert_close(ours.detach().flatten(), theirs.detach(), atol=1e-11, rtol=0)


def support_times_rank(group, f):
    support = int((f.abs() > 1e-9 * f.abs().max()).sum())
    return support * int(effective_rank(group.fourier(f), 1e-9))


@pytest.mark.parametrize("name", GROUPS)
def test_uncertainty_principle(name):
    group = GROUPS[name]()
    n = group.order
    for count in range(1, n + 1):
        f = torch.zeros(n, dtype=torch.float64)
        f[torch.randperm(n)[:count]] = torch.randn(count, dtype=torch.float64)
        assert support_times_rank(group, f) >= n
    for element in range(n):
        members = group.subgroup([element])
        indicator = torch.zeros(n, dtype=torch.float64).index_fill(0, members, 1)
        assert support_times_rank(group, indicator) == n
    x, y = data(n, 3)
    beta = fit_direction(started(LinearGCNN(group, 3), 0.1), x, y, lr=0.003, steps=2000).beta
    assert support_times_rank(group, beta) >= n


def test_renaming_the_elements_changes_no_singular_value():
    group = alternating(4)
    name = torch.cat([torch.tensor([0]), 1 + torch.randperm(11)])
    old = name.argsort()
    renamed = type(group)(name[group.cayley[old][:, old]])
    beta = torch.randn(12, dtype=torch.float64)
    spectra = [
        torch.cat([torch.linalg.svdvals(b) for b in g.fourier(f)]).sort().values
        for g, f in ((group, beta), (renamed, beta[old]))
    ]
    torch.testing.assert_close(*spectra, atol=1e-12, rtol=0)
    torch.testing.assert_close(*(spectral_summary(g, f)["schatten"] for g, f in ((group, beta), (renamed, beta[old]))))


def test_schatten_norm_falls_late_in_training_of_deep_networks_only():
    group, models = dihedral(15), 20
    x, y = data(30, 8, models)

    def late_fall(net, lr):
        fit = fit_direction(net, x, y, lr=lr, record=1, steps=6000)
        log_loss = (-(x * y[..., None] @ fit.history.unsqueeze(-1)).squeeze(-1)).logsumexp(-1)
        separated = (log_loss < -1).int().argmax(0)  # the first step at which the data are
        norms = spectral_summary(group, fit.history)["schatten"]
        return (norms.gather(0, separated[None]) - norms.gather(0, (fit.steps - 1)[None]))[0]

    deep = late_fall(started(LinearGCNN(group, 3, num_models=models), 0.1), 0.002)
    flat = late_fall(started(LinearMLP(30, 3, num_models=models), 0.05), 0.002)
    assert float(deep.mean()) > 2 * float(deep.std()) / models**0.5
    assert float(flat.mean()) < 0.3 * float(deep.mean())  # each falls or rises, by chance


def test_depth_makes_spectra_sparse_and_large_initial_weights_undo_it():
    group = dihedral(15)
    x, y = data(30, 8, models=6)
    ranks = []
    for std, lr in ((0.1, 0.002), (3.0, 1e-5)):
        net = started(LinearGCNN(group, 3, num_models=6), std)
        ranks.append(
            float(spectral_summary(group, fit_direction(net, x, y, lr, 4000, stop=1e-3).beta)["rank"].double().mean())
        )
    assert ranks[0] < 18 < 24 < ranks[1]


def test_seeds_of_a_batch_are_those_networks_alone():
    group = dihedral(5)
    x, y = data(10, 4, models=3)
    together = fit_direction(started(LinearGCNN(group, 3, num_models=3), 0.2, seed=7), x, y, lr=0.002, steps=100)
    for i in range(3):
        alone = fit_direction(started(LinearGCNN(group, 3), 0.2, seed=7 + i), x[i], y[i], lr=0.002, steps=100)
        torch.testing.assert_close(alone.beta, together.beta[i], atol=1e-9, rtol=0)
        assert int(alone.steps) == int(together.steps[i])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_losses_below_the_smallest_number_of_the_dtype_still_descend(dtype):
    # a published implementation takes the exponential itself, which underflows: all gradients are then zero
    x, y = data(8, 3)
    net = LinearGCNN(dihedral(4), 2, dtype=dtype)
    started(net, 0.1)
    fit = fit_direction(net, x.to(dtype), y, lr=0.003, steps=2000, stop=0)
    assert float(fit.log_loss) < -800  # exp of it is zero in float64 as well
    assert bool(torch.isfinite(fit.beta).all())
    margins = y * (x.to(dtype) @ fit.beta)
    assert float(torch.exp(-margins).sum()) == 0


def test_report_of_ranks_for_every_kind_of_layer():
    group = dihedral(4)
    conv = GroupConv(group, 2, 3, support=[0, 1, 5])
    model = torch.nn.Sequential(LiftingConv2d("C4", 1, 2, 3), GroupConv2d("D4", 2, 3, 3), conv)
    reports = fourier_rank_report(model)
    assert [r.layer for r in reports] == ["1", "2"]
    assert reports[1].full_rank == 8 * 2
    # all singular values together, each counted d times, are those of the layer as a matrix
    values = torch.linalg.svdvals(conv.matrix().reshape(24, 16).detach().double()).sort().values
    spectrum = [s.repeat_interleave(d) for d, s in zip(reports[1].dims, reports[1].singular_values, strict=True)]
    torch.testing.assert_close(torch.cat(spectrum).sort().values, values[-16:], atol=1e-6, rtol=0)
    assert "effective rank" in str(reports[0])
    assert [r.layer for r in fourier_rank_report(LinearGCNN(group, 3))] == [f"LinearGCNN.weights.{i}" for i in range(3)]
    trivial = GroupConv(group, 1, 1)
    trivial.weight.data.fill_(1)
    assert fourier_rank_report(trivial)[0].effective_rank() == 1
    for bad, layer in ((torch.nn.Linear(2, 2), None), (model, "0"), (model, "9")):
        with pytest.raises(ValueError, match="holds no GroupConv"):
            fourier_rank_report(bad, layer)
    with pytest.raises(ValueError, match="num_models"):
        fourier_rank_report(LinearGCNN(group, 2, num_models=2))


def test_rank_report_of_p4_filters_is_that_of_the_same_layer_on_the_torus_without_pixels():
    conv = GroupConv2d("C4", 2, 3, 1)
    report = fourier_rank_report(conv)[0]
    same = GroupConv(cyclic(4), 2, 3)
    same.weight.data.copy_(conv.kernel[..., 0, 0].permute(2, 1, 0))
    for a, b in zip(report.singular_values, fourier_rank_report(same)[0].singular_values, strict=True):
        torch.testing.assert_close(a, b)


def test_descent_options_and_larger_groups():
    x, y = data(36, 6)
    for options in ({"momentum": 0.9, "lr": 3e-4}, {"sign": True, "lr": 1e-3}):
        fit = fit_direction(started(LinearGCNN(plane_group("p4", 3), 2), 0.1), x, y, steps=3000, **options)
        assert float(fit.log_loss) < -20
    assert fit_direction(LinearGCNN(icosahedral(), 1), *data(60, 4), steps=5, record=2).history.shape == (3, 60)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LinearGCNN(cyclic(4), 0), ValueError, "depth and channels must be at least 1"),
        (lambda: LinearGCNN(cyclic(4), 2, support=[4]), ValueError, r"support must name elements 0\.\.3"),
        (lambda: LinearGCNN(cyclic(4), 2, num_models=0), ValueError, "num_models must be at least 1"),
        (lambda: LinearMLP(0, 2), ValueError, "must be at least 1"),
        (lambda: LinearGCNN(cyclic(4), 2)(torch.ones(3, 5)), ValueError, r"\[\.\.\., B, 4\], got \[3, 5\]"),
        (lambda: LinearGCNN(cyclic(4), 2)(torch.ones(2, 3, 4)), ValueError, "num_models in front"),
        (lambda: LinearGCNN("D4", 2), TypeError, "group must be a FiniteGroup, got str"),
        (lambda: fit_direction(LinearMLP(4, 2), torch.ones(3, 4), torch.arange(3)), ValueError, "labels 1 and -1"),
        (lambda: fit_direction(LinearMLP(4, 2), torch.ones(3, 4), torch.ones(3), lr=-1), ValueError, "lr must be"),
        (lambda: hard_margin(torch.ones(3, 4), torch.arange(3)), ValueError, "labels 1 and -1"),
        (lambda: hard_margin(torch.ones(3, 4), torch.ones(2)), ValueError, r"y must have shape \[3\], got \[2\]"),
        (lambda: hard_margin(torch.full((1, 4), torch.nan), torch.ones(1)), ValueError, "x must be finite"),
        (
            lambda: fit_direction(LinearMLP(4, 2), torch.full((1, 4), torch.nan), torch.ones(1)),
            ValueError,
            "x must be finite",
        ),
        (
            lambda: fit_direction(started(LinearGCNN(cyclic(8), 4), 1.0), *data(8, 3), lr=10.0),
            FloatingPointError,
            "step size below lr=10.0",
        ),
    ],
)
def test_bad_input_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
