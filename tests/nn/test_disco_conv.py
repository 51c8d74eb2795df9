"""DISCO convolutions: the formula by brute force, all paths equal, adjoints, precision, bad input."""

import copy
import math
import pickle
import subprocess
import sys
import time

import pytest
import torch

from geomeq import spheres
from geomeq.harmonics import filter_basis
from geomeq.nn import DiscoConv, DiscoConvTranspose

PAIRS = {
    "same grid": lambda: (spheres.gauss_legendre(8), spheres.gauss_legendre(8)),
    "poles, coarser": lambda: (spheres.equiangular(9, 16), spheres.gauss_legendre(5, 8)),
    "poles in, poles out": lambda: (spheres.equiangular(9, 16), spheres.equiangular(5, 8)),
    "grids that do not match": lambda: (spheres.gauss_legendre(8, 15), spheres.lobatto(6, 10)),
    "grid to pixels": lambda: (spheres.gauss_legendre(9), spheres.healpix(2)),
    "pixels to triangles": lambda: (spheres.healpix(4), spheres.icosphere(1)),
    "no structure": lambda: (spheres.fibonacci(150), spheres.fibonacci(60)),
    "part of the sky": lambda: (spheres.healpix(4), spheres.healpix(4).part(torch.arange(40))),
}
MATCH = ("same grid", "poles, coarser", "poles in, poles out")
NORMS = ("none", "mean", "nodal", "modal", "support", "geometric")
PATHS = ("edge", "csr", "gather", "ring")
CUTOFF = 0.9


def pair(name, layer):
    s_in, s_out = PAIRS[name]()
    return (s_in, s_out) if layer is DiscoConv else (s_out, s_in)


def double(layer, *args, **kwargs):
    torch.manual_seed(0)
    made = layer(*args, **kwargs).double()
    if made.bias is not None:
        torch.nn.init.normal_(made.bias)
    return made


def normal(*shape, dtype=torch.float64, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def frames(s):
    """South and east of every node, from its own longitude where there is one."""
    x, y, z = s.pos.unbind(1)
    phi = torch.atan2(y, x)
    if s.rings is not None:
        phi[s.rings.node] = s.rings.longitude
    rho = torch.hypot(x, y)
    south = torch.stack([z * phi.cos(), z * phi.sin(), -rho], dim=1)
    return south, torch.stack([-phi.sin(), phi.cos(), torch.zeros_like(phi)], dim=1)


def brute_psi(caps, points, basis, kernel_shape=(3, 3)):
    """The filters of every cap at every point, ``[caps, points, K]``, from the formula in angles."""
    south, east = frames(caps)
    x, y, z = south @ points.pos.T, east @ points.pos.T, caps.pos @ points.pos.T
    r = torch.atan2(torch.hypot(x, y), z)
    angle = torch.where(r < 1e-9, 0.0, torch.atan2(y, x))
    return filter_basis(basis, kernel_shape, CUTOFF * 1.001)(r, angle)


@pytest.mark.parametrize("layer", [DiscoConv, DiscoConvTranspose])
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("basis", ["hann", "piecewise_linear"])
def test_equals_the_formula(name, layer, basis):
    s_in, s_out = pair(name, layer)
    if name == "part of the sky" and layer is DiscoConvTranspose:
        s_out = s_in  # a part sees a part
    conv = double(layer, 4, 6, s_in, s_out, cutoff=CUTOFF, basis=basis, norm="none", groups=2)
    x = normal(2, s_in.num_nodes, 4)
    q = s_in.area / (4 * math.pi)
    psi = brute_psi(s_out, s_in, basis) if layer is DiscoConv else brute_psi(s_in, s_out, basis).transpose(0, 1)
    sums = torch.einsum("ijk,j,bjc->bikc", psi, q, x).unflatten(3, (2, 2))
    expected = torch.einsum("bikgc,gock->bigo", sums, conv.weight.view(2, 3, 2, -1)).flatten(2) + conv.bias
    torch.testing.assert_close(conv(x), expected, atol=1e-10, rtol=0)
    assert not torch.allclose(conv(x.flip(1)), expected)


@pytest.mark.parametrize("layer", [DiscoConv, DiscoConvTranspose])
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-10), (torch.float32, 5e-6)])
def test_paths_and_their_gradients_agree(name, layer, dtype, tol):
    if name == "part of the sky" and layer is DiscoConvTranspose:
        pytest.skip("the whole sky is not in caps around a part")
    s_in, s_out = pair(name, layer)
    results = []
    for path in PATHS if name in MATCH else PATHS[:3]:
        for inputs, outputs, groups in ((4, 8, 1), (8, 2, 1), (6, 12, 3)):
            conv = double(layer, inputs, outputs, s_in, s_out, cutoff=CUTOFF, path=path, groups=groups).to(dtype)
            x = normal(2, s_in.num_nodes, inputs, dtype=dtype).requires_grad_()
            y = conv(x)
            grads = torch.autograd.grad((y * normal(*y.shape, dtype=dtype)).sum(), [x, *conv.parameters()])
            results.append((inputs, path, [y, *grads]))
    for inputs, path, found in results:
        expected = next(want for number, _, want in results if number == inputs)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=tol * max(1.0, float(b.detach().abs().max())), rtol=0, msg=path)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("layer", [DiscoConv, DiscoConvTranspose])
