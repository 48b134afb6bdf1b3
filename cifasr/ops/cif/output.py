"""What the CIF operator answers."""

from typing import NamedTuple

from torch import Tensor


class CifOutput(NamedTuple):
    """Acoustic embeddings and when they fired; everything past ``token_lens`` is zero.

    Gradients flow through ``acoustic_embeds`` and ``alpha_sum`` alone; the other fields are constants.

    Attributes:
        acoustic_embeds: (B, U, D) in the dtype of the frames.
        token_lens: (B,) int64, tokens of each row, the tail's included.
        fire_frames: (B, U) int64, frame (from 0) in which each token fired; for a tail the last valid frame.
        delays: (B, U) float64, frames heard when a token's average bit of weight arrives: ``sum_t w[u,t] * (t + 1)``
            over the token's weight. A token that comes whole from frame 0 has delay 1.
        alpha_sum: (B,) weight of the valid frames before any scaling; float32, or float64 for float64 weights.
        remainder: (B,) float64, weight left after the last firing at ``threshold``. A tail token holds just this much.
    """

    acoustic_embeds: Tensor
    token_lens: Tensor
    fire_frames: Tensor
    delays: Tensor
    alpha_sum: Tensor
    remainder: Tensor
