"""What is always true: cuts, padding and other rows change nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

B, T, D = 2, 16, 3


@settings(max_examples=8)
@given(
    cuts=st.lists(st.integers(0, T), max_size=4).map(sorted),
    row_lens=st.lists(st.integers(0, T), min_size=B, max_size=B),
    seed=st.integers(0, 999),
    reset=st.sampled_from(["subtract", "zero"]),
)
def test_a_sequence_cut_anywhere_spikes_as_the_whole(neurons, cuts, row_lens, seed, reset):
    generator = torch.Generator().manual_seed(seed)
    current = torch.rand(B, T, D, generator=generator).requires_grad_()
    grads = torch.randn(B, T, D, generator=generator), torch.randn(B, D, generator=generator)
    input_lens, options = torch.tensor(row_lens), {"decay": 0.9, "reset": reset}

    membrane, pieces = None, []
    for begin, end in zip([0, *cuts], [*cuts, T], strict=True):
        chunk_lens = (input_lens - begin).clamp(0, end - begin)
        out = neurons(current[:, begin:end], chunk_lens, membrane=membrane, **options)
        pieces.append(out.spikes)
        membrane = out.membrane
    got = torch.cat(pieces, 1), membrane
    (got_grad,) = torch.autograd.grad(got, current, grads)

    whole = neurons(current, input_lens, **options)
    (whole_grad,) = torch.autograd.grad(whole, current, grads)
    assert torch.equal(got[0], whole.spikes)
    assert torch.equal(got[1], whole.membrane)
    torch.testing.assert_close(got_grad, whole_grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_padding_changes_nothing_even_if_it_holds_nan(neurons, reset):
    lens = [34, 7, 0]
    clean, membrane = torch.randn(3, 34, D), torch.rand(3, D)
    current, spikes_grad = clean.clone(), torch.randn(3, 34, D)
    for b, length in enumerate(lens):
        current[b, length:] = spikes_grad[b, length:] = torch.nan
    current.requires_grad_()

    out = neurons(current, torch.tensor(lens), membrane=membrane, decay=0.9, reset=reset)
    (grad,) = torch.autograd.grad(out, current, [spikes_grad, torch.ones(3, D)])

    for b, length in enumerate(lens):
        alone = clean[b : b + 1, :length].clone().requires_grad_()
        want = neurons(alone, torch.tensor([length]), membrane=membrane[b : b + 1], decay=0.9, reset=reset)
        (want_grad,) = torch.autograd.grad(want, alone, [spikes_grad[b : b + 1, :length], torch.ones(1, D)])
        assert torch.equal(out.spikes[b, :length], want.spikes[0])
        assert torch.equal(out.membrane[b], want.membrane[0])
        torch.testing.assert_close(grad[b, :length], want_grad[0], rtol=1e-6, atol=1e-6)
        assert out.spikes[b, length:].eq(0).all()
        assert grad[b, length:].eq(0).all()


def test_a_row_without_steps_keeps_its_membrane_and_hands_its_gradient_on(neurons):
    current, membrane = torch.full((2, 5, 1), torch.nan), torch.tensor([[3.0], [-0.25]], requires_grad=True)

    out = neurons(current, torch.tensor([0, 0]), membrane=membrane, decay=0.5)
    (grad,) = torch.autograd.grad(out.membrane, membrane, torch.tensor([[7.0], [8.0]]))

    assert out.spikes.eq(0).all()
    assert out.membrane.tolist() == [[3.0], [-0.25]]
    assert grad.tolist() == [[7.0], [8.0]]


def test_a_silent_row_is_silent_and_leaks(neurons):
    out = neurons(torch.zeros(1, 3, 2), torch.tensor([3]), membrane=torch.tensor([[0.8, -0.8]]), decay=0.5)

    assert out.spikes.eq(0).all()
    assert out.membrane.flatten().tolist() == pytest.approx([0.1, -0.1])
