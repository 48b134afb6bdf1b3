import pytest
import torch
from torch import nn

from cifasr.errors import ConfigError
from cifasr.ops.lif import Rect, lif
from cifasr.spiking.activation import SpikeCount, ThresholdedReLU, recorded_events, set_spike_steps


@pytest.mark.parametrize("num_steps", [1, 2, 4, 8, 16])
@torch.no_grad()
def test_counts_are_those_of_the_neurons_run_step_by_step(num_steps):
    layer = SpikeCount(5, num_steps)
    layer.threshold.copy_(torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0]))
    x = torch.linspace(-2, 10, 3001)[:, None].expand(-1, 5).round(decimals=2) + 0.0039  # off the borders of a step

    spikes = layer.spikes(x)

    assert spikes.unique().tolist() == [0, 1]
    assert torch.equal(spikes.sum(1), layer.counts(layer(x)))
    assert torch.equal(spikes.sum(1) * layer.threshold / num_steps, layer(x))


def test_a_count_by_hand():
    layer = SpikeCount(1, 4, threshold=2.0)

    y = layer(torch.tensor([[-1.0], [0.24], [0.25], [0.9], [1.1], [1.8], [7.0]]))

    assert y.flatten().tolist() == [0, 0, 0.5, 1, 1, 2, 2]


def test_one_layer_answers_for_every_number_of_steps():
    layer = nn.Sequential(SpikeCount(1, 4))
    x = torch.tensor([[0.3]])

    answers = []
    for num_steps in (1, 2, 4):
        set_spike_steps(layer, num_steps)
        answers.append(layer(x).item())

    assert answers == [0, 0.5, 0.25]
    assert [name for name, _ in layer.named_parameters()] == ["0.threshold"]


def test_the_gradient_passes_the_floor_and_stops_where_counts_do():
    layer = SpikeCount(1, 2, threshold=1.0)
    x = torch.tensor([[-0.5], [0.3], [0.6], [1.5]], requires_grad=True)

    layer(x).sum().backward()

    assert x.grad.flatten().tolist() == [0, 1, 1, 0]
    # count / T - x / threshold where x is heard, 1 where the neuron fires in every step
    assert layer.threshold.grad.item() == pytest.approx((0.5 - 0.3) + (0.5 - 0.6) + 1)


def test_a_thresholded_relu_by_hand():
    layer = ThresholdedReLU(1, 0.5, Rect(0.4)).train()
    x = torch.tensor([[-1.0], [0.4], [0.5], [0.6], [2.0]], requires_grad=True)

    y = layer(x)
    y.sum().backward()

    assert y.flatten().tolist() == pytest.approx([0, 0, 0.5, 0.6, 2])
    assert x.grad.flatten().tolist() == [0, 0, 1, 1, 1]
    assert layer.threshold.grad.item() == pytest.approx(-3 * 0.5 / 0.4)  # three inputs in the window


def test_events_are_recorded_as_long_as_asked_for():
    layers = nn.Sequential(nn.Linear(3, 4), SpikeCount(4, 2), nn.Linear(4, 4), ThresholdedReLU(4))

    with recorded_events(layers) as events:
        y = layers(torch.randn(5, 3))
    layers(torch.randn(5, 3))

    assert [tuple(event.shape) for event in events] == [(5, 4), (5, 4)]
    assert events[1] is y


@pytest.mark.parametrize(("layer", "num_steps"), [(ThresholdedReLU(2), 2), (SpikeCount(2, 2), 0)])
def test_steps_that_cannot_be_are_refused(layer, num_steps):
    with pytest.raises(ConfigError, match=f"spike_steps: .*got {num_steps}"):
        set_spike_steps(nn.Sequential(layer), num_steps)


@pytest.mark.parametrize(("num_steps", "mean"), [(2, -0.25), (4, -0.125), (8, -0.0625), (16, -0.03125)])
@torch.no_grad()
def test_neurons_that_start_empty_lose_half_a_step(num_steps, mean):
    x = torch.linspace(0, 1, 4001)[:-1, None] + 1 / 8000
    current = x[:, None].expand(-1, num_steps, -1)

    spikes = lif(current, torch.full((4000,), num_steps), decay=1.0).spikes

    assert float((spikes.mean(1) - x).mean()) == pytest.approx(mean, abs=1e-3)
