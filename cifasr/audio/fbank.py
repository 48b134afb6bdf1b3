"""Log-mel features with a fixed floor, so that a stream and a file give the same numbers."""

from functools import cache

import torch
import torchaudio
from torch import Tensor

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 160
WINDOW_SAMPLES = 400
NUM_MELS = 80
FRAME_MS = 10
LOG_FLOOR = -7.0
SILENCE_FEATURE = (LOG_FLOOR + 4.0) / 4.0
"""What every mel bin of digital silence holds: the value that stands for "no audio" wherever a frame is missing."""

LEFT_SAMPLES = WINDOW_SAMPLES // 2
"""Frame ``t`` is centred on sample ``t * HOP_SAMPLES``: this many samples before the first one are silence."""


def num_frames(num_samples: int) -> int:
    """Count the frames of an utterance: one for every whole hop.

    Args:
        num_samples: Length at 16 kHz, >= 0.
    """
    return num_samples // HOP_SAMPLES


def log_mel(samples: Tensor) -> Tensor:
    """Compute the features of an utterance, frame ``t`` centred on sample ``t * 160``.

    Args:
        samples: (B, S) or (S,) float32 at 16 kHz in [-1, 1). Silence is assumed on both sides.

    Returns:
        (B, S // 160, 80) or (S // 160, 80) float32: ``(max(log10 power, -7) + 4) / 4``.

    Source:
        Whisper's features (Radford et al. 2022, arXiv:2212.04356, section 2.2) with a fixed floor in place of the
        maximum over the utterance.
    """
    frames = num_frames(samples.shape[-1])
    width = frames * HOP_SAMPLES - HOP_SAMPLES + WINDOW_SAMPLES
    padded = torch.nn.functional.pad(samples, (LEFT_SAMPLES, max(0, width - LEFT_SAMPLES - samples.shape[-1])))
    return log_mel_frames(padded[..., : max(width, 0)])


def log_mel_frames(samples: Tensor) -> Tensor:
    """Compute the features of the windows that lie wholly inside ``samples``.

    Args:
        samples: (..., S) float32; window ``i`` is ``samples[..., 160 * i : 160 * i + 400]``.

    Returns:
        (..., T, 80) float32, T = 0 where not one window fits.
    """
    if samples.shape[-1] < WINDOW_SAMPLES:
        return samples.new_zeros(*samples.shape[:-1], 0, NUM_MELS)
    window, filters = _window_and_filters()
    windows = samples.unfold(-1, WINDOW_SAMPLES, HOP_SAMPLES)  # (..., T, 400)
    power = torch.fft.rfft(windows * window.to(samples.device)).abs().square()  # (..., T, 201)
    mel = power @ filters.to(samples.device)
    feats: Tensor = (mel.clamp_min(10.0**LOG_FLOOR).log10() + 4.0) / 4.0
    return feats


@cache
def _window_and_filters() -> tuple[Tensor, Tensor]:
    filters = torchaudio.functional.melscale_fbanks(
        n_freqs=WINDOW_SAMPLES // 2 + 1,
        f_min=0.0,
        f_max=SAMPLE_RATE_HZ / 2,
        n_mels=NUM_MELS,
        sample_rate=SAMPLE_RATE_HZ,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.hann_window(WINDOW_SAMPLES), filters
