"""Checks of the LIF operator's arguments."""

import math
from typing import get_args

import torch
from torch import Tensor

from cifasr.ops.cif.checks import check_lens
from cifasr.ops.lif.output import Reset
from cifasr.ops.lif.surrogate import Surrogate


def check_tensors(current: Tensor, input_lens: Tensor, membrane: Tensor | None) -> None:
    """Raise ``ValueError`` unless current (B, T, D), input_lens (B,) int64 and membrane (B, D) fit together."""
    if current.dim() != 3 or not current.is_floating_point():
        raise ValueError(f"current: got {_describe(current)}, wanted (B, T, D) of a float dtype")
    B, _, D = current.shape
    check_lens("input_lens", input_lens, B)
    wanted = membrane_dtype(current)
    if membrane is not None and (membrane.shape != (B, D) or membrane.dtype != wanted):
        raise ValueError(f"membrane: got {_describe(membrane)}, wanted ({B}, {D}) of {wanted}, as current asks")


def check_options(decay: float, threshold: float, reset: Reset, surrogate: Surrogate) -> None:
    """Raise ``ValueError`` or ``TypeError`` unless the neuron is one that ``lif`` describes."""
    if not 0 <= decay <= 1:
        raise ValueError(f"decay: got {decay}, wanted 0 to 1, the part of the membrane that a step keeps")
    if not 0 < threshold < math.inf:
        raise ValueError(f"threshold: got {threshold}, wanted a finite number > 0")
    if reset not in get_args(Reset):
        raise ValueError(f"reset: got {reset!r}, wanted one of {', '.join(map(repr, get_args(Reset)))}")
    if not isinstance(surrogate, Surrogate):
        wanted = ", ".join(kind.__name__ for kind in get_args(Surrogate))
        raise TypeError(f"surrogate: got {surrogate!r}, wanted an object of one of {wanted}")


def check_input_lens(input_lens: Tensor, num_steps: int) -> None:
    """Raise ``ValueError`` unless every length lies in [0, T]. Waits for the device."""
    for b, length in enumerate(input_lens.tolist()):
        if not 0 <= length <= num_steps:
            raise ValueError(f"input_lens[{b}]: got {length}, wanted 0 to {num_steps}, the steps given")


def membrane_dtype(current: Tensor) -> torch.dtype:
    """Name the dtype that the membrane has: float64 for a float64 current, else float32."""
    return torch.promote_types(current.dtype, torch.float32)


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {tensor.dtype}"
