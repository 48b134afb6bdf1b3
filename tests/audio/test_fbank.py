import math

import pytest
import torch
import torchaudio

from cifasr.audio.fbank import SILENCE_FEATURE, log_mel, log_mel_frames, num_frames


def whispers_power(samples):
    """Whisper's mel power (..., S // 160, 80) with its own calls: centred frames, silence around, the last dropped."""
    spectrum = torch.stft(
        samples, 400, 160, window=torch.hann_window(400), center=True, pad_mode="constant", return_complex=True
    )
    power = spectrum[..., :-1].abs() ** 2
    filters = torchaudio.functional.melscale_fbanks(201, 0.0, 8000.0, 80, 16_000, norm="slaney", mel_scale="slaney")
    return power.transpose(-1, -2) @ filters


def slaney_mel(hz):
    """Slaney's scale: linear below 1000 Hz, then 27 steps for each factor of 6.4."""
    return hz / (200 / 3) if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)


@pytest.mark.parametrize(("num_samples", "want"), [(0, 0), (159, 0), (160, 1), (319, 1), (320, 2), (16_000, 100)])
def test_there_is_a_frame_for_every_whole_hop(num_samples, want):
    feats = log_mel(torch.randn(num_samples))

    assert feats.shape == (want, 80)
    assert num_frames(num_samples) == want


def test_digital_silence_is_the_silence_feature_everywhere():
    feats = log_mel(torch.zeros(2, 1600))

    assert SILENCE_FEATURE == -0.75
    assert (feats == SILENCE_FEATURE).all()


@pytest.mark.parametrize("hz", [100, 440, 1000, 3000, 7000])
def test_a_sine_is_loudest_in_the_bin_of_its_frequency(hz):
    samples = 0.5 * torch.sin(2 * torch.pi * hz * torch.arange(16_000) / 16_000)

    loudest = log_mel(samples)[10:90].mean(0).argmax().item()

    centre = slaney_mel(hz) / slaney_mel(8000) * 81 - 1  # 80 triangles stand evenly between the two ends of the scale
    assert abs(loudest - centre) <= 1


def test_ten_times_the_amplitude_is_half_a_unit_more():
    samples = torch.randn(1600) * 0.01

    quiet, loud = log_mel(samples), log_mel(10 * samples)

    torch.testing.assert_close(loud - quiet, torch.full_like(quiet, 0.5), atol=1e-4, rtol=0)


def test_a_click_is_heard_by_the_frames_that_are_centred_near_it():
    samples = torch.zeros(3200)
    samples[1600] = 1.0

    heard = (log_mel(samples) > SILENCE_FEATURE).any(1).nonzero().flatten().tolist()

    assert heard == [9, 10, 11]  # centred on 1440, 1600 and 1760, each reaching 199 samples to either side


@pytest.mark.parametrize("num_samples", [160, 161, 399, 400, 401, 4000, 16_001])
def test_the_features_are_whispers_with_a_fixed_floor(num_samples):
    samples = torch.randn(3, num_samples) * torch.tensor([[1e-4], [0.1], [1.0]])

    feats = log_mel(samples)

    want = (whispers_power(samples).clamp_min(1e-7).log10() + 4) / 4
    torch.testing.assert_close(feats, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_samples", [0, 399, 400, 559, 560, 4000])
def test_the_windows_inside_are_those_of_the_whole(num_samples):
    samples = torch.randn(num_samples)

    inside = log_mel_frames(samples)

    whole = log_mel(torch.cat([samples[200:], torch.zeros(400)]))
    assert len(inside) == max(0, (num_samples - 400) // 160 + 1)
    torch.testing.assert_close(inside[2:], whole[2 : len(inside)], atol=1e-6, rtol=0)
