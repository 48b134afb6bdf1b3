"""LIF in Triton: one program owns a row and a block of features, and runs through the row's steps with its state.

Forward and backward read each input once and write each output once. The number of steps and the lengths are
arguments at run time: no new length compiles anything. The neuron's own numbers are compiled in, so that they are
exact in float64 too. Loads do not wait for the scan: `tl.range` lets the compiler fetch steps ahead.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from cifasr.ops.lif.output import Reset

BLOCK_D = 64
LAUNCH = {"BLOCK_D": BLOCK_D, "num_warps": 1}
STEPS_AHEAD = tl.constexpr(8)
EXACT = {"enable_fp_fusion": False}
"""The membrane's rounding is part of the definition: a fused multiply-add would round once where it rounds twice."""

_HALF_PI = tl.constexpr(math.pi / 2)


@triton.jit(do_not_specialize=["T"])
def _forward_kernel(
    current_ptr,
    input_lens_ptr,
    membrane_ptr,
    spikes_ptr,
    last_membrane_ptr,
    potential_ptr,
    T,
    D,
    DECAY: tl.constexpr,
    THRESHOLD: tl.constexpr,
    TO_ZERO: tl.constexpr,
    SAVE: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Spikes of valid steps, zeros after them, the membrane at the end; with SAVE the membrane before each reset."""
    b = tl.program_id(0).to(tl.int64)  # int64: B * T * D passes int32 on long audio
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = d < D
    num_steps = tl.minimum(tl.maximum(tl.load(input_lens_ptr + b), 0), T).to(tl.int32)
    membrane = tl.load(membrane_ptr + b * D + d, mask=inside, other=0.0)
    for t in tl.range(0, num_steps, num_stages=STEPS_AHEAD):
        offset = (b * T + t) * D + d
        potential = DECAY * membrane + tl.load(current_ptr + offset, mask=inside, other=0.0).to(membrane.dtype)
        fired = (potential >= THRESHOLD).to(membrane.dtype)
        membrane = potential - fired * (potential if TO_ZERO else THRESHOLD)
        tl.store(spikes_ptr + offset, fired.to(spikes_ptr.dtype.element_ty), mask=inside)
        if SAVE:
            tl.store(potential_ptr + offset, potential, mask=inside)
    tl.store(last_membrane_ptr + b * D + d, membrane, mask=inside)
    for t in range(num_steps, T):
        tl.store(spikes_ptr + (b * T + t) * D + d, tl.zeros([BLOCK_D], spikes_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _surrogate_slope(above, SURROGATE: tl.constexpr, SHAPE: tl.constexpr):
    """The derivative that stands for the spike's; see `surrogate.py`, whose formulas this repeats."""
    if SURROGATE == "ATan":
        scaled = above * (_HALF_PI * SHAPE)
        slope = (SHAPE / 2) / (1.0 + scaled * scaled)
    elif SURROGATE == "Sigmoid":
        y = 1.0 / (1.0 + tl.exp(-SHAPE * above))
        slope = SHAPE * y * (1.0 - y)
    elif SURROGATE == "FastSigmoid":
        falls = 1.0 + SHAPE * tl.abs(above)
        slope = 1.0 / (falls * falls)
    else:
        tl.static_assert(SURROGATE == "Rect")
        slope = tl.where(tl.abs(above) < SHAPE / 2, 1.0 / SHAPE, 0.0).to(above.dtype)
    return slope


@triton.jit(do_not_specialize=["T"])
def _backward_kernel(
    spikes_grad_ptr,
    membrane_grad_ptr,
    potential_ptr,
    input_lens_ptr,
    current_grad_ptr,
    first_grad_ptr,
    T,
    D,
    DECAY: tl.constexpr,
    THRESHOLD: tl.constexpr,
    TO_ZERO: tl.constexpr,
    SURROGATE: tl.constexpr,
    SHAPE: tl.constexpr,
    DETACH: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gradients to the current, zeros past valid steps, and to the first membrane; padding is not read."""
    b = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = d < D
    num_steps = tl.minimum(tl.maximum(tl.load(input_lens_ptr + b), 0), T).to(tl.int32)
    membrane_grad = tl.load(membrane_grad_ptr + b * D + d, mask=inside, other=0.0)
    for i in tl.range(0, num_steps, num_stages=STEPS_AHEAD):
        offset = (b * T + num_steps - 1 - i) * D + d
        potential = tl.load(potential_ptr + offset, mask=inside, other=0.0)
        slope = _surrogate_slope(potential - THRESHOLD, SURROGATE, SHAPE)
        kept = tl.full([BLOCK_D], 1.0, dtype=membrane_grad.dtype)
        if TO_ZERO:
            kept -= (potential >= THRESHOLD).to(kept.dtype)
        if not DETACH:
            kept -= slope * (potential if TO_ZERO else THRESHOLD)
        spikes_grad = tl.load(spikes_grad_ptr + offset, mask=inside, other=0.0).to(membrane_grad.dtype)
        current_grad = spikes_grad * slope + membrane_grad * kept
        tl.store(current_grad_ptr + offset, current_grad.to(current_grad_ptr.dtype.element_ty), mask=inside)
        membrane_grad = DECAY * current_grad
    tl.store(first_grad_ptr + b * D + d, membrane_grad, mask=inside)
    for t in range(num_steps, T):
        tl.store(
            current_grad_ptr + (b * T + t) * D + d, tl.zeros([BLOCK_D], current_grad_ptr.dtype.element_ty), mask=inside
        )


def forward(
    current: Tensor,
    input_lens: Tensor,
    membrane: Tensor,
    decay: float,
    threshold: float,
    reset: Reset,
    save_potential: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the neurons.

    Args:
        current: (B, T, D), contiguous, as all that follow.
        input_lens: (B,) int64.
        membrane: (B, D) float32, or float64 for a float64 current.
        decay: As for ``lif``, as all that follow.
        threshold: Membrane.
        reset: Its kind.
        save_potential: Whether the backward pass will want the third result; else it is without elements.

    Returns:
        spikes: (B, T, D) in the dtype of the current.
        last_membrane: (B, D) in the dtype of the membrane.
        potential: (B, T, D) in the dtype of the membrane, before each step's reset; not written past ``input_lens``.
    """
    B, T, D = current.shape
    spikes, last_membrane = torch.empty_like(current), torch.empty_like(membrane)
    potential = membrane.new_empty((B, T, D) if save_potential else 0)
    if B * D:
        _forward_kernel[(B, triton.cdiv(D, BLOCK_D))](
            current,
            input_lens,
            membrane,
            spikes,
            last_membrane,
            potential,
            T,
            D,
            DECAY=decay,
            THRESHOLD=threshold,
            TO_ZERO=reset == "zero",
            SAVE=save_potential,
            **LAUNCH,
            **EXACT,
        )
    return spikes, last_membrane, potential


def backward(
    spikes_grad: Tensor,
    membrane_grad: Tensor,
    potential: Tensor,
    input_lens: Tensor,
    decay: float,
    threshold: float,
    reset: Reset,
    surrogate: str,
    shape: float,
    detach_reset: bool,
) -> tuple[Tensor, Tensor]:
    """Compute the gradients to the current and to the membrane before the first step.

    Args:
        spikes_grad: (B, T, D) in the dtype of the current, contiguous, as all that follow.
        membrane_grad: (B, D) gradient to the membrane after the last step, in the dtype of the membrane.
        potential: (B, T, D) from ``forward``.
        input_lens: (B,) int64.
        decay: As for ``lif``, as all that follow.
        threshold: Membrane.
        reset: Its kind.
        surrogate: Name of the surrogate's class.
        shape: Its slope or width.
        detach_reset: Whether gradients pass by the reset.

    Returns:
        (B, T, D) in the dtype of the current, (B, D) in that of the membrane.
    """
    B, T, D = spikes_grad.shape
    current_grad, first_grad = torch.empty_like(spikes_grad), torch.empty_like(membrane_grad)
    if B * D:
        _backward_kernel[(B, triton.cdiv(D, BLOCK_D))](
            spikes_grad,
            membrane_grad,
            potential,
            input_lens,
            current_grad,
            first_grad,
            T,
            D,
            DECAY=decay,
            THRESHOLD=threshold,
            TO_ZERO=reset == "zero",
            SURROGATE=surrogate,
            SHAPE=shape,
            DETACH=detach_reset,
            **LAUNCH,
        )
    return current_grad, first_grad
