"""The Fourier transform on finite groups against sums written from the definition."""

import itertools
import math

import pytest
import torch

from geomeq.groups import (
    FiniteGroup,
    alternating,
    convolution,
    correlation,
    cyclic,
    dihedral,
    direct_product,
    effective_rank,
    fourier_matrix,
    quaternion,
    schatten_norm,
    symmetric,
)
from tests.groups._finite_groups import GROUPS, each_group, own_cache, random_functions  # noqa: F401

THEOREM = {name: GROUPS[name] for name in ("S3", "D4", "A5", "Q8", "Z2xZ4", "C7:C3")}
each = pytest.mark.parametrize("group", THEOREM.values(), ids=THEOREM.keys())
precision = pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])


def by_definition(group, f, chi, kind):
    """Convolution and correlation, element by element."""
    n, table, inv = group.order, group.cayley, group.inv
    out = torch.zeros(n, dtype=f.dtype)
    for u, v in itertools.product(range(n), range(n)):
        if kind == "convolution":
            out[u] += f[table[u, inv[v]]] * chi[v]
        else:
            out[u] += f[v] * chi[table[inv[u], v]]
    return out


@each_group
def test_transform_is_the_sum_over_the_group_and_inverts(group):
    f = random_functions(group, 2, 3)
    fhat = group.fourier(f)
    for block, irrep in zip(fhat, group.irreps, strict=True):
        expected = (f[..., None, None] * irrep).sum(dim=-3)
        torch.testing.assert_close(block, expected, atol=1e-11, rtol=0)
    torch.testing.assert_close(group.inverse_fourier(fhat).real, f, atol=1e-12, rtol=0)
    assert float(group.inverse_fourier(fhat).imag.abs().max()) < 1e-12
    complex_f = torch.complex(f, f.flip(-1))
    torch.testing.assert_close(group.inverse_fourier(group.fourier(complex_f)), complex_f, atol=1e-12, rtol=0)


@each_group
@precision
def test_plancherel(group, dtype, tol):
    f = random_functions(group, 4, dtype=dtype)
    blocks = group.fourier(f)
    spectral = sum(b.size(-1) * b.abs().square().sum(dim=(-2, -1)) for b in blocks) / group.order
    torch.testing.assert_close(spectral, f.square().sum(dim=-1), atol=tol, rtol=tol)
    norm = schatten_norm(blocks, 2)
    torch.testing.assert_close(norm, math.sqrt(group.order) * f.norm(dim=-1), atol=tol, rtol=tol)


@each
@precision
def test_convolution_theorem(group, dtype, tol):
    f, chi = random_functions(group, dtype=dtype), random_functions(group, dtype=dtype, seed=1)
    product = [a @ b for a, b in zip(group.fourier(f), group.fourier(chi), strict=True)]
    expected = by_definition(group, f, chi, "convolution")
    scale = float(f.norm() * chi.norm())
    torch.testing.assert_close(group.inverse_fourier(product).real, expected, atol=tol * scale, rtol=0)
    for path in ("table", "fourier"):
        made = convolution(group, f, chi, path)
        assert made.dtype == dtype
        torch.testing.assert_close(made, expected, atol=tol * scale, rtol=0)


@each
@precision
def test_correlation_theorem(group, dtype, tol):
    f, w = random_functions(group, dtype=dtype), random_functions(group, dtype=dtype, seed=1)
    expected = by_definition(group, f, w, "correlation")
    scale = float(f.norm() * w.norm())
    for path in ("table", "fourier"):
        torch.testing.assert_close(correlation(group, f, w, path), expected, atol=tol * scale, rtol=0)
    product = [a @ b.mH for a, b in zip(group.fourier(f), group.fourier(w), strict=True)]
    torch.testing.assert_close(group.inverse_fourier(product).real, expected, atol=tol * scale, rtol=0)


@each
def test_the_order_of_factors_matters_exactly_where_the_group_does_not_commute(group):
    f, chi = random_functions(group), random_functions(group, seed=1)
    one, other = convolution(group, f, chi), convolution(group, chi, f)
    assert torch.allclose(one, other, atol=1e-12) == group.is_abelian
    swapped = [b @ a for a, b in zip(group.fourier(f), group.fourier(chi), strict=True)]
    assert torch.allclose(group.inverse_fourier(swapped).real, one, atol=1e-9) == group.is_abelian


