"""Nodes of Gauss-Legendre quadrature against two libraries, and where numpy's lose digits."""

import math

import numpy as np
import pytest

from geomeq.spheres._gauss import gauss_rule

ducc0 = pytest.importorskip("ducc0")


@pytest.mark.parametrize("count", [1, 2, 3, 8, 65, 513])
def test_nodes_and_weights_are_those_of_ducc_to_the_last_digits(count):
    theta, weight = gauss_rule(count)
    want = ducc0.misc.GL_weights(count, 1) / (2 * math.pi)
    assert np.abs(theta - ducc0.misc.GL_thetas(count)).max() < 2e-15
    assert np.abs(weight / want - 1).max() < 1e-13
    assert abs(weight.sum() - 2) < 1e-14


def test_numpys_weights_would_not_do():
    theta, weight = gauss_rule(513)
    cos, theirs = np.polynomial.legendre.leggauss(513)
    assert np.abs(cos[::-1] - np.cos(theta)).max() < 1e-15
    assert np.abs(theirs[::-1] / weight - 1).max() > 1e-11
