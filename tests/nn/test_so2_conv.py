"""Messages in the frames of edges: symmetry, forms, smoothness, slices, bad input."""

import pytest
import torch

from geomeq.harmonics import edge_wigner, polynomial_envelope
from geomeq.nn import SO2Conv
from geomeq.nn._smooth_attention import smooth_attention
from geomeq.ops import EdgeLayout, EdgeRotation
from tests.harmonics.test_spherical import random_rotations
from tests.nn._spherical import parity, turned

NODES, EDGES, SCALARS = 6, 20, 5
FORMS = {
    "gate": {},
    "attention": {"attention_heads": 2, "attention_channels": 4},
    "mirror": {"reflections": True},
    "s2": {"activation": "s2", "nlat": 22, "nlon": 45},
    "separable": {"activation": "separable_s2", "nlat": 22, "nlon": 45},
    "escn": {"form": "escn", "activation": "s2", "nlat": 22, "nlon": 45},
}
EXACT = ("gate", "attention", "mirror")


def graph() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(NODES, (2, EDGES), generator=generator)
    edges = edges[:, edges[0] != edges[1]]
    order = (edges[1] * NODES + edges[0]).argsort()
    return edges[:, order], torch.randn(edges.size(1), 3, generator=generator, dtype=torch.float64)


def rotation_of(vec: torch.Tensor, edges: torch.Tensor, lmax: int, mmax: int, dtype=torch.float64) -> EdgeRotation:
    return EdgeRotation(edge_wigner(vec.to(dtype), lmax, mmax), edges, NODES, EdgeLayout(lmax, mmax))


def layer(name: str, lmax: int = 2, mmax: int = 2, dtype: torch.dtype = torch.float64, **options) -> SO2Conv:
    torch.manual_seed(0)
    return SO2Conv(4, 6, lmax, mmax, SCALARS, **{**FORMS[name], **options}).to(dtype)


def inputs(edges: torch.Tensor, lmax: int = 2, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(NODES, (lmax + 1) ** 2, 4, dtype=dtype), torch.randn(edges.size(1), SCALARS, dtype=dtype)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("lmax", "mmax"), [(2, 2), (3, 1)])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 3e-5), (torch.float64, 1e-12)])
def test_equivariance(name, lmax, mmax, dtype, tol):
    (edges, vec), conv, turn = graph(), layer(name, lmax, mmax, dtype), random_rotations(1)[0]
    x, scalars = inputs(edges, lmax, dtype)
    before = conv(x, rotation_of(vec, edges, lmax, mmax, dtype), scalars)
    after = conv(turned(x, turn), rotation_of(vec @ turn.T, edges, lmax, mmax, dtype), scalars)
    tol = tol if name in EXACT else 1e-4
    torch.testing.assert_close(after, turned(before, turn), atol=tol, rtol=tol)
    assert not torch.allclose(after, before, atol=1e-2)


@pytest.mark.parametrize("name", ["gate", "mirror"])
def test_only_without_imaginary_weights_are_mirror_images_respected(name):
    (edges, vec), conv = graph(), layer(name)
    x, scalars = inputs(edges)
    before = parity(conv(x, rotation_of(vec, edges, 2, 2), scalars))
    after = conv(parity(x), rotation_of(-vec, edges, 2, 2), scalars)
    assert torch.allclose(after, before, atol=1e-10) is (name == "mirror")


@pytest.mark.parametrize("name", FORMS)
def test_an_edge_with_envelope_zero_is_no_edge(name):
    (edges, vec), conv = graph(), layer(name)
    x, scalars = inputs(edges)
    envelope = torch.rand(edges.size(1), dtype=torch.float64)
    envelope[::3] = 0
    kept = envelope > 0
    out = conv(x, rotation_of(vec, edges, 2, 2), scalars, envelope)
    less = conv(x, rotation_of(vec[kept], edges[:, kept], 2, 2), scalars[kept], envelope[kept])
    torch.testing.assert_close(out, less, atol=1e-12, rtol=0)


def test_a_plain_softmax_notices_an_edge_at_the_cutoff():
    logits, target = torch.randn(4, 1).double(), torch.tensor([0, 0, 0, 1])
    envelope = polynomial_envelope(torch.tensor([1.0, 2.0, 4.0, 3.0]).double(), 4.0, 5)
    smooth = smooth_attention(logits, target, 2, envelope)
    without = smooth_attention(logits[[0, 1, 3]], target[[0, 1, 3]], 2, envelope[[0, 1, 3]])
    torch.testing.assert_close(smooth[[0, 1, 3]], without)
    plain = torch.softmax(logits[:3], dim=0)[:2]
    assert (plain - torch.softmax(logits[:2], dim=0)).abs().max() > 1e-2
    assert smooth_attention(logits + 900, target, 2, envelope).isfinite().all()


