"""Numbers that anyone can recompute, and those measured in other libraries."""

import math

import pytest
import torch

from cifasr.ops.lif import ATan, FastSigmoid, Rect, Sigmoid


def lens(*values):
    return torch.tensor(values)


def row(*values):
    return torch.tensor(values)[None, :, None]


def test_a_soft_reset_keeps_what_was_above_the_threshold(neurons):
    out = neurons(row(0.75, 0.75, 0.75, 0.5), lens(4), decay=0.5)

    # before reset: 0.75, 0.375 + 0.75, 0.0625 + 0.75, 0.40625 + 0.5
    assert out.spikes.flatten().tolist() == [0, 1, 0, 0]
    assert out.membrane.tolist() == [[0.90625]]


def test_a_hard_reset_keeps_nothing(neurons):
    out = neurons(row(0.75, 0.75, 0.75, 0.5), lens(4), decay=0.5, reset="zero")

    assert out.spikes.flatten().tolist() == [0, 1, 0, 0]
    assert out.membrane.tolist() == [[0.75 / 2 + 0.5]]


def test_a_membrane_at_the_threshold_fires(neurons):
    out = neurons(row(0.25, 0.25, 0.25), lens(3), decay=1, threshold=0.5)

    assert out.spikes.flatten().tolist() == [0, 1, 0]
    assert out.membrane.tolist() == [[0.25]]


def test_the_membrane_given_is_the_one_before_the_first_step(neurons):
    out = neurons(row(0.5, 0.25), lens(2), decay=0.5, membrane=torch.tensor([[1.0]]))

    assert out.spikes.flatten().tolist() == [1, 0]
    assert out.membrane.tolist() == [[0.25]]


@pytest.mark.parametrize(
    ("reset", "detach_reset", "first"),
    [
        # The second step's membrane is under the threshold and inside the window: it gets 10, and hands 5 back.
        ("subtract", False, 1 + 5 * (1 - 1)),
        ("subtract", True, 1 + 5 * 1),
        ("zero", False, 1 + 5 * (1 - 1 - 1.25)),
        ("zero", True, 1 + 5 * (1 - 1)),
    ],
)
def test_the_gradient_goes_back_through_leak_and_reset(neurons, reset, detach_reset, first):
    current, membrane = row(1.25, 0.75).requires_grad_(), torch.zeros(1, 1, requires_grad=True)

    options = {"decay": 0.5, "reset": reset, "detach_reset": detach_reset, "surrogate": Rect(1.0)}
    spikes = neurons(current, lens(2), membrane=membrane, **options).spikes
    current_grad, membrane_grad = torch.autograd.grad(spikes, [current, membrane], row(1.0, 10.0))

    assert current_grad.flatten().tolist() == [first, 10]
    assert membrane_grad.tolist() == [[first / 2]]


@pytest.mark.parametrize(
    ("drive", "tau", "scaled", "every"),
    [(1.5, 2, True, 2), (1.2, 2, True, 3), (1.05, 4, True, 11), (0.3, 4, False, 7)],
)
def test_spikes_come_as_often_as_in_spikingjelly(neurons, drive, tau, scaled, every):
    decay = 1 - 1 / tau
    current = torch.full((1, 3 * every + 1, 1), drive * (1 - decay) if scaled else drive)

    spikes = neurons(current, lens(3 * every + 1), decay=decay, reset="zero").spikes

    assert (spikes.flatten().nonzero().flatten() + 1).tolist() == [every, 2 * every, 3 * every]
    settles_at = drive if scaled else drive * tau
    assert every == math.ceil(math.log(1 - 1 / settles_at) / math.log(decay))


@pytest.mark.parametrize(("dtype", "step"), [(torch.float32, 25), (torch.float64, 54)])
def test_a_drive_of_the_threshold_itself_fires_once_rounding_has_filled_what_is_missing(neurons, dtype, step):
    # After n steps the membrane is 1 - 2**-n: a mantissa of 24 bits or 53 holds it up to that n.
    current = torch.full((1, step, 1), 0.5, dtype=dtype)

    spikes = neurons(current, lens(step), decay=0.5).spikes

    assert spikes.flatten().nonzero().flatten().tolist() == [step - 1]


