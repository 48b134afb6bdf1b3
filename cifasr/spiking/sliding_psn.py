"""A spiking neuron without a reset, that sees a fixed number of steps: all times at once, and still a stream."""

import torch
from torch import Tensor, nn

from cifasr.lengths import padding_mask
from cifasr.ops.backend import Backend
from cifasr.ops.lif import ATan, Surrogate, lif
from cifasr.spiking.lif import State


class SlidingPSN(nn.Module):
    """A layer of sliding parallel spiking neurons: a causal filter, the same for all channels, and a threshold.

    ::

        potential[t] = weight[0] * current[t - order + 1] + ... + weight[order - 1] * current[t]
        spikes[t]    = potential[t] >= threshold

    No spike changes what comes after it, so no step waits for another. Of its family it is the one for speech: the
    parameters of the others belong to one number of steps. The threshold is not learned, as a layer that learns the
    filter's size does not need it.

    Args:
        order: Steps that the neuron sees, >= 1.
        threshold: Potential at which it fires, > 0.
        surrogate: What the backward pass takes for the derivative of a spike.
        backend: As for ``lif``.

    Raises:
        ValueError: ``order`` is less than 1.

    Source:
        Fang et al., "Parallel Spiking Neurons", NeurIPS 2023, arXiv:2304.12760. It starts as a leak that keeps a half
        a step.
    """

    def __init__(
        self,
        order: int,
        *,
        threshold: float = 1.0,
        surrogate: Surrogate = ATan(),  # noqa: B008 - frozen
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if order < 1:
            raise ValueError(f"order: got {order}, wanted at least 1, the present step")
        self.threshold, self.surrogate, self.backend = threshold, surrogate, backend
        self.weight = nn.Parameter(0.5 ** torch.arange(order - 1, -1, -1))

    def forward(self, current: Tensor, input_lens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Let the layer hear a sequence, or the next chunk of one.

        Args:
            current: (B, T, D) float.
            input_lens: (B,) int64, 0 to T. What is past it changes nothing.
            state: From the call before; None is silence before the first step.

        Returns:
            spikes: (B, T, D) of 0 and 1 in the dtype of ``current``; 0 past ``input_lens``.
            state: "past", (B, order - 1, D), each row's last valid steps, for the next call.

        Raises:
            ValueError: A shape or a value is not as above.
        """
        B, T, D = current.shape
        num_past = len(self.weight) - 1
        past = current.new_zeros(B, num_past, D) if state is None else state["past"]
        heard = current.masked_fill(padding_mask(input_lens, T)[..., None], 0)  # NaN times a zero gradient is NaN
        everything = torch.cat([past, heard], 1)
        # In one order of additions, whatever T is: a convolution would choose its own, and a chunk differ in a bit.
        potential = self.weight[0] * everything[:, :T]
        for i in range(1, num_past + 1):
            potential = potential + self.weight[i] * everything[:, i : i + T]
        out = lif(
            potential,
            input_lens,
            decay=0.0,
            threshold=self.threshold,
            surrogate=self.surrogate,
            backend=self.backend,
        )
        kept = input_lens[:, None] + torch.arange(num_past, device=input_lens.device)  # (B, order - 1)
        return out.spikes.to(current.dtype), {"past": everything.gather(1, kept[..., None].expand(-1, -1, D))}

    def extra_repr(self) -> str:
        """Say the settings in the module's print."""
        return f"order={len(self.weight)}, threshold={self.threshold}"