@pytest.mark.parametrize("name", ["gate", "escn"])
def test_slices_change_nothing_in_values_and_both_derivatives(name):
    edges, vec = graph()
    results = []
    for chunk in (None, 3):
        conv = layer(name, chunk_size=chunk)
        x, scalars = inputs(edges)
        vec_ = vec.clone().requires_grad_()
        out = conv(x, rotation_of(vec_, edges, 2, 2), scalars, torch.rand(edges.size(1)).double() * 0 + 0.7)
        (slope,) = torch.autograd.grad(out.square().sum(), vec_, create_graph=True)
        weights = list(conv.parameters())
        results.append([out, slope, *torch.autograd.grad(slope.square().sum(), weights, allow_unused=True)])
    for a, b in zip(*results, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_slices_keep_nothing_of_the_size_of_all_edges_for_forces_in_a_loss():
    edges, vec = (t.repeat_interleave(20, dim=d) for t, d in zip(graph(), (1, 0), strict=True))
    largest = {}
    for chunk in (None, 3):
        conv, (x, scalars), kept = layer("gate", chunk_size=chunk), inputs(edges), []
        x.requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: (kept.append(t.numel()), t)[1], lambda t: t):
            out = conv(x, rotation_of(vec, edges, 2, 2), scalars)
            torch.autograd.grad(out.square().sum(), x, create_graph=True)
        largest[chunk] = max(kept)
    rows = EdgeLayout(2, 2).num_rows
    assert largest[None] >= edges.size(1) * rows * 8
    assert largest[3] < edges.size(1) * rows * 8


@pytest.mark.parametrize("chunk", [None, 3])
def test_transforms_of_functions(chunk):
    (edges, vec), conv = graph(), layer("gate", chunk_size=chunk)
    x, scalars = inputs(edges)
    rotation, other = rotation_of(vec, edges, 2, 2), torch.randn_like(x)

    def run(x: torch.Tensor) -> torch.Tensor:
        return conv(x, rotation, scalars)

    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(run(leaf).sin().sum(), leaf)
    torch.testing.assert_close(torch.func.grad(lambda x: run(x).sin().sum())(x), wanted)
    torch.testing.assert_close(torch.func.vmap(run)(torch.stack([x, other]))[1], run(other))
    slope = (run(x + 1e-6 * other) - run(x - 1e-6 * other)) / 2e-6
    torch.testing.assert_close(torch.func.jvp(run, (x,), (other,))[1], slope, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", FORMS)
def test_no_edges(name):
    conv = layer(name)
    x, scalars = inputs(torch.zeros(2, 0, dtype=torch.long))
    rotation = rotation_of(torch.zeros(0, 3).double(), torch.zeros(2, 0, dtype=torch.long), 2, 2)
    out = conv(x, rotation, scalars, torch.zeros(0).double())
    assert out.shape == (NODES, 9, 6)
    assert out.abs().max() < 1e-12


def test_variance_of_messages_stays():
    torch.manual_seed(0)
    edges = torch.stack([torch.arange(1, 401), torch.arange(400)])  # one edge for each node
    conv = SO2Conv(32, 32, 2, 2, 16)
    rotation = EdgeRotation(edge_wigner(torch.randn(400, 3), 2, 2), edges, 401, EdgeLayout(2, 2))
    out = conv(torch.randn(401, 9, 32), rotation, torch.randn(400, 16))[:400]
    assert 0.3 < out.square().mean().item() < 3


def test_degree_normalisation_and_no_invariants():
    edges, vec = graph()
    x, scalars = inputs(edges)
    one, many = layer("gate"), layer("gate", average_degree=9.0)
    rotation = rotation_of(vec, edges, 2, 2)
    torch.testing.assert_close(one(x, rotation, scalars), 3 * many(x, rotation, scalars))
    torch.manual_seed(0)
    assert SO2Conv(4, 6, 2, 2, 0).double()(x, rotation, None).shape == (NODES, 9, 6)


@pytest.mark.parametrize("name", ["gate", "attention"])
def test_compiles_as_one_graph(name):
    (edges, vec), conv = graph(), layer(name, dtype=torch.float32)
    x, scalars = inputs(edges, dtype=torch.float32)
    wigner = edge_wigner(vec.float(), 2, 2)

    def run(x: torch.Tensor, wigner: torch.Tensor, scalars: torch.Tensor) -> torch.Tensor:
        return conv(x, EdgeRotation(wigner, edges, NODES, EdgeLayout(2, 2)), scalars)

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, wigner, scalars), run(x, wigner, scalars), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "scn"}, "form must be"),
        ({"form": "escn"}, "write activation='s2'"),
        ({"attention_heads": -1}, "must not be negative"),
        ({"average_degree": 0.0}, "average_degree must be positive"),
        ({"form": "escn", "activation": "s2", "edge_channels": 0}, "edge_channels must be >= 1"),
        ({"chunk_size": 0}, "chunk_size must be at least 1"),
        ({"chunk_size": 8, "attention_heads": 2}, "all edges of a target"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        SO2Conv(4, 6, 2, 2, **{"edge_channels": SCALARS, **options})


def test_bad_input():
    edges, vec = graph()
    x, scalars = inputs(edges)
    conv, rotation = layer("gate"), rotation_of(vec, edges, 2, 2)
    with pytest.raises(ValueError, match="built for lmax=2"):
        conv(x[:, :4], rotation, scalars)
    with pytest.raises(ValueError, match="edge_scalars must have shape"):
        conv(x, rotation, scalars[:3])
    with pytest.raises(ValueError, match="envelope must have shape"):
        conv(x, rotation, scalars, torch.ones(3))
    with pytest.raises(TypeError, match="edge_scalars must be a torch.Tensor"):
        layer("escn")(x, rotation, None)
