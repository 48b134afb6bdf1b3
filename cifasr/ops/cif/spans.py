"""The membrane's axis cut at every frame and at every firing: the plan that both directions follow.

A *span* is a stretch of membrane that one frame gave to one token. With T frames and U tokens there are T + U cuts,
so T + U spans a row, some of them empty, in the order of time; a token's spans lie side by side, and so do a
frame's. The cut after frame ``t`` stands at index ``t + (tokens fired by then)``, the cut at the end of token ``u``
at ``u + (frames before its firing)``: the merge of two sorted lists, without sorting.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cifasr.ops.cif.membrane import UNIT_BITS, UNITS_PER_TOKEN


class Spans(NamedTuple):
    """Spans of a batch; everything is int64.

    Attributes:
        frame: (B, T + U) frame of each span.
        token: (B, T + U) token of each span; U for tokens past the output's width.
        units: (B, T + U) weight of each span, in units, at most ``UNITS_PER_TOKEN``.
        last_of_frame: (B, T) index of each frame's last span.
        token_ends: (B, U) one past each token's last span; tokens past ``token_lens`` are empty.
        fire_frames: (B, U) frame in which each token fired; the last valid frame for one that did not.
    """

    frame: Tensor
    token: Tensor
    units: Tensor
    last_of_frame: Tensor
    token_ends: Tensor
    fire_frames: Tensor

    def token_starts(self) -> Tensor:
        """Index of each token's first span, and of the first span that no token owns: (B, U + 1) int64."""
        return torch.nn.functional.pad(self.token_ends, (1, 0))

    def token_sums(self, values: Tensor) -> Tensor:
        """Sum whole numbers over each token's spans, exactly: (B, T + U) int64 to (B, U) int64."""
        sums = torch.nn.functional.pad(values.cumsum(1), (1, 0))  # (B, T + U + 1)
        return sums.gather(1, self.token_starts()).diff(dim=1)


def split_into_spans(position: Tensor, frame_lens: Tensor, token_lens: Tensor, num_tokens: int) -> Spans:
    """Cut the membrane at frames and at firings.

    Args:
        position: (B, T + 1) int64, units, never falling; flat past ``frame_lens``.
        frame_lens: (B,) int64.
        token_lens: (B,) int64, at most ``num_tokens``. One more than the row fires makes its open token count.
        num_tokens: U, the width of the output.

    Returns:
        The spans. O(B * (T + U)) time and memory, no waiting for the device.
    """
    num_frames, device = position.shape[1] - 1, position.device
    frame_ids = torch.arange(num_frames, device=device)
    token_ids = torch.arange(num_tokens, device=device)
    after_frame = position[:, 1:].contiguous()  # (B, T)
    after_token = ((token_ids + 1) * UNITS_PER_TOKEN).expand(len(position), -1).contiguous()  # (B, U)
    frames_before_fire = torch.searchsorted(after_frame, after_token)  # (B, U), T where it never fires

    last_of_frame = frame_ids + (after_frame >> UNIT_BITS).clamp_(max=num_tokens)
    cuts = torch.cat([last_of_frame, token_ids + frames_before_fire], dim=1)  # (B, T + U), each index once
    cut_at = torch.cat([after_frame, torch.minimum(after_token, position[:, -1:])], dim=1)
    cut_frame = torch.cat([frame_ids.expand(len(position), -1), frames_before_fire], dim=1)
    units = torch.empty_like(cut_at).scatter_(1, cuts, cut_at).diff(dim=1, prepend=position[:, :1])
    frame = torch.empty_like(cut_frame).scatter_(1, cuts, cut_frame)

    fire_frames = torch.minimum(frames_before_fire, frame_lens[:, None] - 1)
    ends = (token_ids + fire_frames + 1).masked_fill_(token_ids >= token_lens[:, None], 0)
    return Spans(
        frame=frame.clamp(max=num_frames - 1),  # tokens that never fire end "in frame T"
        token=torch.arange(num_frames + num_tokens, device=device) - frame,
        units=units,
        last_of_frame=last_of_frame,
        token_ends=ends.cummax(dim=1).values if num_tokens else ends,
        fire_frames=fire_frames,
    )