@pytest.mark.parametrize(
    ("decay", "scaled", "after_30_ms"),
    [(math.exp(-0.1), True, 1.42532), (0.9, True, 1.43641), (math.exp(-0.1), False, 14.97773)],
)
def test_both_conventions_of_input_settle_where_they_say(neurons, decay, scaled, after_30_ms):
    # 1 ms a step, a time constant of 10 ms, a current of 1.5: scaled, the exact step and forward Euler's.
    gain = 1 - decay if scaled else 1.0
    current = torch.full((1, 30, 1), gain * 1.5, dtype=torch.float64)

    membrane = neurons(current, lens(30), decay=decay, threshold=99.0).membrane

    assert membrane.item() == pytest.approx(after_30_ms, abs=5e-6)
    assert membrane.item() == pytest.approx(gain * 1.5 / (1 - decay) * (1 - decay**30))


def test_a_population_encodes_an_activity_in_spike_counts(neurons):
    activity = torch.tensor([1.0, 0.7, 0.5, 0.2, 0.1])

    spikes = neurons(activity.expand(1, 5, 5), lens(5), decay=1.0, threshold=0.999).spikes

    assert spikes.sum(1).tolist() == [[5, 3, 2, 1, 0]]  # PopSAN's encoder: floor(5 * activity / 0.999)


@pytest.mark.parametrize("num_steps", [2, 4, 8])
def test_a_neuron_that_starts_half_full_counts_as_a_quantised_relu(neurons, num_steps):
    drive = torch.arange(-64, 193) / 128  # -0.5 to 1.5

    current, half_full = drive.expand(1, num_steps, -1), torch.full((1, len(drive)), 0.5)
    spikes = neurons(current, lens(num_steps), decay=1.0, membrane=half_full).spikes

    # Bu et al., ICLR 2022: clip(floor(x * L + 1 / 2), 0, L) with as many levels L as steps
    assert spikes.sum(1)[0].tolist() == (drive * num_steps + 0.5).floor().clamp(0, num_steps).tolist()


@pytest.mark.parametrize(
    ("surrogate", "values"),
    [
        (ATan(), [0.092, 0.2884, 1, 0.618486, 0.092]),
        (Sigmoid(), [0.070651, 0.419974, 1, 0.786448, 0.070651]),
        (FastSigmoid(), [0.001479, 0.005487, 1, 0.019025, 0.001479]),
        (Rect(), [0, 0, 1, 1, 0]),
        (Rect(4.0), [0.25, 0.25, 0.25, 0.25, 0.25]),
    ],
)
def test_surrogates_have_the_values_of_spikingjelly_and_snntorch(neurons, surrogate, values):
    above = torch.tensor([-1, -0.5, 0, 0.25, 1])

    current = (above + 1)[None, None].requires_grad_()
    spikes = neurons(current, lens(1), decay=0.9, surrogate=surrogate).spikes
    (grad,) = torch.autograd.grad(spikes.sum(), current)

    assert grad.flatten().tolist() == pytest.approx(values, abs=5e-5)
    assert surrogate.derivative(above).tolist() == pytest.approx(values, abs=5e-5)


@pytest.mark.parametrize("size", [0.5, 3.0])
@pytest.mark.parametrize(
    ("surrogate", "primitive"),
    [
        (ATan, lambda x, slope: torch.atan(math.pi / 2 * slope * x) / math.pi),
        (Sigmoid, lambda x, slope: torch.sigmoid(slope * x)),
        (FastSigmoid, lambda x, slope: x / (1 + slope * x.abs())),
        (Rect, lambda x, width: (x / width).clamp(-0.5, 0.5)),
    ],
)
def test_a_surrogate_is_the_derivative_of_its_curve(surrogate, primitive, size):
    above = torch.linspace(-2.03, 2.03, 100, dtype=torch.float64, requires_grad=True)

    (want,) = torch.autograd.grad(primitive(above, size).sum(), above)

    torch.testing.assert_close(surrogate(size).derivative(above.detach()), want, rtol=1e-12, atol=1e-12)
