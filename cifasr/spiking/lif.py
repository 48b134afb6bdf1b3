"""Integrate-and-fire, leaky or not, as layers on the operator; and what the leaky neuron does in continuous time."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from cifasr.ops.backend import Backend
from cifasr.ops.lif import ATan, Reset, Surrogate, lif

State = dict[str, Tensor]  # flat, explicit in and out, as everywhere in cifasr: a stream can write it to disk
InputConvention = Literal["settles", "adds"]


def decay_of(tau_ms: float, step_ms: float) -> float:
    """Give the part of the membrane kept in a step, ``exp(-step / tau)``: the leak of eq. 4, exactly.

    Args:
        tau_ms: Time constant, > 0; infinity is no leak.
        step_ms: > 0.

    Raises:
        ValueError: A time is not positive.
    """
    if not (tau_ms > 0 and step_ms > 0):
        raise ValueError(f"tau_ms, step_ms: got {tau_ms}, {step_ms}, wanted both > 0")
    return math.exp(-step_ms / tau_ms)


def charging(time_ms: Tensor, current: Tensor, *, tau_ms: float, start: float = 0.0) -> Tensor:
    """Solve ``tau * du/dt = -u + current`` without a threshold, for a constant current: an exponential to it.

    Args:
        time_ms: (...) ms since the start.
        current: (...) where u goes: the resistance is in it, so it has the unit of u.
        tau_ms: ms, > 0.
        start: u at time 0.

    Returns:
        (...) u.

    Source:
        Lapicque 1907; the review (J. Hu, "Bridging Neuroscience and AI"), eq. 4.
    """
    return current + (start - current) * torch.exp(-time_ms / tau_ms)


def firing_rate_hz(
    current: Tensor, *, tau_ms: float, threshold: float = 1.0, reset: float = 0.0, refractory_ms: float = 0.0
) -> Tensor:
    """Give the exact f-I curve of eq. 4: ``1 / (refractory + tau * ln((I - reset) / (I - threshold)))``.

    The review writes no threshold, reset or refractory time into the equation; they are what makes it fire.

    Args:
        current: (...) in the unit of the threshold, as for `charging`, counted from rest.
        tau_ms: ms, > 0.
        threshold: Where it fires, > ``reset``.
        reset: Where it starts again.
        refractory_ms: How long it stays there, >= 0.

    Returns:
        (...) Hz; 0 for a current that does not pass the threshold, with a gradient of 0.

    Raises:
        ValueError: The threshold is not above the reset.
    """
    if not threshold > reset:
        raise ValueError(f"threshold: got {threshold}, wanted more than the reset, {reset}")
    fires = current > threshold
    above = torch.where(fires, current - threshold, 1.0)  # or the branch not taken would give NaN to the gradient
    interval_ms = refractory_ms + tau_ms * torch.log1p((threshold - reset) / above)
    return torch.where(fires, 1000 / interval_ms, 0.0)


class LIF(nn.Module):
    """A layer of leaky integrate-and-fire neurons, eq. 5 of the review: the operator ``lif``, with its settings.

    Args:
        decay: Part of the membrane kept in a step, 0 to 1; see `decay_of`.
        convention: What a constant current X does. "settles": the membrane goes to X, as eq. 4 has it; each step adds
            ``(1 - decay) * X``. "adds": each step adds X, as eq. 5 is printed, and the membrane goes to
            ``X / (1 - decay)``. Libraries differ, and a layer trained under one does not spike under the other.
        threshold: Membrane at which a neuron fires, > 0.
        reset: "subtract" takes the threshold off, "zero" keeps nothing. Eq. 5 leaves the reset out.
        surrogate: What the backward pass takes for the derivative of a spike: an object of ``cifasr.ops.lif``.
        detach_reset: Whether gradients pass by the reset.
        backend: As for ``lif``.

    Raises:
        ValueError: The convention is none, or "settles" without a leak, where a current never settles.

    Source:
        Wu et al. (STBP), Frontiers in Neuroscience 2018, 10.3389/fnins.2018.00331; the review, eq. 5.
    """

    def __init__(
        self,
        decay: float,
        *,
        convention: InputConvention,
        threshold: float = 1.0,
        reset: Reset = "subtract",
        surrogate: Surrogate = ATan(),  # noqa: B008 - frozen
        detach_reset: bool = False,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if convention not in get_args(InputConvention):
            raise ValueError(f"convention: got {convention!r}, wanted 'settles' or 'adds'")
        if convention == "settles" and decay == 1:
            raise ValueError("convention: got 'settles' for decay 1, wanted 'adds': without a leak nothing settles")
        self.decay, self.convention, self.threshold, self.reset = decay, convention, threshold, reset
        self.surrogate, self.detach_reset, self.backend = surrogate, detach_reset, backend

    def forward(self, current: Tensor, input_lens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Let the layer hear a sequence, or the next chunk of one.

        Args:
            current: (B, T, D) float.
            input_lens: (B,) int64, 0 to T. What is past it changes nothing.
            state: From the call before; None is a membrane at rest.

        Returns:
            spikes: (B, T, D) of 0 and 1 in the dtype of ``current``; 0 past ``input_lens``.
            state: "membrane", (B, D), for the next call.

        Raises:
            ValueError: A shape or a value is not as above.
        """
        out = lif(
            (1 - self.decay) * current if self.convention == "settles" else current,
            input_lens,
            decay=self.decay,
            threshold=self.threshold,
            reset=self.reset,
            membrane=None if state is None else state["membrane"],
            surrogate=self.surrogate,
            detach_reset=self.detach_reset,
            backend=self.backend,
        )
        return out.spikes, {"membrane": out.membrane}

    def extra_repr(self) -> str:
        """Say the settings in the module's print."""
        return (
            f"decay={self.decay:.4g}, convention={self.convention!r}, threshold={self.threshold}, reset={self.reset!r}"
        )


class IF(LIF):
    """A layer of integrate-and-fire neurons: `LIF` without a leak, where each step adds its current. CIF's neuron.

    Args:
        threshold: As for `LIF`, as all that follow.
        reset: Kind of reset.
        surrogate: Derivative of a spike.
        detach_reset: Whether gradients pass by the reset.
        backend: As for ``lif``.
    """

    def __init__(
        self,
        *,
        threshold: float = 1.0,
        reset: Reset = "subtract",
        surrogate: Surrogate = ATan(),  # noqa: B008 - frozen
        detach_reset: bool = False,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(
            1.0,
            convention="adds",
            threshold=threshold,
            reset=reset,
            surrogate=surrogate,
            detach_reset=detach_reset,
            backend=backend,
        )
