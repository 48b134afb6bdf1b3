"""Reference values: ../shared/design/spiking_cerebellum.md, section 1.4; Brian2 2.9.0 agrees to 0.01 Hz."""

import math

import pytest
import torch

from cifasr.spiking.biophysics import chord_potential_mv
from cifasr.spiking.hodgkin_huxley import HodgkinHuxley, gate_rates, spike_times_ms

STEP_MS, DURATION_MS = 0.05, 250


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture(scope="module")
def potential():
    """The potential, (T,) mV, under a current in uA/cm2 from rest, or two in turn: in one batch, as steps cost."""
    currents = [2.2402, 2.2404, 6.2, 6.25, 6.3, 7, 10, 20, 50, 100, "10 then 6.24", "10 then 6.26", "20 then 10"]
    current = f64(*(float(str(x).split()[-1]) for x in currents))[:, None].repeat(1, round(DURATION_MS / STEP_MS))
    current[-3:, : round(20 / STEP_MS)] = f64(10, 10, 20)[:, None]
    with torch.no_grad():
        trace = HodgkinHuxley().run(current, step_ms=STEP_MS)
    return dict(zip(currents, trace[..., 0], strict=True))


def test_it_rests_where_the_equations_are_still():
    neuron = HodgkinHuxley()

    rest = neuron.rest(f64(0.0))

    assert rest[0].tolist() == pytest.approx([-64.9964, 0.052955, 0.595994, 0.317732], abs=5e-5)
    assert rest[0, 1:].tolist() == pytest.approx([0.052955, 0.595994, 0.317732], abs=5e-7)
    assert neuron.slope(rest, 0.0).abs().max() < 1e-12
    conductance = neuron.conductance(rest[..., 1:])
    assert conductance[0].tolist() == pytest.approx([0.01062, 0.36690, 0.3], abs=5e-6)
    assert chord_potential_mv(conductance, f64(50, -77, -54.387)).item() == pytest.approx(rest[0, 0].item())


def test_other_leaks_in_one_batch_rest_elsewhere():
    neuron = HodgkinHuxley(e_leak=f64(-54.387, -54.4, -54.402))

    assert neuron.rest(f64(0, 0, 0))[:, 0].tolist() == pytest.approx([-64.9964, -64.9997, -65.0002], abs=5e-5)


def test_a_step_of_current_fires_one_spike_from_2_2403(potential):
    assert potential[2.2402].max() < -50
    assert potential[2.2404].max() > 20
    assert len(spike_times_ms(potential[2.2404], step_ms=STEP_MS)) == 1


@pytest.mark.parametrize(("current", "num_spikes"), [(6.2, 3), (6.25, 8)])
def test_below_6_3_spikes_stop(potential, current, num_spikes):
    times = spike_times_ms(potential[current], step_ms=STEP_MS)

    assert len(times) == num_spikes
    assert times[-1] < 150


@pytest.mark.parametrize(
    ("current", "rate_hz", "spikes_in_500_ms"),
    [(6.3, 52.372, 27), (7, 58.329, 30), (10, 68.325, 35), (20, 86.48, None), (50, 117.041, 59)],
)
def test_above_it_fires_at_the_rates_of_the_table_to_a_hundredth_of_a_hertz(
    potential, current, rate_hz, spikes_in_500_ms
):
    times = spike_times_ms(potential[current], step_ms=STEP_MS)

    interval_ms = times.diff()[-8:].mean().item()
    assert 1000 / interval_ms == pytest.approx(rate_hz, abs=0.011)
    if spikes_in_500_ms:
        assert len(times) + math.floor((500 - times[-1].item()) / interval_ms) == spikes_in_500_ms


def test_started_on_its_cycle_it_goes_on_a_little_below_what_starts_it(potential):
    dies, lives = (spike_times_ms(potential[f"10 then {x}"], step_ms=STEP_MS) for x in (6.24, 6.26))

    assert dies[-1] < 100
    assert lives[-1] > 230
    assert lives.diff()[-5:].max() < 20


def test_a_rate_counted_in_whole_steps_is_as_coarse_as_they_are(potential):
    steps = (spike_times_ms(potential[10], step_ms=STEP_MS) / STEP_MS).ceil()

    assert 1000 / (steps[-9:].diff().mean().item() * STEP_MS) == pytest.approx(68.3177, abs=5e-5)


def test_the_cycle_at_10_is_one_and_the_same_from_another_start(potential):
    late = round(150 / STEP_MS)
    rest, cycle = potential[10], potential["20 then 10"]

    assert (cycle[late:].max() - rest[late:].max()).abs() < 0.01
    assert (cycle[late:].min() - rest[late:].min()).abs() < 0.01
    intervals = [spike_times_ms(x, step_ms=STEP_MS).diff()[-5:].mean().item() for x in (rest, cycle)]
    assert intervals[0] == pytest.approx(intervals[1], rel=1e-5)


def test_at_100_it_goes_on_firing_below_0_mv(potential):
    above_0, above_30_below = (spike_times_ms(potential[100], step_ms=STEP_MS, level_mv=x) for x in (0.0, -30.0))

    assert len(above_0) == 1
    assert len(above_30_below) > 30
    assert above_30_below[-1] > 240