def test_paths_agree_for_every_norm(norm, layer):
    s_in, s_out = pair("poles, coarser", layer)
    x = normal(s_in.num_nodes, 2)
    out = [
        double(layer, 2, 3, s_in, s_out, cutoff=CUTOFF, norm=norm, basis="piecewise_linear", path=path)(x)
        for path in PATHS
    ]
    for other in out[1:]:
        torch.testing.assert_close(other, out[0], atol=1e-10 * float(out[0].detach().abs().max()), rtol=0)


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "part of the sky"])
@pytest.mark.parametrize("basis", ["hann", "zernike"])
def test_transposed_is_the_adjoint(name, basis):
    s_in, s_out = PAIRS[name]()
    shape = 3 if basis == "zernike" else (3, 3)
    settings = {"basis": basis, "kernel_shape": shape, "cutoff": CUTOFF, "bias": False}
    conv = double(DiscoConv, 4, 6, s_in, s_out, norm="none", groups=2, **settings)
    back = double(DiscoConvTranspose, 6, 4, s_out, s_in, norm="none", groups=2, **settings)
    with torch.no_grad():  # per group, channels out and in change places
        back.weight.copy_(conv.weight.view(2, 3, 2, -1).transpose(1, 2).reshape(back.weight.shape))
    x, y = normal(s_in.num_nodes, 4), normal(s_out.num_nodes, 6, seed=2)
    there = ((conv(x) * y).sum(1) * s_out.area).sum()
    here = ((x * back(y)).sum(1) * s_in.area).sum()
    torch.testing.assert_close(there, here, atol=1e-12, rtol=1e-12)
    unweighted = (conv(x) * y).sum() - (x * back(y)).sum()
    assert name == "same grid" or abs(float(unweighted.detach())) > 1e-6  # without the weights they are no adjoints


@pytest.mark.parametrize("path", PATHS)
def test_a_turn_by_one_column_commutes(path):
    grid = spheres.equiangular(9, 16)
    for dtype, tol in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        conv = double(DiscoConv, 2, 3, grid, cutoff=CUTOFF, path=path, basis="piecewise_linear").to(dtype)
        x = normal(grid.num_nodes, 2, dtype=dtype)

        def turned(v, columns=1):
            return v.unflatten(0, (9, 16)).roll(columns, 1).flatten(0, 1)

        torch.testing.assert_close(conv(turned(x)), turned(conv(x)), atol=tol, rtol=0)
        assert not torch.allclose(conv(turned(x)), turned(conv(x), 2), atol=1e-2)


def test_order_of_nodes_does_not_matter():
    s = spheres.fibonacci(80)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    shuffled = spheres.Sampling("shuffled", s.pos[order], s.area[order])
    x = normal(80, 2)
    one, other = double(DiscoConv, 2, 3, s, cutoff=CUTOFF), double(DiscoConv, 2, 3, shuffled, cutoff=CUTOFF)
    torch.testing.assert_close(other(x[order]), one(x)[order], atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["poles, coarser", "pixels to triangles"])
@pytest.mark.parametrize("norm", ["nodal", "support"])
def test_constant_stays_constant(name, norm):
    s_in, s_out = PAIRS[name]()
    basis = {"basis": "piecewise_linear", "kernel_shape": (1 if norm == "support" else 3, 1)}
    conv = double(DiscoConv, 1, 1, s_in, s_out, cutoff=CUTOFF, norm=norm, bias=False, **basis)
    y = conv(torch.ones(s_in.num_nodes, 1, dtype=torch.float64))
    if norm == "nodal":
        torch.testing.assert_close(y, conv.weight.sum().expand_as(y), atol=1e-6, rtol=0)
    elif s_out.grid is not None:  # the mean of the filter over the cap: the same along every row
        rows = y.view(s_out.grid)
        torch.testing.assert_close(rows, rows[:, :1].expand_as(rows), atol=1e-6, rtol=0)
    plain = double(DiscoConv, 1, 1, s_in, s_out, cutoff=CUTOFF, norm="none", bias=False, **basis)
    spread = plain(torch.ones(s_in.num_nodes, 1, dtype=torch.float64)).detach()
    assert float(spread.std() / spread.mean().abs()) > 1e-4  # quadrature alone is not exact


