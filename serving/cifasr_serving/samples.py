"""Bytes of interleaved samples to float32 of the first channel, however the bytes were cut."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from cifasr.audio.samples import Samples
from cifasr.errors import AudioError


def _mulaw_table() -> Samples:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)) - 0x84
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768).astype(np.float32)


def _alaw_table() -> Samples:
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent = code >> 4 & 7
    mantissa = ((code & 0x0F) << 4) + 8
    magnitude = np.where(exponent == 0, mantissa, (mantissa + 0x100) << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768).astype(np.float32)


MULAW = _mulaw_table()
ALAW = _alaw_table()


def _int24(data: bytes) -> Samples:
    triples = np.frombuffer(data, np.uint8).reshape(-1, 3)
    words = np.zeros((len(triples), 4), np.uint8)
    words[:, 1:] = triples  # the value in the upper three bytes of a little-endian int32
    return (words.view("<i4")[:, 0] / 2.0**31).astype(np.float32)


# Sample format: bytes of a sample, and how bytes become floats in [-1, 1].
SAMPLE_FORMATS: dict[str, tuple[int, Callable[[bytes], Samples]]] = {
    "uint8": (1, lambda data: ((np.frombuffer(data, np.uint8) - 128.0) / 128).astype(np.float32)),
    "int16": (2, lambda data: (np.frombuffer(data, "<i2") / 2.0**15).astype(np.float32)),
    "int24": (3, _int24),
    "int32": (4, lambda data: (np.frombuffer(data, "<i4") / 2.0**31).astype(np.float32)),
    "float32": (4, lambda data: np.frombuffer(data, "<f4").astype(np.float32)),
    "float64": (8, lambda data: np.clip(np.frombuffer(data, "<f8"), -2, 2).astype(np.float32)),
    "mulaw": (1, lambda data: MULAW[np.frombuffer(data, np.uint8)]),
    "alaw": (1, lambda data: ALAW[np.frombuffer(data, np.uint8)]),
}


@dataclass(slots=True)
class SampleReader:
    """Reads interleaved samples; a sample cut by the border of two messages is put together again.

    Attributes:
        sample_format: A key of `SAMPLE_FORMATS`.
        num_channels: Interleaved channels; the first is kept.
        num_clipped: Float samples outside [-1, 1] so far; they are clipped.
        rest: Bytes that are not a whole frame of all channels yet.
    """

    sample_format: str
    num_channels: int = 1
    num_clipped: int = 0
    rest: bytes = field(default=b"", repr=False)

    def read(self, data: bytes) -> Samples:
        """Take bytes and give the samples of the first channel that are whole now.

        Raises:
            AudioError: A float sample is NaN or infinite.
        """
        data = self.rest + data
        sample_bytes, convert = SAMPLE_FORMATS[self.sample_format]
        whole = len(data) - len(data) % (sample_bytes * self.num_channels)
        self.rest = data[whole:]
        samples = convert(data[:whole])[:: self.num_channels]
        if self.sample_format.startswith("float"):
            samples = self._checked(samples)
        return samples

    def _checked(self, samples: Samples) -> Samples:
        # One NaN would become a thousand behind the resampler's filter, so it ends here.
        if not np.isfinite(samples).all():
            raise AudioError("a float sample is NaN or infinite; wanted numbers in [-1, 1]")
        self.num_clipped += int(np.count_nonzero(np.abs(samples) > 1))
        return np.clip(samples, -1, 1)