def test_the_first_spike_at_10_overshoots_to_40_mv_and_then_the_potential_undershoots_rest(potential):
    with torch.no_grad():
        finely = HodgkinHuxley().run(f64(10.0)[:, None].expand(1, 300), step_ms=0.01)[0, :, 0]

    assert finely.max().item() == pytest.approx(40.26, abs=0.01)
    assert spike_times_ms(finely, step_ms=0.01).tolist() == pytest.approx([1.89], abs=0.015)
    assert potential[10].min().item() == pytest.approx(-75.08, abs=0.01)


@pytest.mark.parametrize(("potential_mv", "current", "rate_hz"), [(-59.654, 9.7754, 93.3), (None, 154.522, None)])
def test_the_fixed_point_changes_stability_at_the_hopf_points(potential_mv, current, rate_hz):
    neuron = HodgkinHuxley()
    fixed = neuron.rest(f64(current * 0.9999, current, current * 1.0001))

    jacobian = torch.stack([torch.func.jacrev(neuron.slope)(x, 0.0) for x in fixed])
    values = torch.linalg.eigvals(jacobian)
    growth = values.real.max(-1).values

    assert growth[0] * growth[2] < 0
    assert growth[1].abs() < 1e-5
    assert neuron.holding_current(fixed[1, 0]).item() == pytest.approx(current, rel=1e-9)
    if potential_mv:
        assert fixed[1, 0].item() == pytest.approx(potential_mv, abs=5e-4)
        assert values[1].imag.max().item() / (2 * math.pi) * 1000 == pytest.approx(rate_hz, abs=0.05)


def test_gates_have_their_limits_and_slopes_where_the_formulas_are_nought_by_nought():
    v = f64(-40, -40 + 1e-5, -40 + 1e-2, -55, -55 - 1e-5, -55 + 1e-2).requires_grad_()

    opening, _ = gate_rates(v)
    (slope,) = torch.autograd.grad(opening[:3, 0].sum() + opening[3:, 2].sum(), v)

    assert opening[:3, 0].tolist() == pytest.approx([1, 1 + 0.5e-6, 1 + 0.5e-3 + 1e-6 / 12], abs=1e-13)
    assert opening[3:, 2].tolist() == pytest.approx([0.1, 0.1 - 0.5e-7, 0.1 + 0.5e-4 + 1e-7 / 12], abs=1e-13)
    assert slope[[0, 1]].tolist() == pytest.approx([0.05, 0.05 + 1e-7 / 6], abs=1e-10)
    assert slope[[3, 4]].tolist() == pytest.approx([0.005, 0.005], abs=1e-8)


def test_gates_at_rest_are_those_of_1952():
    opening, closing = gate_rates(f64(-65.0))

    assert opening[0].tolist() == pytest.approx([2.5 / math.expm1(2.5), 0.07, 0.1 / math.expm1(1)])
    assert closing[0].tolist() == pytest.approx([4, 1 / (1 + math.exp(3)), 0.125])


def test_ten_degrees_speed_the_gates_threefold_and_the_membrane_not_at_all():
    state = f64(-50, 0.1, 0.5, 0.4)

    cold, warm = (HodgkinHuxley(temperature_c=t).slope(state, 3.0) for t in (6.3, 16.3))

    torch.testing.assert_close(warm, cold * f64(1, 3, 3, 3))


def test_a_run_cut_in_two_is_the_run_and_batches_do_not_mix():
    current = 20 * torch.rand(2, 3, 40, dtype=torch.float64)
    neuron = HodgkinHuxley()

    whole = neuron.run(current, step_ms=0.05)
    first = neuron.run(current[..., :13], step_ms=0.05)
    second = neuron.run(current[..., 13:], step_ms=0.05, state=first[..., -1, :])

    assert whole.shape == (2, 3, 40, 4)
    assert torch.equal(torch.cat([first, second], -2), whole)
    torch.testing.assert_close(neuron.run(current[1, 2], step_ms=0.05), whole[1, 2])


def test_a_run_is_differentiable_by_current_state_and_constants():
    current, start = (5 * torch.rand(2, 3, dtype=torch.float64)).requires_grad_(), HodgkinHuxley().rest(f64(0, 0))
    constants = [f64(*x).requires_grad_() for x in ([120, 110], [36], [0.3], [-54, -55], [6.3, 8.0])]

    def run(current, start, g_na, g_k, g_leak, e_leak, temperature_c):
        neuron = HodgkinHuxley(g_na=g_na, g_k=g_k, g_leak=g_leak, e_leak=e_leak, temperature_c=temperature_c)
        return neuron.run(current, step_ms=0.05, state=start)

    assert torch.autograd.gradcheck(run, (current, start.requires_grad_(), *constants))


@pytest.mark.parametrize("current", [-1000.0, 1e5, math.nan])
def test_a_current_that_no_potential_holds_is_refused(current):
    with pytest.raises(ValueError, match=rf"current: got \[0.0, {current}\], wanted what -500 to 100 mV can hold"):
        HodgkinHuxley().rest(f64(0, current))


@pytest.mark.parametrize("current", [-120.0, 3000.0])
def test_it_finds_rest_under_strong_currents_too(current):
    neuron = HodgkinHuxley()

    assert neuron.slope(neuron.rest(f64(current)), f64(current)).abs().max() < 1e-8


def test_a_step_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"step_ms: got 0.0, wanted > 0"):
        HodgkinHuxley().run(torch.zeros(1, 3), step_ms=0.0)
