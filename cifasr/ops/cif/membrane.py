"""The membrane as an integer: weights to units, units to positions.

A unit is ``threshold / 2**24``. Sums of units are exact and associative, so that firings do not depend on the
backend, on the batch or on where a stream was cut. Token ``u`` owns the positions ``[u * 2**24, (u + 1) * 2**24)``.
"""

import torch
from torch import Tensor

from cifasr.lengths import padding_mask

UNIT_BITS = 24
UNITS_PER_TOKEN = 1 << UNIT_BITS
MAX_UNITS_PER_FRAME = 2**31 - 1  # int32: just under 128 thresholds


def weight_to_units(alpha: Tensor, threshold: float) -> Tensor:
    """Round weights to the nearest whole number of units, ties to even.

    Args:
        alpha: Weights, any shape, any float dtype.
        threshold: Weight of one token.

    Returns:
        int32 of the same shape. A weight of 128 thresholds or more is clamped to ``MAX_UNITS_PER_FRAME``; where
        nobody checked, a negative weight or NaN counts as zero, so that positions never fall.
    """
    units = alpha.detach().to(torch.float64) / threshold * UNITS_PER_TOKEN
    return units.round_().nan_to_num_(nan=0.0).clamp_(0, MAX_UNITS_PER_FRAME).to(torch.int32)


def units_to_weight(units: Tensor, threshold: float) -> Tensor:
    """Turn units into weight, float64."""
    return units.to(torch.float64) * (threshold / UNITS_PER_TOKEN)


def tail_units(tail_threshold: float, threshold: float) -> int:
    """Smallest remainder, in units, that fires a tail; never zero, so that silence fires none."""
    return max(1, round(tail_threshold / threshold * UNITS_PER_TOKEN))


def integrate(alpha: Tensor, frame_lens: Tensor, threshold: float) -> Tensor:
    """Add up weights.

    Args:
        alpha: (B, T) weights.
        frame_lens: (B,) int64; frames past it weigh nothing, whatever they hold.
        threshold: Weight of one token.

    Returns:
        (B, T + 1) int64: the membrane before the first frame, which is 0, and after each frame, in units.
    """
    units = weight_to_units(alpha, threshold).masked_fill_(padding_mask(frame_lens, alpha.shape[1]), 0)
    return torch.nn.functional.pad(units.cumsum(1, dtype=torch.int64), (1, 0))


def scale_to_targets(membrane: Tensor, frame_lens: Tensor, target_lens: Tensor) -> Tensor:
    """Stretch each row so that it ends at exactly ``target_lens`` tokens.

    The *sum* is scaled, not the weights: ``x / x`` is exactly 1, so that the last position is exactly
    ``target_lens * 2**24`` and the last token always fires. A row without weight is spread evenly over its valid
    frames; a row without valid frames stays at 0.

    Args:
        membrane: (B, T + 1) int64 from ``integrate``.
        frame_lens: (B,) int64.
        target_lens: (B,) int64, tokens.

    Returns:
        (B, T + 1) int64 positions in units.
    """
    frames_so_far = torch.arange(membrane.shape[1], device=membrane.device)
    evenly = torch.minimum(frames_so_far, frame_lens[:, None])  # (B, T + 1)
    done = torch.where(membrane[:, -1:] > 0, membrane, evenly)
    share = done.to(torch.float64) / done[:, -1:].clamp(min=1)
    return (share * (target_lens * UNITS_PER_TOKEN)[:, None]).round_().to(torch.int64)


def count_tokens(
    last_position: Tensor, threshold: float, tail_threshold: float | None, max_tokens: int | None
) -> tuple[Tensor, Tensor, int]:
    """Count what each row fires. Waits for the device only where ``max_tokens`` is not given.

    Args:
        last_position: (B,) int64, where each row ends, in units.
        threshold: Weight of one token.
        tail_threshold: Least remainder that fires, or None.
        max_tokens: Width of the output, or None for the longest row's.

    Returns:
        token_lens: (B,) int64, the tail's included, at most the width.
        remainder: (B,) int64 units.
        num_tokens: U, the width.
    """
    remainder = last_position & (UNITS_PER_TOKEN - 1)
    token_lens = last_position >> UNIT_BITS
    if tail_threshold is not None:
        token_lens = token_lens + (remainder >= tail_units(tail_threshold, threshold))
    if max_tokens is not None:
        return token_lens.clamp(max=max_tokens), remainder, max_tokens
    return token_lens, remainder, int(token_lens.max()) if len(token_lens) else 0


def sum_weight(alpha: Tensor, frame_lens: Tensor) -> Tensor:
    """Sum the weight of the valid frames, differentiably.

    Args:
        alpha: (B, T) weights.
        frame_lens: (B,) int64.

    Returns:
        (B,) float64 for float64 weights, else float32.
    """
    dtype = torch.promote_types(alpha.dtype, torch.float32)
    return alpha.masked_fill(padding_mask(frame_lens, alpha.shape[1]), 0).sum(1, dtype=dtype)
