"""LIF in fused tensor operations: one autograd node, however many steps there are.

Forward, four small operations a step, without autograd; the membrane before each reset is all that is kept. Backward,
surrogate and reset come first, for a block of steps at once, and leave a linear scan of one operation a step. Blocks
keep what is in between in the processor's cache.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cifasr.lengths import padding_mask
from cifasr.ops.lif.output import LifOutput, Reset
from cifasr.ops.lif.surrogate import Surrogate

_BLOCK_T = 32


def lif_vectorized(
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
    outputs = _Scan.apply(current, input_lens, membrane, decay, threshold, reset, surrogate, detach_reset)
    return LifOutput(*cast(tuple[Tensor, Tensor], outputs))


class _Scan(torch.autograd.Function):
    """Forward: the scan, without autograd. Backward: the scan in reverse, by hand."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch gives it no type
        current: Tensor,
        input_lens: Tensor,
        membrane: Tensor,
        decay: float,
        threshold: float,
        reset: Reset,
        surrogate: Surrogate,
        detach_reset: bool,
    ) -> tuple[Tensor, Tensor]:
        T = current.shape[1]
        potential, spikes = _scan(current.to(membrane.dtype), membrane, decay, threshold, reset)
        ctx.save_for_backward(potential, input_lens)
        ctx.decay, ctx.threshold, ctx.reset = decay, threshold, reset
        ctx.surrogate, ctx.detach_reset, ctx.current_dtype = surrogate, detach_reset, current.dtype
        last_membrane = _membrane_at_end(potential, membrane, input_lens, threshold, reset) if T else membrane.clone()
        return spikes.masked_fill_(padding_mask(input_lens, T)[..., None], 0).to(current.dtype), last_membrane

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, spikes_grad: Tensor, membrane_grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        potential, input_lens = ctx.saved_tensors
        padding = padding_mask(input_lens, potential.shape[1])[..., None]  # (B, T, 1)
        current_grad = torch.empty_like(potential, dtype=ctx.current_dtype)
        for start in reversed(range(0, potential.shape[1], _BLOCK_T)):
            block = slice(start, start + _BLOCK_T)
            current_grad[:, block], membrane_grad = _block_grad(
                spikes_grad[:, block], membrane_grad, potential[:, block], padding[:, block], ctx
            )
        return current_grad, None, membrane_grad, *[None] * 5


def _scan(current: Tensor, membrane: Tensor, decay: float, threshold: float, reset: Reset) -> tuple[Tensor, Tensor]:
    """Run through all steps, those past a row's end too: they come after all that counts.

    Args:
        current: (B, T, D) in the dtype of the membrane, as all results.
        membrane: (B, D) before the first step.
        decay: As for ``lif``, as all that follow.
        threshold: Membrane.
        reset: Its kind.

    Returns:
        (B, T, D) the membrane before each step's reset, and spikes; of no use past a row's end.
    """
    potential = torch.empty_like(current, memory_format=torch.contiguous_format)
    spikes = torch.empty_like(potential)
    membrane = membrane.clone()
    # As tensors, or each step would make them anew.
    decay_, threshold_ = membrane.new_tensor(decay), membrane.new_tensor(threshold)
    for current_t, potential_t, fired in zip(*(x.unbind(1) for x in (current, potential, spikes)), strict=True):
        # Not one fused multiply-add: it would round once where the definition rounds twice.
        torch.add(membrane.mul_(decay_), current_t, out=potential_t)
        torch.ge(potential_t, threshold_, out=fired)
        if reset == "subtract":
            torch.sub(potential_t, fired, alpha=threshold, out=membrane)
        else:
            torch.addcmul(potential_t, potential_t, fired, value=-1, out=membrane)
    return potential, spikes


def _membrane_at_end(potential: Tensor, membrane: Tensor, input_lens: Tensor, threshold: float, reset: Reset) -> Tensor:
    """Reset the membrane of each row's last valid step; a row without one keeps the membrane that it had: (B, D)."""
    rows = torch.arange(len(input_lens), device=input_lens.device)
    last = potential[rows, (input_lens - 1).clamp(0, potential.shape[1] - 1)]
    after_reset = last - (last >= threshold).to(last.dtype) * (threshold if reset == "subtract" else last)
    return torch.where(input_lens[:, None] > 0, after_reset, membrane)


def _block_grad(
    spikes_grad: Tensor,
    membrane_grad: Tensor,
    potential: Tensor,
    padding: Tensor,
    neuron: Any,  # noqa: ANN401 - torch's context, with the neuron's numbers
) -> tuple[Tensor, Tensor]:
    """Go back over a block of K steps.

    Args:
        spikes_grad: (B, K, D).
        membrane_grad: (B, D) gradient to the membrane after the block.
        potential: (B, K, D) membrane before each reset.
        padding: (B, K, 1) bool.
        neuron: Decay, threshold, reset, surrogate, detach_reset.

    Returns:
        (B, K, D) gradient to the current, (B, D) gradient to the membrane before the block.
    """
    # Padding may hold NaN, of which zero times is NaN: masks come after products.
    slope = neuron.surrogate.derivative(potential - neuron.threshold)
    from_spikes = (spikes_grad * slope).masked_fill_(padding, 0)
    kept = torch.ones_like(potential)  # derivative of the membrane after the reset by that before
    if neuron.reset == "zero":
        kept -= (potential >= neuron.threshold).to(kept.dtype)
    if not neuron.detach_reset:
        kept -= slope * (neuron.threshold if neuron.reset == "subtract" else potential)
    # membrane_grad[t-1] = added[t] + carried[t] * membrane_grad[t]; a padded step hands it on as it is.
    carried = (neuron.decay * kept).masked_fill_(padding, 1)
    added = neuron.decay * from_spikes
    membrane_grads = torch.empty_like(potential)  # after each step
    for carried_t, added_t, grad_t in zip(
        *(reversed(x.unbind(1)) for x in (carried, added, membrane_grads)), strict=True
    ):
        grad_t.copy_(membrane_grad)
        membrane_grad = torch.addcmul(added_t, carried_t, membrane_grad)
    return torch.addcmul(from_spikes, kept, membrane_grads).masked_fill_(padding, 0), membrane_grad
