import math

import pytest
import torch

from cifasr.ops.lif import lif
from cifasr.spiking.formal import AlphaResponse, ExponentialResponse, FormalNetwork, RefractoryThreshold


def two_neurons(weight, response, threshold):
    """A network in which neuron 0 drives neuron 1."""
    return FormalNetwork(torch.tensor([[0.0, weight], [0.0, 0.0]], dtype=torch.float64), response, threshold)


def test_the_potential_after_one_spike_peaks_at_the_weight_after_tau():
    network = two_neurons(1.2, AlphaResponse(5.0), RefractoryThreshold())

    potentials = [network.potential(t, [[2.0], []])[1].item() for t in (1.0, 2.0, 6.9, 7.0, 7.1)]

    assert potentials[:2] == [0, 0]
    assert potentials[3] == 1.2
    assert max(potentials[2], potentials[4]) < 1.2


@pytest.mark.parametrize("tau_ms", [1.0, 5.0])
def test_one_spike_of_weight_1_2_fires_the_other_neuron_after_half_of_tau(tau_ms):
    network = two_neurons(1.2, AlphaResponse(tau_ms), RefractoryThreshold(absolute_ms=20.0))

    spikes = network.run(15.0, given={0: [2.0]}, look_every_ms=0.5)

    assert spikes[0] == [2.0]
    assert spikes[1] == pytest.approx([2.0 + 0.511067 * tau_ms], abs=5e-7 * tau_ms)  # the design, section 1.5
    x = (spikes[1][0] - 2.0) / tau_ms
    assert x * math.exp(1 - x) == pytest.approx(1 / 1.2, abs=1e-13)


def test_one_spike_of_weight_below_the_threshold_fires_nothing():
    network = two_neurons(0.999, AlphaResponse(5.0), RefractoryThreshold())

    assert network.run(15.0, given={0: [2.0]}, look_every_ms=0.5) == [[2.0], []]


def test_a_potential_that_stays_above_a_constant_threshold_fires_once():
    network = two_neurons(3.0, AlphaResponse(5.0), RefractoryThreshold())

    _, spikes = network.run(30.0, given={0: [0.0]}, look_every_ms=0.5)

    assert len(spikes) == 1


@pytest.mark.parametrize(("absolute_ms", "times"), [(1.5, [1.0, 3.0]), (3.0, [1.0]), (4.5, [1.0])])
def test_no_spike_comes_while_the_neuron_is_absolutely_refractory(absolute_ms, times):
    threshold = RefractoryThreshold(absolute_ms=absolute_ms)
    network = two_neurons(1.2, ExponentialResponse(0.5), threshold)

    _, spikes = network.run(8.0, given={0: [1.0, 3.0]})

    assert spikes == pytest.approx(times, abs=1e-12)


def test_what_is_above_the_threshold_when_it_comes_back_from_infinity_fires_then():
    network = two_neurons(2.0, ExponentialResponse(100.0), RefractoryThreshold(absolute_ms=3.0))

    _, spikes = network.run(8.5, given={0: [1.0]})

    assert spikes == pytest.approx([1.0, 4.0, 7.0], abs=1e-9)


def test_a_relatively_refractory_neuron_fires_when_its_threshold_has_come_down_to_the_potential():
    network = two_neurons(2.0, ExponentialResponse(math.inf), RefractoryThreshold(relative=3.0, tau_ms=4.0))

    _, spikes = network.run(8.0, given={0: [0.0]})

    # 1 + 3 * exp(-s / 4) = 2 for s = 4 * ln 3
    assert spikes == pytest.approx([0.0, 4 * math.log(3)], abs=1e-9)


def test_the_threshold_is_infinite_then_high_then_rests():
    since = torch.tensor([0.0, 1.999, 2.0, 7.0, math.inf], dtype=torch.float64)

    values = RefractoryThreshold(resting=1.0, absolute_ms=2.0, relative=0.5, tau_ms=5.0)(since)

    assert values.tolist() == pytest.approx([math.inf, math.inf, 1.5, 1 + 0.5 / math.e, 1])


def test_with_exponential_responses_and_a_reset_it_is_the_lif_neuron():
    # At most 0.95 comes at once: after a reset nothing is above the threshold, where only a step would fire again.
    tau_ms, weights = 7.0, torch.tensor([[0.4], [0.55]], dtype=torch.float64)
    arrives = torch.rand(2, 60) < 0.4
    weight = torch.zeros(3, 3, dtype=torch.float64)
    weight[:2, 2:], weight[2, 2] = weights, -1.0
    network = FormalNetwork(weight, ExponentialResponse(tau_ms), RefractoryThreshold())

    given = {u: arrives[u].nonzero().flatten().double().tolist() for u in (0, 1)}
    spikes = network.run(60.0, given=given, look_every_ms=1.0)[2]

    current = (weights * arrives).sum(0)[None, :, None]
    want = lif(current, torch.tensor([60]), decay=math.exp(-1 / tau_ms)).spikes.flatten().nonzero().flatten()
    assert len(want) > 15
    assert spikes == pytest.approx(want.tolist(), abs=1e-9)


def test_a_spike_travels_along_a_chain_by_its_delays_and_an_inhibition_stops_it():
    weight = torch.diag(torch.full((3,), 1.5, dtype=torch.float64), 1)
    delay_ms = torch.tensor([[1.0], [2.5], [0.0], [0.0]], dtype=torch.float64)  # by the neuron that sends
    network = FormalNetwork(weight, ExponentialResponse(1.0, delay_ms), RefractoryThreshold(absolute_ms=1.0))
    blocked = FormalNetwork(weight.clone(), network.response, network.threshold)
    blocked.weight[3, 2] = -1.0

    free = network.run(6.0, given={0: [0.5]})
    stopped = blocked.run(6.0, given={0: [0.5], 3: [3.9]})

    assert [time for own in free for time in own] == pytest.approx([0.5, 1.5, 4.0, 4.0], abs=1e-9)
    assert stopped == [[0.5], free[1], [], [3.9]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RefractoryThreshold(resting=0.0), r"RefractoryThreshold.resting: got 0.0, wanted > 0"),
        (lambda: RefractoryThreshold(absolute_ms=-1.0), r"absolute_ms: got -1.0, wanted >= 0"),
        (lambda: RefractoryThreshold(tau_ms=math.nan), r"tau_ms: got nan"),
        (lambda: FormalNetwork(torch.zeros(2, 3), AlphaResponse(1.0), RefractoryThreshold()), r"weight: got \(2, 3\)"),
        (lambda: endless().run(1.0, given={3: [0.1]}), r"given: got neurons \[3\], wanted some of 0 to 2"),
        (lambda: endless().run(1.0, given={}, look_every_ms=0.0), r"look_every_ms: got 0.0"),
        (lambda: endless().run(1.0, given={2: [0.1]}), r"neurons fire each other without end at 0.1"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def endless():
    """Two neurons that fire each other at once, and forget at once that they fired; a third starts them."""
    weight = torch.tensor([[-2.0, 2.0, 0.0], [2.0, -2.0, 0.0], [2.0, 0.0, 0.0]], dtype=torch.float64)
    return FormalNetwork(weight, ExponentialResponse(math.inf), RefractoryThreshold())
