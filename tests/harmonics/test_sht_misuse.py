"""Transforms where one does not look: nothing to transform, rows of an image, threads, nodes that count for nothing."""

import dataclasses
import gc
import threading
import time

import pytest
import torch

from geomeq import spheres
from geomeq.harmonics import SHT, InverseSHT, _transform_cache
from geomeq.harmonics._dense_transform import DenseTransform

ANY = {
    "grid": (spheres.gauss_legendre(5, 9), 0),
    "grid, spin": (spheres.equiangular(9), 1),
    "healpix": (spheres.healpix(2), 0),
    "points": (spheres.fibonacci(60), 0),
    "points, spin": (spheres.fibonacci(60), -1),
}


@pytest.mark.parametrize("name", ANY)
@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_no_fields_and_no_channels(name, shape):
    s, spin = ANY[name]
    batch, channels = shape
    tail = (2,) if spin else ()
    x = torch.zeros(batch, s.num_nodes, channels, *tail, requires_grad=True)
    c = SHT(s, 4, spin)(x)
    assert c.shape == (batch, 25, channels, *tail)
    back = InverseSHT(s, 4, spin)(c)
    assert back.shape == x.shape
    back.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("lmax", [5, 11])
def test_the_rows_of_an_image_hold_as_many_degrees_as_there_are_rows(lmax):
    s, c = spheres.equirectangular(12), torch.randn((lmax + 1) ** 2, dtype=torch.float64)
    x = InverseSHT(s, lmax)(c)
    sht = SHT(s, lmax)
    assert sht.method == "cg"
    torch.testing.assert_close(sht(x), c, atol=1e-12, rtol=0)
    if lmax == 11:
        assert float((SHT(s, lmax, method="jacobi")(x) - c).abs().max()) > 0.02  # the iteration of HEALPix will not do


def test_threads_that_ask_at_once_share_one_transform():
    class Slow(DenseTransform):
        def __init__(self, *args):
            super().__init__(*args)
            time.sleep(0.05)

    s, found = spheres.fibonacci(41), {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: _transform_cache.shared_transform(Slow, s, 2, 0)}))
        for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1] is found[2]
    one = found.pop(0)
    found.clear()
    _transform_cache._recent.clear()
    gc.collect()
    assert one.analyse(torch.ones(1, 41, 1)).shape == (1, 9, 1)


def test_masked_nodes_count_for_nothing_but_their_gaps_are_filled_first():
    grid = spheres.gauss_legendre(6)
    seen = grid.pos[:, 0] > -0.5
    masked = dataclasses.replace(grid, area=grid.area * seen)
    x = torch.randn(grid.num_nodes, dtype=torch.float64)
    gaps = x.masked_fill(~seen, torch.nan)
    with pytest.raises(ValueError, match="x must be finite, .* fill gaps: with 0, if their nodes have zero area"):
        SHT(masked, 3, method="quadrature")(gaps)
    found = SHT(masked, 3, method="quadrature")(gaps.nan_to_num())
    torch.testing.assert_close(found, SHT(masked, 3, method="quadrature")(x))
    torch.testing.assert_close(found, SHT(grid, 3, method="quadrature")(torch.where(seen, x, 0.0)))
