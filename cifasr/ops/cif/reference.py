"""The definition of Continuous Integrate-and-Fire: a loop over frames that says what the words say.

Right before fast. No in-place writes; autograd makes the backward pass, with the rounding taken as the identity.
"""

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from cifasr.ops.cif.membrane import UNITS_PER_TOKEN, sum_weight, tail_units, weight_to_units
from cifasr.ops.cif.output import CifOutput


def cif_reference(
    frames: Tensor,
    frame_lens: Tensor,
    alpha: Tensor,
    *,
    threshold: float,
    target_lens: Tensor | None,
    max_tokens: int | None,
    tail_threshold: float | None,
) -> CifOutput:
    """Do what ``cif`` says; arguments are taken as checked."""
    # Zeros that hang on the graph, so that an output without tokens has gradients too: zero ones.
    nothing = (frames[:, :0].sum(1) + alpha[:, :0].sum(1, keepdim=True)).to(_sum_dtype(frames))  # (B, D)
    rows = []
    for b, num_frames in enumerate(frame_lens.tolist()):
        num_targets = None if target_lens is None else int(target_lens[b])
        membrane, position = _positions(alpha[b, :num_frames], threshold, num_targets)
        rows.append(_fire(frames[b, :num_frames], membrane, position, threshold, tail_threshold, nothing[b]))

    lens = [len(row.embeds) if max_tokens is None else min(len(row.embeds), max_tokens) for row in rows]
    num_tokens = max(lens, default=0) if max_tokens is None else max_tokens
    embeds = [
        torch.stack([*row.embeds, *[nothing[b]] * num_tokens])[:num_tokens] for b, row in enumerate(rows) if num_tokens
    ]
    device = frames.device
    return CifOutput(
        acoustic_embeds=torch.stack(embeds).to(frames.dtype) if embeds else nothing[:, None].to(frames.dtype)[:, :0],
        token_lens=torch.tensor(lens, dtype=torch.int64, device=device),
        fire_frames=_table([row.fire_frames for row in rows], num_tokens).to(device, torch.int64),
        delays=_table([row.delays for row in rows], num_tokens).to(device),
        alpha_sum=sum_weight(alpha, frame_lens),
        remainder=torch.tensor([row.remainder for row in rows], dtype=torch.float64, device=device),
    )


class _Row(NamedTuple):
    embeds: list[Tensor]  # of (D,)
    fire_frames: list[int]
    delays: list[float]
    remainder: float


def _positions(alpha: Tensor, threshold: float, num_targets: int | None) -> tuple[list[int], Tensor]:
    """Integrate one row's weights.

    Args:
        alpha: (T,) weights of valid frames.
        threshold: Weight of one token.
        num_targets: Tokens to scale to.

    Returns:
        The membrane before the first and after each frame, T + 1 numbers: in units, whole, and in tokens, float64,
        the same values, with the gradient to ``alpha``.
    """
    units = weight_to_units(alpha, threshold)  # (T,)
    weight = _with_value(alpha.to(torch.float64) / threshold, units.to(torch.float64) / UNITS_PER_TOKEN)
    membrane = [0, *accumulate(units.tolist())]
    position = torch.cat([weight.new_zeros(1), weight.cumsum(0)])  # (T + 1,)
    if num_targets is None:
        return membrane, position
    if membrane[-1] == 0:  # no weight to scale: evenly over the frames, whatever alpha is
        evenly = [round(t / max(len(units), 1) * (num_targets * UNITS_PER_TOKEN)) for t in range(len(membrane))]
        return evenly, position * 0 + position.new_tensor(evenly) / UNITS_PER_TOKEN
    scaled = [round(c / membrane[-1] * (num_targets * UNITS_PER_TOKEN)) for c in membrane]
    return scaled, _with_value(position / position[-1] * num_targets, position.new_tensor(scaled) / UNITS_PER_TOKEN)


def _fire(
    frames: Tensor,
    membrane: list[int],
    position: Tensor,
    threshold: float,
    tail_threshold: float | None,
    nothing: Tensor,
) -> _Row:
    """Hand each frame's weight to the tokens that it reaches.

    Args:
        frames: (T, D) valid frames of one row.
        membrane: T + 1 positions in units.
        position: (T + 1,) the same in tokens, differentiable.
        threshold: Weight of one token.
        tail_threshold: Least remainder that fires at the end.
        nothing: (D,) zeros.

    Returns:
        The row's tokens.
    """
    row = _Row([], [], [], (membrane[-1] % UNITS_PER_TOKEN) * (threshold / UNITS_PER_TOKEN))
    embed, moment = nothing, 0
    at = position.unbind(0)
    for t, frame in enumerate(frames.to(nothing.dtype).unbind(0)):
        first, last = membrane[t] // UNITS_PER_TOKEN, membrane[t + 1] // UNITS_PER_TOKEN
        for u in range(first, last + 1):
            # Token u takes this frame's weight from `low` up to `high`.
            low = at[t] if u == first else u
            high = at[t + 1] if u == last else u + 1
            embed = embed + (high - low) * threshold * frame
            units = min(membrane[t + 1], (u + 1) * UNITS_PER_TOKEN) - max(membrane[t], u * UNITS_PER_TOKEN)
            moment += units * (t + 1)
            if u < last:
                row.embeds.append(embed)
                row.fire_frames.append(t)
                row.delays.append(moment / UNITS_PER_TOKEN)
                embed, moment = nothing, 0
    remainder = membrane[-1] % UNITS_PER_TOKEN
    if tail_threshold is not None and remainder >= tail_units(tail_threshold, threshold):
        row.embeds.append(embed)
        row.fire_frames.append(len(frames) - 1)
        row.delays.append(moment / remainder)
    return row


def _with_value(gradient_of: Tensor, value: Tensor) -> Tensor:
    """Give ``value``, with the gradient of ``gradient_of``."""
    return value + (gradient_of - gradient_of.detach())


def _sum_dtype(frames: Tensor) -> torch.dtype:
    return torch.promote_types(frames.dtype, torch.float32)


def _table(rows: list[list[int]] | list[list[float]], width: int) -> Tensor:
    """Cut or fill lists with zeros to one width: (B, U) float64."""
    return torch.tensor([[*row, *[0] * width][:width] for row in rows], dtype=torch.float64).view(len(rows), width)
