"""Reference values: ../shared/design/spiking_cerebellum.md, section 1.8."""

import math

import pytest
import torch

from cifasr.spiking.plasticity import STDP, rewarded_changes


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def spikes_at(*steps, num_steps=60):
    spikes = torch.zeros(1, num_steps, 1, dtype=torch.float64)
    spikes[0, list(steps)] = 1
    return spikes


def total(pre, post, rule=STDP()):  # noqa: B008 - frozen
    changes, _ = rule.changes(pre, post, torch.tensor([pre.shape[1]]), step_ms=1.0)
    return changes.sum((0, 1)).item()


WINDOW = [(1, 0.00951229), (5, 0.00778801), (10, 0.00606531), (20, 0.00367879), (-10, -0.00636857), (-20, -0.00386273)]


@pytest.mark.parametrize(("lag_ms", "change"), WINDOW)
def test_a_pair_of_spikes_changes_the_weight_by_the_window(lag_ms, change):
    pair = total(spikes_at(25), spikes_at(25 + lag_ms))

    assert pair == pytest.approx(change, abs=5e-9)
    assert STDP().window(f64(lag_ms)).item() == pytest.approx(pair, abs=1e-15)


@pytest.mark.parametrize(("lag_ms", "change"), [(10, 0.42846), (-10, -0.20290)])
def test_with_the_constants_of_bi_and_poo_it_has_their_window(lag_ms, change):
    rule = STDP(tau_pre_ms=16.8, tau_post_ms=33.7, strengthen=0.777, weaken=0.273)

    assert total(spikes_at(25), spikes_at(25 + lag_ms), rule) == pytest.approx(change, abs=5e-6)


def test_the_area_of_the_window_is_that_of_weakening_a_little_more():
    lag_ms = (torch.arange(-50_000, 50_000, dtype=torch.float64) + 0.5) / 50  # the middles of intervals

    assert (STDP().window(lag_ms) / 50).sum().item() == pytest.approx(-0.01, abs=1e-8)


def test_spikes_at_the_same_time_make_no_pair():
    assert total(spikes_at(25), spikes_at(25)) == 0
    assert STDP().window(f64(0)).item() == 0


def test_every_pair_counts():
    pre, post = [3, 8, 20, 41], [5, 8, 30, 31, 55]

    want = sum(STDP().window(f64(b - a)).item() for a in pre for b in post)
    assert total(spikes_at(*pre), spikes_at(*post)) == pytest.approx(want, abs=1e-15)


def test_half_a_step_of_time_changes_nothing_but_the_grid():
    changes, _ = STDP().changes(spikes_at(20), spikes_at(40), torch.tensor([60]), step_ms=0.5)

    assert changes.sum().item() == pytest.approx(0.00606531, abs=5e-9)


@pytest.mark.parametrize("delay_ms", [0, 5, 25])
def test_a_reward_that_comes_later_teaches_less(delay_ms):
    changes, _ = STDP().changes(spikes_at(5), spikes_at(15), torch.tensor([60]), step_ms=1.0)
    reward = torch.zeros(1, 60, dtype=torch.float64)
    reward[0, 15 + delay_ms] = 0.5

    learned, _ = rewarded_changes(changes, reward, torch.tensor([60]), tau_ms=25.0, step_ms=1.0)
    punished, _ = rewarded_changes(changes, -reward, torch.tensor([60]), tau_ms=25.0, step_ms=1.0)
    ignored, _ = rewarded_changes(changes, 0 * reward, torch.tensor([60]), tau_ms=25.0, step_ms=1.0)

    assert learned.item() == pytest.approx(0.5 * 0.00606531 * math.exp(-delay_ms / 25), abs=5e-9)
    assert punished.item() == -learned.item()
    assert ignored.item() == 0


def test_chunks_change_what_the_whole_changes_and_padding_nothing():
    pre, post = ((torch.rand(2, 30, d) < 0.3).float() for d in (3, 4))
    reward, lens = torch.randn(2, 30), torch.tensor([30, 17])
    rule, cut = STDP(), 11

    whole, state = rule.changes(pre, post, lens, step_ms=1.0)
    learned, eligibility = rewarded_changes(whole, reward, lens, tau_ms=25.0, step_ms=1.0)
    first, between = rule.changes(pre[:, :cut], post[:, :cut], torch.tensor([cut, cut]), step_ms=1.0)
    pre[1, 17:], post[1, 17:], reward[1, 17:] = torch.nan, torch.nan, torch.nan
    second, end = rule.changes(pre[:, cut:], post[:, cut:], lens - cut, step_ms=1.0, state=between)
    some, memory = rewarded_changes(first, reward[:, :cut], torch.tensor([cut, cut]), tau_ms=25.0, step_ms=1.0)
    more, memory = rewarded_changes(second, reward[:, cut:], lens - cut, tau_ms=25.0, step_ms=1.0, eligibility=memory)

    assert whole.shape == (2, 30, 3, 4)
    assert torch.equal(torch.cat([first, second], 1), whole)
    assert not whole[1, 17:].any()
    assert all(torch.equal(x, y) for x, y in zip(state, end, strict=True))
    assert torch.equal(memory, eligibility)
    torch.testing.assert_close(some + more, learned)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: STDP(tau_pre_ms=0), r"STDP.tau_pre_ms: got 0, wanted > 0"),
        (lambda: STDP(weaken=-0.01), r"STDP.weaken: got -0.01, wanted >= 0"),
        (lambda: STDP().changes(*[torch.zeros(1, 2, 1)] * 2, torch.tensor([2]), step_ms=0), r"step_ms: got 0"),
        (
            lambda: rewarded_changes(
                torch.zeros(1, 2, 1, 1), torch.zeros(1, 2), torch.tensor([2]), tau_ms=0, step_ms=1
            ),
            r"tau_ms, step_ms: got 0, 1",
        ),
    ],
)
def test_an_argument_that_does_not_fit_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
