"""Each neuron by hand; reference values: ../shared/design/spiking_cerebellum.md, sections 1.6 to 1.8."""

import itertools
import math

import pytest
import torch

from cifasr.ops.lif import Rect
from cifasr.spiking.adaptive_lif import AdaptiveLIF
from cifasr.spiking.lif import IF, LIF, charging, decay_of, firing_rate_hz
from cifasr.spiking.sliding_psn import SlidingPSN


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def fire(layer, *current):
    """Steps of current to one neuron; the steps, from 1, in which it fires."""
    spikes, _ = layer(f64(*current)[None, :, None], torch.tensor([len(current)]))
    return (spikes.flatten().nonzero().flatten() + 1).tolist()


def test_the_f_i_curve_has_the_rates_of_the_table():
    current = f64(0.5, 1, 1.01, 1.05, 1.1, 1.5, 2, 3, 5)

    rates = firing_rate_hz(current, tau_ms=10, refractory_ms=2)

    want = [0, 0, 20.7679, 30.8212, 38.4927, 77.0053, 111.9636, 165.1623, 236.3264]
    assert rates.tolist() == pytest.approx(want, abs=5e-5)


def test_so_it_does_in_millivolts_and_nanoamperes():
    rest_mv, resistance_mohm = -65, 10

    rates = firing_rate_hz(
        rest_mv + resistance_mohm * f64(1.5, 1.6, 2.0, 3.0), tau_ms=20, threshold=-50, reset=rest_mv, refractory_ms=2
    )

    assert rates.tolist() == pytest.approx([0, 17.4059, 33.6407, 63.0400], abs=5e-5)


def test_the_f_i_curve_is_differentiable_on_both_sides_of_the_threshold():
    current = f64(0.3, 1.0, 1.2, 4).requires_grad_()

    assert torch.autograd.gradcheck(lambda i: firing_rate_hz(i, tau_ms=10, refractory_ms=2), current[[0, 2, 3]])
    (grad,) = torch.autograd.grad(firing_rate_hz(current, tau_ms=10).sum(), current)
    assert grad[:2].tolist() == [0, 0]


@pytest.mark.parametrize("drive", [1.2, 1.5, 3.0])
def test_the_layer_fires_at_that_rate_to_within_a_step(drive):
    step_ms, tau_ms = 0.1, 10.0
    layer = LIF(decay_of(tau_ms, step_ms), convention="settles", reset="zero")

    steps = fire(layer, *[drive] * 400)

    exact_ms = 1000 / firing_rate_hz(f64(drive), tau_ms=tau_ms).item()
    assert steps[1] - steps[0] == steps[0] == math.ceil(exact_ms / step_ms)


def test_a_current_that_settles_charges_the_membrane_exactly_as_in_continuous_time():
    layer = LIF(decay_of(10.0, 1.0), convention="settles", threshold=99.0)

    _, state = layer(torch.full((1, 30, 1), 1.5, dtype=torch.float64), torch.tensor([30]))

    exact = charging(f64(30), f64(1.5), tau_ms=10).item()
    assert exact == pytest.approx(1.42532, abs=5e-6)
    assert state["membrane"].item() == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(("convention", "settles_at"), [("settles", 1.5), ("adds", 15.76)])
def test_the_two_conventions_settle_where_they_say(convention, settles_at):
    layer = LIF(math.exp(-0.1), convention=convention, threshold=99.0)

    _, state = layer(torch.full((1, 300, 1), 1.5, dtype=torch.float64), torch.tensor([300]))

    assert state["membrane"].item() == pytest.approx(settles_at, abs=0.005)


@pytest.mark.parametrize(
    ("drive", "tau", "convention", "every"),
    [(1.5, 2, "settles", 2), (1.2, 2, "settles", 3), (1.05, 4, "settles", 11), (0.3, 4, "adds", 7)],
)
def test_a_hard_reset_neuron_fires_as_often_as_in_spikingjelly(drive, tau, convention, every):
    layer = LIF(1 - 1 / tau, convention=convention, reset="zero")

    assert fire(layer, *[drive] * (3 * every)) == [every, 2 * every, 3 * every]


def test_an_if_neuron_keeps_what_is_above_its_threshold():
    assert fire(IF(), 0.75, 0.75, 0.75, 0.75) == [2, 3, 4]
    assert fire(IF(reset="zero"), 0.75, 0.75, 0.75, 0.75) == [2, 4]
    assert fire(IF(threshold=2.0), 1.0, 0.5, 0.5) == [3]


