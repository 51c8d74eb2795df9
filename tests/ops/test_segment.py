import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from geomeq.ops import segment_max, segment_mean, segment_softmax, segment_sum
from geomeq.ops.segment import segment_amax, segment_soft, segment_spread, segment_total

EVERY = [segment_sum, segment_mean, segment_max, segment_softmax]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}
compiles = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def definition(function, src, index, num_segments):
    """Segment by segment, with torch's own reductions over an axis."""
    out = torch.zeros_like(src) if function is segment_softmax else src.new_zeros(num_segments, *src.shape[1:])
    for i in range(num_segments):
        rows = index == i
        if not rows.any():
            continue
        if function is segment_softmax:
            out[rows] = src[rows].softmax(0)
        else:
            out[i] = {segment_sum: torch.sum, segment_mean: torch.mean, segment_max: torch.amax}[function](src[rows], 0)
    return out


@st.composite
def segments(draw):
    index = torch.tensor(sorted(draw(st.lists(st.integers(0, 7), max_size=30))), dtype=draw(INT))
    shape, dtype = draw(st.sampled_from([(), (1,), (3,), (2, 3), (20,), (0,)])), draw(FLOAT)
    src = torch.randn(
        len(index), *shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))), dtype=dtype
    )
    return src, index, draw(st.integers(int(index.max()) + 1 if len(index) else 0, 9))


INT = st.sampled_from([torch.int64, torch.int32])
FLOAT = st.sampled_from([torch.float32, torch.float64])


@pytest.mark.parametrize("function", EVERY)
@settings(max_examples=50, deadline=None)
@given(problem=segments())
def test_equals_the_definition_by_index_and_by_ptr(function, problem):
    src, index, num_segments = problem
    expected = definition(function, src, index, num_segments)
    torch.testing.assert_close(function(src, index, num_segments), expected, atol=TOLERANCE[src.dtype], rtol=0)
    ptr = torch.searchsorted(index.long(), torch.arange(num_segments + 1)).to(index.dtype)
    torch.testing.assert_close(function(src, ptr=ptr), expected, atol=TOLERANCE[src.dtype], rtol=0)


@pytest.mark.parametrize("function", EVERY)
def test_the_check_has_teeth(function):
    src, index = torch.arange(12.0).view(6, 2), torch.tensor([0, 0, 1, 1, 1, 3])
    shifted = torch.tensor([0, 0, 0, 1, 1, 3])
    assert not torch.allclose(function(src, shifted, 4), definition(function, src, index, 4))


@pytest.mark.parametrize("function", EVERY)
@pytest.mark.parametrize("channels", [1, 12])
def test_differentiable_twice(function, channels):
    src = torch.randn(7, channels, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 0, 0, 2, 2, 3, 5])
    assert gradcheck(lambda x: function(x, index, 7), (src,))
    assert gradgradcheck(lambda x: function(x, index, 7).sin(), (src,))


def test_equal_largest_values_share_the_gradient():
    src = torch.tensor([2.0, 2.0, 1.0], requires_grad=True)
    segment_max(src, torch.tensor([0, 0, 0]), 2).sum().backward()
    assert src.grad.tolist() == [0.5, 0.5, 0.0]


def test_softmax_survives_large_logits_and_sums_to_one():
    src = torch.tensor([1e4, 1e4, -1e4, 5e3])
    out = segment_softmax(src, torch.tensor([0, 0, 0, 2]), 3)
    assert out.tolist() == [0.5, 0.5, 0.0, 1.0]


