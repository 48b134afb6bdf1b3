"""The fast form against the definition, which runs in float64."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifasr.ops.cif import cif

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-11}


def compare(frames, lens, alpha, **options):
    """Compare outputs and gradients; the firings to the bit."""
    tol = TOLERANCE[frames.dtype]
    frames, alpha = frames.requires_grad_(), alpha.requires_grad_()
    got = cif(frames, lens, alpha, backend="vectorized", **options)
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
    alpha_tol = max(TOLERANCE[alpha.dtype], 1e-6 if frames.dtype != torch.float64 else 0)
    torch.testing.assert_close(got_grads[1].double(), want_grads[1], rtol=alpha_tol, atol=alpha_tol * scale)


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
def test_vectorized_matches_the_reference(seed, B, T, D, dtype, heaviest, threshold, tail, max_tokens, scaled):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(B, T, D, generator=generator, dtype=dtype)
    alpha = torch.rand(B, T, generator=generator, dtype=dtype) * heaviest
    alpha = alpha.masked_fill(torch.rand(B, T, generator=generator) < 0.2, 0)
    lens = torch.randint(0, T + 1, (B,), generator=generator)
    target_lens = torch.randint(0, 90, (B,), generator=generator) * (lens > 0) if scaled else None

    compare(
        frames,
        lens,
        alpha,
        threshold=threshold,
        tail_threshold=None if tail is None else tail * threshold,
        max_tokens=max_tokens,
        target_lens=target_lens,
    )


@settings(max_examples=30)
@given(weights=st.lists(st.integers(0, 12), min_size=1, max_size=40), quarters=st.sampled_from([2, 4, 5]))
def test_vectorized_takes_the_same_side_of_every_tie(weights, quarters):
    alpha = torch.tensor([weights], dtype=torch.float64) / 4
    frames = torch.randn(1, len(weights), 3, dtype=torch.float64)

    compare(frames, torch.tensor([len(weights)]), alpha, threshold=quarters / 4, tail_threshold=0.25)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("alpha_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scaled", [False, True])
def test_half_precision_costs_the_rounding_of_the_result_alone(dtype, alpha_dtype, scaled):
    frames, alpha = torch.randn(2, 150, 65).to(dtype), (torch.rand(2, 150) * 0.3).to(alpha_dtype)
    target_lens = torch.tensor([30, 200]) if scaled else None

    compare(frames, torch.tensor([150, 99]), alpha, target_lens=target_lens, tail_threshold=0.5)


@pytest.mark.parametrize("target_lens", [None, torch.tensor([3001])])
def test_half_an_hour_of_audio_keeps_its_low_bits(target_lens):
    T = 20_000
    # Quarters are exact in every dtype, so that one slow run of the reference serves them all.
    frames, alpha = torch.randint(-8, 9, (1, T, 4)).double() / 4, torch.rand(1, T) * 0.3
    embeds_grad = torch.randint(-8, 9, (1, 3001, 4)).double() / 4
    want, want_grads = both_ways(frames, alpha, embeds_grad, target_lens, "reference")

    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        got, got_grads = both_ways(frames.to(dtype), alpha, embeds_grad, target_lens, "vectorized")

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


@settings(max_examples=40)
@given(
    seed=st.integers(0, 9999),
    T=st.sampled_from([1, 100, 3000]),
    dtype=st.sampled_from([torch.bfloat16, torch.float16]),
    backend=st.sampled_from(["reference", "vectorized"]),
)
def test_half_precision_weights_fire_their_exact_count(seed, T, dtype, backend):
    # From 2**-16 up, a bfloat16 is a whole number of 2**-24; every float16 is.
    alpha = (torch.rand(1, T, generator=torch.Generator().manual_seed(seed)) * 0.3 + 2**-16).to(dtype)
    exact = sum(map(Fraction, alpha[0].tolist()), Fraction(0))

    out = cif(torch.zeros(1, T, 1, dtype=dtype), torch.tensor([T]), alpha, backend=backend)

    assert out.token_lens.tolist() == [math.floor(exact)]
    assert out.remainder.tolist() == [float(exact % 1)]


def test_frames_may_be_a_transposed_view():
    frames, alpha = torch.randn(2, 5, 30).transpose(1, 2), torch.rand(2, 30)

    compare(frames, torch.tensor([30, 11]), alpha)