def test_an_adaptive_neuron_is_what_its_equations_say():
    layer = AdaptiveLIF(1, decay=0.5, adaptation_decay=0.75, coupling=2.0, jump=4.0).double()

    spikes, state = layer(f64(1.5, 3.0, 3.0)[None, :, None], torch.tensor([3]))

    # potential 0.75, adaptation 0.25 * 2 * 0.75 = 0.375; 0.375 + 0.5 * 2.625 = 1.6875 fires, 0.28125 + 0.25 * 4;
    # 0.5 * (3 - 1.28125) = 0.859375
    assert spikes.flatten().tolist() == [0, 1, 0]
    assert state["membrane"].item() == 0.859375
    assert state["adaptation"].item() == 0.75 * 1.28125 + 0.25 * 2 * 0.859375


def test_an_adaptive_neuron_tires_under_a_constant_current():
    layer = AdaptiveLIF(1, decay=0.9, adaptation_decay=0.98, coupling=0.0, jump=10.0).double()

    steps = fire(layer, *[2.0] * 300)

    intervals = [b - a for a, b in itertools.pairwise(steps)]
    assert intervals[0] < intervals[-1]


def below_threshold(coupling, num_steps):
    """The pair of membrane and adaptation after each step that follows one of current: (num_steps, 2)."""
    layer = AdaptiveLIF(1, decay=0.9, adaptation_decay=0.95, coupling=coupling, jump=0.0, threshold=1e300).double()
    state, pairs = None, []
    for t in range(num_steps + 1):
        _, state = layer(torch.full((1, 1, 1), float(t == 0), dtype=torch.float64), torch.tensor([1]), state)
        pairs.append(torch.cat([state["membrane"], state["adaptation"]], -1)[0])
    return torch.stack(pairs[1:]).detach()


def test_below_the_threshold_it_loses_the_same_area_a_step_whatever_its_coupling():
    for coupling in (0.5, 30.0, 500.0):
        a, b, c = below_threshold(coupling, 3)

        before, after = torch.linalg.det(torch.stack([a, b])), torch.linalg.det(torch.stack([b, c]))
        assert (after / before).item() == pytest.approx(0.9 * 0.95)


def test_it_is_stable_to_its_limit_where_forward_euler_has_long_grown():
    limit, euler_limit = 1.9 * 1.95 / (0.1 * 0.05), (1 - 0.9 * 0.95) / (0.1 * 0.05)

    assert limit > 25 * euler_limit
    assert below_threshold(0.999 * limit, 200)[-1].abs().max() < 1
    with pytest.raises(ValueError, match=r"coupling: got .*, wanted -1 to 741, or the neuron is unstable"):
        AdaptiveLIF(1, decay=0.9, adaptation_decay=0.95, coupling=1.001 * limit, jump=0.0)


def test_a_sliding_neuron_is_a_causal_filter_and_a_threshold():
    layer, current = SlidingPSN(5, threshold=0.7).double(), torch.randn(2, 30, 3, dtype=torch.float64)
    layer.weight.data.normal_()

    spikes, _ = layer(current, torch.tensor([30, 30]))

    channels = torch.nn.functional.pad(current.mT.reshape(6, 1, 30), (4, 0))
    filtered = torch.nn.functional.conv1d(channels, layer.weight[None, None]).view(2, 3, 30).mT
    assert torch.equal(spikes, (filtered >= 0.7).double())


def test_a_sliding_neuron_starts_as_a_leak_of_a_half_and_learns_its_filter():
    layer = SlidingPSN(3, surrogate=Rect(100.0))

    spikes, _ = layer(torch.tensor([1.0, 2.0, 4.0])[None, :, None], torch.tensor([3]))
    (grad,) = torch.autograd.grad(spikes[0, 2], layer.weight, retain_graph=True)

    assert layer.weight.tolist() == [0.25, 0.5, 1]
    assert (grad * 100).tolist() == pytest.approx([1, 2, 4])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIF(0.5, convention="exact"), r"convention: got 'exact', wanted 'settles' or 'adds'"),
        (lambda: LIF(1.0, convention="settles"), r"convention: got 'settles' for decay 1, wanted 'adds'"),
        (lambda: decay_of(0.0, 1.0), r"tau_ms, step_ms: got 0.0, 1.0"),
        (lambda: firing_rate_hz(f64(1), tau_ms=1, threshold=1, reset=1), r"threshold: got 1, wanted more than the res"),
        (lambda: AdaptiveLIF(1, decay=1.0, adaptation_decay=0.5, coupling=0, jump=0), r"decay: got 1.0"),
        (lambda: AdaptiveLIF(1, decay=0.5, adaptation_decay=0.5, coupling=0, jump=-1), r"jump: got -1"),
        (lambda: SlidingPSN(0), r"order: got 0, wanted at least 1"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
