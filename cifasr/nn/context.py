"""What an encoder frame may see: the one definition of the chunk mask."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cifasr.lengths import padding_mask


@dataclass(frozen=True, slots=True)
class Context:
    """The frames that one frame sees: all of its own chunk, and a bounded stretch before the chunk.

    Attributes:
        chunk_frames: Encoder frames of a chunk; None for the whole utterance.
        left_frames: Frames seen before the chunk's first; None for all of them.
    """

    chunk_frames: int | None = None
    left_frames: int | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be."""
        if self.chunk_frames is not None and self.chunk_frames < 1:
            raise ValueError(f"chunk_frames: wanted at least 1 or None, got {self.chunk_frames}")
        if self.left_frames is not None and self.left_frames < 0:
            raise ValueError(f"left_frames: wanted at least 0 or None, got {self.left_frames}")


def attention_mask(lens: Tensor, num_frames: int, context: Context) -> Tensor:
    """Say which key each query may see.

    Args:
        lens: (B,) int64, valid frames.
        num_frames: T, the padded length.
        context: Chunk and left context.

    Returns:
        (B, 1, T, T) bool, True where the query (third axis) may see the key (fourth). A frame always sees
        itself, so that no row of a softmax is empty, padding included.
    """
    frame = torch.arange(num_frames, device=lens.device)
    visible = torch.ones(num_frames, num_frames, dtype=torch.bool, device=lens.device)
    if context.chunk_frames is not None:
        chunk_start = frame // context.chunk_frames * context.chunk_frames
        visible = frame < (chunk_start + context.chunk_frames)[:, None]
        if context.left_frames is not None:
            visible = visible & (frame >= (chunk_start - context.left_frames)[:, None])
    valid = ~padding_mask(lens, num_frames)
    itself = torch.eye(num_frames, dtype=torch.bool, device=lens.device)
    return ((visible & valid[:, None, :]) | itself)[:, None]
