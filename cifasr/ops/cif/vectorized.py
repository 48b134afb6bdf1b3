"""CIF in whole-tensor operations: no loop over frames, no (U, T) matrix, O(B * T * D) time and memory.

Each token's spans lie side by side (see ``spans.py``), so that the forward pass is one weighted bag sum over frames;
each frame's spans do too, so that the gradient to the frames is one weighted bag sum over tokens. Every token has
its own sum: no running total over the utterance, whose low bits long audio would lose.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cifasr.lengths import padding_mask
from cifasr.ops.cif.membrane import (
    UNITS_PER_TOKEN,
    count_tokens,
    integrate,
    scale_to_targets,
    sum_weight,
    units_to_weight,
)
from cifasr.ops.cif.output import CifOutput
from cifasr.ops.cif.spans import Spans, split_into_spans


def cif_vectorized(
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
    membrane = integrate(alpha, frame_lens, threshold)  # (B, T + 1)
    position = membrane if target_lens is None else scale_to_targets(membrane, frame_lens, target_lens)
    token_lens, remainder, num_tokens = count_tokens(position[:, -1], threshold, tail_threshold, max_tokens)
    spans = split_into_spans(position, frame_lens, token_lens, num_tokens)
    scaling = None if target_lens is None else (membrane, target_lens)
    embeds = sum_spans(frames, alpha, spans, frame_lens, token_lens, threshold, scaling)
    past_end = padding_mask(token_lens, num_tokens)
    token_units = spans.token_sums(spans.units)
    moments = spans.token_sums(spans.units * (spans.frame + 1))
    return CifOutput(
        acoustic_embeds=embeds,
        token_lens=token_lens,
        fire_frames=spans.fire_frames.masked_fill(past_end, 0),
        delays=moments.to(torch.float64) / token_units.clamp(min=1),
        alpha_sum=sum_weight(alpha, frame_lens),
        remainder=units_to_weight(remainder, threshold),
    )


def sum_spans(
    frames: Tensor,
    alpha: Tensor,
    spans: Spans,
    frame_lens: Tensor,
    token_lens: Tensor,
    threshold: float,
    scaling: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Sum frames into tokens along the spans, with the closed-form gradient to frames and weights.

    Args:
        frames: (B, T, D) float.
        alpha: (B, T), read by no sum: the gradient's way out.
        spans: The plan.
        frame_lens: (B,) int64.
        token_lens: (B,) int64.
        threshold: Weight of one token.
        scaling: Membrane (B, T + 1) before scaling, in units, and target lengths (B,), where there was scaling.

    Returns:
        (B, U, D) in the dtype of ``frames``.
    """
    embeds = _SumSpans.apply(frames, alpha, spans, frame_lens, token_lens, threshold, scaling)
    return cast(Tensor, embeds)


class _SumSpans(torch.autograd.Function):
    """Forward: a bag sum a token. Backward: a bag sum a frame, and a dot product a span."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch gives it no type
        frames: Tensor,
        alpha: Tensor,
        spans: Spans,
        frame_lens: Tensor,
        token_lens: Tensor,
        threshold: float,
        scaling: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        B, T, D = frames.shape
        U = spans.token_ends.shape[1]
        ctx.save_for_backward(frames, frame_lens, token_lens, *spans)
        ctx.alpha_dtype, ctx.threshold, ctx.scaling = alpha.dtype, threshold, scaling
        if B * T * U == 0:
            return frames.new_zeros(B, U, D)
        # One bag more a row takes the spans that no token owns, and is dropped: padding may hold NaN.
        sums = _bag_sum(_rows(frames), spans.frame, T, spans.token_starts(), _span_weight(spans, threshold, frames))
        return sums.view(B, U + 1, D)[:, :U].to(frames.dtype, memory_format=torch.contiguous_format)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        frames, frame_lens, token_lens, *span_fields = ctx.saved_tensors
        spans = Spans(*span_fields)
        B, T, D = frames.shape
        U = grad.shape[1]
        if B * T * U == 0:
            return torch.zeros_like(frames), frames.new_zeros(B, T, dtype=ctx.alpha_dtype), *[None] * 5
        token_grad = _rows(frames[:0]).new_zeros(B, U + 1, D)  # the last row stands for tokens past the width
        token_grad[:, :U].copy_(grad).masked_fill_(padding_mask(token_lens, U)[..., None], 0)
        token_grad = token_grad.view(-1, D)
        frame_grad = alpha_grad = None
        if ctx.needs_input_grad[0]:
            weight = _span_weight(spans, ctx.threshold, frames)
            first_of_frame = torch.nn.functional.pad(spans.last_of_frame[:, :-1] + 1, (1, 0))
            frame_grad = _bag_sum(token_grad, spans.token, U + 1, first_of_frame, weight)
            frame_grad = frame_grad.view(B, T, D).to(frames.dtype)
        if ctx.needs_input_grad[1]:
            span_grad = _span_dots(_rows(frames), token_grad, spans)
            alpha_grad = _weight_grad(span_grad, spans, frame_lens, ctx.scaling).to(ctx.alpha_dtype)
        return frame_grad, alpha_grad, *[None] * 5


def _rows(x: Tensor) -> Tensor:
    """Lay (B, T, D) out as rows (B * T, D) in the dtype of sums: float64 for float64, else float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).reshape(-1, x.shape[-1])


