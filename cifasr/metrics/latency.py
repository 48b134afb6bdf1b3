"""How fast: compute time over audio time, and how the delays of a stream are spread."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RealTimeFactor:
    """Time spent on audio; adding two pools them.

    Attributes:
        compute_seconds: Wall clock of the work, >= 0.
        audio_seconds: Length of the audio, >= 0.
    """

    compute_seconds: float = 0.0
    audio_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not (self.compute_seconds >= 0 and self.audio_seconds >= 0):
            raise ValueError(f"wanted times >= 0 s, got {self.compute_seconds} s of work, {self.audio_seconds} s audio")

    @property
    def rtf(self) -> float:
        """Seconds of work for one second of audio: below 1 keeps up.

        Raises:
            ValueError: There was no audio.
        """
        if self.audio_seconds == 0:
            raise ValueError("no real-time factor without audio")
        return self.compute_seconds / self.audio_seconds

    def __add__(self, other: "RealTimeFactor") -> "RealTimeFactor":
        return RealTimeFactor(self.compute_seconds + other.compute_seconds, self.audio_seconds + other.audio_seconds)


@dataclass(frozen=True)
class LatencySummary:
    """Percentiles of delays, each one a delay that was measured (nearest rank).

    Attributes:
        num_delays: How many were measured.
        p50_ms: Half were at most this.
        p90_ms: Nine in ten were at most this.
        p95_ms: Nineteen in twenty were at most this.
        p99_ms: Ninety-nine in a hundred were at most this.
        max_ms: The longest.
    """

    num_delays: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def summarize_latency(latencies_ms: Iterable[float]) -> LatencySummary:
    """Rank delays.

    Args:
        latencies_ms: Delays in milliseconds, in any order; negative where a token came before its word ended.

    Raises:
        ValueError: There are none, or one is not finite.
    """
    delays = np.fromiter(latencies_ms, dtype=np.float64)
    if not len(delays) or not np.isfinite(delays).all():
        raise ValueError(f"wanted at least one delay, all finite, got {len(delays)}")
    ranks = np.percentile(delays, [50, 90, 95, 99, 100], method="inverted_cdf")
    return LatencySummary(len(delays), *(float(rank) for rank in ranks))
