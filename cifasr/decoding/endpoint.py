"""When an utterance is over: a small interface, and the rule every recogniser has, trailing silence."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cifasr.decoding.endpoint_config import EndpointConfig
from cifasr.nn.state import State

_SILENCE_WEIGHT = 0.3
"""Weight, in tokens, that a stretch may hold and still be called silence."""

_SILENCE_HORIZON_S = 60
"""Longest silence that is measured; a longer one counts as this."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a recogniser knows when it has heard a chunk.

    Attributes:
        alpha: (n,) weight of each frame.
        loudness: (n,) mean feature of each frame, 1/4 of a decade of power a unit.
        firings: (n,) int64, how often the neuron fires at each.
        num_ahead: So many of the n lie past the chunk: they were heard without what follows them, and come again.
        frame_s: Length of a frame.
        segment_s: How long the segment is, without what lies ahead.
        has_text: Whether it has any text yet.
        confidence: Posterior of the last token written, 0 before the first.
    """

    alpha: Tensor
    loudness: Tensor
    firings: Tensor
    num_ahead: int
    frame_s: float
    segment_s: float
    has_text: bool
    confidence: float

    @property
    def num_heard(self) -> int:
        """Frames of the chunk itself."""
        return len(self.alpha) - self.num_ahead


class Endpointer(Protocol):
    """Decides at the end of each chunk whether the segment ends there. State is handed in and out."""

    def begin(self, state: State | None = None) -> State:
        """Make the state of a new segment; what was learnt of the speaker is taken from the one before."""

    def ends(self, observation: Observation, state: State) -> tuple[bool, State]:
        """Say whether the segment is over."""


class Scorer(Protocol):
    """Says at every frame how surely the speaker has finished; higher is surer, each scorer has its own unit."""

    def begin(self, state: State | None = None) -> State:
        """Make the state of a new segment; what was learnt of the speaker is taken from the one before."""

    def score(self, observation: Observation, state: State) -> tuple[Tensor, State]:
        """Score all n frames; the state after those that do not lie ahead."""


class Silence:
    """Scores a frame by how long the neuron has gained next to nothing, in seconds."""

    def begin(self, state: State | None = None) -> State:
        """Begin with no frame heard."""
        return {"recent_weights": torch.zeros(0)}

    def score(self, observation: Observation, state: State) -> tuple[Tensor, State]:
        """Measure the silence before the end of each frame, up to 60 s."""
        horizon, num_new = round(_SILENCE_HORIZON_S / observation.frame_s), len(observation.alpha)
        weights = torch.cat([state["recent_weights"], observation.alpha])
        gained = torch.cat([torch.zeros(1, dtype=torch.float64), weights.double().cumsum(0)])
        now = torch.arange(len(gained) - num_new, len(gained))
        silence_frames = now - torch.searchsorted(gained, gained[now] - _SILENCE_WEIGHT)
        heard = weights[: len(weights) - observation.num_ahead]
        return silence_frames.double() * observation.frame_s, {"recent_weights": heard[-horizon:]}


class TrailingSilence:
    """Ends a segment after a stretch of silence, or when it is too long.

    Args:
        config: The limits.
    """

    def __init__(self, config: EndpointConfig | None = None) -> None:
        self.config = config or EndpointConfig()
        self._silence = Silence()

    def begin(self, state: State | None = None) -> State:
        """Begin with no frame heard."""
        return self._silence.begin(state)

    def ends(self, observation: Observation, state: State) -> tuple[bool, State]:
        """Say whether the segment is over."""
        silence_s, state = self._silence.score(observation, state)
        config = self.config
        enough = config.trailing_silence_s if observation.has_text else config.initial_silence_s
        return float(silence_s[-1]) >= enough or observation.segment_s >= config.max_utterance_s, state
