import statistics
import time
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from cifasr.decoding.endpoint import Silence, TrailingSilence
from cifasr.decoding.endpoint_config import EndpointConfig
from cifasr.decoding.result import Result
from cifasr.decoding.streaming import StreamingOptions, StreamingRecognizer, transcribe
from cifasr.errors import AudioError, ConfigError, StateError

NUM_SAMPLES = 40_123
MODELS = [("conformer", 4000, 7), ("conformer", 0, 7), ("whisper", 4000, 3), ("whisper", 0, 0)]  # seeds that write
EVERY_MODEL = pytest.mark.parametrize(("kind", "window_ms", "seed"), MODELS)
OPTIONS = StreamingOptions(
    chunk_ms=320, left_context_ms=640, lookahead_ms=0, max_history_tokens=24, nothing_threshold=0.2
)
AHEAD = OPTIONS.model_copy(update={"lookahead_ms": 160})
BEAM = OPTIONS.model_copy(update={"beam_size": 3, "lookahead_ms": 160})
OFFLINE = OPTIONS.model_copy(update={"chunk_ms": None, "decode_chunk_ms": 320})
SHORT_SEGMENTS = TrailingSilence(EndpointConfig(max_utterance_s=0.9))


@cache
def noise(num_samples, seed=0):
    """Noise whose loudness changes four times a second."""
    rng = np.random.default_rng(seed)
    loudness = rng.choice([0.0, 0.01, 0.1, 0.3], num_samples // 4000 + 1).repeat(4000)[:num_samples]
    samples = (rng.standard_normal(num_samples) * loudness).astype(np.float32)
    samples.flags.writeable = False
    return samples


def finals_of(recognizer, samples, cuts=()):
    """Every final segment of a stream that is cut at some places."""
    finals = []
    for start, end in pairwise([0, *cuts, len(samples)]):
        finals += recognizer.accept_waveform(samples[start:end]).finals
    return [*finals, *recognizer.input_finished().finals]


@cache
def recognised_whole(tiny_model, kind, window_ms, seed, options, endpointer):
    model = tiny_model(kind, window_ms=window_ms, seed=seed)
    return model, transcribe(model, noise(NUM_SAMPLES), options, endpointer)


def num_bytes(state):
    return sum(value.numel() * value.element_size() for value in state.values())


@EVERY_MODEL
def test_the_small_recognisers_write_in_every_segment(tiny_model, kind, window_ms, seed):
    model = tiny_model(kind, window_ms=window_ms, seed=seed)

    whole = transcribe(model, noise(NUM_SAMPLES), OPTIONS)
    cut = transcribe(model, noise(NUM_SAMPLES), OPTIONS, SHORT_SEGMENTS)

    assert (len(whole), len(cut)) == (1, 3)
    assert len(set(whole[0].token_ids)) >= 3
    assert all(segment.text for segment in cut)


@pytest.mark.parametrize(("kind", "window_ms", "seed"), [("whisper", 4000, 4), ("whisper", 0, 0)])
def test_some_firings_write_nothing(tiny_model, kind, window_ms, seed):
    (segment,) = transcribe(tiny_model(kind, window_ms=window_ms, seed=seed), noise(NUM_SAMPLES), OPTIONS)

    assert 0 < len(segment.token_ids) < segment.num_decoder_calls


@EVERY_MODEL
@pytest.mark.parametrize(
    ("options", "endpointer"),
    [(OPTIONS, None), (OPTIONS, SHORT_SEGMENTS), (AHEAD, None), (OFFLINE, None), (BEAM, SHORT_SEGMENTS)],
    ids=["one segment", "endpointer", "ahead", "offline", "beam"],
)
@settings(max_examples=5)
@given(data=st.data())
def test_any_cut_gives_the_same_segments_bit_for_bit(tiny_model, kind, window_ms, seed, options, endpointer, data):
    model, whole = recognised_whole(tiny_model, kind, window_ms, seed, options, endpointer)
    cuts = data.draw(st.lists(st.integers(0, NUM_SAMPLES), max_size=8))  # equal cuts make empty pieces
    cuts = sorted(cuts + [cut + 1 for cut in cuts[:3] if cut < NUM_SAMPLES])  # and these make pieces of one sample

    finals = finals_of(StreamingRecognizer(model, options, endpointer), noise(NUM_SAMPLES), cuts)

    assert finals == whole


def test_sample_by_sample_gives_the_same_segments(tiny_model):
    samples, model = noise(NUM_SAMPLES)[4000:10_500], tiny_model()

    finals = finals_of(StreamingRecognizer(model, OPTIONS), samples, range(1, len(samples)))

    assert finals == transcribe(model, samples, OPTIONS)


def test_a_long_recording_in_one_call_is_what_its_pieces_are(tiny_model):
    samples, model = noise(16_000 * 32), tiny_model(window_ms=0, seed=5)
    endpointer = TrailingSilence(EndpointConfig(max_utterance_s=7.0))

    finals = transcribe(model, samples, StreamingOptions(), endpointer)

    assert len(finals) == 5
    assert finals == finals_of(
        StreamingRecognizer(model, None, endpointer), samples, range(99_999, len(samples), 99_999)
    )


@pytest.mark.parametrize("kind", ["whisper", "conformer"])
def test_with_all_of_the_rest_ahead_a_chunk_hears_what_the_whole_does(tiny_model, kind):
    model = tiny_model(kind)
    feats = torch.randn(1, model.encoder.left_feats + 80 + model.encoder.right_feats, 80)
    ahead_frames = 40 // model.encoder.subsampling

    with torch.no_grad():
        whole, _ = model.encoder.step(feats, model.encoder.init_state(), None)
        seen, state = model.encoder.step(feats, model.encoder.init_state(), None, ahead_frames)
        rest, _ = model.encoder.step(feats[:, 40:], state, None)

    torch.testing.assert_close(seen, whole, rtol=0, atol=0)
    assert int(state["num_frames"]) == whole.shape[1] - ahead_frames
    # The rest is heard again from where the chunk ended, by a past that knew it was coming.
    torch.testing.assert_close(rest, whole[:, -ahead_frames:], rtol=1e-4, atol=1e-4)


def test_a_lookahead_is_a_whole_number_of_frames(tiny_model):
    with pytest.raises(ConfigError, match=r"lookahead_ms: wanted a multiple of 80 .*, got 100"):
        StreamingRecognizer(tiny_model("conformer"), StreamingOptions(lookahead_ms=100))


def test_words_wait_for_the_lookahead_and_no_longer(tiny_model):
    recognizer = StreamingRecognizer(tiny_model("whisper", seed=3), AHEAD)
    heard = noise(16_000)

    before = recognizer.accept_waveform(heard[: 5120 + 2560]).partial  # features want a little more than the lookahead
    after = recognizer.accept_waveform(heard[5120 + 2560 : 5120 + 2560 + 400]).partial

    assert (before.end_s, after.end_s) == (0.0, pytest.approx(0.32))


@EVERY_MODEL
@pytest.mark.parametrize("options", [OPTIONS, AHEAD, BEAM], ids=["", "ahead", "beam"])
@pytest.mark.parametrize("place", [0, 1, 5120, 12_345, 30_000, NUM_SAMPLES])
def test_a_state_from_disk_goes_on_as_if_nothing_had_been(tiny_model, tmp_path, kind, window_ms, seed, options, place):
    samples, model = noise(NUM_SAMPLES), tiny_model(kind, window_ms=window_ms, seed=seed)
    first = StreamingRecognizer(model, options, SHORT_SEGMENTS)
    before = first.accept_waveform(samples[:place]).finals
    save_file(first.state(), tmp_path / "state")

    second = StreamingRecognizer(model, options, SHORT_SEGMENTS)
    second.restore(load_file(tmp_path / "state"))

    after = finals_of(second, samples[place:])
    assert after == finals_of(first, samples[place:])
    assert [*before, *after] == transcribe(model, samples, options, SHORT_SEGMENTS)


def test_a_restored_state_shows_the_same_partial_and_the_same_state(tiny_model):
    model = tiny_model("whisper")
    first, second = StreamingRecognizer(model, OPTIONS), StreamingRecognizer(model, OPTIONS)
    partial = first.accept_waveform(noise(20_000)).partial

    second.restore(first.state())

    states = [{name: value.tolist() for name, value in recogniser.state().items()} for recogniser in (first, second)]
    assert states[0] == states[1]
    assert second.accept_waveform(noise(0)).partial == partial


def test_a_state_that_was_taken_out_does_not_move_with_the_stream(tiny_model):
    recognizer = StreamingRecognizer(tiny_model(), OPTIONS)
    recognizer.accept_waveform(noise(20_000))
    state = recognizer.state()
    before = {name: value.tolist() for name, value in state.items()}

    recognizer.accept_waveform(noise(20_000))

    assert {name: value.tolist() for name, value in state.items()} == before


def test_the_end_of_the_input_is_part_of_the_state(tiny_model):
    first, second = (StreamingRecognizer(tiny_model(), OPTIONS) for _ in range(2))
    first.input_finished()

    second.restore(first.state())

    with pytest.raises(StateError, match="finished"):
        second.accept_waveform(noise(100))


@EVERY_MODEL
def test_text_only_grows_and_begins_the_final_text(tiny_model, kind, window_ms, seed):
    recognizer = StreamingRecognizer(tiny_model(kind, window_ms=window_ms, seed=seed), OPTIONS, SHORT_SEGMENTS)
    samples = noise(NUM_SAMPLES)

    shown = []
    for first in range(0, NUM_SAMPLES, 1000):
        result = recognizer.accept_waveform(samples[first : first + 1000])
        shown += [*result.finals, result.partial]
    shown += recognizer.input_finished().finals

    assert len({segment.text for segment in shown}) >= 4
    for earlier, later in pairwise(shown):
        if earlier.index == later.index:
            assert later.text.startswith(earlier.text)
            assert later.words[: max(0, len(earlier.words) - 1)] == earlier.words[:-1]  # the last may be unfinished
        else:
            assert earlier.is_final
            assert later.index == earlier.index + 1


def test_two_streams_of_one_model_do_not_hear_each_other(tiny_model):
    model = tiny_model("whisper")
    samples = [noise(NUM_SAMPLES, seed) for seed in (0, 1)]
    recognizers = [StreamingRecognizer(model, OPTIONS) for _ in samples]

    for first in range(0, NUM_SAMPLES, 3000):
        for recognizer, audio in zip(recognizers, samples, strict=True):
            recognizer.accept_waveform(audio[first : first + 3000])
    finals = [list(recognizer.input_finished().finals) for recognizer in recognizers]

    assert finals == [transcribe(model, audio, OPTIONS) for audio in samples]
    assert finals[0] != finals[1]


@EVERY_MODEL
def test_after_a_segment_was_finished_the_next_begins_as_a_new_stream_would(tiny_model, kind, window_ms, seed):
    samples, model = noise(NUM_SAMPLES), tiny_model(kind, window_ms=window_ms, seed=seed)
    recognizer = StreamingRecognizer(model, OPTIONS)
    recognizer.accept_waveform(samples[:16_000])

    (first,) = recognizer.finish_segment().finals
    (second,) = finals_of(recognizer, samples[16_000:])

    (first_alone,), (second_alone,) = (
        transcribe(model, part, OPTIONS) for part in (samples[:16_000], samples[16_000:])
    )
    assert first == first_alone
    assert (second.index, second.start_s) == (1, 1.0)
    assert second.token_ids == second_alone.token_ids
    assert second.fire_frames == second_alone.fire_frames
    assert [word.start_s - 1.0 for word in second.words] == pytest.approx([w.start_s for w in second_alone.words])
    assert [word.end_s - 1.0 for word in second.words] == pytest.approx([w.end_s for w in second_alone.words])


def test_a_segment_finished_twice_ends_once(tiny_model):
    recognizer = StreamingRecognizer(tiny_model(), OPTIONS)
    recognizer.accept_waveform(noise(16_000))
    recognizer.finish_segment()

    again = recognizer.finish_segment()

    assert again.finals == ()
    assert again.partial.text == ""
    assert again.partial.start_s == 1.0


@pytest.mark.parametrize("call", ["accept_waveform", "finish_segment", "input_finished"])
def test_after_the_end_of_the_input_nothing_is_heard(tiny_model, call):
    recognizer = StreamingRecognizer(tiny_model())
    recognizer.input_finished()

    with pytest.raises(StateError, match="the input of this stream was finished"):
        getattr(recognizer, call)(*([noise(160)] if call == "accept_waveform" else []))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.array([0.0, np.nan], np.float32), "finite"),
        (np.array([0.0, np.inf], np.float32), "finite"),
        (np.zeros((2, 160), np.float32), r"shape \(2, 160\)"),
        (np.float32(0.0), r"shape \(\)"),
        (np.zeros(160, np.int16), "wanted floats .*, got int16"),
        (np.array([0.0, -1e30], np.float32), r"wanted floats in \[-1, 1\), got 1e\+30 among them"),
        (np.array([16_384.0, 0.0], np.float32), "got 16384 among them"),
    ],
)
def test_samples_of_another_kind_are_refused_and_the_stream_goes_on(tiny_model, samples, message):
    model = tiny_model()
    recognizer = StreamingRecognizer(model, OPTIONS)
    recognizer.accept_waveform(noise(NUM_SAMPLES)[:9000])

    with pytest.raises(AudioError, match=message):
        recognizer.accept_waveform(samples)

    assert finals_of(recognizer, noise(NUM_SAMPLES)[9000:]) == transcribe(model, noise(NUM_SAMPLES), OPTIONS)


