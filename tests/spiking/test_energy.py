import pytest
import torch
from torch import nn

from cifasr.nn.attention import MultiHeadAttention
from cifasr.spiking.activation import SpikeCount, ThresholdedReLU
from cifasr.spiking.energy import FLOAT32, INT8, Account, Meter


def net(activation):
    """Two inputs, three neurons, one output; a weight of each layer is 0."""
    layers = nn.Sequential(nn.Linear(2, 3), activation, nn.Linear(3, 1))
    with torch.no_grad():
        layers[0].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, -1.0]]))
        layers[0].bias.zero_()
        layers[2].weight.copy_(torch.tensor([[1.0, 1.0, 0.0]]))
    return layers


def counted(layers, x):
    meter = Meter()
    with meter.watching(layers), torch.no_grad():
        layers(x)
    return meter


def test_spikes_by_hand():
    x = torch.tensor([[1.0, 0.0], [0.5, 0.5]])  # currents 1, 1, -1 and 0.5, 1, -1: spikes 2, 2, 0 and 1, 2, 0

    meter = counted(net(SpikeCount(3, 2)), x)

    # first layer: 3 inputs that are not 0; the first meets 3 weights, the second 2. Its currents are not stored.
    first = Account(macs=3 * 2 + 2 * 1, weights=5, values=4)
    neurons = Account(membrane_updates=2 * 3 * 2, states=2 * 2 * 3 * 2)
    second = Account(acs=3 + 4, weights=2, values=2, bits=2 * 2 * 3 * 2)
    assert meter.as_built == first + neurons + second


def test_values_in_place_of_spikes_by_hand():
    x = torch.tensor([[1.0, 0.0], [0.5, 0.5]])

    spiking, relu = counted(net(SpikeCount(3, 2)), x), counted(net(ThresholdedReLU(3)), x)

    second = Account(macs=4, weights=2, values=2 * 4 + 2, bits=2 * 2 * 3)
    assert relu.as_built == Account(macs=8, weights=5, values=4) + second
    assert spiking.same_zeros == relu.same_zeros == relu.as_built


@pytest.mark.parametrize(
    "activation", [SpikeCount(3, 2), ThresholdedReLU(3), nn.GELU()], ids=["spikes", "relu", "gelu"]
)
def test_dense_is_the_same_whatever_is_counted(activation):
    x = torch.tensor([[1.0, 0.0], [0.5, 0.5]])

    meter = counted(net(activation), x)

    assert meter.dense == Account(macs=2 * (5 + 2), weights=5 + 2, values=4 + 6 + 6 + 2)


def test_a_convolution_and_attention_by_hand():
    convolution, attention = nn.Conv1d(2, 3, kernel_size=2), MultiHeadAttention(4, 2)
    x = torch.randn(1, 5, 4)
    keys, values = attention.project_memory(x)
    mask = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()

    meter, attending = counted(convolution, torch.randn(1, 2, 6)), Meter()
    with attending.watching(attention), torch.no_grad():
        attention(x, keys, values, mask)

    assert meter.as_built == Account(macs=12 * 5, weights=12, values=12 + 15)
    linear = Account(macs=2 * 16 * 5, weights=2 * 16, values=2 * (20 + 20))  # query and out; the keys were given
    assert attending.as_built == linear + Account(macs=2 * 15 * 4, values=2 * 20)


def test_energy_by_hand():
    account = Account(macs=10, acs=5, membrane_updates=2, weights=3, values=1, bits=16, states=4)

    assert account.moved_bytes(FLOAT32) == 16 + 2 + 16
    assert account.moved_bytes(INT8) == 4 + 2 + 16
    assert account.arithmetic_pj(FLOAT32) == pytest.approx(46 + 4.5 + 1.8)
    assert account.energy_pj(INT8) == pytest.approx(2.3 + 0.15 + 1.8 + 22 * 24.96)


def test_spikes_win_on_arithmetic_below_a_rate_and_lose_on_what_they_move():
    """With 4.6 and 0.9 pJ spikes need less than values while rate * T < 5.11; a membrane moved is 43 products."""
    x = torch.ones(1, 2)
    busy, values = counted(net(SpikeCount(3, 5)), x).as_built, counted(net(ThresholdedReLU(3)), x).as_built

    assert busy.acs * FLOAT32.ac_pj < (values.macs - 5) * FLOAT32.mac_pj  # fires in all five steps
    assert FLOAT32.mac_pj / FLOAT32.ac_pj == pytest.approx(5.11, abs=0.01)
    assert int(8 * 24.96 / FLOAT32.mac_pj) == 43
    assert busy.energy_pj(FLOAT32) > values.energy_pj(FLOAT32)
