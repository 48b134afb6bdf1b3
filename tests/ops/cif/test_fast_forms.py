"""The fast forms against the definition, which runs in float64."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.cif.backends import BACKENDS, FAST, TRITON, cif

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-11}


def tolerance(dtype, backend):
    """Rounding of a result; Triton's interpreter cuts float32 off to bfloat16, where hardware rounds."""
    return TOLERANCE[dtype] * (2 if (dtype, backend) == (torch.bfloat16, "triton") else 1)


def compare(backend, frames, lens, alpha, **options):
    """Compare outputs and gradients; the firings to the bit."""
    tol, alpha_tol = tolerance(frames.dtype, backend), tolerance(alpha.dtype, backend)
    frames, alpha = frames.requires_grad_(), alpha.requires_grad_()
    got = cif(frames, lens, alpha, backend=backend, **options)
    exact_frames = frames.detach().double().requires_grad_()
    exact_alpha = alpha.detach().double().requires_grad_()
    want = cif(exact_frames, lens, exact_alpha, backend="reference", **options)
    embeds_grad = torch.randn_like(got.acoustic_embeds)
    got_grads = torch.autograd.grad(got.acoustic_embeds, [frames, alpha], embeds_grad)
    want_grads = torch.autograd.grad(want.acoustic_embeds, [exact_frames, exact_alpha], embeds_grad.double())

    assert got.token_lens.tolist() == want.token_lens.tolist()
    assert got.fire_frames.tolist() == want.fire_frames.tolist()
    assert got.delays.tolist() == want.delays.tolist()
    assert got.remainder.tolist() == want.remainder.tolist()
    assert got.acoustic_embeds.dtype == frames.dtype
    assert [g.dtype for g in got_grads] == [frames.dtype, alpha.dtype]
    torch.testing.assert_close(got.acoustic_embeds.double(), want.acoustic_embeds, rtol=tol, atol=max(tol / 100, 1e-5))
    torch.testing.assert_close(got_grads[0].double(), want_grads[0], rtol=tol, atol=max(tol / 100, 1e-5))
    scale = max(1.0, want_grads[1].abs().max().item()) if want_grads[1].numel() else 1.0
    alpha_tol = max(alpha_tol, 1e-6 if frames.dtype != torch.float64 else 0)
    torch.testing.assert_close(got_grads[1].double(), want_grads[1], rtol=alpha_tol, atol=alpha_tol * scale)