def test_float64_samples_are_heard_as_float32(tiny_model):
    samples = noise(NUM_SAMPLES)

    finals = transcribe(tiny_model(), samples.astype(np.float64), OPTIONS)

    assert finals == transcribe(tiny_model(), samples, OPTIONS)


@EVERY_MODEL
@pytest.mark.parametrize("options", [OPTIONS, OFFLINE], ids=["stream", "offline"])
@pytest.mark.parametrize("num_samples", [0, 1, 159])
def test_less_than_a_frame_says_nothing(tiny_model, kind, window_ms, seed, options, num_samples):
    recognizer = StreamingRecognizer(tiny_model(kind, window_ms=window_ms, seed=seed), options)

    heard, ended = recognizer.accept_waveform(noise(num_samples)), recognizer.input_finished()

    assert (heard.finals, heard.partial.text, heard.partial.words) == ((), "", ())
    assert ended == Result(finals=(), partial=None)


@EVERY_MODEL
@pytest.mark.parametrize("options", [OPTIONS, OFFLINE], ids=["stream", "offline"])
@pytest.mark.parametrize("num_samples", [160, 400])
def test_a_frame_or_two_are_one_short_segment(tiny_model, kind, window_ms, seed, options, num_samples):
    model = tiny_model(kind, window_ms=window_ms, seed=seed)
    model.estimator.head.bias.data.fill_(4.0)  # one frame is enough for the tail to fire

    (segment,) = transcribe(model, 0.3 * noise(8000)[-num_samples:], options)

    assert segment.end_s == {"conformer": 0.08, "whisper": 0.02}[kind]
    assert set(segment.fire_frames) == {0}


