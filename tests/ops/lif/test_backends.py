"""Fast forms against the definition: in float64 closely, in its own dtype to the bit."""

import pytest
import torch

from cifasr.ops.lif import ATan, FastSigmoid, Rect, Sigmoid, lif

SURROGATES = [ATan(), Sigmoid(), FastSigmoid(), Rect(), ATan(0.7), Rect(0.4)]
SIZES = [
    (1, 1, 1),
    (2, 33, 5),
    (3, 9, 130),
    (1, 65, 2),
]  # one; odd, past a block of steps; past blocks of features; many steps
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}


def make(B, T, D, dtype=torch.float32):
    """Give current, lengths and membrane; one row is shorter, one (of three) empty."""
    current, membrane = torch.randn(B, T, D).to(dtype), torch.rand(B, D).to(torch.promote_types(dtype, torch.float32))
    return current, torch.tensor([T, T // 2, 0][:B]), membrane


def with_gradients(run, current, input_lens, membrane, spikes_grad, membrane_grad, **options):
    """Run forward and backward: spikes, membrane, gradient to the current, gradient to the membrane."""
    current, membrane = current.detach().requires_grad_(), membrane.detach().requires_grad_()
    out = run(current, input_lens, membrane=membrane, **options)
    return [*out, *torch.autograd.grad(out, [current, membrane], [spikes_grad, membrane_grad])]


def compare(neurons, current, input_lens, membrane, **options):
    """Compare with the reference in float64: the spikes to the bit."""
    tol = TOLERANCE[current.dtype]
    grads = torch.randn_like(current), torch.randn_like(membrane)
    got = with_gradients(neurons, current, input_lens, membrane, *grads, **options)
    exact = (x.double() for x in (current, membrane, *grads))
    current64, membrane64, *grads64 = exact
    want = with_gradients(lif, current64, input_lens, membrane64, *grads64, backend="reference", **options)

    assert [x.dtype for x in got] == [current.dtype, membrane.dtype] * 2
    assert torch.equal(got[0].double(), want[0])
    assert want[0].any()
    torch.testing.assert_close(got[1].double(), want[1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(got[2].double(), want[2], rtol=tol, atol=tol)
    torch.testing.assert_close(got[3].double(), want[3], rtol=max(tol, 1e-5), atol=1e-5)


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_every_surrogate_and_reset_matches_the_float64_reference(neurons, surrogate, reset, detach_reset):
    options = {"decay": 0.9, "threshold": 0.7, "surrogate": surrogate, "reset": reset, "detach_reset": detach_reset}

    compare(neurons, *make(2, 9, 5), **options)


@pytest.mark.parametrize(("B", "T", "D"), SIZES)
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_every_size_matches_the_float64_reference(neurons, B, T, D, reset):
    current, input_lens, membrane = make(B, T, D)

    compare(neurons, current + 0.5, input_lens, membrane + 0.5, decay=0.8, reset=reset)


@pytest.mark.parametrize("decay", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_dtype_and_leak_matches_the_float64_reference(neurons, dtype, decay):
    compare(neurons, *make(2, 9, 67, dtype), decay=decay)


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("decay", [0.9, 0.37])
def test_spikes_and_membrane_are_the_references_to_the_bit(neurons, decay, reset):
    current, input_lens, membrane = make(2, 40, 65)
    options = {"decay": decay, "threshold": 0.3, "reset": reset}

    got = neurons(current, input_lens, membrane=membrane, **options)

    want = lif(current, input_lens, membrane=membrane, backend="reference", **options)
    assert torch.equal(got.spikes, want.spikes)
    assert torch.equal(got.membrane, want.membrane)


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_an_empty_batch_sequence_or_layer_gives_empty_results(neurons, shape):
    B, T, D = shape
    current, membrane = torch.ones(shape), torch.rand(B, D)
    grads = torch.ones(shape), torch.rand(B, D)

    spikes, last, current_grad, membrane_grad = with_gradients(
        neurons, current, torch.full((B,), T), membrane, *grads, decay=0.5
    )

    assert spikes.shape == current_grad.shape == shape
    assert last.shape == membrane_grad.shape == (B, D)
    if T == 0:
        assert torch.equal(last, membrane)
        assert torch.equal(membrane_grad, grads[1])


def test_the_current_may_be_a_transposed_view_and_inputs_are_left_as_they_were(neurons):
    current, input_lens, membrane = torch.randn(2, 6, 14).transpose(1, 2), torch.tensor([14, 11]), torch.rand(6, 2).mT
    before = [x.clone() for x in (current, input_lens, membrane)]

    compare(neurons, current, input_lens, membrane, decay=0.9)

    assert all(torch.equal(x, y) for x, y in zip((current, input_lens, membrane), before, strict=True))
