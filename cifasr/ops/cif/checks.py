"""Checks of the CIF operator's arguments, shared by the whole and the streaming form."""

import math

import torch
from torch import Tensor


def check_shapes(frames: Tensor, frame_lens: Tensor, alpha: Tensor) -> None:
    """Raise ``ValueError`` unless frames (B, T, D), frame_lens (B,) int64 and alpha (B, T) fit together."""
    if frames.dim() != 3 or not frames.is_floating_point():
        raise ValueError(f"frames: got {_describe(frames)}, wanted (B, T, D) of a float dtype")
    B, T, _ = frames.shape
    if alpha.shape != (B, T) or not alpha.is_floating_point():
        raise ValueError(f"alpha: got {_describe(alpha)}, wanted ({B}, {T}) of a float dtype, as in frames")
    check_lens("frame_lens", frame_lens, B)


def check_lens(name: str, lens: Tensor, batch_size: int) -> None:
    """Raise ``ValueError`` unless lens is (B,) int64."""
    if lens.shape != (batch_size,) or lens.dtype != torch.int64:
        raise ValueError(f"{name}: got {_describe(lens)}, wanted ({batch_size},) of torch.int64")


def check_thresholds(threshold: float, tail_threshold: float | None) -> None:
    """Raise ``ValueError`` unless ``0 < tail_threshold <= threshold < inf``."""
    if not 0 < threshold < math.inf:
        raise ValueError(f"threshold: got {threshold}, wanted a finite weight > 0")
    if tail_threshold is not None and not 0 < tail_threshold <= threshold:
        raise ValueError(f"tail_threshold: got {tail_threshold}, wanted None or 0 < tail_threshold <= {threshold}")


def check_frame_lens(frame_lens: Tensor, num_frames: int) -> None:
    """Raise ``ValueError`` unless every length lies in [0, T]. Waits for the device."""
    for b, length in enumerate(frame_lens.tolist()):
        if not 0 <= length <= num_frames:
            raise ValueError(f"frame_lens[{b}]: got {length}, wanted 0 to {num_frames}, the frames given")


def check_target_lens(target_lens: Tensor, frame_lens: Tensor) -> None:
    """Raise ``ValueError`` on a negative target, or one for a row without frames. Waits for the device."""
    for b, (wanted, num_frames) in enumerate(zip(target_lens.tolist(), frame_lens.tolist(), strict=True)):
        if wanted < 0:
            raise ValueError(f"target_lens[{b}]: got {wanted}, wanted >= 0")
        if wanted > 0 and num_frames == 0:
            raise ValueError(f"target_lens[{b}]: got {wanted} for a row without valid frames, wanted 0")


def check_alpha(alpha: Tensor, frame_lens: Tensor) -> None:
    """Raise ``ValueError`` on a valid frame's weight that is negative or not finite. Waits for the device."""
    valid = torch.arange(alpha.shape[1], device=alpha.device) < frame_lens[:, None]
    bad = (valid & ~((alpha >= 0) & alpha.isfinite())).nonzero()
    if len(bad):
        b, t = bad[0].tolist()
        raise ValueError(f"alpha[{b}, {t}]: got {alpha[b, t].item()}, wanted a finite weight >= 0")


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {tensor.dtype}"
