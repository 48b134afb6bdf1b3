"""CIF by its Triton kernels: registered as operators, so that `torch.compile` sees no break and autograd a gradient."""

from typing import Any, cast

import torch
from torch import Tensor

from cifasr.ops.cif import kernel
from cifasr.ops.cif.membrane import UNITS_PER_TOKEN, sum_weight
from cifasr.ops.cif.membrane import tail_units as units_of_tail
from cifasr.ops.cif.output import CifOutput

_NO_WIDTH = 2**31 - 1


def cif_triton(
    frames: Tensor,
    frame_lens: Tensor,
    alpha: Tensor,
    *,
    threshold: float,
    target_lens: Tensor | None,
    max_tokens: int | None,
    tail_threshold: float | None,
) -> CifOutput:
    """Do what ``cif`` says; arguments are taken as checked.

    Waits for the device only to learn the width of the output: never, where ``max_tokens`` gives it.
    """
    frames, alpha, frame_lens = frames.contiguous(), alpha.contiguous(), frame_lens.contiguous()
    target_lens = None if target_lens is None else target_lens.contiguous()
    tail_units = UNITS_PER_TOKEN if tail_threshold is None else units_of_tail(tail_threshold, threshold)
    position, token_lens, remainder = cast(
        tuple[Tensor, Tensor, Tensor],
        _positions(
            alpha.detach(),
            frame_lens,
            target_lens,
            threshold,
            tail_units,
            _NO_WIDTH if max_tokens is None else max_tokens,
        ),
    )
    if max_tokens is None:
        max_tokens = int(token_lens.max()) if len(token_lens) else 0
    embeds, delays, fire_frames = cast(
        tuple[Tensor, Tensor, Tensor],
        _sum_tokens(frames, alpha, position, frame_lens, token_lens, target_lens, max_tokens, threshold),
    )
    return CifOutput(
        acoustic_embeds=embeds,
        token_lens=token_lens,
        fire_frames=fire_frames,
        delays=delays,
        alpha_sum=sum_weight(alpha, frame_lens),
        remainder=remainder,
    )


@torch.library.custom_op("cifasr::cif_positions", mutates_args=())
def _positions(
    alpha: Tensor,
    frame_lens: Tensor,
    target_lens: Tensor | None,
    threshold: float,
    tail_units: int,
    max_tokens: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return kernel.positions(alpha, frame_lens, target_lens, threshold, tail_units, max_tokens)


@_positions.register_fake
def _(
    alpha: Tensor,
    frame_lens: Tensor,
    target_lens: Tensor | None,
    threshold: float,
    tail_units: int,
    max_tokens: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(alpha, dtype=torch.int64),
        torch.empty_like(frame_lens),
        torch.empty_like(frame_lens, dtype=torch.float64),
    )


@torch.library.custom_op("cifasr::cif_sum_tokens", mutates_args=())
def _sum_tokens(
    frames: Tensor,
    alpha: Tensor,
    position: Tensor,
    frame_lens: Tensor,
    token_lens: Tensor,
    target_lens: Tensor | None,
    num_tokens: int,
    threshold: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum; ``alpha`` and ``target_lens`` are here for the gradient alone."""
    fire_frames = kernel.fire_frames(position, frame_lens, token_lens, num_tokens)
    return *kernel.sum_tokens(frames, position, fire_frames, token_lens, threshold), fire_frames


@_sum_tokens.register_fake
def _(
    frames: Tensor,
    alpha: Tensor,
    position: Tensor,
    frame_lens: Tensor,
    token_lens: Tensor,
    target_lens: Tensor | None,
    num_tokens: int,
    threshold: float,
) -> tuple[Tensor, Tensor, Tensor]:
    B, _, D = frames.shape
    return (
        frames.new_empty(B, num_tokens, D),
        frames.new_empty(B, num_tokens, dtype=torch.float64),
        frames.new_empty(B, num_tokens, dtype=torch.int64),
    )


@torch.library.custom_op("cifasr::cif_gradients", mutates_args=())
def _gradients(
    grad: Tensor,
    frames: Tensor,
    alpha: Tensor,
    position: Tensor,
    frame_lens: Tensor,
    token_lens: Tensor,
    target_lens: Tensor | None,
    threshold: float,
    for_frames: bool,
    for_alpha: bool,
) -> tuple[Tensor, Tensor]:
    return kernel.gradients(
        grad, frames, alpha, position, frame_lens, token_lens, target_lens, threshold, for_frames, for_alpha
    )


@_gradients.register_fake
def _(
    grad: Tensor,
    frames: Tensor,
    alpha: Tensor,
    position: Tensor,
    frame_lens: Tensor,
    token_lens: Tensor,
    target_lens: Tensor | None,
    threshold: float,
    for_frames: bool,
    for_alpha: bool,
) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(frames) if for_frames else frames.new_empty(0),
        torch.empty_like(alpha) if for_alpha else alpha.new_empty(0),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:  # noqa: ANN401 - torch's
    *tensors, _, threshold = inputs
    ctx.save_for_backward(*tensors)
    ctx.threshold = threshold
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # no zeros for the gradients of what has none


def _backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's
    if grad is None:
        return (None,) * 8
    for_frames, for_alpha = ctx.needs_input_grad[:2]
    frame_grad, alpha_grad = _gradients(
        grad.contiguous(), *ctx.saved_tensors, ctx.threshold, for_frames=for_frames, for_alpha=for_alpha
    )
    return frame_grad if for_frames else None, alpha_grad if for_alpha else None, *[None] * 6


_sum_tokens.register_autograd(_backward, setup_context=_save)
