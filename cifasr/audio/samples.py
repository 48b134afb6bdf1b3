"""Audio files and bytes to samples and back, and the change of sample rate, whole or as a stream."""

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from cifasr.errors import AudioError, StateError

SAMPLE_RATE_HZ = 16_000
"""The rate that the recogniser works at."""

Samples = NDArray[np.float32]
"""(S,) float32, nominally in [-1, 1)."""

_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
AUDIO_SUFFIXES = tuple(_FORMATS)
"""Suffixes of files that are read and written, in lower case."""

_BLOCK_SAMPLES = 65_536
_UNKNOWN_LENGTH_SAMPLES = 2**63 - 1  # what libsndfile says of a FLAC stream without a length
_UNKNOWN_LENGTH_BYTES = 0x7FFF_0000  # WAV headers written before the length was known hold about this or more
_MAX_OGG_PAGE_BYTES = 65_307


def read_samples(
    source: Path | str | bytes, *, sample_rate_hz: int = SAMPLE_RATE_HZ, max_seconds: float | None = None
) -> Samples:
    """Decode WAV, FLAC, Ogg Vorbis, Ogg Opus or MP3 to one channel at the rate wanted.

    Several channels become one by their mean, so that speech on either side is heard.

    Args:
        source: A file, or the bytes of one.
        sample_rate_hz: Rate of the result; other rates are resampled.
        max_seconds: Longest audio to accept; decoding stops as soon as it is passed. None for no limit.

    Returns:
        (S,) float32, nominally in [-1, 1); lossy formats may pass that a little.

    Raises:
        AudioError: There is no such file, it is empty, not audio, truncated, damaged or longer than
            ``max_seconds``, or it holds values that are not finite.
    """
    name = f"audio of {len(source)} bytes" if isinstance(source, bytes) else str(source)
    _check_source(source, name)
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            from_hz, promised = file.samplerate, file.frames
            _check_complete(file, source, name)
            samples = np.concatenate([*_decode_blocks(file, name, max_seconds), np.zeros(0, np.float32)])
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name}: not audio that can be decoded, or damaged: {error.error_string}") from error
    except OSError as error:
        raise AudioError(f"{name}: cannot be read: {error}") from error
    if promised != _UNKNOWN_LENGTH_SAMPLES and len(samples) < promised:
        raise AudioError(f"{name}: truncated: {len(samples)} samples of the {promised} that its header promises")
    if not len(samples):
        raise AudioError(f"{name}: holds no samples")
    return resample(samples, from_hz, sample_rate_hz)


