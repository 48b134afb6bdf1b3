"""CIF over a stream: state in, state out; any cut of the frames fires what the whole does."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from cifasr.lengths import padding_mask
from cifasr.ops.cif.checks import check_alpha, check_frame_lens, check_shapes, check_thresholds
from cifasr.ops.cif.membrane import UNIT_BITS, UNITS_PER_TOKEN, integrate, sum_weight, tail_units, units_to_weight
from cifasr.ops.cif.output import CifOutput
from cifasr.ops.cif.spans import split_into_spans
from cifasr.ops.cif.vectorized import sum_spans


class CifState(NamedTuple):
    """Everything a stream remembers between chunks: plain tensors, whose size does not grow.

    Rows are independent streams. A state belongs to one ``threshold``.

    Attributes:
        membrane: (B,) int64, weight of the open token in units of ``threshold / 2**24``, below one threshold.
        partial_sum: (B, D) what the open token has summed; float32, or float64 for float64 frames.
        partial_moment: (B,) int64, the open token's sum of units times frame (from 1), for its delay.
        num_frames: (B,) int64, frames heard.
        num_tokens: (B,) int64, tokens fired.
    """

    membrane: Tensor
    partial_sum: Tensor
    partial_moment: Tensor
    num_frames: Tensor
    num_tokens: Tensor

    @classmethod
    def initial(
        cls,
        batch_size: int,
        d_model: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Make the state before the first frame.

        Args:
            batch_size: B, number of streams.
            d_model: D, width of a frame.
            dtype: Dtype of the frames to come; sums are float32, or float64 for float64.
            device: Where the frames will be.

        Returns:
            A state of zeros.
        """
        sums = torch.zeros(batch_size, d_model, dtype=torch.promote_types(dtype, torch.float32), device=device)
        counts = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return cls(counts, sums, counts, counts, counts)


def cif_stream(
    frames: Tensor,
    alpha: Tensor,
    state: CifState,
    *,
    frame_lens: Tensor | None = None,
    threshold: float = 1.0,
    validate: bool = False,
) -> tuple[CifOutput, CifState]:
    """Take in the next frames of every stream; give what they fire.

    Firings are those of ``cif`` over the whole, bit for bit; embeddings differ by float rounding alone. There are no
    gradients, and no scaling to target lengths: both need the whole utterance.

    Args:
        frames: (B, T, D) float; T may be 0.
        alpha: (B, T) weights, as for ``cif``.
        state: What the previous call returned, or ``CifState.initial``.
        frame_lens: (B,) int64, valid frames in this chunk; None means all T.
        threshold: Weight of one token, > 0, the same through the stream.
        validate: Check the values of ``alpha`` and of lengths; lengths on a CPU are always checked.

    Returns:
        output: This chunk's firings as a ``CifOutput``. ``fire_frames`` and ``delays`` count from the start of the
            stream, ``alpha_sum`` is the chunk's, ``remainder`` is the open token's weight so far.
        state: For the next call.

    Raises:
        ValueError: A shape or a value is not as above.
    """
    if frame_lens is None:
        frame_lens = torch.full(frames.shape[:1], frames.shape[1] if frames.dim() > 1 else 0, device=frames.device)
    check_shapes(frames, frame_lens, alpha)
    check_thresholds(threshold, None)
    if state.partial_sum.shape != (wanted := (len(frames), frames.shape[2])):
        raise ValueError(f"state: got one of {tuple(state.partial_sum.shape)}, wanted {tuple(wanted)}, as in frames")
    if validate or frame_lens.device.type == "cpu":
        check_frame_lens(frame_lens, frames.shape[1])
    if validate:
        check_alpha(alpha, frame_lens)
    with torch.no_grad():
        return _stream(frames, alpha, state, frame_lens, threshold)


def _stream(
    frames: Tensor, alpha: Tensor, state: CifState, frame_lens: Tensor, threshold: float
) -> tuple[CifOutput, CifState]:
    """Sum the chunk with the open token counted as one more that fires, then set that one aside."""
    position = integrate(alpha, frame_lens, threshold) + state.membrane[:, None]  # (B, T + 1)
    num_fired = position[:, -1] >> UNIT_BITS  # (B,)
    width = (int(num_fired.max()) if len(frames) else 0) + 1
    spans = split_into_spans(position, frame_lens, num_fired + 1, width)
    frame_number = spans.frame + 1 + state.num_frames[:, None]
    sums = sum_spans(frames.to(state.partial_sum.dtype), alpha, spans, frame_lens, num_fired + 1, threshold)
    moments = spans.token_sums(spans.units * frame_number)  # (B, U + 1)
    sums = torch.cat([sums[:, :1] + state.partial_sum[:, None], sums[:, 1:]], dim=1)
    moments = torch.cat([moments[:, :1] + state.partial_moment[:, None], moments[:, 1:]], dim=1)

    not_fired = padding_mask(num_fired, width - 1)  # (B, U)
    membrane = position[:, -1] & (UNITS_PER_TOKEN - 1)
    output = CifOutput(
        acoustic_embeds=sums[:, :-1].masked_fill(not_fired[..., None], 0).to(frames.dtype),
        token_lens=num_fired,
        fire_frames=(spans.fire_frames[:, :-1] + state.num_frames[:, None]).masked_fill(not_fired, 0),
        delays=moments[:, :-1].masked_fill(not_fired, 0).to(torch.float64) / UNITS_PER_TOKEN,
        alpha_sum=sum_weight(alpha, frame_lens),
        remainder=units_to_weight(membrane, threshold),
    )
    rows = torch.arange(len(frames), device=frames.device)
    return output, CifState(
        membrane=membrane,
        partial_sum=sums[rows, num_fired],
        partial_moment=moments[rows, num_fired],
        num_frames=state.num_frames + frame_lens,
        num_tokens=state.num_tokens + num_fired,
    )


def cif_flush(
    state: CifState,
    *,
    threshold: float = 1.0,
    tail_threshold: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[CifOutput, CifState]:
    """End the utterance of every stream: fire the tails that ``cif`` would fire.

    Args:
        state: What the last ``cif_stream`` returned.
        threshold: The stream's.
        tail_threshold: As for ``cif``: a remainder of at least so much fires; None drops it.
        dtype: Dtype of the embeddings.

    Returns:
        output: A ``CifOutput`` one token wide, whose ``token_lens`` are 0 or 1 and whose ``alpha_sum`` is 0.
        state: For a next utterance: no open token, counts of frames and tokens carried on.

    Raises:
        ValueError: A threshold is not as above.
    """
    check_thresholds(threshold, tail_threshold)
    fires = torch.zeros_like(state.membrane, dtype=torch.bool)
    if tail_threshold is not None:
        fires = state.membrane >= tail_units(tail_threshold, threshold)  # (B,)
    delays = state.partial_moment.to(torch.float64) / state.membrane.clamp(min=1)
    output = CifOutput(
        acoustic_embeds=state.partial_sum.masked_fill(~fires[:, None], 0)[:, None].to(dtype),
        token_lens=fires.to(torch.int64),
        fire_frames=(state.num_frames - 1).masked_fill(~fires, 0)[:, None],
        delays=delays.masked_fill(~fires, 0)[:, None],
        alpha_sum=torch.zeros_like(delays, dtype=torch.float32),
        remainder=units_to_weight(state.membrane, threshold),
    )
    return output, CifState(
        membrane=torch.zeros_like(state.membrane),
        partial_sum=torch.zeros_like(state.partial_sum),
        partial_moment=torch.zeros_like(state.partial_moment),
        num_frames=state.num_frames,
        num_tokens=state.num_tokens + fires,
    )
