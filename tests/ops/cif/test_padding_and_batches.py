import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.cif.backends import BACKENDS, FAST, cif

OPTIONS = {
    "plain": lambda B: {},
    "tail": lambda B: {"tail_threshold": 0.3},
    "scaled": lambda B: {"target_lens": torch.arange(3, 3 + B)},
}


def run_both_ways(frames, lens, alpha, embeds_grad=None, **options):
    """Return the output and the gradients to frames and alpha."""
    frames, alpha = frames.clone().requires_grad_(), alpha.clone().requires_grad_()
    out = cif(frames, lens, alpha, **options)
    if embeds_grad is None:
        embeds_grad = torch.linspace(-1, 1, out.acoustic_embeds.shape[-1]).expand_as(out.acoustic_embeds)
    scalar = (out.acoustic_embeds * embeds_grad).sum() + out.alpha_sum.sum()
    return out, torch.autograd.grad(scalar, [frames, alpha])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e30, -5.0])
def test_what_padding_holds_does_not_matter(backend, options, garbage):
    frames, alpha, lens = torch.randn(3, 20, 4), torch.rand(3, 20), torch.tensor([20, 13, 1])
    padding = torch.arange(20) >= lens[:, None]
    dirty_frames = frames.masked_fill(padding[..., None], garbage)
    dirty_alpha = alpha.masked_fill(padding, garbage)

    got, got_grads = run_both_ways(dirty_frames, lens, dirty_alpha, backend=backend, **options(3))

    want, want_grads = run_both_ways(frames, lens, alpha, backend=backend, **options(3))
    for got_field, want_field in zip(got + got_grads, want + want_grads, strict=True):
        assert got_field.tolist() == want_field.tolist()
    for grad in got_grads:
        assert grad[padding].eq(0).all()


@pytest.mark.parametrize("backend", FAST)
def test_gradients_past_the_last_token_do_not_matter(backend):
    frames, alpha = torch.randn(2, 9, 3, requires_grad=True), torch.full((2, 9), 0.5, requires_grad=True)
    embeds, token_lens, *_ = cif(frames, torch.tensor([9, 2]), alpha, backend=backend)
    past_end = (torch.arange(embeds.shape[1]) >= token_lens[:, None])[..., None]

    got = torch.autograd.grad(embeds, [frames, alpha], torch.ones_like(embeds).masked_fill(past_end, math.nan))

    embeds = cif(frames, torch.tensor([9, 2]), alpha, backend=backend).acoustic_embeds
    want = torch.autograd.grad(embeds, [frames, alpha], torch.ones_like(embeds))
    assert [g.tolist() for g in got] == [w.tolist() for w in want]


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=25)
@given(
    seed=st.integers(0, 9999),
    order=st.permutations(range(4)),
    width=st.integers(1, 40),
    options=st.sampled_from([*OPTIONS.values()]),
)
def test_a_row_does_not_know_its_batch(backend, seed, order, width, options):
    generator = torch.Generator().manual_seed(seed)
    frames, alpha = torch.randn(4, width, 3, generator=generator), torch.rand(4, width, generator=generator)
    lens = torch.randint(1, width + 1, (4,), generator=generator)
    rows = list(order)

    batch, batch_grads = run_both_ways(frames, lens, alpha, backend=backend, **options(4))
    moved, moved_grads = run_both_ways(
        frames[rows],
        lens[rows],
        alpha[rows],
        backend=backend,
        **{k: v[rows] if torch.is_tensor(v) else v for k, v in options(4).items()},
    )

    for got, want in zip(moved + moved_grads, batch + batch_grads, strict=True):
        assert got.tolist() == want[rows].tolist()
    for b in range(4):
        n, u = int(lens[b]), int(batch.token_lens[b])
        alone, alone_grads = run_both_ways(
            frames[b : b + 1, :n],
            lens[b : b + 1],
            alpha[b : b + 1, :n],
            backend=backend,
            **{k: v[b : b + 1] if torch.is_tensor(v) else v for k, v in options(4).items()},
        )
        assert alone.acoustic_embeds[0].tolist() == batch.acoustic_embeds[b, :u].tolist()
        assert alone.fire_frames[0].tolist() == batch.fire_frames[b, :u].tolist()
        assert batch.acoustic_embeds[b, u:].eq(0).all()
        assert alone_grads[0][0].tolist() == batch_grads[0][b, :n].tolist()
        torch.testing.assert_close(alone_grads[1][0], batch_grads[1][b, :n], rtol=1e-6, atol=1e-6)