def test_convolution_is_associative_commutes_with_translations_and_takes_batches():
    group = GROUPS["A5"]
    f, chi, psi = (random_functions(group, 2, seed=seed) for seed in range(3))
    left, right = (
        convolution(group, convolution(group, f, chi), psi),
        convolution(group, f, convolution(group, chi, psi)),
    )
    torch.testing.assert_close(left, right, atol=1e-10, rtol=0)
    moved = group.cayley[group.inv[7]]  # (T_g f)(u) = f(g^-1 u)
    torch.testing.assert_close(convolution(group, f[:, moved], chi), convolution(group, f, chi)[:, moved])
    assert not torch.allclose(convolution(group, f, chi[:, moved]), convolution(group, f, chi)[:, moved])
    one = convolution(group, f, chi[0])
    torch.testing.assert_close(one[1], convolution(group, f[1], chi[0]))
    torch.testing.assert_close(convolution(group, f, chi[0] + 0j, "fourier"), one + 0j)


def test_on_a_cyclic_group_it_is_the_discrete_fourier_transform():
    group = cyclic(12)
    f, w = random_functions(group), random_functions(group, seed=1)
    spectrum = torch.stack([block[0, 0] for block in group.fourier(f)])
    gaps = torch.cdist(torch.view_as_real(spectrum), torch.view_as_real(torch.fft.fft(f)))
    assert float(gaps.min(dim=1).values.max()) < 1e-12
    assert float(gaps.min(dim=0).values.max()) < 1e-12
    expected = torch.fft.ifft(torch.fft.fft(f) * torch.fft.fft(w)).real
    torch.testing.assert_close(convolution(group, f, w), expected)