def write_samples(path: Path, samples: Samples, sample_rate_hz: int) -> None:
    """Write one channel to a file, whole or not at all; values past [-1, 1) are clipped.

    Args:
        path: Its suffix is the format: .wav and .flac (16 bit), .ogg (Vorbis), .opus or .mp3.
        samples: (S,) float32.
        sample_rate_hz: Rate of ``samples``.

    Raises:
        AudioError: The suffix is not known, the samples are not (S,) or not finite, or the file cannot be
            written.
    """
    if path.suffix.lower() not in _FORMATS:
        raise AudioError(f"{path}: cannot write {path.suffix!r}, wanted one of {', '.join(_FORMATS)}")
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise AudioError(f"{path}: wanted finite samples of shape (S,), got shape {samples.shape}")
    container, subtype = _FORMATS[path.suffix.lower()]
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with soundfile.SoundFile(part, "w", sample_rate_hz, 1, subtype, format=container) as file:
            for start in range(0, len(samples), _BLOCK_SAMPLES):  # one long write overflows libvorbis's stack
                file.write(samples[start : start + _BLOCK_SAMPLES])
        part.replace(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be written at {sample_rate_hz} Hz: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Change the sample rate of a whole signal (soxr, high quality).

    Args:
        samples: (S,) float32.
        from_hz: Rate of ``samples``, > 0.
        to_hz: Rate wanted, > 0.

    Returns:
        (round(S * to_hz / from_hz),) float32; ``samples`` itself where the rates are equal.

    Raises:
        AudioError: A rate is not above 0.
    """
    _check_rates(from_hz, to_hz)
    if from_hz == to_hz:
        return samples
    result: Samples = soxr.resample(samples, from_hz, to_hz, quality="HQ")
    return result


class StreamResampler:
    """Changes the sample rate of a signal that comes in pieces: together they give what `resample` gives.

    Args:
        from_hz: Rate of what comes in, > 0.
        to_hz: Rate of what goes out, > 0.

    Raises:
        AudioError: A rate is not above 0.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        _check_rates(from_hz, to_hz)
        self._stream = None if from_hz == to_hz else soxr.ResampleStream(from_hz, to_hz, 1, "float32", "HQ")
        self._finished = False

    def accept(self, samples: Samples) -> Samples:
        """Take the next samples, (S,) float32, and return those that are ready, which may be none.

        Raises:
            StateError: `finish` was called before.
        """
        return self._advance(samples, last=False)

    def finish(self) -> Samples:
        """End the signal and return the samples that were still held back, (S,) float32.

        Raises:
            StateError: `finish` was called before.
        """
        return self._advance(np.zeros(0, np.float32), last=True)

    def _advance(self, samples: Samples, *, last: bool) -> Samples:
        if self._finished:
            raise StateError("the resampler was finished: start another for another signal")
        self._finished = last
        if self._stream is None:
            return samples
        ready: Samples = self._stream.resample_chunk(samples, last=last)
        return ready


def _check_rates(from_hz: int, to_hz: int) -> None:
    if from_hz <= 0 or to_hz <= 0:
        raise AudioError(f"wanted sample rates above 0 Hz, got {from_hz} Hz to {to_hz} Hz")


def _check_source(source: Path | str | bytes, name: str) -> None:
    if isinstance(source, bytes):
        size = len(source)
    elif not Path(source).exists():
        raise AudioError(f"{name}: no such file")
    elif Path(source).is_dir():
        raise AudioError(f"{name}: a folder, wanted an audio file")
    else:
        size = Path(source).stat().st_size
    if size == 0:
        raise AudioError(f"{name}: the file is empty")


def _decode_blocks(file: soundfile.SoundFile, name: str, max_seconds: float | None) -> Iterator[Samples]:
    num_samples = 0
    while True:
        block = file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True).mean(axis=1)  # (S, channels) -> (S,)
        if not len(block):
            return
        num_samples += len(block)
        if max_seconds is not None and num_samples > max_seconds * file.samplerate:
            raise AudioError(f"{name}: longer than the {max_seconds:g} s that are allowed")
        if not np.isfinite(block).all():
            raise AudioError(f"{name}: holds values that are not finite, before {num_samples / file.samplerate:.3f} s")
        yield block


def _check_complete(file: soundfile.SoundFile, source: Path | str | bytes, name: str) -> None:
    """Refuse the truncation that libsndfile repairs in silence: of a WAV's data, and of an Ogg's pages."""
    shorter = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if shorter and int(shorter[2]) < int(shorter[1]) < _UNKNOWN_LENGTH_BYTES:
        raise AudioError(f"{name}: truncated: {shorter[2]} bytes of the {shorter[1]} that its header promises")
    if file.format == "OGG" and not _ends_with_last_page(_tail(source, _MAX_OGG_PAGE_BYTES)):
        raise AudioError(f"{name}: truncated: the last page of the Ogg stream is absent or cut")


def _tail(source: Path | str | bytes, num_bytes: int) -> bytes:
    if isinstance(source, bytes):
        return source[-num_bytes:]
    with Path(source).open("rb") as file:
        file.seek(max(0, Path(source).stat().st_size - num_bytes))
        return file.read()


def _ends_with_last_page(tail: bytes) -> bool:
    """Say whether the last Ogg page is marked as the end of the stream and is all there (RFC 3533, section 6)."""
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or not page[5] & 0x04:
        return False
    num_segments = page[26]
    return len(page) >= 27 + num_segments + sum(page[27 : 27 + num_segments])
