"""What stands between the two linear layers of an encoder's feed-forward."""

from typing import Literal

from torch import nn

from cifasr.spiking.activation import SpikeCount, ThresholdedReLU

HiddenKind = Literal["dense", "relu", "spiking"]


def hidden_activation(kind: HiddenKind, smooth: nn.Module, d_ff: int, spike_steps: int) -> nn.Module:
    """Make the hidden activation of a feed-forward.

    Args:
        kind: "dense" is ``smooth``; the others are of ``cifasr.spiking.activation``.
        smooth: What the encoder's paper has there.
        d_ff: Its width.
        spike_steps: Steps a frame, for "spiking".
    """
    if kind == "spiking":
        return SpikeCount(d_ff, spike_steps)
    return ThresholdedReLU(d_ff) if kind == "relu" else smooth
