import pytest
import torch

from cifasr.spiking.hodgkin_huxley import HodgkinHuxley, spike_times_ms
from cifasr.spiking.lif import firing_rate_hz
from cifasr.spiking.plasticity import STDP

pytest.importorskip("brian2", reason="needs Brian2: see tests/oracles/README.md")

import brian2 as b
from brian2 import ms, mV

SQUID = """
dv/dt = (current - 120*m**3*h*(v - 50*mV)/mV - 36*n**4*(v + 77*mV)/mV - 0.3*(v + 54.387*mV)/mV) * mV/ms : volt
dm/dt = (1/exprel(-(v/mV + 40)/10)*(1 - m) - 4*exp(-(v/mV + 65)/18)*m)/ms : 1
dh/dt = (0.07*exp(-(v/mV + 65)/20)*(1 - h) - h/(1 + exp(-(v/mV + 35)/10)))/ms : 1
dn/dt = (0.1/exprel(-(v/mV + 55)/10)*(1 - n) - 0.125*exp(-(v/mV + 65)/80)*n)/ms : 1
current : 1
"""


@pytest.fixture(autouse=True)
def plain_numpy():
    """No compiler: codegen to C++ takes longer than the equations."""
    b.prefs.codegen.target = "numpy"
    b.start_scope()


def rate_hz(times_ms):
    """Between the spikes of the second half."""
    late = [t for t in times_ms if t > times_ms[-1] / 2]
    return 1000 * (len(late) - 1) / (late[-1] - late[0])


def test_the_squids_axon_fires_as_theirs(compared):
    currents, step_ms, num_steps = [6.3, 7.0, 10.0, 50.0], 0.025, 20_000
    b.defaultclock.dt = step_ms * ms
    axons = b.NeuronGroup(4, SQUID, method="rk4", threshold="v > 0*mV", refractory="v > 0*mV")
    rest = HodgkinHuxley().rest(torch.zeros((), dtype=torch.float64))
    axons.v, axons.m, axons.h, axons.n = rest[0].item() * mV, *rest[1:].tolist()
    axons.current = currents
    monitor = b.SpikeMonitor(axons)

    b.run(num_steps * step_ms * ms)
    given = torch.tensor(currents, dtype=torch.float64)[:, None].expand(-1, num_steps)
    with torch.no_grad():
        trace = HodgkinHuxley().run(given, step_ms=step_ms)[..., 0]

    for i, current in enumerate(currents):
        ours, theirs = spike_times_ms(trace[i], step_ms=step_ms).tolist(), (monitor.spike_trains()[i] / ms).tolist()
        rates = rate_hz(ours), rate_hz(theirs)
        compared(
            "Brian2",
            f"Hodgkin-Huxley at {current} uA/cm2, 500 ms",
            *(f"{len(x)} spikes, {rate:.3f} Hz" for x, rate in zip((ours, theirs), rates, strict=True)),
        )
        assert len(ours) == len(theirs)
        assert ours == pytest.approx(theirs, abs=0.03)  # theirs come in whole steps
        assert rates[0] == pytest.approx(rates[1], abs=0.05)


def test_a_leaky_neuron_has_the_rate_of_theirs(compared):
    currents = [0.9, 1.05, 1.5, 2.0, 5.0]
    b.defaultclock.dt = 0.01 * ms
    cells = b.NeuronGroup(
        5,
        "dv/dt = (-v + I)/(10*ms) : 1 (unless refractory)\nI : 1",
        threshold="v > 1",
        reset="v = 0",
        refractory=2 * ms,
        method="exact",
    )
    cells.I = currents
    monitor = b.SpikeMonitor(cells)

    b.run(500 * ms)
    ours = firing_rate_hz(torch.tensor(currents, dtype=torch.float64), tau_ms=10, refractory_ms=2).tolist()

    for i, (current, rate) in enumerate(zip(currents, ours, strict=True)):
        train = (monitor.spike_trains()[i] / ms).tolist()
        theirs = rate_hz(train) if train else 0.0
        compared("Brian2", f"LIF at {current} thresholds", f"{rate:.2f} Hz", f"{theirs:.2f} Hz")
        assert rate == pytest.approx(theirs, rel=4e-3)  # theirs in whole steps of 0.01 ms


def test_pairs_of_spikes_change_a_weight_as_theirs(compared):
    lags = [1.0, 5.0, 10.0, 20.0, -1.0, -10.0, -20.0]
    b.defaultclock.dt = 0.1 * ms
    n = len(lags)
    pre = b.SpikeGeneratorGroup(n, range(n), [50] * n * ms)
    post = b.SpikeGeneratorGroup(n, range(n), [50 + lag for lag in lags] * ms)
    synapses = b.Synapses(
        pre,
        post,
        "w : 1\ndapre/dt = -apre/(20*ms) : 1 (event-driven)\ndapost/dt = -apost/(20*ms) : 1 (event-driven)",
        on_pre="apre += 0.01\nw += apost",
        on_post="apost -= 0.0105\nw += apre",
    )
    synapses.connect(j="i")

    b.run(100 * ms)
    ours = STDP().window(torch.tensor(lags, dtype=torch.float64)).tolist()

    for lag, our, their in zip(lags, ours, synapses.w[:], strict=True):
        compared("Brian2", f"STDP of a pair at {lag:+.0f} ms", f"{our:.8f}", f"{their:.8f}")
    assert ours == pytest.approx(list(synapses.w[:]), rel=1e-9)
