import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.ops.cif.backends import BACKENDS, cif

STEP = 2.0**-10  # a whole number of units: the membrane moves by exactly this


def dense_embeds(frames, alpha, num_tokens, threshold=1.0, scaled=False):
    """CIF by its formula, without rounding: the (U, T) matrix of overlaps, one row, autograd's gradient."""
    after = alpha.cumsum(0)
    if scaled:
        after = after / after[-1] * num_tokens * threshold
    before = torch.cat([after.new_zeros(1), after[:-1]])
    start = torch.arange(num_tokens)[:, None] * threshold
    overlap = torch.minimum(after, start + threshold) - torch.maximum(before, start)
    return overlap.clamp(min=0) @ frames


def off_ties(seed, T):
    """Weights whose running sums are odd multiples of 2**-7: never within a step of a firing."""
    alpha = torch.randint(1, 90, (T,), generator=torch.Generator().manual_seed(seed)) / 64
    alpha[0] += 1 / 128
    return alpha.double()


def gradcheck_size(backend):
    """(T, D): gradcheck runs the operator twice for every number that goes in, which the interpreter feels."""
    return (5, 1) if backend == "triton" else (9, 3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"tail_threshold": 2**-7}, {"max_tokens": 3}, {"threshold": 0.5}])
def test_gradcheck_holds_without_scaling(backend, options):
    T, D = gradcheck_size(backend)
    frames = torch.randn(2, T, D, dtype=torch.float64, requires_grad=True)
    alpha = torch.stack([off_ties(1, T), off_ties(2, T)]).requires_grad_()

    def outputs(frames, alpha):
        out = cif(frames, torch.tensor([T, T - 2]), alpha, backend=backend, **options)
        return out.acoustic_embeds, out.alpha_sum

    assert torch.autograd.gradcheck(outputs, (frames, alpha), eps=STEP, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck_holds_with_scaling(backend):
    T, D = gradcheck_size(backend)
    frames = torch.randn(2, T, D, dtype=torch.float64, requires_grad=True)
    alpha = (torch.stack([off_ties(3, T), off_ties(4, T)]) + 0.1).requires_grad_()

    def embeds(frames, alpha):
        target_lens = torch.tensor([3, T + 4])
        return cif(frames, torch.tensor([T, T - 2]), alpha, target_lens=target_lens, backend=backend).acoustic_embeds

    assert torch.autograd.gradcheck(embeds, (frames, alpha), eps=STEP, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=30)
@given(seed=st.integers(0, 9999), T=st.integers(1, 40), scaled=st.booleans(), num_targets=st.integers(1, 30))
def test_the_gradient_is_that_of_the_formula(backend, seed, T, scaled, num_targets):
    frames = torch.randn(T, 3, dtype=torch.float64).requires_grad_()
    alpha = (off_ties(seed, T) / 2).requires_grad_()
    target_lens = torch.tensor([num_targets]) if scaled else None
    if scaled:  # scaling may put a frame's end on a border; which side that takes is not this test's subject
        ends = (alpha.detach().cumsum(0) / alpha.detach().sum() * num_targets)[:-1]
        assume(((ends - ends.round()).abs() > 1e-6).all())

    out = cif(frames[None], torch.tensor([T]), alpha[None], target_lens=target_lens, backend=backend)

    want = dense_embeds(frames, alpha, int(out.token_lens), scaled=scaled)
    embeds_grad = torch.randn_like(want)
    got_grads = torch.autograd.grad(out.acoustic_embeds[0], [frames, alpha], embeds_grad)
    want_grads = torch.autograd.grad(want, [frames, alpha], embeds_grad)
    torch.testing.assert_close(out.acoustic_embeds[0], want, rtol=0, atol=1e-5)
    torch.testing.assert_close(got_grads[0], want_grads[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(got_grads[1], want_grads[1], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=30)
@given(weights=st.lists(st.integers(0, 12), min_size=1, max_size=30), scaled=st.booleans())
def test_gradients_are_finite_at_ties(backend, weights, scaled):
    alpha = (torch.tensor([weights]) / 4).requires_grad_()
    frames = torch.randn(1, len(weights), 2, requires_grad=True)
    target_lens = torch.tensor([5]) if scaled else None

    out = cif(frames, torch.tensor([len(weights)]), alpha, target_lens=target_lens, backend=backend)
    grads = torch.autograd.grad(out.acoustic_embeds.square().sum(), [frames, alpha])

    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=30)
@given(seed=st.integers(0, 9999), target=st.integers(1, 60))
def test_after_scaling_the_gradient_does_not_see_the_size_of_weights(backend, seed, target):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(1, 25, 4, generator=generator, dtype=torch.float64)
    alpha = torch.rand(1, 25, generator=generator).double().requires_grad_()  # float32 values: whole units

    embeds = cif(frames, torch.tensor([25]), alpha, target_lens=torch.tensor([target]), backend=backend).acoustic_embeds
    (alpha_grad,) = torch.autograd.grad(embeds.square().sum(), alpha)

    scale = (alpha * alpha_grad).abs().sum().item()
    assert (alpha * alpha_grad).sum().item() == pytest.approx(0, abs=1e-7 * scale + 1e-12)


def test_the_count_has_a_gradient_of_one_for_every_valid_weight():
    alpha = torch.rand(2, 5, requires_grad=True)

    alpha_sum = cif(torch.zeros(2, 5, 1), torch.tensor([5, 2]), alpha, target_lens=torch.tensor([2, 2])).alpha_sum
    (alpha_grad,) = torch.autograd.grad(alpha_sum.sum(), alpha)

    assert alpha_grad.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
