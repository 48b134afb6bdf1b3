"""One reader, many voices: what is changed between the synthesiser's network and its vocoder.

hibari's network gives pitch and a spectral envelope for every 12.5 ms. Pitch is scaled there, and the envelope
is laid under the new pitch. Formants are scaled after the vocoder, by playing its waveform faster or slower;
pitch and pace are asked for so that they come out right after that.
"""

import numpy as np
import soxr
from hibari import Hibari, dsp  # type: ignore[import-not-found, import-untyped, unused-ignore]  # optional, untyped
from numpy.typing import NDArray
from speakers import PseudoSpeaker

from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples

READER_F0_HZ = 190.0
"""Geometric mean of the reader's pitch (measured: 189 Hz over 60 sentences)."""

_LOWEST_F0_HZ = 50.0  # the vocoder takes less than 40 Hz for unvoiced
_VOICED_ABOVE_HZ = 40.0
_BLUR_BINS = 3.0  # 60 Hz: wider than the gaps that pitch leaves in the envelope, narrower than a formant
_LARGEST_LOG_MAGNITUDE = 7.0  # the vocoder clips there too
_NEPER_PER_DB = np.log(10) / 20
_TILT_PIVOT_HZ = 500.0
_TILT_FROM_HZ = 150.0
_FULL_BREATH_HZ = 2500.0  # breath is heard in high frequencies; below it fades in

_ACTIVE_BELOW_PEAK_DB = 45.0
_FRAME_SAMPLES = 160

Frames = NDArray[np.float32]
"""(601, T) float32: a bin every 20 Hz, a frame every 12.5 ms."""


