import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifasr.ops.cif import CifState, cif, cif_flush, cif_stream


def stream(frames, alpha, cuts, *, threshold=1.0, tail_threshold=None):
    """Run one row in chunks that end at ``cuts``; return its tokens put together, and every state."""
    state = CifState.initial(1, frames.shape[-1], dtype=frames.dtype)
    outputs, states = [], [state]
    for start, end in zip([0, *cuts], [*cuts, frames.shape[1]], strict=True):
        out, state = cif_stream(frames[:, start:end], alpha[:, start:end], state, threshold=threshold)
        outputs.append(out)
        states.append(state)
    out, state = cif_flush(state, threshold=threshold, tail_threshold=tail_threshold, dtype=frames.dtype)
    outputs.append(out)
    states.append(state)
    tokens = {
        field: torch.cat([getattr(out, field)[0, : out.token_lens[0]] for out in outputs])
        for field in ("acoustic_embeds", "fire_frames", "delays")
    }
    return tokens, outputs, states


@settings(max_examples=100)
@given(
    seed=st.integers(0, 9999),
    T=st.integers(0, 60),
    data=st.data(),
    heaviest=st.sampled_from([0.1, 1.0, 5.0]),
    threshold=st.sampled_from([1.0, 0.7]),
    tail=st.sampled_from([None, 0.3]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16]),
)
def test_any_cut_gives_what_the_whole_gives(seed, T, data, heaviest, threshold, tail, dtype):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(1, T, 3, generator=generator).to(dtype)
    alpha = torch.rand(1, T, generator=generator) * heaviest
    cuts = sorted(data.draw(st.lists(st.integers(0, T), max_size=12)))  # equal cuts make empty chunks

    tokens, outputs, states = stream(frames, alpha, cuts, threshold=threshold, tail_threshold=tail)

    whole = cif(frames, torch.tensor([T]), alpha, threshold=threshold, tail_threshold=tail, backend="reference")
    assert tokens["fire_frames"].tolist() == whole.fire_frames[0].tolist()
    assert tokens["delays"].tolist() == whole.delays[0].tolist()
    tol = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-3}[dtype]
    torch.testing.assert_close(tokens["acoustic_embeds"], whole.acoustic_embeds[0], rtol=tol, atol=tol)
    assert outputs[-1].remainder.tolist() == whole.remainder.tolist()
    assert sum(out.alpha_sum.item() for out in outputs) == pytest.approx(whole.alpha_sum.item(), abs=1e-4)
    assert states[-1].num_frames.tolist() == [T]
    assert states[-1].num_tokens.tolist() == whole.token_lens.tolist()


def test_one_frame_at_a_time_over_a_long_stream_stays_exact():
    frames, alpha = torch.randn(1, 2000, 4), torch.rand(1, 2000) * 0.3

    tokens, _, _ = stream(frames, alpha, list(range(1, 2000)), tail_threshold=0.5)

    whole = cif(frames, torch.tensor([2000]), alpha, tail_threshold=0.5)
    assert tokens["fire_frames"].tolist() == whole.fire_frames[0].tolist()
    torch.testing.assert_close(tokens["acoustic_embeds"], whole.acoustic_embeds[0], rtol=1e-6, atol=1e-6)


@settings(max_examples=40)
@given(seed=st.integers(0, 9999), chunk_lens=st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), max_size=8))
def test_streams_of_one_batch_are_independent_and_padding_does_not_matter(seed, chunk_lens):
    generator = torch.Generator().manual_seed(seed)
    state, chunks, fired = CifState.initial(3, 2), [], [[], [], []]
    for lens in chunk_lens:
        frames = torch.randn(3, 6, 2, generator=generator)
        alpha = torch.rand(3, 6, generator=generator)
        padding = torch.arange(6) >= torch.tensor(lens)[:, None]
        frames[padding], alpha[padding] = torch.nan, torch.nan
        out, state = cif_stream(frames, alpha, state, frame_lens=torch.tensor(lens))
        chunks.append((frames, alpha, lens))
        for b in range(3):
            fired[b].append(out.acoustic_embeds[b, : out.token_lens[b]])
    out, state = cif_flush(state, tail_threshold=0.4)

    for b in range(3):
        frames = torch.cat([torch.zeros(0, 2), *[f[b, : n[b]] for f, _, n in chunks]])
        alpha = torch.cat([torch.zeros(0), *[a[b, : n[b]] for _, a, n in chunks]])
        whole = cif(frames[None], torch.tensor([len(frames)]), alpha[None], tail_threshold=0.4)
        got = torch.cat([*fired[b], out.acoustic_embeds[b, : out.token_lens[b]]])
        torch.testing.assert_close(got, whole.acoustic_embeds[0], rtol=1e-5, atol=1e-5)
        assert state.num_tokens[b] == whole.token_lens[0]
        assert state.num_frames[b] == len(frames)


def test_the_state_is_bounded_and_survives_being_saved():
    frames, alpha = torch.randn(1, 50, 3), torch.rand(1, 50)
    _, state = cif_stream(frames, alpha, CifState.initial(1, 3))
    file = io.BytesIO()
    torch.save(state._asdict(), file)
    file.seek(0)

    back = CifState(**torch.load(file, weights_only=True))

    assert 0 <= state.membrane.item() < 2**24
    assert [field.numel() for field in state] == [1, 3, 1, 1, 1]
    got, _ = cif_stream(frames, alpha, back)
    want, _ = cif_stream(frames, alpha, state)
    assert [field.tolist() for field in got] == [field.tolist() for field in want]


def test_after_a_flush_the_next_utterance_starts_empty_and_the_clock_goes_on():
    frames = torch.tensor([[[1.0], [2.0]]])
    _, state = cif_stream(frames, torch.tensor([[0.5, 0.25]]), CifState.initial(1, 1))
    tail, state = cif_flush(state, tail_threshold=0.75)

    out, state = cif_stream(frames, torch.tensor([[0.5, 0.5]]), state)

    assert tail.acoustic_embeds.tolist() == [[[0.5 * 1 + 0.25 * 2]]]
    assert tail.fire_frames.tolist() == [[1]]
    assert out.acoustic_embeds.tolist() == [[[0.5 * 1 + 0.5 * 2]]]
    assert out.fire_frames.tolist() == [[3]]
    assert out.delays.tolist() == [[3.5]]
    assert (state.num_frames.item(), state.num_tokens.item()) == (4, 2)


def test_a_flush_below_the_tail_threshold_fires_nothing():
    _, state = cif_stream(torch.ones(1, 1, 1), torch.tensor([[0.5]]), CifState.initial(1, 1))

    out, state = cif_flush(state, tail_threshold=0.6)

    assert out.token_lens.tolist() == [0]
    assert out.acoustic_embeds.tolist() == [[[0.0]]]
    assert out.remainder.tolist() == [0.5]
    assert state.membrane.tolist() == [0]


def test_a_state_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"state: got one of \(1, 4\), wanted \(1, 3\)"):
        cif_stream(torch.ones(1, 2, 3), torch.ones(1, 2), CifState.initial(1, 4))
