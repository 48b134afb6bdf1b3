import pytest
import torch

from cifasr.cerebellum.hopfield import (
    CRITICAL_LOAD,
    bit_error,
    energy,
    modern_energy,
    modern_recall,
    perfect_capacity,
    recall,
    store,
)


def signs(*shape, seed=0, dtype=torch.float32):
    return 2 * torch.randint(2, shape, generator=torch.Generator().manual_seed(seed)).to(dtype) - 1


def test_two_patterns_make_these_weights():
    weights = store(torch.tensor([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]]))

    assert (4 * weights).tolist() == [[0, 0, 0, -2], [0, 0, -2, 0], [0, -2, 0, 0], [-2, 0, 0, 0]]


@pytest.mark.parametrize(
    ("load", "overlap", "scatter"),
    [(0.05, 1.000, 5e-4), (0.10, 0.998, 1e-3), (0.12, 0.9936, 2e-3), (0.13, 0.9898, 6e-3)],
)
def test_below_the_critical_load_patterns_are_found_again_but_for_a_few_bits(load, overlap, scatter):
    patterns = signs(round(load * 2000), 2000)

    found = recall(store(patterns), patterns[:40], torch.Generator().manual_seed(1))

    assert float((found * patterns[:40]).mean()) == pytest.approx(overlap, abs=scatter)


@pytest.mark.parametrize(("load", "low", "high"), [(CRITICAL_LOAD, 0.96, 0.995), (0.20, 0.15, 0.5)])
def test_at_the_critical_load_they_still_are_and_past_it_they_are_not(load, low, high):
    # Of 2000 neurons: 0.980 and 0.297 on the average.
    patterns = signs(round(load * 2000), 2000)

    found = recall(store(patterns), patterns[:6], torch.Generator().manual_seed(1), max_sweeps=12)

    assert low <= float((found * patterns[:6]).mean()) <= high


@pytest.mark.parametrize(
    ("load", "theory", "measured"), [(0.10, 0.00078, 0.00085), (0.138, 0.00355, 0.00333), (0.20, 0.01267, 0.01258)]
)
def test_the_first_step_errs_as_the_gaussian_noise_of_the_others_says(load, theory, measured):
    patterns = signs(round(load * 2000), 2000)

    wrong = float(((patterns @ store(patterns)) * patterns < 0).float().mean())

    assert bit_error(load) == pytest.approx(theory, abs=6e-6)
    assert wrong == pytest.approx(measured, rel=0.15)


def test_all_patterns_within_the_bound_are_kept_without_a_wrong_bit():
    most, every = perfect_capacity(1000)
    patterns = signs(round(every), 1000)

    kept = (patterns @ store(patterns)).sign()

    assert (round(most), round(every)) == (72, 36)
    assert torch.equal(kept, patterns)


def test_every_sweep_lowers_the_energy_until_nothing_changes():
    weights, states = store(signs(12, 60, dtype=torch.float64)), signs(5, 60, seed=1, dtype=torch.float64)
    generator, energies = torch.Generator().manual_seed(2), []

    for _ in range(12):
        energies.append(energy(weights, states))
        states = recall(weights, states, generator, max_sweeps=1)

    falls = torch.stack(energies).diff(dim=0)
    assert (falls <= 1e-12).all()
    assert (falls[0] < 0).all()
    assert torch.equal(recall(weights, states, generator), states)


def test_a_neuron_that_hears_nothing_stays_as_it_is():
    states = torch.tensor([[1.0, -1.0, 1.0]])

    assert torch.equal(recall(torch.zeros(3, 3), states, torch.Generator().manual_seed(0)), states)


@pytest.mark.parametrize(("beta", "share"), [(0.25, 0.98), (1.0, 1.0)])
def test_the_modern_one_finds_one_of_ten_thousand_patterns_in_one_step(beta, share):
    patterns = signs(10_000, 64)
    noise = torch.randn(300, 64, generator=torch.Generator().manual_seed(1))

    found = modern_recall(patterns, patterns[:300] + 0.5 * noise, beta)

    near = (found - patterns[:300]).norm(dim=1) < 0.05 * 8
    assert float(near.float().mean()) == pytest.approx(share, abs=0.015)


def test_the_modern_one_is_the_nearest_neighbour_for_a_large_beta_and_the_mean_for_none():
    patterns, queries = signs(30, 16, dtype=torch.float64), torch.randn(9, 16, dtype=torch.float64)

    sharp, blunt = modern_recall(patterns, queries, 1e6), modern_recall(patterns, queries, 1e-9)

    torch.testing.assert_close(sharp, patterns[torch.cdist(queries, patterns).argmin(1)])
    torch.testing.assert_close(blunt, patterns.mean(0).expand(9, -1), rtol=0, atol=1e-6)


def test_every_modern_step_lowers_the_energy():
    patterns, queries = torch.randn(20, 8, dtype=torch.float64), torch.randn(6, 8, dtype=torch.float64)

    for _ in range(5):
        before, queries = modern_energy(patterns, queries, 0.4), modern_recall(patterns, queries, 0.4)
        assert (modern_energy(patterns, queries, 0.4) <= before + 1e-12).all()