def test_softmax_in_many_slices():
    src, index = torch.randn(40_000, 4, dtype=torch.float64), torch.arange(40_000) // 7
    out = segment_softmax(src, index, 6_000)
    rows = src[: 40_000 // 7 * 7].view(-1, 7, 4).softmax(1).flatten(0, 1)
    torch.testing.assert_close(out[: len(rows)], rows)


@pytest.mark.parametrize("function", [segment_sum, segment_mean, segment_max])
@pytest.mark.parametrize("channels", [1, 12])
def test_nan_stays_in_its_segment(function, channels):
    src = torch.ones(4, channels)
    src[1] = torch.nan
    out = function(src, torch.tensor([0, 0, 1, 3]), 4)
    assert out[0].isnan().all()
    assert out[1:].isfinite().all()


@pytest.mark.parametrize("function", EVERY)
def test_half_precision_and_autocast(function):
    src, index = torch.randn(300, 12), torch.arange(300) // 100
    half = function(src.bfloat16(), index, 3)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, function(src.bfloat16().float(), index, 3).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(function(src, index, 3), function(src, index, 3))
        assert function(src, index, 3).dtype == torch.float32


@compiles
@pytest.mark.parametrize("function", EVERY)
def test_compiles_to_the_same_result(function):
    src, index = torch.randn(7, 3, requires_grad=True), torch.tensor([0, 0, 0, 2, 2, 3, 5])
    compiled = torch.compile(lambda x: function(x, index, 7), fullgraph=True)
    torch.testing.assert_close(compiled(src), function(src, index, 7))
    torch.testing.assert_close(
        torch.autograd.grad(compiled(src).sin().sum(), src),
        torch.autograd.grad(function(src, index, 7).sin().sum(), src),
    )


@pytest.mark.parametrize("operator", [segment_total, segment_amax, segment_soft, segment_spread])
def test_operators_meet_the_rules_of_torch(operator):
    index, ptr = torch.tensor([0, 0, 2, 2, 2]), torch.tensor([0, 2, 2, 5])
    src = torch.randn(3 if operator is segment_spread else 5, 2, dtype=torch.float64, requires_grad=True)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(operator, (src, index, ptr), test_utils=tests)


SRC = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"index": torch.tensor([0, 2, 1]), "num_segments": 3}, ValueError, "row 2 goes from segment 2 back to 1"),
        ({"index": torch.tensor([0, 1, 3]), "num_segments": 3}, ValueError, "segments 0..3"),
        ({"index": torch.tensor([-1, 0, 1]), "num_segments": 3}, ValueError, "segments -1..1"),
        ({"index": torch.tensor([0, 1]), "num_segments": 3}, ValueError, r"\[3\], got \[2\]"),
        ({"index": torch.tensor([0, 1, 1])}, ValueError, "num_segments must be given"),
        ({"index": torch.tensor([0.0, 1, 1]), "num_segments": 3}, TypeError, "integers"),
        ({"index": [0, 1, 1], "num_segments": 3}, TypeError, "integers, got list"),
        ({"index": torch.zeros(3, 1).long(), "num_segments": 3}, ValueError, "one axis"),
        ({"index": torch.zeros(3).long().to("meta"), "num_segments": 3}, ValueError, "device"),
        ({"ptr": torch.tensor([0, 2])}, ValueError, "rise from 0 to the number of rows, 3"),
        ({"ptr": torch.tensor([0, 3, 2, 3])}, ValueError, "falling in between"),
        ({"ptr": torch.tensor([0, 3]), "num_segments": 3}, ValueError, r"= 4 entries, got 2"),
        ({"ptr": torch.zeros(0).long()}, ValueError, "got none"),
        ({}, ValueError, "either by index"),
        ({"index": torch.tensor([0, 1, 1]), "ptr": torch.tensor([0, 3])}, ValueError, "either by index"),
    ],
)
def test_bad_segments_are_refused(arguments, error, message):
    for function in EVERY:
        with pytest.raises(error, match=message):
            function(SRC, **arguments)


@pytest.mark.parametrize(
    ("src", "error"), [(SRC.long(), TypeError), (torch.tensor(1.0), ValueError), ([1.0], TypeError)]
)
def test_bad_rows_are_refused(src, error):
    with pytest.raises(error, match="src must"):
        segment_sum(src, torch.tensor([0]), 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("function", EVERY)
@pytest.mark.parametrize("channels", [1, 12])
def test_cuda_equals_cpu(function, channels):
    src, index = torch.randn(300, channels), torch.arange(300) // 7
    results = []
    for device in ("cpu", "cuda"):
        x = src.to(device).requires_grad_()
        out = function(x, index.to(device), 50)
        results.append([t.cpu() for t in (out, *torch.autograd.grad(out.sin().sum(), x))])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("function", EVERY)
def test_function_transforms(function):
    """A custom operator has no forward derivative: ``torch.func.jvp`` of one would be zero without a word."""
    index = torch.tensor([0, 0, 2, 2, 2, 3])
    x, v = torch.randn(2, 6, 4, dtype=torch.float64)

    def call(x):
        return function(x, index, 5)

    step = 1e-6
    slope = (call(x + step * v) - call(x - step * v)) / (2 * step)
    torch.testing.assert_close(torch.func.jvp(call, (x,), (v,))[1], slope, atol=1e-8, rtol=1e-8)
    own = x.clone().requires_grad_()
    call(own).square().sum().backward()
    torch.testing.assert_close(torch.func.grad(lambda x: call(x).square().sum())(x), own.grad)
    torch.testing.assert_close(torch.func.vmap(call)(torch.stack([x, v])), torch.stack([call(x), call(v)]))
