"""What ``cifasr bench cif`` sets side by side: our backends, and other people's CIF where it is installed."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from cifasr.ops.backend import Backend
from cifasr.ops.cif import CifOutput, cif

BASELINE = "torch-cif"


class Inputs(NamedTuple):
    """One problem.

    Attributes:
        frames: (B, T, D).
        frame_lens: (B,) int64, all T: peers take masks or nothing, and no padding keeps them alike.
        alpha: (B, T) float32.
        target_lens: (B,) int64, or None for no scaling.
        width: Tokens of the longest target, which whoever has targets knows; None without.
    """

    frames: Tensor
    frame_lens: Tensor
    alpha: Tensor
    target_lens: Tensor | None
    width: int | None


PEERS = (BASELINE, "FunASR cif_v1", "FunASR cif")
Operator = Callable[[Inputs], Tensor]
"""Gives the embeddings, (B, U, D)."""


def make_inputs(
    B: int, T: int, D: int, *, mean_alpha: float, dtype: torch.dtype, scaled: bool, device: str = "cpu"
) -> Inputs:
    """Draw full rows, the same on every device."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(B, T, D, generator=generator).to(device, dtype).requires_grad_()
    alpha = torch.rand(B, T, generator=generator) * (2 * mean_alpha)
    counts = alpha.sum(1).round().long().clamp(min=1)
    frame_lens, target_lens = torch.full((B,), T, device=device), counts.to(device) if scaled else None
    return Inputs(
        frames, frame_lens, alpha.to(device).requires_grad_(), target_lens, int(counts.max()) if scaled else None
    )


def operators(device: str, *, reference: bool) -> tuple[dict[str, Operator], dict[str, str]]:
    """Name what can run here, the baseline first; and what is not installed, with what would install it."""
    present: dict[str, Operator] = {}
    absent: dict[str, str] = {}
    if find_spec("torch_cif"):
        present[BASELINE] = _run_torch_cif
    else:
        absent[BASELINE] = "pip install torch-cif"
    backends: list[Backend] = ["vectorized"]
    if device != "cpu" and find_spec("triton"):
        backends.append("triton")
    if reference:
        backends.append("reference")
    for backend in backends:
        present[backend] = partial(_run_ours, backend)
    if find_spec("funasr"):
        present |= {f"FunASR {name}": partial(_run_funasr, name) for name in ("cif_v1", "cif")}
    else:
        absent["FunASR cif, cif_v1"] = "pip install funasr"
    return present, absent


def run_cif(inputs: Inputs, backend: Backend) -> CifOutput:
    """Run one of ours."""
    frames, frame_lens, alpha, target_lens, width = inputs
    tail = 0.5 if target_lens is None else None
    return cif(
        frames, frame_lens, alpha, target_lens=target_lens, max_tokens=width, tail_threshold=tail, backend=backend
    )


def _run_ours(backend: Backend, inputs: Inputs) -> Tensor:
    return run_cif(inputs, backend).acoustic_embeds


def _run_torch_cif(inputs: Inputs) -> Tensor:
    from torch_cif import cif_function  # an optional measure, not a dependency

    result = cif_function(
        inputs.frames, inputs.alpha, tail_thres=0.5, target_lengths=inputs.target_lens, unbound_alpha=True
    )
    embeds: Tensor = result["cif_out"][0]
    return embeds


def _run_funasr(name: str, inputs: Inputs) -> Tensor:
    """Run a function that FunASR's ``CifPredictor`` calls, with its scaling; without targets no tail is added."""
    cif_predictor = import_module("funasr.models.paraformer.cif_predictor")  # an optional measure, not a dependency
    alpha = inputs.alpha
    if inputs.target_lens is not None:
        alpha = alpha * (inputs.target_lens / alpha.sum(1))[:, None]
    embeds: Tensor = getattr(cif_predictor, name)(inputs.frames, alpha, 1.0)[0]
    return embeds
