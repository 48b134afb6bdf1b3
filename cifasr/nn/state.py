"""Streaming state: a flat dictionary of tensors, explicit in and out, ready to be written to disk."""

from collections.abc import Mapping

from torch import Tensor

State = dict[str, Tensor]


def scoped(state: Mapping[str, Tensor], scope: str) -> State:
    """Take the part of a state that belongs to one module: ``{"a.k": x} -> {"k": x}`` for scope "a"."""
    prefix = f"{scope}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def merged(parts: Mapping[str, Mapping[str, Tensor]]) -> State:
    """Join the states of several modules, each under its scope: the inverse of `scoped`."""
    return {f"{scope}.{key}": value for scope, part in parts.items() for key, value in part.items()}
