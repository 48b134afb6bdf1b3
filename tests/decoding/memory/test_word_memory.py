import numpy as np
import pytest
import torch

from cifasr.audio.samples import SAMPLE_RATE_HZ
from cifasr.decoding.memory.cifmem import load_memory, save_memory
from cifasr.decoding.memory.marked_text import marked_phrases
from cifasr.decoding.memory.word_memory import MAX_LESSONS, Backend, Strength, WordMemory
from cifasr.decoding.streaming import StreamingOptions, StreamingRecognizer, transcribe
from cifasr.errors import AudioError, CheckpointError, ConfigError

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * SAMPLE_RATE_HZ).astype(np.float32)
OTHER = np.random.default_rng(1).uniform(-0.5, 0.5, 4 * SAMPLE_RATE_HZ).astype(np.float32)
SURE = Strength(least_score=0.99, boost=200.0)


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model()


@pytest.fixture
def memory(model):
    return WordMemory(model, "0123", strength=SURE)


def text_of(model, samples, memory):
    return " ".join(segment.text for segment in transcribe(model, samples, biasing=memory.biasing()))


@pytest.mark.parametrize("backend", list(Backend))
def test_a_taught_word_is_written_where_it_is_heard_again(model, backend):
    strength = SURE if backend is not Backend.hebbian else Strength(least_score=0.5, boost=200.0)
    memory = WordMemory(model, "0123", backend, strength)
    before = text_of(model, NOISE, memory)

    (phrase,) = memory.teach(NOISE, "face bed")

    assert "face bed" not in before
    assert "face bed" in text_of(model, NOISE, memory)
    assert (phrase.text, phrase.num_lessons) == ("face bed", 1)


def test_what_was_forgotten_is_as_if_never_taught(model, memory):
    before = text_of(model, NOISE, memory)
    memory.teach(NOISE, "face bed")
    memory.teach(OTHER, "cab")

    memory.forget("face bed")
    memory.forget("cab")

    assert text_of(model, NOISE, memory) == before
    assert (memory.phrases, memory.num_bytes) == ((), 0)


def test_only_what_is_marked_is_learnt(memory):
    phrases = memory.teach(NOISE, "the [bed] he [face cab]")

    assert [phrase.text for phrase in phrases] == ["bed", "face cab"]
    assert memory.phrases == phrases


def test_a_ninth_lesson_takes_the_place_of_the_first(memory):
    for _ in range(MAX_LESSONS):
        memory.teach(NOISE, "cab")
    full = memory.num_bytes

    (phrase,) = memory.teach(OTHER, "cab")

    assert (phrase.num_lessons, memory.num_bytes) == (MAX_LESSONS, full)


def test_a_phrase_that_was_not_said_is_no_longer_written_there(model, memory):
    memory.teach(NOISE, "face bed")
    written = text_of(model, NOISE, memory)

    (phrase,) = memory.correct(NOISE, "the")

    assert "face bed" in written
    assert "face bed" not in text_of(model, NOISE, memory)
    assert phrase.caution > 0


def test_a_correction_without_a_wrong_phrase_changes_nothing(memory):
    memory.teach(NOISE, "face bed")

    assert memory.correct(NOISE, "face bed") == ()


def test_a_stream_taken_out_and_put_back_writes_what_it_would_have(model, memory):
    memory.teach(NOISE, "face bed cab")
    whole = text_of(model, NOISE, memory)
    first = StreamingRecognizer(model, biasing=memory.biasing())
    first.accept_waveform(NOISE[:30_000])
    second = StreamingRecognizer(model, biasing=memory.biasing())

    second.restore(first.state())
    second.accept_waveform(NOISE[30_000:])
    (segment,) = second.input_finished().finals

    assert segment.text == whole


def test_a_word_taught_later_changes_nothing_in_a_stream_that_runs(model, memory):
    before = text_of(model, NOISE, memory)
    recognizer = StreamingRecognizer(model, biasing=memory.biasing())

    memory.teach(NOISE, "face bed")
    recognizer.accept_waveform(NOISE)
    (segment,) = recognizer.input_finished().finals

    assert segment.text == before


def test_a_beam_writes_a_taught_word_too(model, memory):
    memory.teach(NOISE, "face bed")

    segments = transcribe(model, NOISE, StreamingOptions(beam_size=3), biasing=memory.biasing())

    assert "face bed" in segments[0].text


@pytest.mark.parametrize("backend", list(Backend))
def test_a_file_gives_back_what_was_saved(model, tmp_path, backend):
    memory = WordMemory(model, "0123", backend)
    memory.teach(NOISE, "face bed")
    memory.teach(OTHER, "[cab] he")

    save_memory(memory, tmp_path / "me.cifmem")
    loaded = load_memory(tmp_path / "me.cifmem", model, "0123")

    assert loaded.phrases == memory.phrases
    hidden = torch.randn(1, model.config.decoder.d_model)
    torch.testing.assert_close(
        loaded.biasing().bonus(loaded.biasing().begin(), hidden),
        memory.biasing().bonus(memory.biasing().begin(), hidden),
    )
    assert [path.name for path in tmp_path.iterdir()] == ["me.cifmem"]


def test_a_memory_of_another_model_is_refused(model, memory, tmp_path):
    save_memory(memory, tmp_path / "me.cifmem")

    with pytest.raises(CheckpointError, match="taught to model 0123, this one is 4567"):
        load_memory(tmp_path / "me.cifmem", model, "4567")


def test_a_file_that_is_no_memory_is_refused(model, tmp_path):
    (tmp_path / "me.cifmem").write_bytes(b"not a memory")

    with pytest.raises(CheckpointError, match="not a word memory"):
        load_memory(tmp_path / "me.cifmem", model, "0123")


def test_a_recording_that_is_too_short_for_its_text_is_refused(memory):
    with pytest.raises(AudioError, match="heard no more than"):
        memory.teach(np.zeros(1600, np.float32), "[cab]" + " face bed" * 20)


def test_a_recording_that_is_too_long_is_refused(memory):
    with pytest.raises(AudioError, match="at most 30 s"):
        memory.teach(np.zeros(31 * SAMPLE_RATE_HZ, np.float32), "cab")


@pytest.mark.parametrize("text", ["", "a [ bed", "a [] bed", "a[bed]", "xyz"])
def test_a_text_that_cannot_be_learnt_is_refused(memory, text):
    with pytest.raises(ConfigError, match="text: wanted"):
        memory.teach(NOISE, text)


def test_forgetting_what_was_not_taught_is_refused(memory):
    with pytest.raises(ConfigError, match="wanted one that was taught, got 'bed'"):
        memory.forget("bed")


def test_the_place_of_a_marked_phrase_counts_the_tokens_before_it(tiny_tokenizer):
    token_ids, (phrase,) = marked_phrases(tiny_tokenizer, "the  [face] bed")

    assert tiny_tokenizer.decode(token_ids) == "the face bed"
    assert token_ids[phrase.first : phrase.first + len(phrase.token_ids)] == list(phrase.token_ids)
    assert phrase.text == "face"
