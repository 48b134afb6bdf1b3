"""Turns of speech with pauses in them and silence after them, cut from real utterances; what the recogniser sees.

A turn is the last 9 s of an utterance with the pauses it has, or the last 5 s of two of one speaker with 0.3 to 1.2 s
between them, besides the quiet in which the second begins. That pause, and 2.5 s after the last word, are laid from the
quietest tenths of a second of the same recording. Half the turns lie in noise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from lhotse.cut import Cut

from cifasr.audio.augment import mix_noise
from cifasr.audio.fbank import HOP_SAMPLES, log_mel
from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples, read_samples
from cifasr.data.batches import load_cuts, load_samples
from cifasr.decoding.endpoint import Observation
from cifasr.decoding.streaming import StreamingOptions, StreamingRecognizer
from cifasr.models.cif_asr import CifAsr
from cifasr.nn.state import State

_PIECE = SAMPLE_RATE_HZ // 10
_MARGIN = SAMPLE_RATE_HZ // 10
_AFTER_S = 2.5
_PAUSE_S = (0.3, 1.2)
_SNR_DB = (10.0, 25.0)
_ALONE_S, _JOINED_S = 9.0, 5.0
_SEARCH_S = 1.5


@dataclass(frozen=True)
class Turn:
    """What one speaker says before the other may speak.

    Attributes:
        name: Of its utterances.
        speaker: Who speaks.
        kind: "alone" or "joined".
        noisy: Whether noise was mixed in.
        samples: (S,) at 16 kHz.
        end_s: Where the last word ends.
    """

    name: str
    speaker: str
    kind: str
    noisy: bool
    samples: Samples
    end_s: float


class Track(NamedTuple):
    """A turn as an endpointer sees it."""

    name: str
    speaker: str
    kind: str
    noisy: bool
    end_s: float
    observations: list[Observation]


def speech_bounds(samples: Samples) -> tuple[int, int]:
    """Find the first and the last sample of speech in a clean utterance, by its loudness."""
    loudness = log_mel(torch.from_numpy(samples)).mean(1)
    smooth = torch.nn.functional.avg_pool1d(loudness[None], 5, 1, 2, count_include_pad=False)[0]
    low, high = smooth.quantile(0.05), smooth.quantile(0.95)
    loud = (smooth > low + 0.2 * (high - low)).nonzero()[:, 0]
    return int(loud[0]) * HOP_SAMPLES, (int(loud[-1]) + 1) * HOP_SAMPLES


def room_tone(samples: Samples, num_samples: int, rng: np.random.Generator) -> Samples:
    """Lay the quietest pieces of a recording over each other, in any order, with the power that they have."""
    starts = np.arange(0, len(samples) - _PIECE, _PIECE // 4)
    power = np.array([np.square(samples[i : i + _PIECE]).mean() for i in starts])
    quiet = starts[np.argsort(power)[: max(5, len(starts) // 20)]]
    window = np.sin(np.pi * (np.arange(_PIECE) + 0.5) / _PIECE).astype(np.float32)
    tone = np.zeros(num_samples + 2 * _PIECE, dtype=np.float32)
    for place in range(0, num_samples + _PIECE, _PIECE // 2):
        first = rng.choice(quiet)
        tone[place : place + _PIECE] += window * samples[first : first + _PIECE]
    return tone[_PIECE // 2 : _PIECE // 2 + num_samples]


def _spoken(samples: Samples, longest_s: float) -> Samples:
    """Cut the end of an utterance, from where it is quiet to a tenth of a second after its speech, faded."""
    first, last = speech_bounds(samples)
    if (too_long := last - first - round(longest_s * SAMPLE_RATE_HZ)) > 0:
        search = np.square(samples[first + too_long :][: round(_SEARCH_S * SAMPLE_RATE_HZ)])
        power = np.convolve(search, np.ones(_MARGIN), "same")
        first += too_long + int(power.argmin())
    part = samples[max(0, first - _MARGIN) : last + _MARGIN].copy()
    ramp = np.linspace(0, 1, _MARGIN // 2, dtype=np.float32)
    part[: len(ramp)] *= ramp
    part[-len(ramp) :] *= ramp[::-1]
    return part


def make_turns(cuts: Path, num_turns: int, noises: Sequence[Path], seed: int) -> Iterator[Turn]:
    """Make turns: of each utterance one alone, and one joined with its speaker's next."""
    pairs = _pairs(list(load_cuts([cuts])))
    for index in np.random.default_rng(seed).permutation(2 * len(pairs))[:num_turns]:
        rng = np.random.default_rng((seed, index))
        first, second = pairs[index // 2]
        joined = index % 2 == 1
        originals = [load_samples(cut) for cut in ((first, second) if joined else (first,))]
        parts = [_spoken(samples, _JOINED_S if joined else _ALONE_S) for samples in originals]
        pause = round((rng.uniform(*_PAUSE_S)) * SAMPLE_RATE_HZ) - 2 * _MARGIN
        between = [room_tone(originals[0], pause, rng)] if joined and pause > 0 else []
        said = np.concatenate([parts[0], *between, *parts[1:]])
        samples = np.concatenate([said, room_tone(originals[-1], round(_AFTER_S * SAMPLE_RATE_HZ), rng)])
        noisy = bool(rng.random() < 0.5)
        if noisy:
            noise = read_samples(noises[rng.integers(len(noises))])
            samples = mix_noise(samples, noise, rng.uniform(*_SNR_DB), rng)
        end_s = (len(said) - _MARGIN) / SAMPLE_RATE_HZ
        name = first.id + (f"+{second.id}" if joined else "")
        yield Turn(
            name,
            first.supervisions[0].speaker,
            "joined" if joined else "alone",
            noisy,
            samples.astype(np.float32),
            end_s,
        )


def _pairs(cuts: Sequence[Cut]) -> list[tuple[Cut, Cut]]:
    ordered = sorted(cuts, key=lambda cut: cut.id)
    return [(a, b) for a, b in pairwise(ordered) if a.supervisions[0].speaker == b.supervisions[0].speaker]


class _Recorder:
    """An endpointer that ends nothing and writes down what it is shown."""

    def __init__(self) -> None:
        self.observations: list[Observation] = []

    def begin(self, state: State | None = None) -> State:
        return {}

    def ends(self, observation: Observation, state: State) -> tuple[bool, State]:
        self.observations.append(observation)
        return False, state


def record(model: CifAsr, turn: Turn, options: StreamingOptions) -> Track:
    """Let the recogniser hear a turn."""
    recorder = _Recorder()
    StreamingRecognizer(model, options, recorder).accept_waveform(turn.samples)
    return Track(turn.name, turn.speaker, turn.kind, turn.noisy, turn.end_s, recorder.observations)
