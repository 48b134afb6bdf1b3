"""What tells a pause from an end: numbers about every frame, computed as a stream."""

import torch
from torch import Tensor

from cifasr.decoding.endpoint import Observation, Silence
from cifasr.nn.state import State, merged, scoped

FEATURES = (
    "silence",  # log of the seconds for which the neuron has gained next to nothing
    "since_firing",  # log of the seconds since the last firing
    "since_firing_in_tokens",  # log of the same, in this speaker's tokens
    "open_weight",  # gained since that firing
    "weight_short",  # mean weight of the last tenth of a second
    "weight_long",  # and of the last half
    "loudness",  # of the last tenth, from 0 for the quietest to 1 for the loudest of four seconds
    "quiet",  # log of the seconds since that was above 0.35
    "confidence",  # of the last token written
)

_MEMORY_S = 4.0
_SHORT_S, _LONG_S = 0.1, 0.5
_LOUD = 0.35
_FIRST_INTERVAL_S = 0.25
_LONGEST_INTERVAL_S = 1.0
_INTERVAL_RATE = 0.1
_LOG_OFFSET_S = 0.1


class PauseFeatures:
    """Turns observations into numbers; learns one thing about the speaker, the mean time between two firings."""

    def __init__(self) -> None:
        self._silence = Silence()

    def begin(self, state: State | None = None) -> State:
        """Begin a segment; the speaker's pace goes on."""
        empty = torch.zeros(0)
        return {
            **merged({"silence": self._silence.begin()}),
            "recent": torch.zeros(0, 2),
            "gained": torch.zeros(1, dtype=torch.float64),
            "since_firing": torch.zeros(1, dtype=torch.float64),
            "interval": torch.full((1,), _FIRST_INTERVAL_S) if state is None else state["interval"],
            "quiet": empty.new_zeros(1),
        }

    def __call__(self, observation: Observation, state: State) -> tuple[Tensor, State]:
        """Describe all n frames.

        Returns:
            (n, 9) float32, as in `FEATURES`, and the state after the frames that do not lie ahead.
        """
        frame_s, n, last = observation.frame_s, len(observation.alpha), observation.num_heard - 1
        silence_s, silence_state = self._silence.score(observation, scoped(state, "silence"))
        new = torch.stack([observation.alpha, observation.loudness], 1)
        recent = torch.cat([state["recent"], new])
        fired = observation.firings > 0
        since_s = _since(fired, state["since_firing"], frame_s)
        gained = observation.alpha.double().cumsum(0)
        at_firing = torch.where(fired, gained, -torch.inf).cummax(0).values
        open_weight = torch.where(at_firing.isinf(), gained + state["gained"], gained - at_firing)
        interval_s = self._pace(fired, since_s, state, frame_s)
        short, long = (_mean_of_last(recent, round(s / frame_s), n) for s in (_SHORT_S, _LONG_S))
        loudness = _relative(_mean_of_last(recent[:, 1:], round(_SHORT_S / frame_s), len(recent))[:, 0], n, frame_s)
        quiet_s = _since(loudness > _LOUD, state["quiet"].double(), frame_s)
        columns = [
            _log(silence_s),
            _log(since_s),
            _log(since_s * _FIRST_INTERVAL_S / interval_s),
            open_weight,
            short[:, 0],
            long[:, 0],
            loudness,
            _log(quiet_s),
            torch.full((n,), observation.confidence),
        ]
        after = {
            **merged({"silence": silence_state}),
            "recent": recent[: len(recent) - observation.num_ahead][-round((_MEMORY_S + _SHORT_S) / frame_s) :],
            "gained": open_weight[last : last + 1],
            "since_firing": since_s[last : last + 1],
            "interval": interval_s[last : last + 1],
            "quiet": quiet_s[last : last + 1].float(),
        }
        return torch.stack([column.float() for column in columns], 1), after

    def _pace(self, fired: Tensor, since_s: Tensor, state: State, frame_s: float) -> Tensor:
        """Follow the mean time between two firings, long pauses left out: (n,)."""
        before = torch.cat([state["since_firing"], since_s[:-1]]) + frame_s
        interval, intervals = float(state["interval"]), []
        counted = fired & (before < _LONGEST_INTERVAL_S)
        for counts, took in zip(counted.tolist(), before.tolist(), strict=True):
            interval += _INTERVAL_RATE * (took - interval) if counts else 0.0
            intervals.append(interval)
        return torch.tensor(intervals)


def _log(seconds: Tensor) -> Tensor:
    return torch.log(seconds + _LOG_OFFSET_S)


def _since(happened: Tensor, before_s: Tensor, frame_s: float) -> Tensor:
    """Seconds from the last frame where something happened to each frame: (n,) float64; ``before_s`` at the start."""
    place = torch.arange(len(happened))
    latest = torch.where(happened, place, -1).cummax(0).values
    return torch.where(latest < 0, before_s + (place + 1) * frame_s, (place - latest) * frame_s)


def _mean_of_last(values: Tensor, width: int, num_last: int) -> Tensor:
    """Mean of ``width`` rows up to each of the last ones, of fewer at the start: (S, D) to (num_last, D)."""
    total = torch.cat([values.new_zeros(1, values.shape[1]), values.cumsum(0)])
    now = torch.arange(len(values) - num_last, len(values)) + 1
    first = (now - max(1, width)).clamp(min=0)
    return (total[now] - total[first]) / (now - first)[:, None]


def _relative(values: Tensor, num_last: int, frame_s: float) -> Tensor:
    """Place the last values between the lowest and the highest of four seconds: (S,) to (num_last,)."""
    reach = round(_MEMORY_S / frame_s)
    padded = torch.cat([values[:1].expand(max(0, reach + num_last - 1 - len(values))), values])
    windows = padded.unfold(0, reach, 1)[-num_last:]
    low, high = windows.amin(1), windows.amax(1)
    return (values[-num_last:] - low) / (high - low).clamp_min(1e-3)