def test_modal_filters_that_see_directions_give_zero_for_a_constant():
    s_in, s_out = PAIRS["no structure"]()
    ones = torch.ones(s_in.num_nodes, 1, dtype=torch.float64)
    for norm, least, most in (("modal", 0.0, 1e-6), ("nodal", 1e-3, 2.0)):
        conv = double(DiscoConv, 1, 1, s_in, s_out, cutoff=CUTOFF, norm=norm, bias=False)
        with torch.no_grad():
            conv.weight[..., conv.geometry.basis.isotropic] = 0
        assert least <= float(conv(ones).detach().abs().max()) <= most


@pytest.mark.parametrize("path", PATHS)
def test_gradcheck(path):
    grid = spheres.gauss_legendre(5, 6)
    conv = double(DiscoConv, 2, 2, grid, cutoff=1.0, path=path)
    x = normal(1, 30, 2).requires_grad_()
    weight = conv.weight.detach().clone().requires_grad_()

    def run(x, weight):
        return torch.func.functional_call(conv, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(run, (x, weight))
    assert torch.autograd.gradgradcheck(run, (x, weight))


def test_function_transforms_take_the_plain_formula():
    s = spheres.healpix(2)
    conv = double(DiscoConv, 2, 3, s, cutoff=CUTOFF)
    x, v = normal(48, 2), normal(48, 2, seed=3)
    _, along = torch.func.jvp(conv, (x,), (v,))
    torch.testing.assert_close(along, conv(v) - conv.bias, atol=1e-12, rtol=0)
    both = torch.stack([x, v])
    torch.testing.assert_close(torch.func.vmap(conv)(both), conv(both), atol=1e-12, rtol=0)


@pytest.mark.parametrize("path", ["edge", "gather"])
def test_chunks_and_recomputation_change_nothing(path):
    s = spheres.healpix(2)
    x = normal(2, 48, 3).requires_grad_()
    results = []
    for chunk, recompute in ((None, False), (None, True), (7, False), (7, True)):
        conv = double(DiscoConv, 3, 4, s, cutoff=CUTOFF, path=path, chunk=chunk, recompute=recompute)
        y = conv(x)
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, conv.weight])])
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def saved_numbers(conv, x):
    """Numbers kept for the backward pass, constants of the geometry and parameters apart."""
    kept = {}
    constants = {t.data_ptr() for t in conv.parameters()}

    def pack(tensor):
        if tensor.requires_grad or tensor.grad_fn is not None:
            kept[tensor.data_ptr()] = 0 if tensor.data_ptr() in constants else tensor.untyped_storage().nbytes() // 8
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        conv(x)
    return sum(kept.values())


@pytest.mark.parametrize("path", ["edge", "csr", "gather", "ring"])
def test_sums_are_not_kept(path):
    grid = spheres.gauss_legendre(8)
    x = normal(1, grid.num_nodes, 8).requires_grad_()
    lean = double(DiscoConv, 8, 8, grid, cutoff=0.6, kernel_shape=(5, 5), path=path)
    assert saved_numbers(lean, x) <= 3 * x.numel()
    if path == "edge":
        full = double(DiscoConv, 8, 8, grid, cutoff=0.6, kernel_shape=(5, 5), path=path, recompute=False)
        assert saved_numbers(full, x) > 6 * x.numel()


def test_geometry_is_shared_and_no_part_of_the_state():
    one = DiscoConv(2, 3, spheres.healpix(2), cutoff=CUTOFF)
    other = DiscoConv(4, 4, spheres.healpix(2), cutoff=CUTOFF, path="csr")
    assert one.geometry is other.geometry
    assert one._operator is other._operator
    assert one.geometry is not DiscoConv(2, 3, spheres.healpix(2), cutoff=CUTOFF, norm="none").geometry
    assert set(one.state_dict()) == {"weight", "bias"}
    assert not list(one.buffers())
    states = [DiscoConv(2, 3, spheres.gauss_legendre(6), path=path).state_dict() for path in PATHS]
    assert all({k: v.shape for k, v in s.items()} == {k: v.shape for k, v in states[0].items()} for s in states)


