"""The number format of the matrix products, by what the processor has."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

from cifasr.processor import cpu_flags

DtypeChoice = Literal["auto", "float32", "bfloat16"]


def choose_dtype(choice: DtypeChoice, device: torch.device) -> torch.dtype:
    """Choose bfloat16 where the hardware multiplies it, float32 elsewhere.

    A CPU without AVX-512 BF16 or AMX runs bfloat16 tens of times slower than float32, one with it several times faster.

    Args:
        choice: "auto", or a format to be used whatever it costs.
        device: Where.
    """
    if choice != "auto":
        return torch.bfloat16 if choice == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if {"avx512_bf16", "amx_bf16"} & cpu_flags() else torch.float32


def autocast(choice: DtypeChoice, device: torch.device) -> AbstractContextManager[object]:
    """Run matrix products in the format chosen."""
    dtype = choose_dtype(choice, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)
