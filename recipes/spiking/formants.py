"""Digits spoken by a synthesiser of a hundred lines: formants that glide over harmonics, and bands of noise."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples

sys.path.append(str(Path(__file__).resolve().parents[1] / "synthetic"))  # a recipe is scripts, no package

from speakers import PseudoSpeaker

_STEP_SAMPLES = 80  # between two values of a track
_BANDWIDTHS_HZ, _GAINS = np.array([80.0, 110.0, 160.0]), np.array([1.0, 0.5, 0.25])
_HIGHEST_HZ = 4500.0


@dataclass(frozen=True)
class Phone:
    """How a sound is made.

    Attributes:
        formants_hz: The first three, of a man.
        ms: How long it lasts.
        voice: Loudness of the harmonics.
        noise: Loudness of the noise.
        noise_hz: Where the noise is.
    """

    formants_hz: tuple[float, float, float]
    ms: float
    voice: float = 1.0
    noise: float = 0.0
    noise_hz: float = 3000.0


# Vowels: means of men, Peterson and Barney, JASA 1952, table II. Consonants: near them, by ear and by spectrogram.
PHONES = {
    "iy": Phone((270, 2290, 3010), 130),
    "ih": Phone((390, 1990, 2550), 90),
    "eh": Phone((530, 1840, 2480), 110),
    "aa": Phone((730, 1090, 2440), 130),
    "ao": Phone((570, 840, 2410), 140),
    "uh": Phone((440, 1020, 2240), 90),
    "uw": Phone((300, 870, 2240), 150),
    "ah": Phone((640, 1190, 2390), 90),
    "r": Phone((420, 1250, 1650), 70, voice=0.7),
    "w": Phone((300, 650, 2200), 70, voice=0.6),
    "n": Phone((280, 1600, 2500), 80, voice=0.3),
    "v": Phone((300, 1100, 2300), 60, voice=0.3, noise=0.05, noise_hz=5000),
    "z": Phone((280, 1700, 2500), 80, voice=0.2, noise=0.25, noise_hz=5500),
    "f": Phone((350, 1100, 2300), 100, voice=0.0, noise=0.08, noise_hz=5000),
    "th": Phone((350, 1400, 2600), 90, voice=0.0, noise=0.06, noise_hz=5800),
    "s": Phone((320, 1700, 2600), 110, voice=0.0, noise=0.35, noise_hz=5800),
    "t": Phone((350, 1800, 2700), 40, voice=0.0, noise=0.3, noise_hz=4200),
    "k": Phone((350, 1900, 2300), 40, voice=0.0, noise=0.25, noise_hz=2200),
    "-": Phone((350, 1700, 2500), 40, voice=0.0),  # lips or tongue closed: silence, and where formants are on the way
}

DIGITS = {
    "zero": "z iy r ao uh",
    "one": "w ah n",
    "two": "- t uw",
    "three": "th r iy",
    "four": "f ao r",
    "five": "f aa ih v",
    "six": "s ih - k s",
    "seven": "s eh v ah n",
    "eight": "eh ih - t",
    "nine": "n aa ih n",
}


def speak(word: str, speaker: PseudoSpeaker, rng: np.random.Generator, *, slur: float = 0.08) -> Samples:
    """Say a digit.

    Args:
        word: One of `DIGITS`.
        speaker: Who says it: pitch, vocal tract, tilt, breath and pace are heard.
        rng: For noise, and for how this time differs from others.
        slur: Deviation of the logarithm of each sound's formants and length from one time to another.

    Returns:
        (S,) float32 at 16 kHz, with a largest value of 0.5.
    """
    phones = [PHONES[name] for name in DIGITS[word].split()]
    lengths = np.array([phone.ms for phone in phones]) / speaker.pace * np.exp(slur * rng.standard_normal(len(phones)))
    middles = np.cumsum(lengths) - lengths / 2
    steps_ms = np.arange(0, lengths.sum(), 1000 * _STEP_SAMPLES / SAMPLE_RATE_HZ)
    targets = np.array([(*phone.formants_hz, phone.voice, phone.noise, phone.noise_hz) for phone in phones])
    targets[:, :3] *= speaker.formant_scale * np.exp(slur * rng.standard_normal((len(phones), 3)))
    times, targets = [0, *middles, lengths.sum()], np.vstack([targets[0], targets, targets[-1]])
    targets[[0, -1], 3:5] = 0  # it begins and ends in silence
    tracks = np.stack([np.interp(steps_ms, times, target) for target in targets.T])
    samples = _harmonics(tracks[:3], tracks[3], speaker, rng) + _noise(tracks[4], tracks[5], rng)
    samples += _noise(0.01 * 10 ** (speaker.breath_db / 20) * tracks[3], np.full_like(steps_ms, 2500.0), rng)
    return (0.5 * samples / np.abs(samples).max()).astype(np.float32)


def _harmonics(formants_hz: np.ndarray, voice: np.ndarray, speaker: PseudoSpeaker, rng: np.random.Generator) -> Samples:
    """Sum the harmonics of a falling pitch, each as loud as the formants make it: (3, T) and (T,) to (S,)."""
    pitch_hz = speaker.f0_hz * np.linspace(1.1, 0.85, len(voice)) ** speaker.f0_range
    phase = 2 * np.pi * np.cumsum(_per_sample(pitch_hz)) / SAMPLE_RATE_HZ + rng.uniform(0, 2 * np.pi)
    numbers = np.arange(1, int(_HIGHEST_HZ / pitch_hz.max()) + 1)
    hz = numbers[:, None] * pitch_hz  # (harmonics, T)
    bandwidths = (_BANDWIDTHS_HZ * speaker.formant_scale)[:, None, None]
    peaks = _GAINS[:, None, None] / np.sqrt(1 + ((hz - formants_hz[:, None]) / bandwidths) ** 2)
    loudness = voice * peaks.sum(0) * 10 ** (speaker.tilt_db_per_octave * np.log2(hz / 500) / 20)
    return sum(_per_sample(track) * np.sin(number * phase) for number, track in zip(numbers, loudness, strict=True))


def _noise(loudness: np.ndarray, centre_hz: np.ndarray, rng: np.random.Generator) -> Samples:
    """Make noise around a moving centre, two thirds of it wide: (T,) twice to (S,)."""
    window = np.hanning(2 * _STEP_SAMPLES)
    hz = np.fft.rfftfreq(len(window), 1 / SAMPLE_RATE_HZ)
    shape = loudness[:, None] * np.exp(-0.5 * ((hz - centre_hz[:, None]) / (centre_hz[:, None] / 3)) ** 2)
    pieces = (
        np.fft.irfft(np.fft.rfft(rng.standard_normal((len(loudness), len(window))), axis=1) * shape, axis=1) * window
    )
    samples = np.zeros((len(loudness) + 1) * _STEP_SAMPLES)
    samples[:-_STEP_SAMPLES] += pieces[:, :_STEP_SAMPLES].ravel()
    samples[_STEP_SAMPLES:] += pieces[:, _STEP_SAMPLES:].ravel()
    return samples[:-_STEP_SAMPLES]


def _per_sample(track: np.ndarray) -> np.ndarray:
    """Draw lines between a track's values: (T,) to (T * samples a step,)."""
    return np.interp(np.arange(len(track) * _STEP_SAMPLES) / _STEP_SAMPLES, np.arange(len(track)), track)
