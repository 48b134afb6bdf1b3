"""The header of a WAV file, read from a stream of bytes."""

import struct
from dataclasses import dataclass

from cifasr.errors import AudioError

MAX_HEADER_BYTES = 64 * 1024
_PCM, _IEEE_FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_UNKNOWN_SIZE = 0xFFFFFFFF
_SAMPLE_FORMATS = {
    (_PCM, 8): "uint8",
    (_PCM, 16): "int16",
    (_PCM, 24): "int24",
    (_PCM, 32): "int32",
    (_IEEE_FLOAT, 32): "float32",
    (_IEEE_FLOAT, 64): "float64",
    (_ALAW, 8): "alaw",
    (_MULAW, 8): "mulaw",
}


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What comes before the samples.

    Attributes:
        sample_format: A key of `cifasr_serving.samples.SAMPLE_FORMATS`.
        sample_rate_hz: Samples of one channel in a second.
        num_channels: Interleaved channels.
        header_bytes: Where the samples begin.
        data_bytes: How many bytes of samples follow; None where the writer did not know.
    """

    sample_format: str
    sample_rate_hz: int
    num_channels: int
    header_bytes: int
    data_bytes: int | None


def parse_wav_header(data: bytes) -> WavHeader | None:
    """Read the header at the start of ``data``; None while more bytes are needed.

    Raises:
        AudioError: This is not a WAV file, or its samples have a form that is not read.
    """
    if not looks_like_wav(data):
        raise AudioError("not a WAV file: wanted RIFF and WAVE in the first 12 bytes")
    chunk_format: tuple[str, int, int] | None = None
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"data":
            if chunk_format is None:
                raise AudioError("WAV header: the data chunk comes before the format chunk")
            return WavHeader(*chunk_format, position, size if 0 < size < _UNKNOWN_SIZE else None)
        if name == b"fmt ":
            if position + size > len(data):
                break
            chunk_format = _parse_format(data[position : position + size])
        position += size + size % 2
        if position > MAX_HEADER_BYTES:
            break
    if max(position, len(data)) > MAX_HEADER_BYTES:
        raise AudioError(f"WAV header: no samples in the first {MAX_HEADER_BYTES} bytes")
    return None


def looks_like_wav(data: bytes) -> bool:
    """Whether ``data`` begins like a WAV file, or is the beginning of such a beginning."""
    return data[:4] == b"RIFF"[: len(data)] and data[8:12] == b"WAVE"[: max(0, len(data) - 8)]


def _parse_format(chunk: bytes) -> tuple[str, int, int]:
    if len(chunk) < 16:
        raise AudioError(f"WAV header: the format chunk has {len(chunk)} bytes, wanted 16 or more")
    code, num_channels, sample_rate_hz, _, block_bytes, bits = struct.unpack_from("<HHIIHH", chunk)
    if code == _EXTENSIBLE and len(chunk) >= 26:
        (code,) = struct.unpack_from("<H", chunk, 24)
    sample_format = _SAMPLE_FORMATS.get((code, bits))
    if sample_format is None:
        raise AudioError(f"WAV header: format {code} with {bits} bits is not read; wanted PCM, float, mu-law or A-law")
    if num_channels == 0 or block_bytes != num_channels * bits // 8:
        raise AudioError(f"WAV header: {num_channels} channels of {bits} bits in blocks of {block_bytes} bytes")
    return sample_format, sample_rate_hz, num_channels
