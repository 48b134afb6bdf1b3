"""Numbers as populations of spiking neurons, and an actor that thinks in spikes between two such populations."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from cifasr.ops.lif import Rect, lif


class PopulationEncoder(nn.Module):
    """Let a population speak for each number: a neuron is for one value, and spikes the more the nearer the number is.

    The receptive field of a neuron is a Gaussian around its value. Its height, 0 to 1, is a constant current to an
    integrate-and-fire neuron with threshold 0.999, so that over T steps a height of 1, 0.7, 0.5, 0.2, 0.1 gives 5, 3,
    2, 1 and 0 spikes for T = 5: ``floor(T * height / 0.999)``, evenly spread, the same every time. Centres and widths
    are learned. The surrogate is a window over all potentials that occur.

    Args:
        dim: Numbers.
        neurons: Of each number's population, >= 2.
        span: Centres of the first and the last neuron; the others lie evenly between. Bring the numbers to it first.
        width: Standard deviation of a field; the default lets a value reach about two neurons of ten over (-3, 3).
        num_steps: T, >= 1.

    Raises:
        ValueError: A number is not as above.

    Source:
        Tang, Kumar, Yoo and Michmizos (PopSAN), CoRL 2020, arXiv:2010.09635, with "regular" spikes.
    """

    threshold = 0.999

    def __init__(
        self,
        dim: int,
        *,
        neurons: int = 10,
        span: tuple[float, float] = (-3.0, 3.0),
        width: float = 0.15**0.5,
        num_steps: int = 5,
    ) -> None:
        super().__init__()
        if not (neurons >= 2 and num_steps >= 1):
            raise ValueError(f"neurons, num_steps: got {neurons}, {num_steps}, wanted at least 2 and 1")
        if not (span[0] < span[1] and width > 0):
            raise ValueError(f"span, width: got {span}, {width}, wanted a rising span and a width > 0")
        self.num_steps = num_steps
        self.centres = nn.Parameter(torch.linspace(*span, neurons).repeat(dim, 1))
        self.widths = nn.Parameter(torch.full((dim, neurons), width))

    def heights(self, numbers: Tensor) -> Tensor:
        """Give how much each neuron is concerned: (B, dim) to (B, dim, neurons), 0 to 1."""
        return torch.exp(-0.5 * ((numbers[..., None] - self.centres) / self.widths).square())

    def forward(self, numbers: Tensor) -> Tensor:
        """Give the spikes of all populations, (B, T, dim * neurons), for numbers (B, dim)."""
        current = self.heights(numbers).flatten(1)[:, None].expand(-1, self.num_steps, -1)
        lens = torch.full((len(numbers),), self.num_steps, device=numbers.device)
        return lif(current, lens, decay=1.0, threshold=self.threshold, surrogate=Rect(width=2.0)).spikes


class SpikingActor(nn.Module):
    """A policy of spikes: a population for each observed number, leaky neurons, a population for each action.

    Each layer's synapses keep a current of their own, which leaks, and feeds the membrane, which leaks too::

        synaptic[t]  = 0.5 * synaptic[t-1] + linear(spikes of the layer below)[t]
        potential[t] = 0.75 * membrane[t-1] + synaptic[t]       fires at 0.5, and then is zero

    The second line is the operator ``lif``, with the window of width 1 as its surrogate. An action is a weighted mean
    of its population's rates. Every decision starts from rest, so that observations of a batch are independent.

    Args:
        obs_dim: Numbers observed, each within ``span`` for the most part.
        action_dim: Numbers given back.
        hidden: Neurons of each layer between the populations.
        neurons: Of each population.
        span: As for `PopulationEncoder`.
        num_steps: T.

    Raises:
        ValueError: As for `PopulationEncoder`.

    Source:
        As for `PopulationEncoder`. The critic that trains it is a deep network, not a spiking one.
    """

    synaptic_decay, membrane_decay, threshold = 0.5, 0.75, 0.5

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        *,
        hidden: Sequence[int] = (256, 256),
        neurons: int = 10,
        span: tuple[float, float] = (-3.0, 3.0),
        num_steps: int = 5,
    ) -> None:
        super().__init__()
        self.encoder = PopulationEncoder(obs_dim, neurons=neurons, span=span, num_steps=num_steps)
        widths = [obs_dim * neurons, *hidden, action_dim * neurons]
        self.linears = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        bound = neurons**-0.5
        self.weight = nn.Parameter(torch.empty(action_dim, neurons).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(action_dim))

    def forward(self, obs: Tensor) -> Tensor:
        """Decide.

        Args:
            obs: (B, obs_dim) float.

        Returns:
            (B, action_dim), without bounds: a hyperbolic tangent makes actions of them, a softmax chances.
        """
        rates = self.spikes(obs)[-1].mean(1).view(-1, *self.weight.shape)  # (B, action_dim, neurons)
        return torch.einsum("ban,an->ba", rates, self.weight) + self.bias

    def spikes(self, obs: Tensor) -> list[Tensor]:
        """Give the spikes of every layer, the encoder's first and the actions' last: (B, T, D) each."""
        layers = [self.encoder(obs)]
        lens = torch.full((len(obs),), self.encoder.num_steps, device=obs.device)
        for linear in self.linears:
            synaptic = self._leaky_sum(linear(layers[-1]))
            out = lif(
                synaptic,
                lens,
                decay=self.membrane_decay,
                threshold=self.threshold,
                reset="zero",
                surrogate=Rect(width=1.0),
            )
            layers.append(out.spikes)
        return layers

    def _leaky_sum(self, current: Tensor) -> Tensor:
        """Let synapses keep their current, (B, T, D), for a while: T is small, so one product does it."""
        steps = torch.arange(current.shape[1], device=current.device)
        age = steps[:, None] - steps  # (T, T)
        kept = torch.where(age >= 0, self.synaptic_decay ** age.clamp(min=0).to(current.dtype), 0.0)
        return kept @ current