def test_the_ring_path_lists_no_edges(monkeypatch):
    from geomeq.harmonics import disco

    def never(*args):
        raise AssertionError("the full list of edges was built")

    monkeypatch.setattr(disco, "spread_meridian", never)
    monkeypatch.setattr(disco, "find_caps", never)
    grid = spheres.gauss_legendre(11, 22)
    conv = DiscoConv(1, 1, grid, path="ring")
    assert conv(torch.randn(242, 1)).shape == (242, 1)
    with pytest.raises(AssertionError, match="full list"):
        DiscoConv(1, 1, grid, path="csr")


@pytest.mark.parametrize("path", PATHS)
def test_copies_pickles_and_casts(path):
    grid = spheres.gauss_legendre(6)
    conv = double(DiscoConv, 2, 3, grid, path=path)
    x = normal(grid.num_nodes, 2)
    for twin in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(twin(x), conv(x))
        assert twin.geometry is conv.geometry
    y = conv(x)
    narrow = copy.deepcopy(conv).float()
    assert narrow(x.float()).dtype == torch.float32
    torch.testing.assert_close(narrow(x.float()), y.float(), atol=2e-6, rtol=0)
    assert torch.equal(conv(x), y)  # the cast of the copy left the shared geometry alone
    assert torch.equal(narrow.double()(x), copy.deepcopy(conv).float().double()(x))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision(path, half):
    grid = spheres.gauss_legendre(6)
    conv = double(DiscoConv, 2, 3, grid, path=path).float()
    x = normal(grid.num_nodes, 2, dtype=half)
    expected = conv(x.float())
    torch.testing.assert_close(conv(x), expected, atol=1e-6, rtol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(conv(x), expected, atol=1e-6, rtol=0)
    low = copy.deepcopy(conv).to(half)(x)
    assert low.dtype == half
    torch.testing.assert_close(low.float(), expected, atol=5e-2, rtol=5e-2)


def test_geometry_made_in_inference_mode_can_train():
    with torch.inference_mode():
        conv = DiscoConv(2, 3, spheres.fibonacci(77), cutoff=CUTOFF)
    with torch.no_grad():
        weight = conv.weight.clone()
    y = torch.func.functional_call(conv, {"weight": weight.requires_grad_(), "bias": torch.zeros(3)}, torch.ones(77, 2))
    y.sum().backward()
    assert weight.grad is not None


def test_not_a_number_reaches_its_caps_only():
    s = spheres.healpix(4)
    conv = double(DiscoConv, 1, 1, s, cutoff=0.4)
    x = normal(192, 1)
    x[17] = math.nan
    near = (s.pos @ s.pos[17]).clamp(-1, 1).acos() < 0.4
    assert torch.equal(conv(x).isnan()[:, 0], near)


def test_not_a_number_is_refused_where_it_would_reach_whole_rows():
    grid = spheres.gauss_legendre(6)
    x = torch.zeros(2, grid.num_nodes, 1)
    conv = DiscoConv(1, 1, grid, path="ring")
    x[1, 17] = math.inf
    with pytest.raises(ValueError, match="x is not finite at node 17; .* path='csr'"):
        conv(x)
    assert bool(DiscoConv(1, 1, grid, path="csr")(x)[0].isfinite().all())
    assert bool(conv(torch.full_like(x, 1e37)).isfinite().all())  # a sum beyond float32 is no such thing


@pytest.mark.parametrize(("make", "sizes"), [(spheres.healpix, (8, 16)), (spheres.gauss_legendre, (24, 48))])
def test_edges_grow_with_the_nodes(make, sizes):
    few, many = (DiscoConv(1, 1, make(size)).geometry for size in sizes)
    assert many.size[0] == 4 * few.size[0]
    # polar rows of a grid hold more nodes the finer it is: a logarithm, which the ring path does not see
    assert 3.8 < many.num_edges / few.num_edges < (4.1 if make is spheres.healpix else 5.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "sizes", "path"),
    [
        (spheres.healpix, (32, 64), "csr"),
        (spheres.healpix, (32, 64), "gather"),
        (spheres.gauss_legendre, (128, 256), "ring"),
    ],
)
def test_time_is_linear_in_the_nodes(make, sizes, path):
    times = []
    convs = [DiscoConv(16, 16, make(size), path=path) for size in sizes]
    inputs = [torch.randn(1, conv.geometry.size[0], 16, requires_grad=True) for conv in convs]
    for _ in range(7):
        for conv, x in zip(convs, inputs, strict=True):
            start = time.process_time()
            conv(x).square().sum().backward()
            times.append(time.process_time() - start)
    assert min(times[1::2]) / min(times[::2]) == pytest.approx(4, rel=0.25)


