"""What the LIF operator answers, and the names of its resets."""

from typing import Literal, NamedTuple

from torch import Tensor

Reset = Literal["subtract", "zero"]


class LifOutput(NamedTuple):
    """Spikes, and the state that the next call goes on from; gradients flow through both.

    Attributes:
        spikes: (B, T, D) in the dtype of the current, 1 where a neuron fired, else 0; zero past ``input_lens``.
        membrane: (B, D) after each row's last valid step and its reset; float32, or float64 for a float64 current.
    """

    spikes: Tensor
    membrane: Tensor