def test_every_second_frame_of_half_a_token_ends_a_word_where_it_fires(tiny_model, tiny_tokenizer):
    model = tiny_model("conformer", window_ms=0)
    model.estimator.head.weight.data.zero_()
    model.estimator.head.bias.data.zero_()  # each frame of 80 ms weighs half a token
    (the,) = tiny_tokenizer.encode("the")
    model.decoder.norm.weight.data.zero_()
    model.decoder.norm.bias.data.copy_(10 * model.decoder.embedding.weight[the])  # whatever is asked

    (segment,) = transcribe(model, noise(7 * 1280), OPTIONS)

    assert segment.text == "the the the the"
    assert segment.fire_frames == (1, 3, 5, 6)  # the last is the tail
    times = [time for word in segment.words for time in (word.start_s, word.end_s)]
    assert times == pytest.approx([0.0, 0.16, 0.16, 0.32, 0.32, 0.48, 0.48, 0.56])


@EVERY_MODEL
@pytest.mark.parametrize("endpointer", [None, SHORT_SEGMENTS], ids=["one segment", "endpointer"])
def test_word_times_never_go_back_and_stay_inside_their_segment(tiny_model, kind, window_ms, seed, endpointer):
    finals = transcribe(tiny_model(kind, window_ms=window_ms, seed=seed), noise(NUM_SAMPLES), OPTIONS, endpointer)

    times = [time for segment in finals for word in segment.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    for segment in finals:
        assert list(segment.fire_frames) == sorted(segment.fire_frames)
        for word in segment.words:
            assert segment.start_s <= word.start_s <= word.end_s <= segment.end_s + 1e-9
            assert 0 <= word.confidence <= 1
        assert " ".join(word.text for word in segment.words).split() == segment.text.split()


@pytest.mark.parametrize("max_history_tokens", [16, 128])
def test_a_segment_with_more_tokens_than_the_decoder_looks_back_on_goes_on(tiny_model, max_history_tokens):
    model = tiny_model("whisper", window_ms=640)  # its decoder knows 64 places
    options = StreamingOptions(chunk_ms=320, max_history_tokens=max_history_tokens, nothing_threshold=1.0)
    recognizer = StreamingRecognizer(model, options)

    num_tokens, history = [], []
    for first in range(0, 16_000 * 24, 16_000):
        partial = recognizer.accept_waveform(noise(16_000 * 24)[first : first + 16_000]).partial
        num_tokens.append(len(partial.token_ids))
        history.append(recognizer.state()["writer.decoder.0.keys"].shape[2])

    assert num_tokens[-1] > 80
    assert all(later > earlier for earlier, later in pairwise(num_tokens[1:]))
    assert max(history) <= min(64, max_history_tokens)


def test_silence_is_measured_for_longer_than_ten_seconds(tiny_model):
    model = tiny_model()
    model.estimator.head.weight.data.zero_()
    model.estimator.head.bias.data.fill_(-20.0)
    seen = []

    class Watcher(Silence):
        def ends(self, observation, state):
            silence_s, state = self.score(observation, state)
            seen.append((observation.has_text, float(silence_s[-1]), observation.segment_s))
            return False, state

    StreamingRecognizer(model, None, Watcher()).accept_waveform(noise(16_000 * 16 + 320 * 16 + 400))

    assert seen[0] == (False, pytest.approx(0.64 + 0.32), pytest.approx(0.64))
    assert seen[-1] == (False, pytest.approx(16.0 + 0.32), pytest.approx(16.0))


def test_an_endpointer_is_shown_every_frame_once_and_what_lies_ahead_besides(tiny_model):
    model, seen = tiny_model(), []

    class Watcher(Silence):
        def ends(self, observation, state):
            seen.append(observation)
            return False, state

    recognizer = StreamingRecognizer(model, StreamingOptions(chunk_ms=640, lookahead_ms=320), Watcher())
    partial = recognizer.accept_waveform(noise(4 * 10_240 + 320 * 16 + 400)).partial

    assert [(o.num_heard, o.num_ahead) for o in seen] == [(8, 4)] * 4
    assert sum(int(o.firings[: o.num_heard].sum()) for o in seen) == partial.num_firings
    assert all(len(o.alpha) == len(o.loudness) == len(o.firings) == 12 for o in seen)
    assert torch.allclose(seen[0].loudness[8:], seen[1].loudness[:4], atol=1e-5)


def test_a_silent_segment_restarts_without_a_final(tiny_model):
    model = tiny_model(window_ms=0)
    model.estimator.head.weight.data.zero_()
    model.estimator.head.bias.data.fill_(-20.0)

    result = StreamingRecognizer(model, None, TrailingSilence()).accept_waveform(noise(16_000 * 6))

    assert result.finals == ()
    assert (result.partial.index, result.partial.text) == (0, "")
    assert result.partial.start_s == pytest.approx(5.12)  # the end of the chunk in which five seconds were over


@pytest.mark.parametrize("chunk_ms", [100, 0])
def test_a_chunk_that_does_not_fit_the_encoder_is_refused(tiny_model, chunk_ms):
    with pytest.raises(ConfigError, match="chunk_ms: wanted a multiple of 80"):
        StreamingRecognizer(tiny_model("conformer"), StreamingOptions(chunk_ms=chunk_ms))


@pytest.mark.slow
def test_an_hour_takes_no_more_memory_and_no_more_time_a_chunk_than_its_first_minutes(tiny_model):
    small = {"num_layers": 1, "d_model": 8, "num_heads": 1}
    model = tiny_model(
        "conformer",
        seed=2,
        encoder={"d_ff": 8, "kernel_size": 3, **small},
        estimator={"kernel_size": 3, **small},
        decoder={"d_ff": 8, **small},
    )
    model.estimator.head.bias.data.fill_(-3.5)
    endpointer = TrailingSilence(EndpointConfig(max_utterance_s=20.0))
    recognizer = StreamingRecognizer(model, StreamingOptions(chunk_ms=5120, nothing_threshold=0.1), endpointer)
    minute = np.split(noise(12 * 81_920), 12)

    num_segments, sizes, seconds = 0, [], []
    for _ in range(60):
        for chunk in minute:
            began = time.perf_counter()
            num_segments += len(recognizer.accept_waveform(chunk).finals)
            seconds.append(time.perf_counter() - began)
            sizes.append(num_bytes(recognizer.state()))

    assert num_segments > 100
    assert max(sizes[60:]) <= 1.1 * max(sizes[:60])
    assert statistics.median(seconds[-200:]) < 3 * statistics.median(seconds[:200])
