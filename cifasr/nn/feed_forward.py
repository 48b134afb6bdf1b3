"""What stands between the two linear layers of an encoder's feed-forward."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

from cifasr.spiking.activation import SpikeCount, ThresholdedReLU

HiddenKind = Literal["dense", "relu", "spiking"]
Hidden = Callable[[int], nn.Module]
"""Makes the hidden layer of a width; None in its place is the smooth activation of the encoder's paper."""


def hidden_of(kind: HiddenKind, spike_steps: int) -> Hidden | None:
    """Choose the hidden layer that a configuration names.

    Args:
        kind: "dense" is the smooth one; the others are of ``cifasr.spiking.activation``.
        spike_steps: Steps a frame, for "spiking".
    """
    if kind == "spiking":
        return partial(SpikeCount, num_steps=spike_steps)
    return ThresholdedReLU if kind == "relu" else None
