"""What makes the same speech sound new: speed, noise, rooms, bandwidth and level on samples, masks on features.

All draws come from the generator handed in, and inputs are never written to.
"""

import numpy as np
import soxr
import torch
from torch import Tensor

from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples

_MAX_TIME_MASK_SHARE = 5  # a mask hides at most one frame in so many, so that short utterances keep their words


def perturb_speed(samples: Samples, factor: float) -> Samples:
    """Play audio faster or slower; pitch and formants move with it, as on a tape.

    Args:
        samples: (S,) float32.
        factor: Speed, > 0; 1.1 is faster and shorter.

    Returns:
        (round(S / factor),) float32; a moment ``t`` of the input is now at ``t / factor``.

    Source:
        Ko et al., Audio augmentation for speech recognition, Interspeech 2015.
    """
    if factor <= 0:
        raise ValueError(f"wanted a speed above 0, got {factor}")
    if factor == 1.0:
        return samples.copy()
    result: Samples = soxr.resample(samples, factor, 1.0, quality="HQ")
    return result


def limit_band(samples: Samples, highest_hz: float) -> Samples:
    """Take the high frequencies away, as a telephone or a low sample rate does.

    Args:
        samples: (S,) float32 at 16 kHz.
        highest_hz: What is above it is lost; > 0 and at most 8000.

    Returns:
        (S,) float32.
    """
    narrow = soxr.resample(samples, SAMPLE_RATE_HZ, 2 * highest_hz, quality="HQ")
    wide = soxr.resample(narrow, 2 * highest_hz, SAMPLE_RATE_HZ, quality="HQ")[: len(samples)]
    result: Samples = np.pad(wide, (0, len(samples) - len(wide)))
    return result


def change_level(samples: Samples, gain_db: float) -> Samples:
    """Make audio louder (``gain_db`` > 0) or softer; nothing is clipped.

    Args:
        samples: (S,) float32.
        gain_db: Change in decibel; 20 is a factor of 10.

    Returns:
        (S,) float32.
    """
    return samples * np.float32(10 ** (gain_db / 20))


def mix_noise(samples: Samples, noise: Samples, snr_db: float, rng: np.random.Generator) -> Samples:
    """Add noise, from a moment of it drawn at random, and from its beginning again where it ends.

    The power of the noise is measured over all of it, so that a stretch of silence in it adds nothing.

    Args:
        samples: (S,) float32 of speech.
        noise: (N,) float32 at the same rate, N > 0, not silent.
        snr_db: Power of the speech over that of the noise, in decibel.
        rng: Draws the moment at which the noise starts.

    Returns:
        (S,) float32; speech without power stays as it is.

    Raises:
        ValueError: The noise is silent.
    """
    noise_power = _power(noise)
    if noise_power == 0:
        raise ValueError(f"wanted noise with power above 0, got {len(noise)} silent samples")
    start = int(rng.integers(len(noise)))
    added = np.resize(np.roll(noise, -start), len(samples))  # repeats it to the length of the speech
    gain = np.sqrt(_power(samples) / noise_power * 10 ** (-snr_db / 10))
    return samples + np.float32(gain) * added


def reverberate(samples: Samples, room_response: Samples) -> Samples:
    """Let audio sound in a room: convolve, then line the direct sound up with the input and keep the power.

    Args:
        samples: (S,) float32.
        room_response: (R,) float32 impulse response at the same rate; its largest value is the direct sound.

    Returns:
        (S,) float32; no moment moves, and what rings on after the end is cut.

    Raises:
        ValueError: The response is silent.
    """
    if not np.any(room_response):
        raise ValueError(f"wanted a room response with power above 0, got {len(room_response)} silent samples")
    direct = int(np.argmax(np.abs(room_response)))
    size = 1 << (len(samples) + len(room_response) - 1).bit_length()  # a power of two is fast, and nothing wraps
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(room_response, size)
    ringing = np.fft.irfft(spectrum, size)[direct : direct + len(samples)]
    power = _power(ringing)
    gain = np.sqrt(_power(samples) / power) if power > 0 else 0.0
    return (gain * ringing).astype(np.float32)


def spec_augment(
    feats: Tensor,
    feat_lens: Tensor,
    rng: np.random.Generator,
    *,
    num_freq_masks: int = 2,
    freq_width: int = 15,
    frames_per_time_mask: int = 300,
    time_width: int = 25,
    fill: float = 0.0,
) -> Tensor:
    """Hide bands of frequency and stretches of time, drawn for each utterance by itself.

    Widths are drawn from 0 to the largest, positions evenly. An utterance has one time mask for each begun
    stretch of ``frames_per_time_mask``, and none hides more than a fifth of it.

    Args:
        feats: (B, T, F) float.
        feat_lens: (B,) int64. Time masks lie inside; frames past it keep no promise.
        rng: Draws widths and positions.
        num_freq_masks: Bands of each utterance, >= 0.
        freq_width: Largest band, in bins, at most F.
        frames_per_time_mask: Frames for which there is one time mask, > 0.
        time_width: Largest time mask, in frames, >= 0.
        fill: What is written where features are hidden; 0 is near the mean of speech in log-mel features.

    Returns:
        (B, T, F) in the dtype of ``feats``.

    Raises:
        ValueError: ``freq_width`` is above F, or ``frames_per_time_mask`` not above 0.

    Source:
        Park et al., SpecAugment, Interspeech 2019, arXiv:1904.08779, without time warping; the number of time
        masks grows with length as in Park et al. 2020, arXiv:1912.05533.
    """
    num_utterances, num_frames, num_bins = feats.shape
    if freq_width > num_bins or frames_per_time_mask <= 0:
        raise ValueError(
            f"wanted freq_width <= {num_bins} and frames_per_time_mask > 0, got {freq_width} and {frames_per_time_mask}"
        )
    hidden_frames = torch.zeros(num_utterances, num_frames, dtype=torch.bool)
    hidden_bins = torch.zeros(num_utterances, num_bins, dtype=torch.bool)
    for row, length in enumerate(feat_lens.tolist()):
        for _ in range(num_freq_masks):
            hidden_bins[row, _draw_span(rng, num_bins, freq_width)] = True
        for _ in range(-(-length // frames_per_time_mask)):
            hidden_frames[row, _draw_span(rng, length, min(time_width, length // _MAX_TIME_MASK_SHARE))] = True
    hidden = hidden_frames[:, :, None] | hidden_bins[:, None, :]  # (B, T, F)
    return feats.masked_fill(hidden.to(feats.device), fill)


def _draw_span(rng: np.random.Generator, length: int, largest: int) -> slice:
    width = int(rng.integers(largest + 1))
    start = int(rng.integers(length - width + 1))
    return slice(start, start + width)


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