_LARGE = """
import resource, torch
from geomeq import nn, spheres
s = spheres.equiangular(2048, 4096)
conv = nn.DiscoConv(4, 4, s)
x = torch.randn(1, s.num_nodes, 4, requires_grad=True)
conv(x).square().mean().backward()
assert x.grad.isfinite().all() and x.grad.abs().sum() > 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_an_image_of_8_million_pixels_fits_in_6_gigabytes():
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", _LARGE], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 6


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_compiles(path):
    grid = spheres.gauss_legendre(6)
    for layer, inputs, outputs in ((DiscoConv, 4, 6), (DiscoConvTranspose, 6, 2)):
        conv = double(layer, inputs, outputs, grid, path=path, groups=2)
        x = normal(2, grid.num_nodes, inputs).requires_grad_()
        compiled = torch.compile(conv, fullgraph=True)
        y, expected = compiled(x), conv(x)
        torch.testing.assert_close(y, expected, atol=1e-12, rtol=0)
        found = torch.autograd.grad(y.square().sum(), [x, conv.weight])
        want = torch.autograd.grad(expected.square().sum(), [x, conv.weight])
        torch.testing.assert_close(found, want, atol=1e-10, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("path", ["auto", *PATHS])
def test_on_a_gpu(path):
    grid = spheres.equiangular(9, 16)
    conv = double(DiscoConv, 4, 6, grid, path=path)
    x = normal(2, grid.num_nodes, 4)
    y = conv(x)
    torch.testing.assert_close(conv.cuda()(x.cuda()).cpu(), y, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"cutoff": 0.05}, ValueError, "174 of 192 nodes .* within cutoff=0.05: the nearest to node 1 is 0.131262 rad"),
        ({"cutoff": 0.0}, ValueError, "cutoff is an angle"),
        ({"cutoff": 4.0}, ValueError, "at most pi, got 4.0"),
        ({"cutoff": math.nan}, ValueError, "cutoff is an angle"),
        ({"groups": 3}, ValueError, "groups must divide in_channels and out_channels, got 3 for 4 and 6"),
        ({"groups": 0}, ValueError, "groups must be an integer"),
        ({"basis": "wavelet"}, ValueError, "basis must be one of hann, .* got 'wavelet'"),
        ({"kernel_shape": (0, 3)}, ValueError, "kernel_shape of hann"),
        ({"norm": "individual"}, ValueError, "norm must be one of none, mean"),
        ({"path": "fft"}, ValueError, "path must be one of auto, edge"),
        ({"path": "ring"}, ValueError, "path='ring' needs two grids"),
        ({"chunk": 0}, ValueError, "chunk must be"),
        ({"in_channels": 0}, ValueError, "in_channels must be"),
        ({"s_in": torch.zeros(3, 3)}, TypeError, "s_in must be a spheres.Sampling, got Tensor"),
    ],
)
def test_bad_arguments(change, error, message):
    settings = {
        "in_channels": 4,
        "out_channels": 6,
        "s_in": spheres.fibonacci(150),
        "s_out": spheres.healpix(4),
        "cutoff": 0.5,
    }
    with pytest.raises(error, match=message):
        DiscoConv(**{**settings, **change})


def test_empty_caps_of_grids_and_transposes_are_found():
    fine, coarse = spheres.equiangular(33, 64), spheres.equiangular(5, 8)
    DiscoConv(1, 1, fine, coarse, cutoff=0.1)
    with pytest.raises(ValueError, match="1960 of 2112 nodes of .* nearest to node 64 is 0.0981"):
        DiscoConvTranspose(1, 1, coarse, fine, cutoff=0.05)
    with pytest.raises(ValueError, match="nodes of .* have no node"):
        DiscoConv(1, 1, spheres.gauss_legendre(4), spheres.gauss_legendre(16, 8), cutoff=0.05)
    with pytest.raises(ValueError, match="have no node"):
        DiscoConv(1, 1, spheres.healpix(4).part(torch.arange(40)), spheres.healpix(4), cutoff=0.5)


def test_bad_features():
    conv = DiscoConv(2, 3, spheres.healpix(2), cutoff=CUTOFF)
    for x in (torch.zeros(47, 2), torch.zeros(48, 3), torch.zeros(48)):
        with pytest.raises(ValueError, match="x must have shape"):
            conv(x)
    with pytest.raises(TypeError, match="floating point"):
        conv(torch.zeros(48, 2, dtype=torch.long))
