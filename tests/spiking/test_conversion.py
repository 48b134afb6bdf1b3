import pytest
import torch
from torch import nn

from cifasr.spiking.activation import SpikeCount, ThresholdedReLU
from cifasr.spiking.conversion import best_thresholds, convert


@pytest.mark.parametrize("num_steps", [2, 4, 8, 16])
@torch.no_grad()
def test_a_layer_trained_in_levels_spikes_without_error(num_steps):
    """Bu et al. 2022: exact for one layer and constant input, with as many steps as levels."""
    threshold = 1.5
    x = torch.linspace(-1, 3, 4001, dtype=torch.float64)[:, None]
    levels = threshold * (x * num_steps / threshold + 0.5).floor().div(num_steps).clamp(0, 1)
    layer = SpikeCount(1, num_steps, threshold).double()

    rate = layer.spikes(x).mean(1)

    borders = ((x * num_steps / threshold + 0.5) % 1).abs() < 1e-9  # on a border, rounding decides
    assert int((~borders).sum()) > 3900
    assert float((threshold * rate - levels)[~borders].abs().max()) < 1e-12


@torch.no_grad()
def test_the_threshold_of_levels_that_were_seen_is_found():
    layer = SpikeCount(2, 4)
    layer.threshold.copy_(torch.tensor([1.0, 3.0]))
    x = torch.rand(2000, 2) * 6

    thresholds = best_thresholds(x, layer(x), 4)

    assert thresholds.tolist() == pytest.approx([1.0, 3.0])


@torch.no_grad()
def test_more_steps_tell_a_smooth_activation_better():
    x = torch.randn(4000, 3)
    y = nn.functional.gelu(x)
    errors = []

    for num_steps in (1, 2, 4, 8):
        layer = SpikeCount(3, num_steps)
        layer.threshold.copy_(best_thresholds(x, y, num_steps))
        errors.append(float((layer(x) - y).var()))

    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * float(y.var())


@pytest.mark.parametrize("layer", [SpikeCount(16, 4), ThresholdedReLU(16)], ids=["spikes", "relu"])
@torch.no_grad()
def test_what_reads_the_events_answers_the_same_in_the_mean(layer):
    first, reader, x = nn.Linear(8, 16), nn.Linear(16, 4), torch.randn(500, 8)
    current = first(x)
    want = reader(nn.functional.gelu(current))

    convert(layer, reader, current, nn.functional.gelu(current), 4)

    got = reader(layer(current))
    torch.testing.assert_close(got.mean(0), want.mean(0), atol=1e-5, rtol=1e-5)
    assert float((got - want).var() / want.var()) < 0.5


@torch.no_grad()
def test_a_converted_relu_is_silent_where_converted_neurons_are():
    current = torch.randn(500, 16)
    spiking, relu = SpikeCount(16, 4), ThresholdedReLU(16)

    for layer in (spiking, relu):
        convert(layer, nn.Linear(16, 4), current, nn.functional.gelu(current), 4)

    assert torch.equal(spiking(current) == 0, relu(current) == 0)
