"""What is always true of the weights. Frames are unit vectors, so that an embedding *is* its token's weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.ops.cif.backends import BACKENDS, cif

# Whole numbers of 2**-10: sums are exact, ties happen, heavy frames too.
WEIGHTS = st.lists(st.integers(0, 3 << 10).map(lambda k: k / 1024), min_size=1, max_size=40)


def run(weights, **options):
    """Run one row of T unit vectors: embeds are (1, U, T) weights."""
    alpha = torch.tensor([weights], dtype=torch.float64)
    return cif(torch.eye(len(weights), dtype=torch.float64)[None], torch.tensor([len(weights)]), alpha, **options)


def run_on(frames, weights, **options):
    alpha = torch.tensor([weights], dtype=torch.float64)
    return cif(frames[None], torch.tensor([len(weights)]), alpha, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@given(weights=WEIGHTS, tail=st.sampled_from([None, 0.25, 1.0]))
def test_a_token_weighs_one_threshold_and_a_tail_the_remainder(backend, weights, tail):
    out = run(weights, tail_threshold=tail, backend=backend)

    token_weights = out.acoustic_embeds[0].sum(-1).tolist()
    complete = int(sum(weights))
    fires_tail = tail is not None and sum(weights) % 1 >= tail
    assert token_weights == [1.0] * complete + [sum(weights) % 1] * fires_tail
    assert out.remainder.tolist() == [sum(weights) % 1]


@pytest.mark.parametrize("backend", BACKENDS)
@given(weights=WEIGHTS)
def test_no_weight_is_lost_made_or_negative(backend, weights):
    out = run(weights, tail_threshold=2**-24, backend=backend)

    shares = out.acoustic_embeds[0]
    assert shares.ge(0).all()
    assert shares.sum(0).tolist() == weights
    assert out.alpha_sum.tolist() == [sum(weights)]


@pytest.mark.parametrize("backend", BACKENDS)
@given(weights=WEIGHTS)
def test_each_token_starts_delays_and_fires_in_this_order_and_after_the_last_one(backend, weights):
    out = run(weights, tail_threshold=0.25, backend=backend)

    fires, delays = out.fire_frames[0], out.delays[0]
    starts = out.acoustic_embeds[0].gt(0).int().argmax(-1)
    lasts = len(weights) - 1 - out.acoustic_embeds[0].flip(-1).gt(0).int().argmax(-1)
    complete = int(sum(weights))
    assert (starts <= fires).all()
    assert lasts[:complete].tolist() == fires[:complete].tolist()
    assert (starts + 1 <= delays).all()
    assert (delays <= fires + 1).all()
    assert fires.diff().ge(0).all()
    assert delays.diff().ge(0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@given(weights=WEIGHTS)
def test_the_delay_is_the_weighted_mean_of_frames_heard(backend, weights):
    out = run(weights, backend=backend)

    heard = torch.arange(1.0, len(weights) + 1, dtype=torch.float64)
    assert out.delays.tolist() == (out.acoustic_embeds @ heard).tolist()


@given(weights=WEIGHTS, seed=st.integers(0, 999), scale=st.floats(-3, 3))
def test_embeddings_are_linear_in_the_frames(weights, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, len(weights), 3, generator=generator, dtype=torch.float64)

    both = run_on(x + scale * y, weights).acoustic_embeds

    want = run_on(x, weights).acoustic_embeds + scale * run_on(y, weights).acoustic_embeds
    torch.testing.assert_close(both, want, rtol=0, atol=1e-12)


@given(weights=WEIGHTS, order=st.permutations(range(5)))
def test_the_columns_of_a_frame_do_not_know_each_other(weights, order):
    frames = torch.randn(len(weights), 5, dtype=torch.float64)

    got = run_on(frames[:, list(order)], weights).acoustic_embeds

    torch.testing.assert_close(got, run_on(frames, weights).acoustic_embeds[..., list(order)], rtol=0, atol=0)


@given(weights=WEIGHTS, data=st.data())
def test_a_frame_split_in_two_changes_nothing(weights, data):
    t = data.draw(st.integers(0, len(weights) - 1))
    part = data.draw(st.integers(0, int(weights[t] * 1024))) / 1024
    frames = torch.randn(len(weights), 3, dtype=torch.float64)

    split = run_on(
        torch.cat([frames[: t + 1], frames[t:]]),
        [*weights[:t], part, weights[t] - part, *weights[t + 1 :]],
        tail_threshold=0.25,
    )

    whole = run_on(frames, weights, tail_threshold=0.25)
    assert split.token_lens.tolist() == whole.token_lens.tolist()
    torch.testing.assert_close(split.acoustic_embeds, whole.acoustic_embeds, rtol=0, atol=1e-12)


@given(weights=WEIGHTS, data=st.data())
def test_a_frame_without_weight_changes_nothing_but_the_clock(weights, data):
    t = data.draw(st.integers(0, len(weights)))
    frames = torch.randn(len(weights), 3, dtype=torch.float64)

    longer = run_on(torch.cat([frames[:t], torch.full((1, 3), 9.0), frames[t:]]), [*weights[:t], 0.0, *weights[t:]])

    whole = run_on(frames, weights)
    assert (longer.fire_frames - (longer.fire_frames >= t).long()).tolist() == whole.fire_frames.tolist()
    torch.testing.assert_close(longer.acoustic_embeds, whole.acoustic_embeds, rtol=0, atol=1e-12)


@given(weights=WEIGHTS, threshold=st.floats(0.01, 20))
def test_threshold_is_a_unit_of_weight(weights, threshold):
    got = run([threshold * w for w in weights], threshold=threshold, tail_threshold=threshold / 4)

    want = run(weights, tail_threshold=0.25)
    assert got.fire_frames.tolist() == want.fire_frames.tolist()
    torch.testing.assert_close(got.acoustic_embeds, threshold * want.acoustic_embeds, rtol=1e-12, atol=0)
    torch.testing.assert_close(got.remainder, threshold * want.remainder, rtol=1e-12, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@given(weights=WEIGHTS, data=st.data())
def test_a_token_does_not_depend_on_frames_after_its_firing(backend, weights, data):
    now = data.draw(st.integers(0, len(weights) - 1))
    future = data.draw(st.lists(st.integers(0, 3 << 10).map(lambda k: k / 1024), min_size=1, max_size=9))
    frames, other = torch.randn(len(weights), 2), torch.randn(now + 1 + len(future), 2)
    other[: now + 1] = frames[: now + 1]

    got = run_on(other, [*weights[: now + 1], *future], backend=backend)

    want = run_on(frames, weights, backend=backend)
    fired = int(want.fire_frames.le(now).sum())
    assert got.fire_frames[0, :fired].tolist() == want.fire_frames[0, :fired].tolist()
    assert got.acoustic_embeds[0, :fired].tolist() == want.acoustic_embeds[0, :fired].tolist()