def _span_weight(spans: Spans, threshold: float, frames: Tensor) -> Tensor:
    """Weight of each span, (B, T + U), in the dtype of sums: exact in float32, but for the threshold."""
    dtype = torch.promote_types(frames.dtype, torch.float32)
    return spans.units.to(dtype) * (threshold / UNITS_PER_TOKEN)


def _flat(index: Tensor, stride: int) -> Tensor:
    """Turn indices within a row, (B, N), into indices into the batch laid flat, (B * N,)."""
    return (index + torch.arange(len(index), device=index.device)[:, None] * stride).view(-1)


def _bag_sum(rows: Tensor, row_of_span: Tensor, rows_per_item: int, starts: Tensor, weight: Tensor) -> Tensor:
    """Sum weighted rows over runs of spans.

    Args:
        rows: (B * R, D) what is summed.
        row_of_span: (B, N) int64, row of each span within its item of the batch.
        rows_per_item: R.
        starts: (B, G) int64, first span of each bag, never falling, the first one 0; a bag ends where the next begins.
        weight: (B, N) in the dtype of ``rows``.

    Returns:
        (B * G, D).
    """
    return torch.nn.functional.embedding_bag(
        _flat(row_of_span, rows_per_item),
        rows,
        _flat(starts, row_of_span.shape[1]),
        mode="sum",
        per_sample_weights=weight.view(-1),
    )


def _span_dots(rows: Tensor, token_grad: Tensor, spans: Spans) -> Tensor:
    """Gradient to each span's weight: its token's gradient dot its frame, 0 where no token owns the span.

    Args:
        rows: (B * T, D) frames.
        token_grad: (B * (U + 1), D).
        spans: The plan.

    Returns:
        (B, T + U) in the dtype of ``rows``.
    """
    U = spans.token_ends.shape[1]
    frame = _flat(spans.frame, spans.last_of_frame.shape[1])
    token = _flat(spans.token, U + 1)
    # The same dot products as the gradient of a bag sum to its weights; "0" is the mode "sum".
    dots = torch.ops.aten._embedding_bag_per_sample_weights_backward(token_grad, rows, frame, token[:0], token, 0)
    span_ids = torch.arange(spans.units.shape[1], device=rows.device)
    return cast(Tensor, dots.view_as(spans.units).masked_fill_(span_ids >= spans.token_ends[:, -1:], 0))


def _weight_grad(span_grad: Tensor, spans: Spans, frame_lens: Tensor, scaling: tuple[Tensor, Tensor] | None) -> Tensor:
    """Gradient to ``alpha`` from that to the spans: (B, T + U) to (B, T) float64.

    Moving the membrane after frame ``t`` lengthens that frame's last span and shortens the span after it.
    """
    span_grad = torch.nn.functional.pad(span_grad, (0, 1)).to(torch.float64)
    position_grad = span_grad.gather(1, spans.last_of_frame) - span_grad.gather(1, spans.last_of_frame + 1)
    alpha_grad = position_grad.flip(1).cumsum(1).flip(1)  # (B, T)
    if scaling is None:
        return alpha_grad
    membrane, target_lens = scaling
    total = membrane[:, -1:].to(torch.float64)  # (B, 1)
    gain = torch.where(total > 0, (target_lens * UNITS_PER_TOKEN)[:, None] / total.clamp(min=1), 0)
    along_alpha = (position_grad * membrane[:, 1:]).sum(1, keepdim=True) / total.clamp(min=1)
    padding = padding_mask(frame_lens, alpha_grad.shape[1])
    return (gain * (alpha_grad - along_alpha)).masked_fill(padding, 0)