@pytest.mark.parametrize("backend", FAST)
@settings(max_examples=60)
@given(
    seed=st.integers(0, 9999),
    B=st.integers(1, 3),
    T=st.integers(0, 70),
    D=st.sampled_from([1, 5, 17]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    heaviest=st.sampled_from([0.05, 0.3, 1.0, 4.0]),
    threshold=st.sampled_from([1.0, 0.3, 2.5]),
    tail=st.sampled_from([None, 0.5]),
    max_tokens=st.sampled_from([None, 0, 1, 7, 500]),
    scaled=st.booleans(),
)
def test_it_matches_the_reference(backend, seed, B, T, D, dtype, heaviest, threshold, tail, max_tokens, scaled):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(B, T, D, generator=generator, dtype=dtype)
    alpha = torch.rand(B, T, generator=generator, dtype=dtype) * heaviest
    alpha = alpha.masked_fill(torch.rand(B, T, generator=generator) < 0.2, 0)
    lens = torch.randint(0, T + 1, (B,), generator=generator)
    target_lens = torch.randint(0, 90, (B,), generator=generator) * (lens > 0) if scaled else None

    compare(
        backend,
        frames,
        lens,
        alpha,
        threshold=threshold,
        tail_threshold=None if tail is None else tail * threshold,
        max_tokens=max_tokens,
        target_lens=target_lens,
    )


@pytest.mark.parametrize("backend", FAST)
@settings(max_examples=30)
@given(weights=st.lists(st.integers(0, 12), min_size=1, max_size=40), quarters=st.sampled_from([2, 4, 5]))
def test_it_takes_the_same_side_of_every_tie(backend, weights, quarters):
    alpha = torch.tensor([weights], dtype=torch.float64) / 4
    frames = torch.randn(1, len(weights), 3, dtype=torch.float64)

    compare(backend, frames, torch.tensor([len(weights)]), alpha, threshold=quarters / 4, tail_threshold=0.25)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("alpha_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scaled", [False, True])
def test_half_precision_costs_the_rounding_of_the_result_alone(backend, dtype, alpha_dtype, scaled):
    T, D = (21, 9) if backend == "triton" else (150, 65)
    frames, alpha = torch.randn(2, T, D).to(dtype), (torch.rand(2, T) * 0.3).to(alpha_dtype)
    target_lens = torch.tensor([T // 5, 4 * T // 3]) if scaled else None

    compare(backend, frames, torch.tensor([T, 2 * T // 3]), alpha, target_lens=target_lens, tail_threshold=0.5)


@pytest.mark.parametrize("backend", [name for name in FAST if name != TRITON[0]])  # interpreted, it takes minutes
@pytest.mark.parametrize("target_lens", [None, torch.tensor([3001])])
def test_half_an_hour_of_audio_keeps_its_low_bits(backend, target_lens):
    T = 20_000
    # Quarters are exact in every dtype, so that one slow run of the reference serves them all.
    frames, alpha = torch.randint(-8, 9, (1, T, 4)).double() / 4, torch.rand(1, T) * 0.3
    embeds_grad = torch.randint(-8, 9, (1, 3001, 4)).double() / 4
    want, want_grads = both_ways(frames, alpha, embeds_grad, target_lens, "reference")

    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        got, got_grads = both_ways(frames.to(dtype), alpha, embeds_grad, target_lens, backend)

        tol = TOLERANCE[dtype]
        assert got.fire_frames.tolist() == want.fire_frames.tolist()
        torch.testing.assert_close(got.acoustic_embeds.double(), want.acoustic_embeds, rtol=tol, atol=1e-5)
        torch.testing.assert_close(got_grads[0].double(), want_grads[0], rtol=tol, atol=1e-5)
        torch.testing.assert_close(got_grads[1], want_grads[1], rtol=1e-5, atol=1e-4)


def both_ways(frames, alpha, embeds_grad, target_lens, backend):
    """Run half an hour forward and backward."""
    frames, alpha = frames.clone().requires_grad_(), alpha.clone().requires_grad_()
    lens = torch.tensor([frames.shape[1]])
    out = cif(frames, lens, alpha, target_lens=target_lens, max_tokens=3001, tail_threshold=0.5, backend=backend)
    return out, torch.autograd.grad(out.acoustic_embeds, [frames, alpha], embeds_grad.to(frames.dtype))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=20)
@given(
    seed=st.integers(0, 9999),
    T=st.sampled_from([1, 100, 1000]),
    dtype=st.sampled_from([torch.bfloat16, torch.float16]),
)
def test_half_precision_weights_fire_their_exact_count(backend, seed, T, dtype):
    # From 2**-16 up, a bfloat16 is a whole number of 2**-24; every float16 is.
    alpha = (torch.rand(1, T, generator=torch.Generator().manual_seed(seed)) * 0.3 + 2**-16).to(dtype)
    exact = sum(map(Fraction, alpha[0].tolist()), Fraction(0))

    out = cif(torch.zeros(1, T, 1, dtype=dtype), torch.tensor([T]), alpha, backend=backend)

    assert out.token_lens.tolist() == [math.floor(exact)]
    assert out.remainder.tolist() == [float(exact % 1)]


@pytest.mark.parametrize("backend", FAST)
def test_frames_may_be_a_transposed_view(backend):
    frames, alpha = torch.randn(2, 5, 30).transpose(1, 2), torch.rand(2, 30)

    compare(backend, frames, torch.tensor([30, 11]), alpha)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(("T", "D"), [(1, 1), (2, 127), (4, 128), (5, 129), (23, 300)])
@pytest.mark.parametrize("scaled", [False, True])
def test_sizes_of_one_odd_and_past_a_block_match(backend, T, D, scaled):
    frames, alpha = torch.randn(4, T, D), torch.rand(4, T) * 1.5
    lens = torch.tensor([0, T, T, (T + 1) // 2])  # no frames, a silent row, a full one, half of one
    alpha[1] = 0
    target_lens = torch.tensor([0, 3, T // 2, T + 5]) if scaled else None

    compare(backend, frames, lens, alpha, target_lens=target_lens, tail_threshold=0.25)


@pytest.mark.parametrize("backend", FAST)
def test_frames_that_fire_a_hundred_times_match(backend):
    frames, alpha = torch.randn(1, 3, 2), torch.tensor([[0.4, 127.9, 60.3]])

    compare(backend, frames, torch.tensor([3]), alpha, tail_threshold=0.5)
