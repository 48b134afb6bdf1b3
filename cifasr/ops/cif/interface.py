"""The CIF operator as users call it: checks and choice, no maths."""

from collections.abc import Callable

import torch
from torch import Tensor

from cifasr.ops.backend import Backend, ResolvedBackend, resolve_backend
from cifasr.ops.cif.checks import (
    check_alpha,
    check_frame_lens,
    check_lens,
    check_shapes,
    check_target_lens,
    check_thresholds,
)
from cifasr.ops.cif.output import CifOutput
from cifasr.ops.cif.reference import cif_reference
from cifasr.ops.cif.vectorized import cif_vectorized


def cif(
    frames: Tensor,
    frame_lens: Tensor,
    alpha: Tensor,
    *,
    threshold: float = 1.0,
    target_lens: Tensor | None = None,
    max_tokens: int | None = None,
    tail_threshold: float | None = None,
    backend: Backend = "auto",
    validate: bool = False,
) -> CifOutput:
    """Sum frames into acoustic embeddings, one for every ``threshold`` of weight.

    Token ``u`` owns the stretch ``[u, u + 1) * threshold`` of the running sum of ``alpha``. A frame on a border is
    shared between its tokens; a frame heavier than ``threshold`` fires more than once. The running sum is a whole
    number of ``threshold / 2**24``: firings are the same for every backend, batch and dtype of ``frames``. Sums of
    frames are in float32, or float64 for float64 ``frames``; gradients take the rounding as the identity, and are
    one-sided (towards more weight) where a frame ends exactly on a firing.

    Args:
        frames: (B, T, D) float.
        frame_lens: (B,) int64, 0 to T. Frames past it count for nothing, whatever they hold.
        alpha: (B, T) weight of each frame, >= 0. Weights of 128 thresholds or more are clamped to just under that.
            A negative weight or NaN in a valid frame raises in the reference and with ``validate``, and counts as
            zero elsewhere.
        threshold: Weight of one token, > 0.
        target_lens: (B,) int64 tokens, >= 0. The running sum is scaled so that each row fires exactly so many. A row
            without weight is spread evenly over its valid frames, and gives ``alpha`` no gradient.
        max_tokens: Width U of the output; tokens past it are dropped, and ``token_lens`` is cut to it. Without it
            the width is the longest row's, which on a GPU means waiting for the device.
        tail_threshold: Weight, 0 to ``threshold``. A remainder of at least so much fires a last token, which keeps
            the weight it has: it is not rescaled to ``threshold``. None drops the remainder. After scaling to
            ``target_lens`` there is no remainder.
        backend: "auto" is "triton" on a GPU where triton is installed, and "vectorized" elsewhere.
        validate: Check the values of ``alpha`` and of lengths. Lengths on a CPU are always checked; on a GPU the
            check waits for the device, and without it a row that has targets but no frames fires nothing. A graph
            exported by ``torch.export`` checks nothing.

    Returns:
        Embeddings, their lengths, frames of firing, delays, weight before scaling, and remainder: see ``CifOutput``.

    Raises:
        ValueError: A shape or a value is not as above.
        BackendUnavailableError: ``backend`` was named and cannot run here.

    Source:
        Dong and Xu, ICASSP 2020, arXiv:1905.11235. New here: the whole-number membrane, scaling of the sum in
        place of the weights, thresholds other than 1, several firings in one frame.
    """
    check_shapes(frames, frame_lens, alpha)
    check_thresholds(threshold, tail_threshold)
    if target_lens is not None:
        check_lens("target_lens", target_lens, len(frames))
    if max_tokens is not None and max_tokens < 0:
        raise ValueError(f"max_tokens: got {max_tokens}, wanted None or >= 0")
    chosen = resolve_backend(backend, frames)
    check_values = validate or chosen == "reference"
    if check_values or (frame_lens.device.type == "cpu" and not torch.compiler.is_compiling()):
        check_frame_lens(frame_lens, frames.shape[1])
        if target_lens is not None:
            check_target_lens(target_lens, frame_lens)
    if check_values:
        check_alpha(alpha, frame_lens)
    return _implementation(chosen)(
        frames,
        frame_lens,
        alpha,
        threshold=threshold,
        target_lens=target_lens,
        max_tokens=max_tokens,
        tail_threshold=tail_threshold,
    )


def _implementation(backend: ResolvedBackend) -> Callable[..., CifOutput]:
    if backend == "triton":
        from cifasr.ops.cif.triton_backend import cif_triton  # triton is optional

        return cif_triton
    return cif_reference if backend == "reference" else cif_vectorized
