"""Streaming state: a flat dictionary of tensors, explicit in and out, ready to be written to disk."""

from collections.abc import Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]


def scoped(state: Mapping[str, Tensor], scope: str) -> State:
    """Take the part of a state that belongs to one module: ``{"a.k": x} -> {"k": x}`` for scope "a"."""
    prefix = f"{scope}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def merged(parts: Mapping[str, Mapping[str, Tensor]]) -> State:
    """Join the states of several modules, each under its scope: the inverse of `scoped`."""
    return {f"{scope}.{key}": value for scope, part in parts.items() for key, value in part.items()}


def keep_left(
    past: Tensor, new: Tensor, left_frames: int | None, dim: int, ahead_frames: int = 0
) -> tuple[Tensor, Tensor]:
    """Put a chunk behind its past, and cut the past that the next chunk will see.

    Returns:
        everything: ``past`` and ``new`` along ``dim``.
        kept: Of all but its last ``ahead_frames``, the last ``left_frames``; all for None.
    """
    everything = torch.cat([past, new], dim=dim)
    end = everything.shape[dim] - ahead_frames
    first = 0 if left_frames is None else max(0, end - left_frames)
    return everything, everything.narrow(dim, first, end - first)
