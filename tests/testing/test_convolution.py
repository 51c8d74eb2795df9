"""Is a linear map a convolution: against null spaces, layers, and maps that are none."""

import numpy as np
import pytest
import torch

from geomeq.groups import (
    HomogeneousSpace,
    alternating,
    coset_space,
    cyclic,
    dihedral,
    icosahedral,
    icosahedron_space,
    orbits_of_pairs,
    plane_group,
    regular_space,
    symmetric,
)
from geomeq.nn import GroupConv
from geomeq.testing import is_convolution


def spaces():
    ico = icosahedral()
    s4, p4 = symmetric(4), plane_group("p4", 3)
    return {
        "Z12": (regular_space(cyclic(12)),) * 2,
        "S3": (regular_space(symmetric(3)),) * 2,
        "D4 cosets": (coset_space(dihedral(4), [0, 4]), coset_space(dihedral(4), [0, 2])),
        "S4 to cosets": (regular_space(s4), coset_space(s4, s4.subgroup([1]))),
        "vertices to faces": (icosahedron_space(ico, "vertices"), icosahedron_space(ico, "faces")),
        "p4 cells": (HomogeneousSpace(p4, p4.pixel_action()),) * 2,
    }


each = pytest.mark.parametrize("pair", spaces().values(), ids=spaces().keys())
precision = pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])


def random_convolution(source, target, dtype, lead=()):
    types, number = orbits_of_pairs(target, source)
    w = torch.randn(*lead, number, dtype=dtype)
    return w, w[..., types]


@each
@precision
def test_convolutions_are_found_and_their_kernel_is_read(pair, dtype, tol):
    source, target = pair
    w, matrix = random_convolution(source, target, dtype)
    found = is_convolution(matrix, source, target)
    assert found
    assert found.error < tol
    assert found.distance < tol
    torch.testing.assert_close(found.kernel.to(dtype), w, atol=tol, rtol=0)
    assert found.dimension == found.burnside == w.numel()
    stack = is_convolution(random_convolution(source, target, dtype, (2, 3))[1], source, target)
    assert stack.kernel.shape == (2, 3, w.numel())


@each
@precision
def test_a_perturbed_map_is_none_and_the_distance_is_that_of_the_perturbation(pair, dtype, tol):
    source, target = pair
    _, matrix = random_convolution(source, target, dtype)
    group = source.group
    noise = torch.randn(matrix.shape, dtype=torch.float64)
    moved = [noise[target.action[g]][:, source.action[g]] for g in range(group.order)]
    noise = noise - torch.stack(moved).mean(dim=0)  # the Reynolds projection by its definition
    for size in (1e-3, 1.0):
        bad = matrix + (size * noise / noise.norm()).to(dtype)
        found = is_convolution(bad, source, target)
        assert not found
        assert found.distance == pytest.approx(size / float(bad.norm()), rel=1e-2)
        assert found.error > 0.1 * found.distance
        assert "no convolution" in str(found)


@each
def test_the_dimension_is_that_of_the_null_space(pair):
    source, target = pair
    eye = torch.eye(source.size * target.size, dtype=torch.float64)
    rows = [torch.kron(target.permutation(g), source.permutation(g)) - eye for g in source.group.generators.tolist()]
    values = np.linalg.svd(torch.cat(rows).numpy(), compute_uv=False)
    found = is_convolution(torch.zeros(target.size, source.size), source, target)
    assert int((values < 1e-9).sum()) == found.dimension == found.burnside
    assert found  # zero is a convolution


@each
@precision
def test_layers_are_convolutions_and_dense_layers_are_not(pair, dtype, tol):
    source, target = pair
    layer = GroupConv(source.group, 3, 2, space_in=source, space_out=target).to(dtype)
    torch.nn.init.normal_(layer.bias)
    found = is_convolution(layer, source, target)
    assert found
    assert found.kernel.shape == layer.weight.shape
    torch.testing.assert_close(found.kernel.to(dtype), layer.weight.detach(), atol=10 * tol, rtol=0)
    assert not is_convolution(lambda x: layer(x).cumsum(dim=1), source, target, channels=3)


def test_the_layout_of_channels():
    group = dihedral(4)
    layer = GroupConv(group, 3, 2).double()
    basis = torch.eye(24, dtype=torch.float64).view(24, 8, 3)
    matrix = (layer(basis) - layer.bias).detach().view(8, 3, 8, 2).permute(2, 3, 0, 1)
    found = is_convolution(matrix, group)
    assert found
    torch.testing.assert_close(found.kernel, layer.weight.detach())
    assert not is_convolution(matrix.permute(0, 3, 2, 1)[:, :2, :, :2].flip(0), group)


def test_a_convolution_of_one_group_need_not_be_one_of_another():
    circulant = torch.randn(6, dtype=torch.float64)[cyclic(6).cayley[cyclic(6).inv]]
    assert is_convolution(circulant, cyclic(6))
    assert not is_convolution(circulant, symmetric(3))
    turned = circulant + circulant.T
    polygon = coset_space(dihedral(6), [0, 6])
    assert is_convolution(turned, polygon)
    assert not is_convolution(circulant, polygon)


def test_a_bias_must_be_constant():
    group = cyclic(5)
    layer = torch.nn.Linear(5, 5).double()
    with torch.no_grad():
        layer.weight.copy_(torch.eye(5))
        layer.bias.fill_(2)
    assert is_convolution(lambda x: layer(x[..., 0])[..., None], group)
    with torch.no_grad():
        layer.bias[0] = 3
    found = is_convolution(lambda x: layer(x[..., 0]), group)
    assert not found
    assert found.distance > 0.1


def test_tolerance():
    group = cyclic(5)
    nearly = torch.eye(5, dtype=torch.float64)
    nearly[0, 0] += 1e-8
    assert not is_convolution(nearly, group)
    assert is_convolution(nearly, group, tol=1e-7)
    assert is_convolution(nearly.float(), group)


def test_bad_input():
    group = alternating(4)
    with pytest.raises(ValueError, match=r"shape \[\.\.\., 12, 12\] or \[12, Co, 12, Ci\]"):
        is_convolution(torch.zeros(12, 11), group)
    with pytest.raises(TypeError, match="HomogeneousSpace or a FiniteGroup, got int"):
        is_convolution(torch.zeros(12, 12), 12)
    with pytest.raises(TypeError, match="floating point"):
        is_convolution(torch.zeros(12, 12, dtype=torch.long), group)
    with pytest.raises(ValueError, match="finite"):
        is_convolution(torch.full((12, 12), torch.nan), group)
    with pytest.raises(ValueError, match="one group"):
        is_convolution(torch.zeros(5, 12), group, cyclic(5))
    with pytest.raises(ValueError, match="is not linear"):
        is_convolution(torch.relu, group)
    with pytest.raises(ValueError, match=r"return a tensor \[1, 12, Co\]"):
        is_convolution(lambda x: x.sum(1), group)
