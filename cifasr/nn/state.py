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


def keep_left(past: Tensor, new: Tensor, left_frames: int | None, dim: int) -> tuple[Tensor, Tensor]:
    """Put a chunk behind its past, and cut the past that the next chunk will see.

    Returns:
        everything: ``past`` and ``new`` along ``dim``.
        kept: The last ``left_frames`` of it; all for None.
    """
    everything = torch.cat([past, new], dim=dim)
    if left_frames is None:
        return everything, everything
    first = max(0, everything.shape[dim] - left_frames)
    return everything, everything.narrow(dim, first, everything.shape[dim] - first)
