"""The Triton kernel of GaugeConv equals the formula: by Triton's interpreter on a CPU, compiled on a GPU.

The interpreter takes over when Triton is first imported: ``TRITON_INTERPRET=1 pytest tests/nn/test_gauge_fused.py``.
"""

import os
import sys
from importlib.util import find_spec

import pytest
import torch

from geomeq.nn import GaugeConv
from geomeq.ops import _gauge_fused
from tests.nn._surfaces import random_surface

TYPES = [("3x1+2x0+2x2+1x0", "2x0+3x2+1x3+2x1"), ("3x0", "2x2"), ("70x1", "2x0")]


def check(types, basis, dtype, tol, device) -> None:
    surface = [t.to(device) for t in random_surface(nodes=6, dtype=dtype)]
    edge, fused = (GaugeConv(*types, rings=3, cutoff=0.8, basis=basis, path=path) for path in ("edge", "fused"))
    fused.load_state_dict(edge.state_dict())
    for lead in [(6,), (2, 6)]:
        x = torch.randn(*lead, edge.types_in.dim, dtype=dtype, device=device, requires_grad=True)
        found = []
        for conv in (edge.to(device, dtype), fused.to(device, dtype)):
            out = conv(x, *surface)
            found.append([out, *torch.autograd.grad(out.square().sum(), [x, *conv.parameters()])])
        for a, b in zip(*found, strict=True):
            assert ((a - b).norm() / a.norm().clamp(min=1e-9)).item() < tol


interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" or find_spec("triton") is None,
    reason="needs Triton and TRITON_INTERPRET=1",
)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@interpreted
@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("basis", ["hat", "smooth"])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_interpreted_kernel_equals_messages(types, basis, dtype, tol):
    check(types, basis, dtype, tol, "cpu")


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("basis", ["hat", "smooth"])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_compiled_kernel_equals_messages(types, basis, dtype, tol):
    check(types, basis, dtype, tol, "cuda")


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("basis", ["hat", "smooth"])
def test_sparse_path_on_a_gpu_equals_messages(basis):
    surface = [t.cuda() for t in random_surface()]
    edge, moments = (GaugeConv(*TYPES[0], rings=3, cutoff=0.8, basis=basis, path=path) for path in ("edge", "moments"))
    moments.load_state_dict(edge.state_dict())
    x = torch.randn(12, edge.types_in.dim, dtype=torch.float64, device="cuda")
    wanted, got = (conv.double().cuda()(x, *surface) for conv in (edge, moments))
    torch.testing.assert_close(got, wanted, atol=1e-11, rtol=1e-11)


def test_without_triton_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setattr(_gauge_fused, "_kernel", _gauge_fused._kernel.__wrapped__)  # nothing compiled before
    conv = GaugeConv("1x0", "1x0", rings=1, path="fused").double()
    with pytest.raises(ImportError, match="pip install triton"):
        conv(torch.ones(12, 1, dtype=torch.float64), *random_surface())
