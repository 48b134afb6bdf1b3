"""A trained layer made spiking: thresholds chosen so that the spikes tell best what the layer told."""

import torch
from torch import Tensor, nn

from cifasr.spiking.activation import EventActivation, SpikeCount

_NUM_CANDIDATES = 24
_LEAST_FRACTION = 0.03
_LEAST_THRESHOLD = 1e-3


@torch.no_grad()
def best_thresholds(x: Tensor, y: Tensor, num_steps: int) -> Tensor:
    """Choose for each neuron the threshold whose spikes tell its values with the least squared error, up to a constant.

    A high threshold is coarse, a low one clips; a constant is for the bias of the layer that reads the spikes.

    Args:
        x: (N, D) currents that were seen.
        y: (N, D) values wanted for them.
        num_steps: T.

    Returns:
        (D,) thresholds between 3 % and all of the largest value of each neuron.
    """
    largest = y.amax(0).clamp_min(_LEAST_THRESHOLD)
    layer = SpikeCount(x.shape[1], num_steps)
    best, least = largest, torch.full_like(largest, torch.inf)
    for fraction in torch.logspace(0, torch.log10(torch.tensor(_LEAST_FRACTION)).item(), _NUM_CANDIDATES):
        layer.threshold.copy_(largest * fraction)
        error = (layer(x) - y).var(0, correction=0)
        best = torch.where(error < least, layer.threshold, best)
        least = torch.minimum(error, least)
    return best


@torch.no_grad()
def convert(layer: EventActivation, reader: nn.Linear, x: Tensor, y: Tensor, num_steps: int) -> None:
    """Make a layer of events, and the one that reads it, tell what a trained activation told.

    A `SpikeCount` gets the thresholds of `best_thresholds`. A `ThresholdedReLU` gets those below which such a layer is
    silent, half a step of it, so that both begin with the same events. The reader's bias takes up the mean of what is
    lost.

    Args:
        layer: What stands in the activation's place from now on. Its thresholds are set.
        reader: The linear layer behind it. Its bias is moved.
        x: (N, D) what the activation heard.
        y: (N, D) what it answered.
        num_steps: T.
    """
    thresholds = best_thresholds(x, y, num_steps)
    layer.threshold.copy_(thresholds if isinstance(layer, SpikeCount) else thresholds / (2 * num_steps))
    reader.bias.add_(reader.weight @ (y - layer(x)).mean(0))
