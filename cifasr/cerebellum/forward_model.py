"""Forward models: what is about to happen, foretold from what happened, and corrected by what then does happen.

Mossy fibres bring inputs, which are spread into *senses*: a reservoir's echo of the past, or the tiles of a CMAC. A
Purkinje cell weighs the senses into a prediction. The climbing fibre brings the error once it is known. It changes the
weights a little for good (`learn`), and a fast correction for a while (`Correction`).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from cifasr.cerebellum.cmac import Cmac


class ForwardModel(Protocol):
    """Spreads inputs into senses and weighs them; state and weights are handed in and out."""

    def init_state(self, num_rows: int) -> Tensor:
        """Make the state of so many streams that heard nothing."""

    def init_weights(self, num_outputs: int) -> Tensor:
        """Weights that know nothing."""

    def sense(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Hear the next inputs, (B, T, I); what is sensed at each, (B, T, ...), and the state after them."""

    def predict(self, weights: Tensor, senses: Tensor) -> Tensor:
        """Weigh senses, (B, ...) to (B, O)."""

    def learn(self, weights: Tensor, senses: Tensor, climbing_fibre: Tensor, beta: float) -> Tensor:
        """Mend a share ``beta``, in (0, 2), of an error (B, O), wanted less given, at those senses."""


@dataclass(frozen=True)
class EchoState:
    """A reservoir of random neurons, whose echo of the past a linear readout weighs.

    ``x' = (1 - leak) x + leak tanh(recurrent x + inward u + bias)``; the senses are ``x'`` and a constant one.

    Attributes:
        recurrent: (N, N); with a spectral radius below 1 the echo fades.
        inward: (N, I).
        bias: (N,).
        leak: Share of a neuron that is new at each step, in (0, 1].

    Source:
        Jaeger, GMD report 148, 2001; leak: Jaeger et al., Neural Networks 20, 2007.
    """

    recurrent: Tensor
    inward: Tensor
    bias: Tensor
    leak: float

    @classmethod
    def grow(
        cls,
        generator: torch.Generator,
        num_inputs: int,
        num_neurons: int,
        *,
        spectral_radius: float = 0.95,
        leak: float = 0.3,
        density: float = 0.1,
        bias_scale: float = 1.0,
    ) -> "EchoState":
        """Draw a reservoir in float64.

        Args:
            generator: Draws it.
            num_inputs: I.
            num_neurons: N.
            spectral_radius: Largest eigenvalue of ``recurrent``, in (0, 1).
            leak: As above.
            density: Share of the synapses that are there.
            bias_scale: Inputs are weighed between -1 and 1, biases drawn between minus and plus this.

        Raises:
            ValueError: A number is not as above, or no cycle of synapses was drawn.
        """
        if not (0 < spectral_radius < 1 and 0 < leak <= 1 and 0 < density <= 1):
            got = (spectral_radius, leak, density)
            raise ValueError(f"spectral_radius, leak, density: wanted (0, 1), (0, 1], (0, 1], got {got}")
        shape = (num_neurons, num_neurons)
        synapses = torch.randn(shape, generator=generator, dtype=torch.float64)
        synapses *= torch.rand(shape, generator=generator) < density
        radius = float(torch.linalg.eigvals(synapses).abs().max())
        if radius < 1e-6:
            raise ValueError(
                f"density: {density:g} leaves {num_neurons} neurons without a cycle; wanted more of either"
            )
        inward = 2 * torch.rand(num_neurons, num_inputs, generator=generator, dtype=torch.float64) - 1
        bias = bias_scale * (2 * torch.rand(num_neurons, generator=generator, dtype=torch.float64) - 1)
        return cls(synapses * (spectral_radius / radius), inward, bias, leak)

    def init_state(self, num_rows: int) -> Tensor:
        """Silence: (B, N) zeros."""
        return self.bias.new_zeros(num_rows, len(self.bias))

    def init_weights(self, num_outputs: int) -> Tensor:
        """Weights that know nothing: (N + 1, O) zeros."""
        return self.bias.new_zeros(len(self.bias) + 1, num_outputs)

    def sense(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Let inputs (B, T, I) echo; (B, T, N + 1) senses and the last state."""
        driven = inputs @ self.inward.T + self.bias
        echoes = []
        for drive in driven.unbind(1):
            state = torch.lerp(state, torch.tanh(state @ self.recurrent.T + drive), self.leak)
            echoes.append(state)
        echo = torch.stack(echoes, 1) if echoes else driven
        return torch.cat([echo, echo.new_ones(*echo.shape[:2], 1)], 2), state

    def predict(self, weights: Tensor, senses: Tensor) -> Tensor:
        """Weigh senses: (N + 1, O) and (B, N + 1) to (B, O)."""
        return senses @ weights

    def learn(self, weights: Tensor, senses: Tensor, climbing_fibre: Tensor, beta: float) -> Tensor:
        """Share an error out over the senses by their size (normalised LMS); errors of a batch are averaged."""
        share = senses / senses.square().sum(1, keepdim=True)
        return weights + beta / len(senses) * share.T @ climbing_fibre


@dataclass(frozen=True)
class CmacModel:
    """A CMAC that looks at the last few inputs.

    Attributes:
        cmac: Its dimensions are the inputs of ``num_delays`` moments, the latest last.
        num_delays: Moments looked at.
        spacing: Steps between two of them.
        low: Smallest input that is told from smaller ones.
        high: Largest one.
    """

    cmac: Cmac
    num_delays: int
    spacing: int
    low: float
    high: float

    def init_state(self, num_rows: int) -> Tensor:
        """Make a past of the middle of the range: (B, past, I)."""
        num_inputs, uneven = divmod(len(self.cmac.num_cells), self.num_delays)
        if uneven:
            raise ValueError(f"num_delays: {self.num_delays} does not divide {len(self.cmac.num_cells)} dimensions")
        return torch.full((num_rows, (self.num_delays - 1) * self.spacing, num_inputs), (self.low + self.high) / 2)

    def init_weights(self, num_outputs: int) -> Tensor:
        """Weights that know nothing: (W, O) zeros."""
        return self.cmac.init_weights(num_outputs)

    def sense(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Find the cells of inputs (B, T, I) and their past: (B, T, num_delays * I) int64."""
        everything = torch.cat([state.to(inputs.dtype), inputs], 1)
        reach = state.shape[1]
        views = [everything[:, first : first + inputs.shape[1]] for first in range(0, reach + 1, self.spacing)]
        recent = torch.cat(views, 2)
        cells = self.cmac.quantise(recent.flatten(0, 1), self.low, self.high)
        return cells.view(recent.shape), everything[:, everything.shape[1] - reach :]

    def predict(self, weights: Tensor, senses: Tensor) -> Tensor:
        """Add up the tiles: (W, O) and (B, num_delays * I) int64 to (B, O)."""
        return self.cmac.predict(weights, senses)

    def learn(self, weights: Tensor, senses: Tensor, climbing_fibre: Tensor, beta: float) -> Tensor:
        """Spread a share of the error over the tiles; errors of a batch are averaged."""
        return self.cmac.learn(weights, senses, climbing_fibre, beta / len(senses))


def ridge(senses: Tensor, targets: Tensor, strength: float) -> Tensor:
    """Solve for the readout that gives targets, (S, F) and (S, O), with weights kept small: (F, O).

    ``strength`` times the squared weights is added to the squared errors. Solved by orthogonal steps: the normal
    equations lose half the digits, and with them the small echoes that a good prediction needs.
    """
    size = senses.shape[1]
    below = strength**0.5 * torch.eye(size, dtype=senses.dtype)
    left = torch.cat([senses, below])
    right = torch.cat([targets, targets.new_zeros(size, targets.shape[1])])
    solution: Tensor = torch.linalg.lstsq(left, right, driver="gelsy").solution
    return solution


@dataclass(frozen=True)
class Replay:
    """Moments kept of all that was lived through, each as likely as any other, to be learnt again with what is new.

    Attributes:
        capacity: Most moments kept.
        senses: (M, F).
        targets: (M, O).
        num_seen: How many there were.

    Source:
        Incremental learning by replay: Zhang, Chen, Wu and Qiao, 2023. Which moment gives way: Vitter, ACM Trans. Math.
        Software 11, 1985, algorithm R.
    """

    capacity: int
    senses: Tensor
    targets: Tensor
    num_seen: int = 0

    @classmethod
    def empty(cls, capacity: int, num_senses: int, num_outputs: int) -> "Replay":
        """Keep nothing yet."""
        dtype = torch.float64
        return cls(capacity, torch.zeros(0, num_senses, dtype=dtype), torch.zeros(0, num_outputs, dtype=dtype))

    def remember(self, senses: Tensor, targets: Tensor, generator: torch.Generator) -> "Replay":
        """Live through moments, (S, F) and (S, O)."""
        room = min(self.capacity - len(self.senses), len(senses))
        kept = torch.cat([self.senses, senses[:room]]), torch.cat([self.targets, targets[:room]])
        for place in range(room, len(senses)):
            slot = int(torch.randint(self.num_seen + place + 1, (1,), generator=generator))
            if slot < self.capacity:
                kept[0][slot], kept[1][slot] = senses[place], targets[place]
        return replace(self, senses=kept[0], targets=kept[1], num_seen=self.num_seen + len(senses))

    def readout(self, senses: Tensor, targets: Tensor, strength: float) -> Tensor:
        """Solve for the readout of what is new, together with what was kept."""
        return ridge(torch.cat([self.senses, senses]), torch.cat([self.targets, targets]), strength)


class CorrectionState(NamedTuple):
    """What is added to a prediction now, (B, O) each.

    Attributes:
        value: The correction.
        steps_left: How long it is still held.
        length: How long it is held each time; grows while errors come back.
    """

    value: Tensor
    steps_left: Tensor
    length: Tensor


@dataclass(frozen=True)
class Correction:
    """A quick addition to the prediction: errors above a tolerance push it, and when they stay away it is let go.

    An error that comes back when it was let go makes the next correction last twice as long.

    Attributes:
        potentiation: Share of a positive error that is added at a step.
        depression: Share of a negative one.
        tolerance: Errors up to this are left alone.
        max_steps: Longest time a correction is held.
        release: Share of it that is left after a step once it is let go.

    Source:
        Correction by potentiation and depression, with adaptive duration: Zhang, Chen, Wu and Qiao, 2023, after their
        abstract; the equations are ours.
    """

    potentiation: float = 0.3
    depression: float = 0.3
    tolerance: float = 0.1
    max_steps: int = 64
    release: float = 0.8

    def init_state(self, num_rows: int, num_outputs: int) -> CorrectionState:
        """Correct nothing."""
        zeros = torch.zeros(num_rows, num_outputs)
        return CorrectionState(zeros, zeros.long(), zeros.long() + 1)

    def step(self, state: CorrectionState, climbing_fibre: Tensor) -> CorrectionState:
        """Hear the error of a corrected prediction, (B, O), wanted less given."""
        wrong = climbing_fibre.abs() > self.tolerance
        again = wrong & (state.steps_left == 0)
        length = torch.where(again, (2 * state.length).clamp(max=self.max_steps), state.length)
        steps_left = torch.where(wrong, length, (state.steps_left - 1).clamp(min=0))
        push = torch.where(climbing_fibre > 0, self.potentiation, self.depression) * climbing_fibre * wrong
        held = torch.where(steps_left > 0, state.value, self.release * state.value)
        return CorrectionState(held + push, steps_left, length)


def mackey_glass(num_steps: int, tau: int = 17, start: float = 1.2) -> Tensor:
    """Compute the yardstick of forward models, ``x'(t) = 0.2 x(t - tau) / (1 + x(t - tau)**10) - 0.1 x(t)``.

    Runge and Kutta's method of order 4 with a step of 1 from a constant past: (num_steps,) float64.

    Source:
        Mackey and Glass, Science 197, 1977.
    """
    series = [start] * (tau + 1)

    def slope(now: float, delayed: float) -> float:
        return 0.2 * delayed / (1 + delayed**10) - 0.1 * now

    for _ in range(num_steps - 1):
        now, before, after = series[-1], series[-1 - tau], series[-tau]
        first = slope(now, before)
        second = slope(now + first / 2, (before + after) / 2)
        third = slope(now + second / 2, (before + after) / 2)
        series.append(now + (first + 2 * second + 2 * third + slope(now + third, after)) / 6)
    return torch.tensor(series[tau:], dtype=torch.float64)
