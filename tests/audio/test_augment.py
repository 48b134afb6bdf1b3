import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifasr.audio.augment import change_level, limit_band, mix_noise, perturb_speed, reverberate, spec_augment


def tone(hz, num_samples=16_000):
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(num_samples) / 16_000)).astype(np.float32)


def loudest_hz(samples):
    return np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * 16_000 / len(samples)


def power_db(samples):
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))


@pytest.mark.parametrize(("factor", "num_samples"), [(0.5, 32_000), (1.0, 16_000), (1.1, 14_545), (2.0, 8_000)])
def test_speed_moves_length_and_pitch_together(factor, num_samples):
    faster = perturb_speed(tone(400), factor)

    assert faster.dtype == np.float32
    assert len(faster) == num_samples
    assert loudest_hz(faster) == pytest.approx(400 * factor, abs=2)


def test_a_speed_of_zero_is_refused():
    with pytest.raises(ValueError, match="above 0, got 0"):
        perturb_speed(tone(400), 0)


@pytest.mark.parametrize("num_samples", [15_999, 16_000])
def test_a_narrow_band_loses_what_is_above_it_and_keeps_the_rest(num_samples):
    low, high = tone(1_000, num_samples), tone(5_000, num_samples)

    narrow = limit_band(low + high, 3_400.0)

    assert narrow.shape == low.shape
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow[1_000:-1_000], low[1_000:-1_000], atol=2e-3)


def test_level_is_changed_by_decibels():
    louder = change_level(np.array([0.01, -0.02], np.float32), 20.0)

    np.testing.assert_allclose(louder, [0.1, -0.2], rtol=1e-6)
    assert louder.dtype == np.float32


@pytest.mark.parametrize("num_noise", [1_000, 16_000, 16_001])
@pytest.mark.parametrize("snr_db", [-5.0, 20.0])
def test_noise_has_the_power_asked_for(num_noise, snr_db):
    speech = tone(400)
    noise = np.random.default_rng(1).normal(0, 3.0, num_noise).astype(np.float32)

    noisy = mix_noise(speech, noise, snr_db, np.random.default_rng(0))

    assert noisy.dtype == np.float32
    assert power_db(speech) - power_db(noisy - speech) == pytest.approx(snr_db, abs=0.3)


def test_noise_starts_anywhere_and_begins_again_where_it_ends():
    noise = np.array([1.0, 2.0, 3.0], np.float32)  # a power of 14 / 3
    speech = np.ones(7, np.float32)
    snr_db = -10 * np.log10(14 / 3)  # so that the noise is added as it is

    noisy = [mix_noise(speech, noise, snr_db, np.random.default_rng(seed)) for seed in range(20)]

    added = [tuple(np.rint(samples - speech).astype(int).tolist()) for samples in noisy]
    assert {start[:3] for start in added} == {(1, 2, 3), (2, 3, 1), (3, 1, 2)}
    assert all(start[3:6] == start[:3] and start[6] == start[0] for start in added)


def test_silent_noise_is_refused_and_silent_speech_stays():
    with pytest.raises(ValueError, match="silent"):
        mix_noise(tone(400), np.zeros(5, np.float32), 10.0, np.random.default_rng(0))
    assert not mix_noise(np.zeros(50, np.float32), tone(400), 10.0, np.random.default_rng(0)).any()


def test_a_room_with_one_echo_by_hand():
    impulse = np.array([1.0, 0.0, 0.0, 0.0], np.float32)
    response = np.array([0.0, 2.0, 0.0, -1.0], np.float32)  # direct sound at 1, echo two samples later

    wet = reverberate(impulse, response)

    np.testing.assert_allclose(wet, np.array([2.0, 0.0, -1.0, 0.0]) / np.sqrt(5), atol=1e-6)
    assert wet.dtype == np.float32


def test_a_room_without_echo_changes_nothing():
    speech = np.random.default_rng(0).normal(0, 0.1, 1_001).astype(np.float32)

    np.testing.assert_allclose(reverberate(speech, np.array([0, 0, 0.3], np.float32)), speech, atol=1e-6)


def test_a_room_keeps_the_power():
    rng = np.random.default_rng(0)
    response = (rng.normal(0, 1, 8_000) * np.exp(-np.arange(8_000) / 1_000)).astype(np.float32)

    assert power_db(reverberate(tone(400), response)) == pytest.approx(power_db(tone(400)), abs=1e-3)
    with pytest.raises(ValueError, match="silent"):
        reverberate(tone(400), np.zeros(9, np.float32))
    assert not reverberate(np.zeros(9, np.float32), response).any()


@settings(deadline=None)
@given(st.lists(st.integers(0, 900), min_size=1, max_size=4), st.integers(0, 2**32))
def test_masks_stay_within_their_widths_and_lengths(lens, seed):
    feat_lens = torch.tensor(lens)
    feats = torch.ones(len(lens), max(lens), 80)

    masked = spec_augment(feats, feat_lens, np.random.default_rng(seed))

    assert torch.equal(feats, torch.ones_like(feats))
    for row, length in zip(masked, lens, strict=True):
        hidden_bins = (row[:length] == 0).all(dim=0)
        hidden_frames = (row == 0).all(dim=1)
        if length:
            assert hidden_bins.sum() <= 2 * 15
        assert hidden_frames.sum() <= -(-length // 300) * min(25, length // 5)
        assert not hidden_frames[length:].any()
        assert torch.equal(row[:length] == 0, (hidden_frames[:length, None] | hidden_bins))


def test_masks_reach_every_bin_and_every_frame():
    feats = torch.ones(300, 600, 20)

    masked = spec_augment(feats, torch.full((300,), 600), np.random.default_rng(0), freq_width=5)

    assert bool((masked == 0).all(dim=1).any(dim=0).all())
    assert bool((masked == 0).all(dim=2).any(dim=0).all())
    assert (masked == 0).all(dim=2).sum(dim=1).max() == 2 * 25


def test_masks_are_the_same_for_the_same_generator_and_leave_the_global_state_alone():
    feats, lens = torch.randn(3, 400, 80), torch.tensor([400, 300, 7])
    before, before_torch = np.random.get_state()[1].copy(), torch.get_rng_state()

    first = spec_augment(feats, lens, np.random.default_rng(5))
    second = spec_augment(feats, lens, np.random.default_rng(5))

    assert torch.equal(first, second)
    assert not torch.equal(first, spec_augment(feats, lens, np.random.default_rng(6)))
    assert np.array_equal(before, np.random.get_state()[1])
    assert torch.equal(before_torch, torch.get_rng_state())


def test_masks_can_be_turned_off_and_filled_with_another_value():
    feats, lens = torch.randn(2, 50, 80), torch.tensor([50, 20])

    assert torch.equal(spec_augment(feats, lens, np.random.default_rng(0), num_freq_masks=0, time_width=0), feats)
    filled = spec_augment(feats, lens, np.random.default_rng(0), fill=-0.75)
    assert set(filled[filled != feats].tolist()) == {-0.75}


def test_a_band_wider_than_the_features_is_refused():
    with pytest.raises(ValueError, match="freq_width <= 8"):
        spec_augment(torch.ones(1, 10, 8), torch.tensor([10]), np.random.default_rng(0))
