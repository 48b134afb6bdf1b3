"""A leaky neuron that tires: its adaptation grows with its spikes and its membrane, and holds it back."""

import torch
from torch import Tensor, nn

from cifasr.ops.backend import Backend
from cifasr.ops.lif import ATan, Surrogate, lif
from cifasr.spiking.lif import State


class AdaptiveLIF(nn.Module):
    """A layer of adaptive leaky integrate-and-fire neurons, discretised by the symplectic Euler method.

    ::

        potential[t]  = decay * membrane[t-1] + (1 - decay) * (current[t] - adaptation[t-1])
        spikes[t]     = potential[t] >= threshold
        membrane[t]   = potential[t] * (1 - spikes[t])
        adaptation[t] = adaptation_decay * adaptation[t-1]
                        + (1 - adaptation_decay) * (coupling * membrane[t] + jump * spikes[t])

    The adaptation hears the new membrane, not the last one: that is what makes it symplectic. Below the threshold the
    pair is a linear oscillator that loses ``decay * adaptation_decay`` of its area a step whatever the coupling, and
    is stable for ``-1 < coupling < (1 + d) * (1 + a) / ((1 - d) * (1 - a))``; with the last membrane (forward Euler)
    it would lose less the more it is coupled, and grow beyond ``(1 - d * a) / ((1 - d) * (1 - a))``. A current
    settles: its convention is "settles" of `LIF`.

    Args:
        width: Neurons: D.
        decay: Of the membrane, 0 to 1, both left out: d above.
        adaptation_decay: Of the adaptation, likewise, and larger as a rule: a above.
        coupling: Where ``coupling`` starts, for each neuron its own learned parameter; within the stable range.
        jump: Where ``jump`` starts, likewise, >= 0.
        threshold: Membrane at which a neuron fires, > 0.
        surrogate: What the backward pass takes for the derivative of a spike.
        detach_reset: Whether gradients pass by the reset.
        backend: As for ``lif``.

    Raises:
        ValueError: A number is out of its range.

    Source:
        Baronig et al., "Advancing spatio-temporal processing through adaptation in spiking neural networks", 2024,
        arXiv:2408.07517, eq. 6.
    """

    def __init__(
        self,
        width: int,
        *,
        decay: float,
        adaptation_decay: float,
        coupling: float,
        jump: float,
        threshold: float = 1.0,
        surrogate: Surrogate = ATan(),  # noqa: B008 - frozen
        detach_reset: bool = False,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        for name, value in (("decay", decay), ("adaptation_decay", adaptation_decay)):
            if not 0 < value < 1:
                raise ValueError(f"{name}: got {value}, wanted more than 0 and less than 1")
        limit = (1 + decay) * (1 + adaptation_decay) / ((1 - decay) * (1 - adaptation_decay))
        if not -1 < coupling < limit:
            raise ValueError(f"coupling: got {coupling}, wanted -1 to {limit:.6g}, or the neuron is unstable")
        if not jump >= 0:
            raise ValueError(f"jump: got {jump}, wanted >= 0: a spike tires the neuron")
        self.decay, self.adaptation_decay, self.threshold = decay, adaptation_decay, threshold
        self.surrogate, self.detach_reset, self.backend = surrogate, detach_reset, backend
        self.coupling = nn.Parameter(torch.full((width,), float(coupling)))
        self.jump = nn.Parameter(torch.full((width,), float(jump)))

    def forward(self, current: Tensor, input_lens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Let the layer hear a sequence, or the next chunk of one, step by step.

        Args:
            current: (B, T, D) float.
            input_lens: (B,) int64, 0 to T. What is past it changes nothing.
            state: From the call before; None is a neuron at rest.

        Returns:
            spikes: (B, T, D) of 0 and 1 in the dtype of ``current``; 0 past ``input_lens``.
            state: "membrane" and "adaptation", (B, D), for the next call.

        Raises:
            ValueError: A shape or a value is not as above.
        """
        B, _, D = current.shape
        if state is None:
            zero = current.new_zeros(B, D, dtype=torch.promote_types(current.dtype, torch.float32))
            state = {"membrane": zero, "adaptation": zero}
        spikes = []
        for t, current_t in enumerate(current.unbind(1)):
            spikes_t, state = self._step(current_t, input_lens > t, state)
            spikes.append(spikes_t)
        return torch.stack(spikes, 1).to(current.dtype) if spikes else current.new_zeros(B, 0, D), state

    def _step(self, current: Tensor, is_heard: Tensor, state: State) -> tuple[Tensor, State]:
        """Do one step: current (B, D), is_heard (B,) bool, to spikes (B, D) and the state."""
        adaptation = state["adaptation"]
        drive = (1 - self.decay) * (current.to(adaptation.dtype) - adaptation)
        out = lif(
            drive[:, None],
            is_heard.long(),
            decay=self.decay,
            threshold=self.threshold,
            reset="zero",
            membrane=state["membrane"],
            surrogate=self.surrogate,
            detach_reset=self.detach_reset,
            backend=self.backend,
        )
        spikes = out.spikes[:, 0]
        tired_by = self.coupling * out.membrane + self.jump * spikes
        later = self.adaptation_decay * adaptation + (1 - self.adaptation_decay) * tired_by
        return spikes, {"membrane": out.membrane, "adaptation": torch.where(is_heard[:, None], later, adaptation)}

    def extra_repr(self) -> str:
        """Say the settings in the module's print."""
        decays = f"decay={self.decay:.4g}, adaptation_decay={self.adaptation_decay:.4g}"
        return f"{len(self.jump)}, {decays}, threshold={self.threshold}"
