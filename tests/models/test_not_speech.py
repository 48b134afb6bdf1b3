"""The model in the box writes nothing where nobody speaks."""

from pathlib import Path

import cifasr_serving
import numpy as np
import pytest

from cifasr.audio.samples import SAMPLE_RATE_HZ, read_samples
from cifasr.decoding.endpoint import TrailingSilence
from cifasr.decoding.streaming import StreamingOptions, transcribe
from cifasr.metrics.wer import count_errors
from cifasr.models.pretrained import load_model
from cifasr.text.normalize import normalize_for_wer

SAMPLE = Path(cifasr_serving.__file__).with_name("sample") / "letter.flac"
SECONDS = 10
TIME_S = np.arange(SECONDS * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ


def tone(frequency_hz):
    return 0.3 * np.sin(2 * np.pi * frequency_hz * TIME_S)


def white(level):
    return level * np.random.default_rng(0).standard_normal(len(TIME_S))


def pink():
    spectrum = np.fft.rfft(white(1.0))
    samples = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)).clip(1)), len(TIME_S))
    return 0.3 * samples / np.abs(samples).max()


def melody():
    """Half-second notes of a plucked string."""
    rng, since_s = np.random.default_rng(1), TIME_S % 0.5
    pitch_hz = rng.choice([262, 294, 330, 349, 392, 440, 494, 523], 2 * SECONDS).repeat(SAMPLE_RATE_HZ // 2)
    string = sum(np.sin(2 * np.pi * pitch_hz * harmonic * since_s) / harmonic for harmonic in (1, 2, 3, 4))
    return 0.2 * string * np.exp(-4 * since_s)


SOUNDS = {
    "silence": np.zeros(len(TIME_S)),
    "faint noise": white(2e-5),
    "quiet noise": white(1e-2),
    "loud noise": white(0.1),
    "clipped noise": white(5.0),
    "pink noise": pink(),
    "noise in the rhythm of syllables": white(0.1) * (1 + np.sin(2 * np.pi * 4 * TIME_S)) / 2,
    "hum": tone(50),
    "tone": tone(440),
    "beeps": tone(1000) * (TIME_S % 1 < 0.2),
    "sweep": 0.3 * np.sin(2 * np.pi * (100 + 150 * TIME_S) * TIME_S),
    "clicks": 0.8 * (np.random.default_rng(2).random(len(TIME_S)) < 1e-4),
    "chords": sum(tone(pitch) for pitch in (262, 330, 392)) * np.exp(-6 * (TIME_S % 0.5)),
    "melody": melody(),
}


@pytest.fixture(scope="module")
def model():
    return load_model()


def heard(model, samples):
    return transcribe(model, samples.clip(-1.0, 0.9999).astype(np.float32), StreamingOptions(), TrailingSilence())


def text_of(segments):
    return normalize_for_wer(" ".join(segment.text for segment in segments))


@pytest.mark.parametrize("samples", SOUNDS.values(), ids=SOUNDS)
def test_at_most_one_token_in_ten_seconds_where_nobody_speaks(model, samples):
    segments = heard(model, samples)

    assert sum(len(segment.token_ids) for segment in segments) <= SECONDS / 10


@pytest.mark.slow
def test_speech_after_ten_minutes_of_silence_is_heard_as_if_it_stood_alone(model):
    speech = read_samples(SAMPLE)
    silence = np.random.default_rng(3).normal(0.0, 1e-4, 600 * SAMPLE_RATE_HZ)

    alone = heard(model, speech)
    later = heard(model, np.concatenate([silence, speech]))

    # Chunks fall elsewhere on the words: a word may differ.
    assert count_errors(text_of(alone), text_of(later)).wer <= 0.1
