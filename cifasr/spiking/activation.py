"""Hidden layers made of events: counts of an integrate-and-fire neuron's spikes, or values above a threshold."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cifasr.errors import ConfigError
from cifasr.ops.lif import Rect, Surrogate, lif

_LEAST_THRESHOLD = 1e-4
"""A threshold that learning took to 0 or below would divide by it."""


class EventActivation(nn.Module):
    """An activation that is exactly 0 for most inputs, each neuron with a threshold that is learned.

    Args:
        width: Neurons: D.
        threshold: Of each, before training.
    """

    def __init__(self, width: int, threshold: float) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.full((width,), threshold))

    def extra_repr(self) -> str:
        """Say the settings in the module's print."""
        return f"{len(self.threshold)}"


class SpikeCount(EventActivation):
    """What integrate-and-fire neurons tell in ``num_steps`` steps of constant current: threshold times their rate.

    ::

        y = threshold * clip(floor(x * num_steps / threshold + 1/2), 0, num_steps) / num_steps

    The neurons start at half a threshold and take a threshold off with each spike; `spikes` runs them. Nothing is kept
    from one frame to the next, so a stream hears what a file does. The gradient passes the floor as if it were not
    there, to x and to the threshold. ``num_steps`` is no weight: one checkpoint runs at any.

    Args:
        width: Neurons: D.
        num_steps: Steps a frame, T >= 1.
        threshold: Of each neuron before training, > 0.

    Source:
        Bu et al., "Optimal ANN-SNN conversion", ICLR 2022 (QCFS), with as many levels as steps.
    """

    def __init__(self, width: int, num_steps: int, threshold: float = 1.0) -> None:
        super().__init__(width, threshold)
        self.num_steps = num_steps

    def forward(self, x: Tensor) -> Tensor:
        """Let a current x, (..., D), flow for a frame; returns (..., D) in its dtype."""
        threshold = self.threshold.clamp_min(_LEAST_THRESHOLD)
        level = (x * (self.num_steps / threshold) + 0.5).clamp(0, self.num_steps)
        count = level + (level.floor() - level).detach()  # exact: floor and level are within a factor of 2, or it is 0
        return (count * (threshold / self.num_steps)).to(x.dtype)

    def counts(self, y: Tensor) -> Tensor:
        """Say how many spikes an answer y, (..., D), stands for."""
        return (y * (self.num_steps / self.threshold.clamp_min(_LEAST_THRESHOLD))).round()

    def spikes(self, x: Tensor) -> Tensor:
        """Run the neurons step by step: (B, D) current to (B, num_steps, D) of 0 and 1."""
        current = (x / self.threshold.clamp_min(_LEAST_THRESHOLD))[:, None].expand(-1, self.num_steps, -1)
        lens = torch.full((len(x),), self.num_steps, device=x.device)
        return lif(current, lens, decay=1.0, membrane=torch.full_like(x, 0.5)).spikes

    def extra_repr(self) -> str:
        """Say the settings in the module's print."""
        return f"{len(self.threshold)}, num_steps={self.num_steps}"


class ThresholdedReLU(EventActivation):
    """``x`` where it reaches the threshold, else 0: an event with a value, which needs no membrane.

    Args:
        width: Neurons: D.
        threshold: Of each neuron before training, >= 0.
        surrogate: How far from its threshold an input still moves it.

    Source:
        FATReLU, Kurtz et al., ICML 2020; the threshold's gradient is JumpReLU's, Rajamanoharan et al. 2024,
        arXiv:2407.14435, eq. 11.
    """

    def __init__(
        self,
        width: int,
        threshold: float = 0.0,
        surrogate: Surrogate = Rect(0.2),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(width, threshold)
        self.surrogate = surrogate

    def forward(self, x: Tensor) -> Tensor:
        """Cut x, (..., D); returns (..., D) in its dtype."""
        threshold = self.threshold.clamp_min(0)
        y = torch.where(x >= threshold, x, 0)
        if self.training:
            slope = threshold * self.surrogate.derivative(x - threshold)
            y = y + slope.detach() * (threshold.detach() - threshold)  # adds 0, and the threshold's gradient
        return y.to(x.dtype)


@contextmanager
def recorded_events(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what the event layers of a module answer while the context lasts, in the order in which they run."""
    events: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output: events.append(output))
        for layer in module.modules()
        if isinstance(layer, EventActivation)
    ]
    try:
        yield events
    finally:
        for hook in hooks:
            hook.remove()


def set_spike_steps(module: nn.Module, num_steps: int) -> None:
    """Let every spiking layer of a module run for so many steps a frame.

    Raises:
        ConfigError: There is no such layer, or no step.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, SpikeCount)]
    if not layers:
        raise ConfigError(f"spike_steps: got {num_steps}, wanted none for a model without spiking feed-forwards")
    if num_steps < 1:
        raise ConfigError(f"spike_steps: wanted at least 1, got {num_steps}")
    for layer in layers:
        layer.num_steps = num_steps
