"""The definition of leaky integrate-and-fire: a loop over steps that says what the words say.

Right before fast. No in-place writes; autograd makes the backward pass, with a surrogate for the spike alone.
"""

from typing import Any, cast

import torch
from torch import Tensor

from cifasr.lengths import padding_mask
from cifasr.ops.lif.output import LifOutput, Reset
from cifasr.ops.lif.surrogate import Surrogate


def lif_reference(
    current: Tensor,
    input_lens: Tensor,
    membrane: Tensor,
    *,
    decay: float,
    threshold: float,
    reset: Reset,
    surrogate: Surrogate,
    detach_reset: bool,
) -> LifOutput:
    """Do what ``lif`` says; arguments are taken as checked."""
    padding = padding_mask(input_lens, current.shape[1])  # (B, T)
    # Padding may hold NaN, and a NaN times the zero gradient of a masked result would still be one.
    heard = current.to(membrane.dtype).masked_fill(padding[..., None], 0)
    membrane = membrane + heard[:, :0].sum(1)  # nothing, but without a step too it hangs on the graph
    spikes: list[Tensor] = []
    for current_t, is_past in zip(heard.unbind(1), padding[..., None].unbind(1), strict=True):  # (B, D), (B, 1)
        potential = decay * membrane + current_t
        fired = _fire(potential, threshold, surrogate)
        taken = threshold if reset == "subtract" else potential
        after_reset = potential - (fired.detach() if detach_reset else fired) * taken
        membrane = torch.where(is_past, membrane, after_reset)
        spikes.append(fired.masked_fill(is_past, 0))
    return LifOutput(torch.stack(spikes, 1).to(current.dtype) if spikes else current[:, :0], membrane)


def _fire(potential: Tensor, threshold: float, surrogate: Surrogate) -> Tensor:
    """Give 1 where the potential reaches the threshold, else 0, with the surrogate's gradient to the potential."""
    return cast(Tensor, _Fire.apply(potential, threshold, surrogate))


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, potential: Tensor, threshold: float, surrogate: Surrogate) -> Tensor:  # noqa: ANN401 - torch's
        ctx.save_for_backward(potential)
        ctx.threshold, ctx.surrogate = threshold, surrogate
        return (potential >= threshold).to(potential.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (potential,) = ctx.saved_tensors
        return grad * ctx.surrogate.derivative(potential - ctx.threshold), None, None
