"""LIF by its Triton kernels: registered as operators, so that `torch.compile` sees no break and autograd a gradient."""

from typing import Any, cast

import torch
from torch import Tensor

from cifasr.ops.lif import kernel
from cifasr.ops.lif.output import LifOutput, Reset
from cifasr.ops.lif.surrogate import Rect, Surrogate


def lif_triton(
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
    """Do what ``lif`` says; arguments are taken as checked. Never waits for the device."""
    spikes, last_membrane, _ = cast(
        tuple[Tensor, Tensor, Tensor],
        _scan(
            current.contiguous(),
            input_lens.contiguous(),
            membrane.contiguous(),
            float(decay),
            float(threshold),
            reset,
            type(surrogate).__name__,
            float(surrogate.width if isinstance(surrogate, Rect) else surrogate.slope),
            detach_reset,
            torch.is_grad_enabled() and (current.requires_grad or membrane.requires_grad),
        ),
    )
    return LifOutput(spikes, last_membrane)


@torch.library.custom_op("cifasr::lif_scan", mutates_args=())
def _scan(
    current: Tensor,
    input_lens: Tensor,
    membrane: Tensor,
    decay: float,
    threshold: float,
    reset: str,
    surrogate: str,
    shape: float,
    detach_reset: bool,
    save_potential: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run; the surrogate and what follows it are here for the gradient alone."""
    return kernel.forward(current, input_lens, membrane, decay, threshold, cast(Reset, reset), save_potential)


@_scan.register_fake
def _(
    current: Tensor,
    input_lens: Tensor,
    membrane: Tensor,
    decay: float,
    threshold: float,
    reset: str,
    surrogate: str,
    shape: float,
    detach_reset: bool,
    save_potential: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    potential = membrane.new_empty(current.shape if save_potential else 0)
    return torch.empty_like(current), torch.empty_like(membrane), potential


@torch.library.custom_op("cifasr::lif_gradients", mutates_args=())
def _gradients(
    spikes_grad: Tensor,
    membrane_grad: Tensor,
    potential: Tensor,
    input_lens: Tensor,
    decay: float,
    threshold: float,
    reset: str,
    surrogate: str,
    shape: float,
    detach_reset: bool,
) -> tuple[Tensor, Tensor]:
    return kernel.backward(
        spikes_grad,
        membrane_grad,
        potential,
        input_lens,
        decay,
        threshold,
        cast(Reset, reset),
        surrogate,
        shape,
        detach_reset,
    )


@_gradients.register_fake
def _(
    spikes_grad: Tensor,
    membrane_grad: Tensor,
    potential: Tensor,
    input_lens: Tensor,
    decay: float,
    threshold: float,
    reset: str,
    surrogate: str,
    shape: float,
    detach_reset: bool,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(spikes_grad), torch.empty_like(membrane_grad)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:  # noqa: ANN401 - torch's
    _, input_lens, _, *neuron, _ = inputs
    ctx.save_for_backward(output[2], input_lens)
    ctx.neuron = neuron
    ctx.mark_non_differentiable(output[2])


def _backward(ctx: Any, spikes_grad: Tensor, membrane_grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's
    potential, input_lens = ctx.saved_tensors
    current_grad, first_grad = _gradients(
        spikes_grad.contiguous(), membrane_grad.contiguous(), potential, input_lens, *ctx.neuron
    )
    return current_grad, None, first_grad, *[None] * 7


_scan.register_autograd(_backward, setup_context=_save)
