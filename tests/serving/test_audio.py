import io
import itertools
import struct

import numpy as np
import pytest
import soundfile
from cifasr_serving.audio import AudioReader, AudioSpec, Encoding
from cifasr_serving.errors import InvalidRequestError
from cifasr_serving.samples import ALAW, MULAW, SampleReader
from cifasr_serving.wav import parse_wav_header
from hypothesis import given
from hypothesis import strategies as st

from cifasr.audio.samples import resample
from cifasr.errors import AudioError

NOISE = np.random.default_rng(0).uniform(-0.9, 0.9, 3000).astype(np.float32)


def wav_bytes(samples, rate=16_000, subtype="PCM_16", kind="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format=kind)
    return file.getvalue()


def read(spec, data, size=None):
    reader = AudioReader(spec)
    size = size or len(data)
    parts = [reader.read(data[i : i + size]) for i in range(0, len(data), size)]
    return np.concatenate([*parts, reader.finish()]), reader


def test_mulaw_and_alaw_by_hand():
    assert MULAW[[0xFF, 0x7F, 0x00, 0x80]].tolist() == [0, 0, -32124 / 32768, 32124 / 32768]
    assert ALAW[[0xD5, 0x55, 0x2A, 0xAA]].tolist() == [8 / 32768, -8 / 32768, -32256 / 32768, 32256 / 32768]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
@pytest.mark.parametrize("size", [None, 5, 50])
def test_wav_is_read_as_libsndfile_reads_it(subtype, kind, size):
    data = wav_bytes(np.stack([NOISE, -NOISE], axis=1), subtype=subtype, kind=kind)
    want, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)

    got, reader = read(AudioSpec(Encoding.WAV), data, size)

    np.testing.assert_allclose(got, want[:, 0], atol=1e-7)
    assert reader.warnings == []


@given(cuts=st.lists(st.integers(0, 6000), max_size=8))
def test_any_cut_gives_the_same_samples_at_another_rate(cuts):
    data = np.round(NOISE * 32767).astype("<i2").tobytes()
    reader = AudioReader(AudioSpec(Encoding.LINEAR16, 44_100))
    edges = [0, *sorted(cuts), len(data)]

    parts = [reader.read(data[a:b]) for a, b in itertools.pairwise(edges)]
    got = np.concatenate([*parts, reader.finish()])

    whole, _ = read(AudioSpec(Encoding.LINEAR16, 44_100), data)
    np.testing.assert_array_equal(got, whole)
    assert reader.received_s == pytest.approx(3000 / 44_100)


def test_a_stream_is_resampled_as_a_whole_signal_is():
    got, _ = read(AudioSpec(Encoding.FLOAT32, 48_000), NOISE.tobytes(), 1000)

    np.testing.assert_allclose(got, resample(NOISE, 48_000, 16_000), atol=1e-6)


def test_a_wav_header_under_linear16_is_taken_off_with_a_warning():
    data = wav_bytes(NOISE)

    got, reader = read(AudioSpec(Encoding.LINEAR16, 16_000), data, 5)

    np.testing.assert_allclose(got, NOISE, atol=1e-4)
    assert reader.warnings == ["a WAV header was found under LINEAR16 and taken off"]


def test_linear16_that_only_begins_like_riff_is_sound():
    for data in (b"RIFF", b"RIFF\0\0\0\0WAVX", b"RI"):
        got, reader = read(AudioSpec(Encoding.LINEAR16, 16_000), data, 1)

        assert got.tolist() == (np.frombuffer(data, "<i2") / 32768).astype(np.float32).tolist()
        assert reader.warnings == []


def test_an_odd_byte_at_the_end_is_a_warning():
    got, reader = read(AudioSpec(Encoding.LINEAR16, 16_000), b"\0\0\0", 1)

    assert got.tolist() == [0]
    assert reader.warnings == ["the audio ended within a sample: 1 bytes were dropped"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_float_that_is_not_finite_is_refused_before_the_resampler(value):
    reader = AudioReader(AudioSpec(Encoding.FLOAT32, 8_000))

    with pytest.raises(AudioError, match="NaN or infinite"):
        reader.read(np.array([0, value], "<f4").tobytes())


def test_floats_out_of_range_are_clipped_with_a_warning():
    got, reader = read(AudioSpec(Encoding.FLOAT32, 16_000), np.array([1e38, -3, 0.5], "<f4").tobytes())

    assert got.tolist() == [1, -1, 0.5]
    assert reader.warnings == ["2 float samples outside [-1, 1] were clipped"]


def test_chunks_behind_the_samples_of_a_wav_are_not_sound():
    data = wav_bytes(NOISE) + b"LIST\x04\0\0\0abcd"

    got, _ = read(AudioSpec(Encoding.WAV), data, 33)

    assert len(got) == len(NOISE)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_of_unknown_length_is_read_to_its_end(size):
    data = bytearray(wav_bytes(NOISE))
    struct.pack_into("<I", data, 40, size)

    got, reader = read(AudioSpec(Encoding.WAV), bytes(data))

    assert (len(got), reader.warnings) == (len(NOISE), [])


def test_a_wav_that_is_cut_off_is_a_warning():
    _, reader = read(AudioSpec(Encoding.WAV), wav_bytes(NOISE)[:-100])

    assert reader.warnings == ["the audio ended 100 bytes before the WAV header's end"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (AudioSpec(Encoding.WAV, 8_000), "config.sample_rate_hertz"),
        (AudioSpec(Encoding.LINEAR16, 8_000), "config.sample_rate_hertz"),
        (AudioSpec(Encoding.WAV, 0, 2), "config.audio_channel_count"),
    ],
)
def test_a_header_that_disagrees_is_refused(spec, field):
    with pytest.raises(InvalidRequestError) as refusal:
        read(spec, wav_bytes(NOISE))

    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"not a wav file at all", "not a WAV"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "data chunk comes before"),
        (b"RIFF\0\0\0\0WAVEfmt \x02\0\0\0ab", "2 bytes"),
        (b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f", "no samples in the first"),
        (wav_bytes(NOISE)[:20] + b"\x55\0" + wav_bytes(NOISE)[22:], "format 85"),
        (wav_bytes(NOISE)[:22] + b"\0\0" + wav_bytes(NOISE)[24:], "0 channels"),
    ],
)
def test_a_wav_header_that_is_wrong_says_what_is_wrong(data, words):
    with pytest.raises(AudioError, match=words):
        parse_wav_header(data)


def test_audio_that_ends_within_its_header_is_refused():
    with pytest.raises(AudioError, match="within its header"):
        read(AudioSpec(Encoding.WAV), wav_bytes(NOISE)[:30])


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_wav_header_or_an_audio_error(data):
    for guess in (data, b"RIFF\0\0\0\0WAVE" + data, wav_bytes(NOISE)[:36] + data):
        try:
            header = parse_wav_header(guess)
        except AudioError:
            continue
        assert header is None or header.header_bytes <= len(guess)


@given(data=st.binary(max_size=64), size=st.integers(1, 9))
def test_int24_in_pieces_is_int24(data, size):
    reader = SampleReader("int24")

    got = np.concatenate([reader.read(data[i : i + size]) for i in range(0, len(data) + 1, size)])

    want = [int.from_bytes(data[i : i + 3], "little", signed=True) / 2**23 for i in range(0, len(data) - 2, 3)]
    assert got.tolist() == want
