import pytest
import torch

from cifasr.cerebellum.dopamine import expectiles, learn, learn_in_turn, prediction_errors

TAUS = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)


def mixture(num_samples):
    """Samples at even quantiles of each half of 0.5 N(1, 0.2) + 0.5 N(5, 0.5), sd as written, (1, 2 * num_samples)."""
    normal = torch.special.ndtri((torch.arange(num_samples, dtype=torch.float64) + 0.5) / num_samples)
    return torch.cat([1 + 0.2 * normal, 5 + 0.5 * normal])[None]


def drawn_rewards(num_batches, num_rewards):
    generator = torch.Generator().manual_seed(0)
    return mixture(500)[0, torch.randint(1000, (num_batches, num_rewards), generator=generator)]


def test_good_and_bad_news_by_hand():
    values, rewards = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([2.0])
    taus = torch.tensor([0.25, 0.25, 0.25])

    errors = prediction_errors(values, rewards)

    assert errors.tolist() == [[1.0, 0.0, -2.0]]
    assert learn(values, errors, taus, rule="expectile", step=0.5).tolist() == [[1.125, 2.0, 3.25]]
    assert learn(values, errors, taus, rule="quantile", step=0.5).tolist() == [[1.125, 2.0, 3.625]]


def test_the_expectiles_of_the_mixture_are_those_of_the_table():
    values = expectiles(mixture(2000), TAUS)[0]

    assert values.tolist() == pytest.approx([1.398, 3.000, 4.660], abs=2e-3)


def test_an_expectile_balances_what_is_above_it_with_what_is_below():
    samples = torch.randn(4, 101, dtype=torch.float64)

    values = expectiles(samples, TAUS)

    gap = samples[:, :, None] - values[:, None, :]
    balance = TAUS * gap.clamp_min(0).mean(1) - (1 - TAUS) * (-gap).clamp_min(0).mean(1)
    torch.testing.assert_close(balance, torch.zeros(4, 3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(values[:, 1], samples.mean(1))


def test_expectiles_of_float32_samples_and_of_one_reward_are_found_too():
    assert expectiles(torch.full((1, 5), 0.3), TAUS.float())[0].tolist() == pytest.approx([0.3] * 3)
    assert expectiles(mixture(500).float(), TAUS.float())[0].tolist() == pytest.approx([1.398, 3.0, 4.66], abs=3e-3)


@pytest.mark.parametrize(
    ("rule", "taus", "want"),
    [("expectile", (0.1, 0.5, 0.9), (1.398, 3.000, 4.660)), ("quantile", (0.1, 0.9), (0.8317, 5.4208))],
)
def test_cells_come_to_rest_at_the_expectiles_and_quantiles_of_the_rewards(rule, taus, want):
    taus = torch.tensor(taus, dtype=torch.float64)

    _, tail = learn_in_turn(
        3 + torch.zeros(16, len(taus)).double(), drawn_rewards(16, 2000), taus, rule=rule, step=0.02
    )

    assert tail.mean(0).tolist() == pytest.approx(want, abs=0.05)


def test_the_mean_of_the_tail_trembles_less_than_the_last_values():
    last, tail = learn_in_turn(
        3 + torch.zeros(16, 3).double(), drawn_rewards(16, 1000), TAUS, rule="expectile", step=0.05
    )

    assert (tail.std(0) < 0.6 * last.std(0)).all()


def test_four_times_the_step_trembles_twice_as_much():
    rewards, start = drawn_rewards(256, 1000), 3 + torch.zeros(256, 3).double()

    little, much = (learn_in_turn(start, rewards, TAUS, rule="expectile", step=step)[0] for step in (0.02, 0.08))

    assert (much.std(0) / little.std(0)).tolist() == pytest.approx([2] * 3, rel=0.1)
    one_run = torch.tensor([1.488, 2.807, 4.546], dtype=torch.float64)
    assert ((one_run - little.mean(0)).abs() < 2 * little.std(0)).all()


def test_between_the_two_kinds_of_reward_every_value_is_a_median():
    values, rewards = torch.tensor([2.0, 2.6, 3.2]).double().expand(2000, 3), mixture(1000)[0]

    moved = learn(values, prediction_errors(values, rewards), torch.full((3,), 0.5), rule="quantile", step=0.1)

    torch.testing.assert_close(moved.mean(0), values[0])


def test_reversal_points_rise_with_tau():
    taus = torch.linspace(0.05, 0.95, 11, dtype=torch.float64)

    _, tail = learn_in_turn(3 + torch.zeros(4, 11).double(), drawn_rewards(4, 800), taus, rule="expectile", step=0.05)

    assert (tail.diff(dim=1) > 0).all()


def test_a_rule_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="rule must be expectile or quantile, got 'mean'"):
        learn(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1), rule="mean", step=0.1)