@each_group
def test_the_real_matrix_is_orthogonal_and_splits_translations_into_blocks(group):
    matrix = fourier_matrix(group)
    identity = torch.eye(group.order, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.T, identity, atol=1e-12, rtol=0)
    shares = {"real": 1, "complex": 2, "quaternionic": 4}
    kinds = zip(group.real_irreps, group.real_irrep_types, strict=True)
    blocks = torch.block_diag(
        *(torch.ones(m, m) for r, k in kinds for m in [r.size(-1)] for _ in range(m // shares[k]))
    )
    g = int(group.random(1, seed=3))
    translation = identity[:, group.cayley[g]].T  # (T_g f)(g u) = f(u)
    turned = matrix @ translation.T @ matrix.T
    assert float((turned * (1 - blocks)).abs().max()) < 1e-12


@pytest.mark.parametrize("path", ["table", "fourier"])
def test_a_group_first_met_in_inference_mode_serves_training(path, own_cache):  # noqa: F811
    group = dihedral(5)
    f, chi = (torch.randn(2, 10, dtype=torch.float64, requires_grad=True) for _ in range(2))
    with torch.inference_mode():  # as trainers do that validate once before the first step
        want = convolution(group, f, chi, path=path), correlation(group, f, chi, path=path)
    out = convolution(group, f, chi, path=path), correlation(group, f, chi, path=path)
    torch.testing.assert_close(out, want)
    sum(y.square().sum() for y in out).backward()
    assert f.grad.abs().min() > 0
    assert not any(table.is_inference() for table in (group.cayley, group.inv, *group.irreps))


def test_gradients():
    group = GROUPS["Q8"]
    f = random_functions(group, 2).requires_grad_()
    w = random_functions(group, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda f, w: correlation(group, f, w, "fourier"), (f, w))
    assert torch.autograd.gradcheck(lambda f, w: convolution(group, f, w), (f, w))
    assert torch.autograd.gradcheck(lambda f: schatten_norm(group.fourier(f), 1), (f,))


# --- sparsity of functions on cosets


@pytest.mark.parametrize("name", ["S4", "D15", "I", "Q8xC3"])
def test_functions_on_left_cosets_have_few_columns_and_on_right_cosets_few_rows(name):
    group = GROUPS[name]
    members = group.subgroup(group.generators[-1:])
    f = random_functions(group)
    on_left = f[group.cayley[:, members]].mean(dim=1)  # constant on g H
    on_right = f[group.cayley[members]].mean(dim=0)  # constant on H g
    for left, right, plain, irrep in zip(*map(group.fourier, (on_left, on_right, f)), group.irreps, strict=True):
        projector = irrep[members].mean(dim=0)  # onto the vectors that H leaves alone
        multiplicity = round(float(projector.diagonal().sum().real))
        off = torch.eye(len(projector)) - projector
        assert float((left @ off).abs().max()) < 1e-12
        assert float((off @ right).abs().max()) < 1e-12
        assert int((torch.linalg.svdvals(left) > 1e-9).sum()) == multiplicity
        if multiplicity < len(projector):
            assert float((plain @ off).abs().max()) > 1e-3


# --- norms, ranks and the uncertainty principle


def test_schatten_norm_of_the_blocks_is_that_of_the_convolution_matrix():
    group = GROUPS["S4"]
    f = random_functions(group)
    matrix = f[group.cayley[group.inv].T]  # f(v^-1 u)
    values = torch.linalg.svdvals(matrix)
    blocks = group.fourier(f)
    for p in (0.5, 2 / 3, 1, 2, 3):
        expected = values.pow(p).sum().pow(1 / p)
        torch.testing.assert_close(schatten_norm(blocks, p), expected, rtol=1e-11, atol=0)
    torch.testing.assert_close(schatten_norm(blocks, math.inf), values[0])
    assert int(effective_rank(blocks, 0.1)) == int((values > 0.1 * values[0]).sum())


def test_norms_take_batches():
    group = GROUPS["D4"]
    f = random_functions(group, 3, 2)
    norms = schatten_norm(group.fourier(f), 1)
    assert norms.shape == (3, 2)
    torch.testing.assert_close(norms[1, 1], schatten_norm(group.fourier(f[1, 1]), 1))
    assert effective_rank(group.fourier(f)).shape == (3, 2)


def test_relabelling_leaves_singular_values_as_they_are():
    group = GROUPS["A5"]
    rest = torch.randperm(group.order - 1, generator=torch.Generator().manual_seed(0)) + 1
    label = torch.cat([torch.zeros(1, dtype=torch.long), rest])  # new number of each element
    table = torch.empty_like(group.cayley)
    table[label[:, None], label] = label[group.cayley]
    again = FiniteGroup(table)
    f = random_functions(group)
    moved = torch.empty_like(f).scatter(0, label, f)

    def values(blocks):
        return torch.cat([torch.linalg.svdvals(b) for b in blocks]).sort().values

    torch.testing.assert_close(values(again.fourier(moved)), values(group.fourier(f)), atol=1e-12, rtol=0)
    assert not torch.allclose(values(again.fourier(f)), values(group.fourier(f)))  # labels and values apart


@each_group
def test_uncertainty(group):
    """|supp f| times the weighted rank is at least |G|; equal for the indicator of a subgroup."""
    generator = torch.Generator().manual_seed(0)
    for support in {1, 2, group.order // 2 or 1, group.order}:
        f = torch.zeros(group.order, dtype=torch.float64)
        chosen = torch.randperm(group.order, generator=generator)[:support]
        f[chosen] = torch.randn(len(chosen), dtype=torch.float64, generator=generator)
        rank = int(effective_rank(group.fourier(f), 1e-9))
        assert len(chosen) * rank >= group.order
    for seed in range(5):
        members = group.subgroup(group.random(1, seed=seed))
        indicator = torch.zeros(group.order, dtype=torch.float64)
        indicator[members] = 1
        assert members.numel() * int(effective_rank(group.fourier(indicator), 1e-9)) == group.order


# --- bad input


def test_functions_and_coefficients_that_do_not_fit():
    group = symmetric(3)
    with pytest.raises(ValueError, match=r"f must have shape \[\.\.\., 6\], got \[5\]; one number for each element"):
        group.fourier(torch.zeros(5))
    with pytest.raises(TypeError, match="float32, float64 or complex"):
        group.fourier(torch.zeros(6, dtype=torch.long))
    with pytest.raises(ValueError, match="each of the 3 irreps"):
        group.inverse_fourier(group.fourier(torch.zeros(6))[:2])
    with pytest.raises(ValueError, match=r"fhat\[2\] must have shape"):
        group.inverse_fourier([torch.zeros(1, 1)] * 3)
    with pytest.raises(ValueError, match=r"the kernel must have shape"):
        convolution(group, torch.zeros(6), torch.zeros(5))
    with pytest.raises(ValueError, match="path must be"):
        correlation(group, torch.zeros(6), torch.zeros(6), "fast")
    with pytest.raises(ValueError, match="p must be positive"):
        schatten_norm(group.fourier(torch.zeros(6)), 0)
    with pytest.raises(ValueError, match="a matrix for each irrep"):
        schatten_norm([])
    with pytest.raises(ValueError, match=r"tol must lie in \[0, 1\)"):
        effective_rank(group.fourier(torch.zeros(6)), 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_cuda_device():
    for group in (alternating(5), quaternion(), dihedral(5), direct_product(cyclic(2), cyclic(4))):
        f, w = random_functions(group, 3), random_functions(group, seed=1)
        for path in ("table", "fourier"):
            made = correlation(group, f.cuda(), w.cuda(), path)
            torch.testing.assert_close(made.cpu(), correlation(group, f, w, path))
        a = group.random(9, seed=0)
        assert torch.equal(group.compose(a.cuda(), group.inverse(a.cuda())).cpu(), group.identity(9))
