"""Lengths to masks: the only place where masks over padding are made."""

import torch
from torch import Tensor


def padding_mask(lens: Tensor, max_len: int) -> Tensor:
    """Mark the positions past each row's length.

    Args:
        lens: (B,) int64, >= 0.
        max_len: Width of the mask.

    Returns:
        (B, max_len) bool, True on padding.
    """
    return torch.arange(max_len, device=lens.device) >= lens[:, None]
