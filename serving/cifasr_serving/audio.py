"""A caller's audio, in any encoding and at any rate, to what the model hears: 16 kHz, float32, one channel."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples, StreamResampler
from cifasr.errors import AudioError
from cifasr_serving.errors import InvalidRequestError
from cifasr_serving.samples import SampleReader
from cifasr_serving.wav import looks_like_wav, parse_wav_header

MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 48_000
MAX_CHANNELS = 8
_SNIFF_BYTES = 12  # "RIFF", a size, "WAVE"


class Encoding(StrEnum):
    """How bytes encode sound; the value is the name on the wire without its prefix."""

    UNSPECIFIED = "UNSPECIFIED"
    LINEAR16 = "LINEAR16"
    FLOAT32 = "FLOAT32"
    MULAW = "MULAW"
    ALAW = "ALAW"
    WAV = "WAV"
    FLAC = "FLAC"
    OGG_OPUS = "OGG_OPUS"


RAW_FORMATS = {
    Encoding.LINEAR16: "int16",
    Encoding.FLOAT32: "float32",
    Encoding.MULAW: "mulaw",
    Encoding.ALAW: "alaw",
}


@dataclass(frozen=True, slots=True)
class AudioSpec:
    """What a caller says of the audio.

    Attributes:
        encoding: How the bytes encode sound.
        sample_rate_hz: 0 where only the header knows.
        num_channels: Interleaved channels; 0 where the caller did not say.
    """

    encoding: Encoding
    sample_rate_hz: int = 0
    num_channels: int = 0


class AudioReader:
    """Reads audio piece by piece; how it was cut changes nothing.

    FLAC and Ogg are not read in pieces: `cifasr_serving.recording` reads them whole.

    Attributes:
        received_s: Audio so far, in seconds of the caller's clock.
        warnings: What was odd and was put right.
    """

    def __init__(self, spec: AudioSpec) -> None:
        self.received_s = 0.0
        self.warnings: list[str] = []
        self._spec = spec
        self._sample_rate_hz = spec.sample_rate_hz
        self._header = b""
        self._data_bytes_left: int | None = None
        self._samples: SampleReader | None = None
        self._resampler: StreamResampler | None = None
        if spec.encoding in RAW_FORMATS and spec.encoding is not Encoding.LINEAR16:
            self._begin(RAW_FORMATS[spec.encoding], spec.sample_rate_hz, spec.num_channels)

    def read(self, data: bytes) -> Samples:
        """Take bytes and give the samples at 16 kHz that they complete.

        Raises:
            AudioError: The bytes are not what the caller promised.
            InvalidRequestError: The header and the request disagree.
        """
        if self._samples is None:
            self._header += data
            data = self._after_header()
        return self._convert(data)

    def finish(self) -> Samples:
        """Give what the resampler still holds; the audio is over.

        Raises:
            AudioError: The audio ended within its header.
        """
        if self._samples is None and self._header:
            if self._spec.encoding is not Encoding.LINEAR16:
                raise AudioError(f"the audio ended after {len(self._header)} bytes, within its header")
            data, self._header = self._header, b""
            self._begin("int16", self._spec.sample_rate_hz, self._spec.num_channels)
            begun = self._convert(data)
        else:
            begun = np.zeros(0, np.float32)
        if self._samples is None or self._resampler is None:
            return begun
        self._warn_at_end(self._samples)
        return np.concatenate([begun, self._resampler.finish()])

    def _after_header(self) -> bytes:
        """Find out what the bytes are, and give those behind the header."""
        data = self._header
        linear16 = self._spec.encoding is Encoding.LINEAR16
        if linear16 and not looks_like_wav(data):
            self._header = b""
            self._begin("int16", self._spec.sample_rate_hz, self._spec.num_channels)
            return data
        if self._spec.encoding is Encoding.UNSPECIFIED and not looks_like_wav(data):
            raise InvalidRequestError(
                "config.encoding", "unset, and the audio does not begin like a container that is read here"
            )
        if len(data) < _SNIFF_BYTES:
            return b""
        header = parse_wav_header(data)
        if header is None:
            return b""
        if linear16:
            if header.sample_format != "int16":
                raise InvalidRequestError(
                    "config.encoding", f"LINEAR16, but the WAV header says {header.sample_format}"
                )
            self.warnings.append("a WAV header was found under LINEAR16 and taken off")
        check_header(self._spec, header.sample_rate_hz, header.num_channels)
        self._header = b""
        self._data_bytes_left = header.data_bytes
        self._begin(header.sample_format, header.sample_rate_hz, header.num_channels)
        return data[header.header_bytes :]

    def _begin(self, sample_format: str, sample_rate_hz: int, num_channels: int) -> None:
        self._samples = SampleReader(sample_format, max(1, num_channels))
        self._sample_rate_hz = sample_rate_hz
        self._resampler = StreamResampler(sample_rate_hz, SAMPLE_RATE_HZ)

    def _convert(self, data: bytes) -> Samples:
        if self._samples is None or self._resampler is None:
            return np.zeros(0, np.float32)
        if self._data_bytes_left is not None:  # chunks behind the samples are not sound
            data = data[: self._data_bytes_left]
            self._data_bytes_left -= len(data)
        samples = self._samples.read(data)
        self.received_s += len(samples) / self._sample_rate_hz
        return self._resampler.accept(samples)

    def _warn_at_end(self, samples: SampleReader) -> None:
        if samples.rest:
            self.warnings.append(f"the audio ended within a sample: {len(samples.rest)} bytes were dropped")
        if samples.num_clipped:
            self.warnings.append(f"{samples.num_clipped} float samples outside [-1, 1] were clipped")
        if self._data_bytes_left:
            self.warnings.append(f"the audio ended {self._data_bytes_left} bytes before the WAV header's end")


def check_header(spec: AudioSpec, sample_rate_hz: int, num_channels: int) -> None:
    """Hold a container's header against the request.

    Raises:
        InvalidRequestError: They disagree, or the header asks for what the server does not do.
    """
    if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ:
        raise InvalidRequestError(
            "config.sample_rate_hertz", f"the header says {sample_rate_hz}, wanted {MIN_RATE_HZ} to {MAX_RATE_HZ}"
        )
    if spec.sample_rate_hz not in (0, sample_rate_hz):
        raise InvalidRequestError(
            "config.sample_rate_hertz", f"{spec.sample_rate_hz}, but the header says {sample_rate_hz}"
        )
    if not 1 <= num_channels <= MAX_CHANNELS or spec.num_channels not in (0, num_channels):
        raise InvalidRequestError(
            "config.audio_channel_count", f"{spec.num_channels}, but the header says {num_channels}"
        )
