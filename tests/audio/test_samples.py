import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from cifasr.audio.samples import StreamResampler, read_samples, resample, write_samples
from cifasr.errors import AudioError, StateError


def tone(seconds=1.0, sample_rate_hz=16_000, hz=440.0):
    time = np.arange(int(seconds * sample_rate_hz)) / sample_rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def encoded(samples, sample_rate_hz=16_000, container="WAV", subtype="PCM_16"):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate_hz, format=container, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_what_was_written_without_loss_is_read_back(tmp_path, suffix):
    samples = np.array([0.0, 0.5, -1.0, 0.25], dtype=np.float32)
    write_samples(tmp_path / f"a{suffix}", samples, 16_000)

    read = read_samples(tmp_path / f"a{suffix}")

    assert read.dtype == np.float32
    assert read.tolist() == samples.tolist()


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mp3"])
def test_a_lossy_file_sounds_like_what_was_written(tmp_path, suffix):
    samples = tone(seconds=9.0)  # longer than one block of the decoder
    write_samples(tmp_path / f"a{suffix}", samples, 16_000)

    read = read_samples(str(tmp_path / f"a{suffix}"))

    assert len(read) == len(samples)
    assert np.corrcoef(read, samples)[0, 1] > 0.95


def test_channels_become_their_mean():
    stereo = np.array([[0.5, 0.0], [0.5, -0.5], [-0.25, 0.75]], dtype=np.float32)

    assert read_samples(encoded(stereo)).tolist() == [0.25, 0.0, 0.25]


def test_another_rate_is_resampled():
    read = read_samples(encoded(tone(1.0, 48_000), 48_000))

    assert len(read) == 16_000
    np.testing.assert_allclose(read[1000:-1000], tone()[1000:-1000], atol=2e-4)


def test_a_file_at_the_rate_wanted_is_not_resampled():
    assert len(read_samples(encoded(tone(1.0, 8_000), 8_000), sample_rate_hz=8_000)) == 8_000


def test_audio_past_the_limit_is_refused():
    audio = encoded(tone(seconds=2.0))

    assert len(read_samples(audio, max_seconds=2.0)) == 32_000
    with pytest.raises(AudioError, match=r"longer than the 1\.5 s"):
        read_samples(audio, max_seconds=1.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"this is text, not audio " * 20, "not audio"),
        (encoded(tone(0.1))[:50], "truncated"),
        (encoded(np.zeros(0, np.float32)), "holds no samples"),
        (encoded(np.array([0.0, np.nan, 0.0], np.float32), subtype="FLOAT"), "not finite"),
        (encoded(np.array([0.0, np.inf, 0.0], np.float32), subtype="FLOAT"), "not finite"),
    ],
)
def test_bad_audio_is_named_with_its_fault(tmp_path, content, message):
    path = tmp_path / "bad.wav"
    path.write_bytes(content)

    with pytest.raises(AudioError, match=rf"bad\.wav.*{message}"):
        read_samples(path)
    with pytest.raises(AudioError, match=rf"audio of {len(content)} bytes.*{message}"):
        read_samples(content)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")],
)
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.995])
def test_a_truncated_file_is_refused(container, subtype, kept):
    noise = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    whole = encoded(noise, container=container, subtype=subtype)

    assert len(read_samples(whole)) == 160_000
    with pytest.raises(AudioError, match=r"truncated|damaged"):
        read_samples(whole[: int(kept * len(whole))])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_without_its_last_page_is_refused(subtype):
    whole = encoded(tone(seconds=5.0), container="OGG", subtype=subtype)

    with pytest.raises(AudioError, match="last page"):
        read_samples(whole[: whole.rfind(b"OggS")])


def test_a_wav_header_written_before_the_length_was_known_is_read():
    audio = bytearray(encoded(tone(0.1)))
    audio[40:44] = b"\xff\xff\xff\xff"

    assert len(read_samples(bytes(audio))) == 1600


def test_an_absent_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(AudioError, match=r"absent\.wav: no such file"):
        read_samples(tmp_path / "absent.wav")
    with pytest.raises(AudioError, match="a folder"):
        read_samples(tmp_path)


@pytest.mark.parametrize(
    ("name", "samples", "message"),
    [
        ("a.aiff", np.zeros(4, np.float32), r"'\.aiff'"),
        ("a.wav", np.zeros((4, 2), np.float32), r"shape \(S,\)"),
        ("a.wav", np.array([np.nan], np.float32), "finite"),
        ("absent/a.wav", np.zeros(4, np.float32), "cannot be written"),
    ],
)
def test_what_cannot_be_written_leaves_no_file(tmp_path, name, samples, message):
    with pytest.raises(AudioError, match=message):
        write_samples(tmp_path / name, samples, 16_000)

    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    write_samples(path, tone(0.1), 16_000)

    def fail(self, samples):
        raise OSError("no space left")

    monkeypatch.setattr(soundfile.SoundFile, "write", fail)
    with pytest.raises(AudioError, match="no space left"):
        write_samples(path, tone(0.2), 16_000)

    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]
    assert len(read_samples(path)) == 1600


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([(8_000, 16_000), (44_100, 16_000), (48_000, 16_000), (16_000, 16_000)]),
    st.lists(st.integers(0, 5_000), max_size=8),
)
def test_resampling_in_pieces_equals_resampling_the_whole(rates, sizes):
    whole = np.random.default_rng(1).normal(0, 0.1, sum(sizes)).astype(np.float32)
    resampler = StreamResampler(*rates)

    pieces = [resampler.accept(piece) for piece in np.split(whole, np.cumsum(sizes)[:-1])] if sizes else []
    pieces.append(resampler.finish())

    np.testing.assert_array_equal(np.concatenate(pieces), resample(whole, *rates))


def test_a_finished_resampler_takes_nothing_more():
    resampler = StreamResampler(8_000, 16_000)
    resampler.finish()

    with pytest.raises(StateError, match="finished"):
        resampler.accept(tone(0.1))


def test_a_rate_of_zero_is_refused():
    with pytest.raises(AudioError, match="0 Hz to 16000 Hz"):
        resample(tone(0.1), 0, 16_000)