class Reader:
    """The network of hibari, loaded once (about half a second), one thread."""

    def __init__(self) -> None:
        self._hibari = Hibari(threads=1)
        self._bin_hz = np.arange(dsp.N_FFT // 2 + 1) * (dsp.SR / dsp.N_FFT)

    def read(self, sentence: str, speaker: PseudoSpeaker, rng: np.random.Generator) -> Samples:
        """Read a sentence in a speaker's voice.

        Args:
            sentence: With punctuation, as `spoken_form` writes it.
            speaker: Voice and way of reading.
            rng: Draws the noise in the voice.

        Returns:
            (S,) float32 at 16 kHz, without the silence before and after; empty where nothing can be spoken.
        """
        parts = [self._vocode(self._predict(phonemes, speaker), speaker, rng) for phonemes in self._phonemes(sentence)]
        if not parts:
            return np.zeros(0, np.float32)
        played_hz = dsp.SR * speaker.formant_scale
        samples = soxr.resample(np.concatenate(parts), played_hz, SAMPLE_RATE_HZ, quality="HQ")
        return trim_silence(samples.astype(np.float32))

    def _phonemes(self, sentence: str) -> list[str]:
        phonemes: list[str] = self._hibari.phonemize(sentence)
        return phonemes

    def _predict(self, phonemes: str, speaker: PseudoSpeaker) -> tuple[Frames, ...]:
        """Return log magnitude and phase of the harmonics, then of two kinds of noise, and pitch in Hz (T,)."""
        ids = np.asarray([self._hibari.ids(phonemes)], np.int64)
        speed = np.asarray([speaker.pace / speaker.formant_scale], np.float32)
        return tuple(part[0] for part in self._hibari.sess.run(None, {"ids": ids, "speed": speed}))

    def _vocode(self, predicted: tuple[Frames, ...], speaker: PseudoSpeaker, rng: np.random.Generator) -> Samples:
        harmonic, phase, hiss, rest, rest_phase, reader_f0 = predicted
        f0 = scale_pitch(reader_f0, speaker)  # (T,)
        harmonic, phase = excited_envelope(harmonic, phase, reader_f0)
        louder = np.where(f0 > 0, np.log(np.maximum(f0, 1) / np.maximum(reader_f0, 1)) / 2, 0)
        tilt = _NEPER_PER_DB * speaker.tilt_db_per_octave * np.log2(self._at_least(_TILT_FROM_HZ) / _TILT_PIVOT_HZ)
        harmonic = harmonic + louder + tilt[:, None]  # fewer harmonics a hertz have to be louder
        rest = rest + tilt[:, None]
        fade_in = np.log(np.minimum(self._at_least(20.0) / _FULL_BREATH_HZ, 1.0))[:, None]
        breath = np.where(f0 > 0, rest + _NEPER_PER_DB * speaker.breath_db + fade_in, -np.inf)
        parts = (harmonic, phase, np.logaddexp(hiss, breath), rest, rest_phase, f0)
        samples: Samples = dsp.synth(*(part.astype(np.float32) for part in parts), rng)
        return samples

    def _at_least(self, hz: float) -> NDArray[np.float64]:
        limited: NDArray[np.float64] = np.maximum(self._bin_hz, hz)
        return limited


def scale_pitch(reader_f0: Frames, speaker: PseudoSpeaker) -> Frames:
    """Turn the reader's pitch into the speaker's, as it has to be before the formants are scaled.

    Args:
        reader_f0: (T,) Hz; unvoiced below 40.
        speaker: Whose mean and range are wanted.

    Returns:
        (T,) Hz, 0 where unvoiced.
    """
    voiced = reader_f0 > _VOICED_ABOVE_HZ
    distance = np.log(np.maximum(reader_f0, _VOICED_ABOVE_HZ) / READER_F0_HZ)
    wanted = speaker.f0_hz / speaker.formant_scale * np.exp(speaker.f0_range * distance)
    return np.where(voiced, np.maximum(wanted, _LOWEST_F0_HZ), 0).astype(np.float32)


def excited_envelope(harmonic: Frames, phase: Frames, f0: Frames) -> tuple[Frames, Frames]:
    """Say what the harmonics' envelope is between the harmonics it was made for.

    The network is right only where its own pitch puts energy, and holds anything elsewhere: each bin becomes the
    mean of its neighbours, weighted by that energy.

    Args:
        harmonic: (601, T) log magnitude.
        phase: (601, T); its hyperbolic tangent is the phase over pi.
        f0: (T,) pitch that the network predicted, in Hz.

    Returns:
        The same two, smooth along frequency.
    """
    energy = np.abs(dsp.stft(dsp.pulses(f0), harmonic.shape[1])) ** 2 + 1e-3  # (601, T); 1 at a harmonic
    magnitude = np.exp(np.minimum(harmonic, _LARGEST_LOG_MAGNITUDE))
    power = _blur(energy * magnitude**2) / _blur(energy)
    angle = np.pi * np.tanh(phase)
    weight = energy * magnitude
    mean_angle = np.arctan2(_blur(weight * np.sin(angle)), _blur(weight * np.cos(angle)))
    smooth_phase = np.arctanh(np.clip(mean_angle / np.pi, -0.9999, 0.9999))
    return (np.log(np.maximum(power, 1e-20)) / 2).astype(np.float32), smooth_phase.astype(np.float32)


def _blur(frames: Frames) -> Frames:
    reach = round(2.5 * _BLUR_BINS)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _BLUR_BINS) ** 2).astype(np.float32)
    padded = np.pad(frames.astype(np.float32), ((reach, reach), (0, 0)))
    blurred = np.zeros_like(frames, dtype=np.float32)
    for shift, share in enumerate(kernel):
        blurred += share * padded[shift : shift + len(frames)]
    return blurred


def trim_silence(samples: Samples) -> Samples:
    """Cut what is 45 dB below the loudest 10 ms away from both ends.

    Args:
        samples: (S,) float32 at 16 kHz.

    Returns:
        (S,) float32, a view; empty where ``samples`` are silent.
    """
    num_frames = len(samples) // _FRAME_SAMPLES
    power = np.square(samples[: num_frames * _FRAME_SAMPLES].reshape(num_frames, _FRAME_SAMPLES)).mean(axis=1)
    if not power.any():
        return samples[:0]
    active = np.flatnonzero(power > power.max() * 10 ** (-_ACTIVE_BELOW_PEAK_DB / 10))
    return samples[active[0] * _FRAME_SAMPLES : (active[-1] + 1) * _FRAME_SAMPLES]
