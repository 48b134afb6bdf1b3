"""Synapses that learn from the time between spikes, alone or when a reward comes later."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cifasr.lengths import padding_mask


class STDPState(NamedTuple):
    """What is left of the spikes so far.

    Attributes:
        pre_trace: (B, D_pre), each sender's spikes, decayed.
        post_trace: (B, D_post), each receiver's.
    """

    pre_trace: Tensor
    post_trace: Tensor


@dataclass(frozen=True)
class STDP:
    """Spike-timing-dependent plasticity by pairs: what came before a spike is strengthened, what comes after weakened.

    All pairs count, each by `window`. Traces decay by ``exp(-step / tau)``, so that steps change nothing but the grid
    of times; with SpikingJelly's ``1 - step / tau`` a pair 10 ms apart counts 0.5987 where it should 0.6065. Spikes
    in one step make no pair.

    Attributes:
        tau_pre_ms: How long a sender's spike is remembered, > 0.
        tau_post_ms: The same for a receiver's.
        strengthen: Change by a pair at once, the sender first, >= 0.
        weaken: Change by a pair at once, the receiver first, as a positive number; a little more, or weights grow.

    Raises:
        ValueError: A value is not as above.

    Source:
        Song, Miller and Abbott, Nature Neuroscience 2000, 10.1038/78829, with the constants of Brian2's example of it.
    """

    tau_pre_ms: float = 20.0
    tau_post_ms: float = 20.0
    strengthen: float = 0.01
    weaken: float = 0.0105

    def __post_init__(self) -> None:
        for name in ("tau_pre_ms", "tau_post_ms"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"STDP.{name}: got {getattr(self, name)}, wanted > 0, finite")
        for name in ("strengthen", "weaken"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"STDP.{name}: got {getattr(self, name)}, wanted >= 0, finite")

    def window(self, lag_ms: Tensor) -> Tensor:
        """Give the change by one pair, (...), whose receiver fires ``lag_ms``, (...), after its sender."""
        later = self.strengthen * torch.exp(-lag_ms.clamp(min=0) / self.tau_pre_ms)
        earlier = -self.weaken * torch.exp(lag_ms.clamp(max=0) / self.tau_post_ms)
        return torch.where(lag_ms > 0, later, torch.where(lag_ms < 0, earlier, 0.0))

    def changes(
        self, pre: Tensor, post: Tensor, input_lens: Tensor, *, step_ms: float, state: STDPState | None = None
    ) -> tuple[Tensor, STDPState]:
        """Find how spikes change the weights, step by step; they are not applied, and no gradient is kept.

        Args:
            pre: (B, T, D_pre) float spikes of senders.
            post: (B, T, D_post) float spikes of receivers.
            input_lens: (B,) int64, 0 to T. Spikes past it count for nothing.
            step_ms: ms, > 0.
            state: From the call before; None is silence until now.

        Returns:
            changes: (B, T, D_pre, D_post) in each step; sum over T, and over B or its mean, for a weight.
            state: For the next call.

        Raises:
            ValueError: ``step_ms`` is not positive.
        """
        if not step_ms > 0:
            raise ValueError(f"step_ms: got {step_ms}, wanted > 0")
        with torch.no_grad():
            keep_pre, keep_post = math.exp(-step_ms / self.tau_pre_ms), math.exp(-step_ms / self.tau_post_ms)
            pre_trace, post_trace = state or STDPState(pre[:, :0].sum(1), post[:, :0].sum(1))
            padding = padding_mask(input_lens, pre.shape[1])  # (B, T)
            changes = pre.new_zeros(*pre.shape, post.shape[-1])
            for t in range(pre.shape[1]):
                is_past = padding[:, t, None]
                pre_t, post_t = pre[:, t].masked_fill(is_past, 0), post[:, t].masked_fill(is_past, 0)
                pre_trace = torch.where(is_past, pre_trace, keep_pre * pre_trace)
                post_trace = torch.where(is_past, post_trace, keep_post * post_trace)
                changes[:, t] = self.strengthen * _outer(pre_trace, post_t) - self.weaken * _outer(pre_t, post_trace)
                pre_trace, post_trace = pre_trace + pre_t, post_trace + post_t
            return changes, STDPState(pre_trace, post_trace)


def rewarded_changes(
    changes: Tensor,
    reward: Tensor,
    input_lens: Tensor,
    *,
    tau_ms: float,
    step_ms: float,
    eligibility: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Let a reward decide later which changes come true: each synapse remembers for a while what it would have done.

    ::

        eligibility[t] = exp(-step / tau) * eligibility[t-1] + changes[t]
        weight        += sum over t of reward[t] * eligibility[t]

    Args:
        changes: (B, T, D_pre, D_post), from `STDP.changes`.
        reward: (B, T), of either sign, times the learning rate.
        input_lens: (B,) int64, 0 to T. Rewards and changes past it count for nothing.
        tau_ms: How long a synapse remembers, > 0.
        step_ms: ms, > 0.
        eligibility: (B, D_pre, D_post), from the call before; None is nothing to remember.

    Returns:
        learned: (B, D_pre, D_post), to be added to the weight, by sum or mean over B.
        eligibility: (B, D_pre, D_post), for the next call.

    Raises:
        ValueError: A time is not positive.

    Source:
        Izhikevich, Cerebral Cortex 2007, 10.1093/cercor/bhl152; Florian, Neural Computation 2007, MSTDPET.
    """
    if not (tau_ms > 0 and step_ms > 0):
        raise ValueError(f"tau_ms, step_ms: got {tau_ms}, {step_ms}, wanted both > 0")
    with torch.no_grad():
        keep = math.exp(-step_ms / tau_ms)
        eligibility = changes[:, :0].sum(1) if eligibility is None else eligibility
        learned = torch.zeros_like(eligibility)
        padding = padding_mask(input_lens, changes.shape[1])[..., None, None]  # (B, T, 1, 1)
        for t in range(changes.shape[1]):
            later = keep * eligibility + changes[:, t]
            learned = torch.where(padding[:, t], learned, learned + reward[:, t, None, None] * later)
            eligibility = torch.where(padding[:, t], eligibility, later)
        return learned, eligibility


def _outer(pre: Tensor, post: Tensor) -> Tensor:
    return pre[:, :, None] * post[:, None]
