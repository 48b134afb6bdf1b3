"""Formal spiking neurons: a sum of responses to earlier spikes, and a threshold that knows the last one.

Time is continuous: a spike has the time at which it comes, found to rounding, and not the number of a step.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_HALVINGS = 60  # of a search interval: nothing is left of it in float64
_MAX_AT_ONCE = 100  # firings in no time, which no network needs that has delays


@dataclass(frozen=True)
class AlphaResponse:
    """A response that rises and falls: ``s / tau * exp(1 - s / tau)`` for ``s = since - delay > 0``, at most 1.

    Attributes:
        tau_ms: When it peaks, > 0; a tensor (neurons, neurons), or one that broadcasts to it, for each synapse its own.
        delay_ms: Time that a spike is on its way, >= 0; likewise.
    """

    tau_ms: float | Tensor
    delay_ms: float | Tensor = 0.0

    def __call__(self, since_ms: Tensor) -> Tensor:
        """Give the response to a spike ``since_ms`` ago; nothing to one that comes now or later."""
        s = (since_ms - self.delay_ms).clamp(min=0) / self.tau_ms
        return s * torch.exp(1 - s)


@dataclass(frozen=True)
class ExponentialResponse:
    """A response that jumps to 1 and decays: ``exp(-s / tau)`` for ``s = since - delay > 0``.

    Attributes:
        tau_ms: > 0, as for `AlphaResponse`.
        delay_ms: >= 0, as for `AlphaResponse`.
    """

    tau_ms: float | Tensor
    delay_ms: float | Tensor = 0.0

    def __call__(self, since_ms: Tensor) -> Tensor:
        """Give the response to a spike ``since_ms`` ago; nothing to one that comes now or later."""
        s = since_ms - self.delay_ms
        return torch.where(s > 0, torch.exp(-s.clamp(min=0) / self.tau_ms), 0.0)


@dataclass(frozen=True)
class RefractoryThreshold:
    """A threshold that no potential reaches just after a spike, and that comes down to its resting value later.

    The review draws it falling to near 0, where any input would fire it; the resting value is positive.

    Attributes:
        resting: Long after the last spike, > 0.
        absolute_ms: How long after a spike it is infinite, >= 0.
        relative: How far above ``resting`` it comes back, >= 0.
        tau_ms: Time constant of its way down from there, > 0.

    Raises:
        ValueError: A value is not as above.
    """

    resting: float = 1.0
    absolute_ms: float = 0.0
    relative: float = 0.0
    tau_ms: float = 1.0

    def __post_init__(self) -> None:
        for name, is_fit, wanted in (
            ("resting", 0 < self.resting < math.inf, "> 0"),
            ("absolute_ms", 0 <= self.absolute_ms < math.inf, ">= 0"),
            ("relative", 0 <= self.relative < math.inf, ">= 0"),
            ("tau_ms", 0 < self.tau_ms < math.inf, "> 0"),
        ):
            if not is_fit:
                raise ValueError(f"RefractoryThreshold.{name}: got {getattr(self, name)}, wanted {wanted}, finite")

    def __call__(self, since_ms: Tensor) -> Tensor:
        """Give the threshold ``since_ms`` after the last spike; infinity stands for a neuron that never fired."""
        come_down = torch.exp(-(since_ms - self.absolute_ms) / self.tau_ms)
        return torch.where(since_ms < self.absolute_ms, math.inf, self.resting + self.relative * come_down)


@dataclass(frozen=True)
class FormalNetwork:
    """Neurons that hear each other through synapses.

    ::

        P_v(t) = sum over u, and over spikes s < t of u, of weight[u, v] * response(t - s)

    and v fires when P_v rises to ``threshold(t - t')`` from below, t' being its last spike. The review prints one u
    and one spike, and keeps weights positive, with the sign of an inhibition in the response; here it is in the weight.
    A negative weight from a neuron to itself is a reset: with `ExponentialResponse` and the threshold for its size,
    the network is one of leaky integrate-and-fire neurons.

    Attributes:
        weight: (neurons, neurons) float64, from row to column.
        response: Of time since a spike came, (..., neurons, neurons) ms or one that broadcasts to it; 0 up to 0.
        threshold: Of time since the neuron's own last spike, (neurons,) ms, infinity if there was none.

    Source:
        Maass, Neural Networks 1997, 10.1016/S0893-6080(97)00011-7; the review (J. Hu), section 3.
    """

    weight: Tensor
    response: Callable[[Tensor], Tensor]
    threshold: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        if self.weight.dim() != 2 or self.weight.shape[0] != self.weight.shape[1]:
            raise ValueError(f"weight: got {tuple(self.weight.shape)}, wanted (neurons, neurons)")

    def potential(self, time_ms: float, spikes: list[list[float]]) -> Tensor:
        """Sum the responses to what came before a time: P.

        Args:
            time_ms: ms.
            spikes: For each neuron its spike times, ms; those at ``time_ms`` and after it count for nothing.

        Returns:
            (neurons,).
        """
        width = max(1, *map(len, spikes))
        times = torch.full((width, len(spikes)), math.inf, dtype=self.weight.dtype)
        for u, own in enumerate(spikes):
            times[: len(own), u] = torch.tensor(own, dtype=self.weight.dtype)
        since = time_ms - times[..., None]  # (spikes, neurons, 1)
        heard = torch.where(since > 0, self.response(since.clamp(min=0)), 0.0)
        return (self.weight * heard.sum(0)).sum(0)

    def run(
        self, duration_ms: float, *, given: Mapping[int, list[float]], look_every_ms: float = 0.1
    ) -> list[list[float]]:
        """Let spikes come from outside, and find those that follow.

        Between two looks a crossing is found by halving the interval, the earliest first, so that what it causes
        within the interval is heard. Just after each spike there is one more look. What rises above the threshold
        between two looks and is below it at the second is missed: look often enough for the responses.

        Args:
            duration_ms: ms from time 0.
            given: Spike times, ms, of input neurons; those fire when it is said and never else.
            look_every_ms: ms, > 0.

        Returns:
            For each neuron its spike times, ms, rising.

        Raises:
            ValueError: ``given`` names no neuron of the network, ``look_every_ms`` is not positive, or neurons
                without delay and refractoriness drive each other without end.
        """
        num_neurons = len(self.weight)
        if not set(given) <= set(range(num_neurons)):
            raise ValueError(f"given: got neurons {sorted(given)}, wanted some of 0 to {num_neurons - 1}")
        if not look_every_ms > 0:
            raise ValueError(f"look_every_ms: got {look_every_ms}, wanted > 0")
        spikes = [sorted(given.get(u, [])) for u in range(num_neurons)]
        is_free = torch.tensor([u not in given for u in range(num_neurons)])
        grid = {look * look_every_ms for look in range(1, round(duration_ms / look_every_ms) + 1)}
        looks = deque(sorted(grid | {_just_after(s) for own in given.values() for s in own if 0 <= s < duration_ms}))
        now, was_above, firings = 0.0, torch.zeros_like(is_free), [-math.inf] * _MAX_AT_ONCE
        while looks:
            is_above = self._is_above(looks[0], spikes)
            crosses = is_above & ~was_above & is_free
            if not crosses.any():
                now, was_above = looks.popleft(), is_above
                continue
            now, fired = self._first_crossing(now, looks[0], spikes, crosses)
            was_above = self._is_above(now, spikes)
            for v in fired.nonzero().flatten().tolist():
                spikes[v].append(now)
            # The fired hear their own spike from now on, if it resets. Others may cross by it: they are looked at.
            after = _just_after(now)
            was_above = torch.where(fired, self._is_above(after, spikes), was_above)
            while looks and looks[0] <= after:
                looks.popleft()
            looks.appendleft(after)
            firings.append(now)
            if now - firings[-_MAX_AT_ONCE] < 1e-9 * look_every_ms:
                raise ValueError(
                    f"weight: neurons fire each other without end at {now} ms, wanted a delay between them"
                )
        return spikes

    def _is_above(self, time_ms: float, spikes: list[list[float]]) -> Tensor:
        """Tell whose potential has reached its threshold: (neurons,) bool."""
        last = torch.tensor([own[-1] if own else -math.inf for own in spikes], dtype=self.weight.dtype)
        return self.potential(time_ms, spikes) >= self.threshold(time_ms - last)

    def _first_crossing(
        self, low: float, high: float, spikes: list[list[float]], crosses: Tensor
    ) -> tuple[float, Tensor]:
        """Find when the first of those that cross between two times does, and which they are: ms, (neurons,) bool."""
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if (self._is_above(middle, spikes) & crosses).any():
                high = middle
            else:
                low = middle
        return high, self._is_above(high, spikes) & crosses


def _just_after(time_ms: float) -> float:
    return math.nextafter(time_ms, math.inf)
