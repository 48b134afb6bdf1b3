"""When an utterance is over: a small interface, and the rule every recogniser has, trailing silence."""

from dataclasses import dataclass
from typing import Protocol

from pydantic import Field

from cifasr.config import Config


@dataclass(frozen=True, slots=True)
class Observation:
    """What a recogniser knows at the end of a chunk.

    Attributes:
        has_text: Whether the segment has any text yet.
        silence_s: How long the neuron has gained next to nothing, up to 60 s.
        segment_s: How long the segment is.
    """

    has_text: bool
    silence_s: float
    segment_s: float


class Endpointer(Protocol):
    """Decides at the end of each chunk whether the segment ends there."""

    def ends(self, observation: Observation) -> bool:
        """Say whether the segment is over."""


class EndpointConfig(Config):
    """Limits of the trailing-silence rule, in seconds."""

    trailing_silence_s: float = Field(1.2, gt=0.0, description="ends a segment that has text")
    initial_silence_s: float = Field(5.0, gt=0.0, description="restarts one that has none")
    max_utterance_s: float = Field(30.0, gt=0.0, description="ends any segment")


class TrailingSilence:
    """Ends a segment after a stretch of silence, or when it is too long.

    Args:
        config: The limits.
    """

    def __init__(self, config: EndpointConfig | None = None) -> None:
        self.config = config or EndpointConfig()

    def ends(self, observation: Observation) -> bool:
        """Say whether the segment is over."""
        config = self.config
        enough = config.trailing_silence_s if observation.has_text else config.initial_silence_s
        return observation.silence_s >= enough or observation.segment_s >= config.max_utterance_s
