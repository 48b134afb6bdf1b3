"""Pseudo-speakers: how one reader is made to sound like thousands of people, and how each of them is drawn."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class PseudoSpeaker:
    """What a voice and a way of reading are, relative to the reader of the synthesiser.

    Attributes:
        name: Speaker id.
        f0_hz: Geometric mean of the pitch of a neutral sentence, in Hz.
        f0_range: Exponent on the pitch's distance from its mean; below 1 is flat, above 1 lively.
        formant_scale: Factor on every frequency of the spectral envelope; below 1 is a longer vocal tract.
        tilt_db_per_octave: Slope added to the spectrum; above 0 is brighter, a pressed voice.
        breath_db: Noise added to voiced sounds, relative to the noise the reader has there; -inf is none.
        pace: Factor on the speed of reading.
        pause_rate: Share of the conjunctions inside a sentence that a pause is made at, 0 to 1.
    """

    name: str
    f0_hz: float
    f0_range: float
    formant_scale: float
    tilt_db_per_octave: float
    breath_db: float
    pace: float
    pause_rate: float


@dataclass(frozen=True)
class _Kind:
    """A part of the population: medians and deviations, the deviations of natural logarithms."""

    share: float
    f0_hz: float
    f0_deviation: float
    formant_scale: float
    formant_deviation: float


_KINDS = (
    _Kind(share=0.46, f0_hz=118.0, f0_deviation=0.17, formant_scale=0.89, formant_deviation=0.035),  # men
    _Kind(share=0.46, f0_hz=200.0, f0_deviation=0.14, formant_scale=1.01, formant_deviation=0.040),  # women
    _Kind(share=0.08, f0_hz=255.0, f0_deviation=0.10, formant_scale=1.12, formant_deviation=0.040),  # children
)

F0_HZ = (80.0, 300.0)
FORMANT_SCALE = (0.82, 1.22)
F0_RANGE = (0.6, 1.5)
TILT_DB_PER_OCTAVE = (-2.5, 2.5)
BREATH_DB = (-6.0, 9.0)
PACE = (0.75, 1.35)
PAUSE_RATE = (0.1, 0.9)
"""Smallest and largest of each value, after all draws."""

_SPEAKER_DRAW, _UTTERANCE_DRAW = 1, 2  # keep the draws of speakers and of utterances apart


def draw_speaker(seed: int, number: int) -> PseudoSpeaker:
    """Draw one of the speakers of a seed, whatever other speakers are drawn.

    Args:
        seed: Of the whole corpus, >= 0.
        number: Which speaker, >= 0.

    Returns:
        A speaker named ``SEED-NUMBER``, with every value in the ranges above.
    """
    rng = np.random.default_rng((_SPEAKER_DRAW, seed, number))
    kind = _KINDS[int(rng.choice(len(_KINDS), p=[kind.share for kind in _KINDS]))]
    return PseudoSpeaker(
        name=f"synthetic{seed}-{number:05d}",
        f0_hz=_clip(kind.f0_hz * _around_one(rng, kind.f0_deviation), F0_HZ),
        f0_range=_clip(_around_one(rng, 0.22), F0_RANGE),
        formant_scale=_clip(kind.formant_scale * _around_one(rng, kind.formant_deviation), FORMANT_SCALE),
        tilt_db_per_octave=_clip(float(rng.normal(0.0, 1.1)), TILT_DB_PER_OCTAVE),
        breath_db=_clip(float(rng.normal(0.0, 4.0)), BREATH_DB),
        pace=_clip(_around_one(rng, 0.13), PACE),
        pause_rate=float(rng.uniform(*PAUSE_RATE)),
    )


def vary_speaker(speaker: PseudoSpeaker, seed: int, utterance: int) -> PseudoSpeaker:
    """Draw how a speaker reads one utterance: nobody reads twice alike.

    Args:
        speaker: Who reads.
        seed: Of the whole corpus, >= 0.
        utterance: Which utterance, >= 0.

    Returns:
        The same name and vocal tract; pitch, its range, pace, tilt and breath a little changed.
    """
    rng = np.random.default_rng((_UTTERANCE_DRAW, seed, utterance))
    return replace(
        speaker,
        f0_hz=_clip(speaker.f0_hz * _around_one(rng, 0.04), F0_HZ),
        f0_range=_clip(speaker.f0_range * _around_one(rng, 0.10), F0_RANGE),
        tilt_db_per_octave=_clip(speaker.tilt_db_per_octave + float(rng.normal(0.0, 0.3)), TILT_DB_PER_OCTAVE),
        breath_db=_clip(speaker.breath_db + float(rng.normal(0.0, 1.0)), BREATH_DB),
        pace=_clip(speaker.pace * _around_one(rng, 0.05), PACE),
    )


def _around_one(rng: np.random.Generator, deviation: float) -> float:
    return float(np.exp(rng.normal(0.0, deviation)))


def _clip(value: float, span: tuple[float, float]) -> float:
    return min(max(value, span[0]), span[1])
