"""CIF in Triton: every frame is read once a direction, every result written once, without atomics.

Forward, `_position_kernel` adds up the weights of a row and counts its tokens, `_fire_kernel` looks up in which frames
they fire, and `_token_kernel` sums the frames of a few neighbouring tokens, which lie side by side. Backward,
`_frame_grad_kernel` goes over a few neighbouring frames, whose tokens lie side by side too, and `_alpha_grad_kernel`
runs back over a row. Everything that may differ from batch to batch (T, U, lengths) is an argument at run time: no new
length compiles anything. The neuron's own numbers are compiled in, so that they are exact in float64.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from cifasr.ops.cif.membrane import MAX_UNITS_PER_FRAME, UNIT_BITS, UNITS_PER_TOKEN

_UNIT_BITS = tl.constexpr(UNIT_BITS)
_TOKEN = tl.constexpr(UNITS_PER_TOKEN)
_UNITS = tl.constexpr(float(UNITS_PER_TOKEN))
_MAX_UNITS = tl.constexpr(float(MAX_UNITS_PER_FRAME))
_TO_WHOLE = tl.constexpr(1.5 * 2**52)  # float64 has no fractions up there: adding it rounds, ties to even

SCAN_BLOCK_T = 1024
FIRE_BLOCK_U = 128
TOKEN_BLOCKS = {"BLOCK_U": 4, "BLOCK_T": 4}
TOKEN_BLOCK_BYTES = 512
FRAME_BLOCKS = {"BLOCK_T": 4, "BLOCK_D": 128}
NUM_WARPS = 1
"""One warp a program: no barrier waits in a loop, and a warp's 32 times 128 bits are one frame's 512 bytes."""
EXACT = {"enable_fp_fusion": False}
"""The rounding of positions is part of the definition: a fused multiply-add would round once where it rounds twice."""


@triton.jit
def _round(x):
    return ((x + _TO_WHOLE) - _TO_WHOLE).to(tl.int64)


@triton.jit
def _load_units(alpha_ptr, t, valid, THRESHOLD: tl.constexpr):
    """Load weights as units; see `weight_to_units`, whose rounding and clamping this repeats."""
    units = tl.load(alpha_ptr + t, mask=valid, other=0.0).to(tl.float64) / THRESHOLD * _UNITS
    return _round(tl.where(units > 0.0, tl.where(units < _MAX_UNITS, units, _MAX_UNITS), 0.0))  # NaN is not > 0


@triton.jit(do_not_specialize=["T", "tail_units", "max_tokens"])
def _position_kernel(
    alpha_ptr,
    frame_lens_ptr,
    target_lens_ptr,
    position_ptr,
    token_lens_ptr,
    remainder_ptr,
    T,
    tail_units,
    max_tokens,
    THRESHOLD: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    """One program owns one row: it adds up the units, where there is a target stretches their sum to it, and counts."""
    b = tl.program_id(0).to(tl.int64)  # int64: B * T * D passes int32 on long audio
    alpha_ptr += b * T
    num_frames = tl.minimum(tl.load(frame_lens_ptr + b), T)
    total = tl.full([], 0, dtype=tl.int64)
    target = tl.full([], 0.0, dtype=tl.float64)
    if SCALED:
        for start in range(0, T, BLOCK_T):
            t = start + tl.arange(0, BLOCK_T)
            total += tl.sum(_load_units(alpha_ptr, t, t < num_frames, THRESHOLD), 0)
        target = tl.load(target_lens_ptr + b).to(tl.float64) * _UNITS
    is_silent = total == 0  # a row without weight is spread evenly
    whole = tl.maximum(tl.where(is_silent, num_frames, total), 1).to(tl.float64)
    done = tl.full([], 0, dtype=tl.int64)
    for start in range(0, T, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        units = _load_units(alpha_ptr, t, t < num_frames, THRESHOLD)
        if SCALED:
            units = tl.where(is_silent, (t < num_frames).to(tl.int64), units)
        position = done + tl.cumsum(units, 0)
        done += tl.sum(units, 0)
        if SCALED:
            position = _round(position.to(tl.float64) / whole * target)
        tl.store(position_ptr + b * T + t, position, mask=t < T)
    if SCALED:
        done = _round(done.to(tl.float64) / whole * target)
    remainder = done & (_TOKEN - 1)
    num_tokens = (done >> _UNIT_BITS) + (remainder >= tail_units).to(tl.int64)
    tl.store(token_lens_ptr + b, tl.minimum(num_tokens, max_tokens))
    tl.store(remainder_ptr + b, remainder.to(tl.float64) * (THRESHOLD / _UNITS))


@triton.jit(do_not_specialize=["T", "U", "num_steps"])
def _fire_kernel(position_ptr, frame_lens_ptr, token_lens_ptr, fire_frames_ptr, T, U, num_steps, BLOCK_U: tl.constexpr):
    """One program owns BLOCK_U tokens of a row: it halves the row until each one's first frame past its end is left."""
    b = tl.program_id(0).to(tl.int64)
    u = tl.program_id(1) * BLOCK_U + tl.arange(0, BLOCK_U)
    position_ptr += b * T
    fires_at = (u + 1).to(tl.int64) << _UNIT_BITS
    num_frames = tl.minimum(tl.load(frame_lens_ptr + b), T).to(tl.int32)
    fires = u < tl.load(token_lens_ptr + b)
    low = tl.full([BLOCK_U], 0, dtype=tl.int32)
    high = low + num_frames
    for _ in range(num_steps):
        middle = (low + high) // 2
        is_open = fires & (low < high)
        position = tl.load(position_ptr + middle, mask=is_open, other=0)
        high = tl.where(is_open & (position >= fires_at), middle, high)
        low = tl.where(is_open & (position < fires_at), middle + 1, low)
    fire_frames = tl.where(fires, tl.minimum(low, num_frames - 1), 0)  # a tail fires in the last frame
    tl.store(fire_frames_ptr + b * U + u, fire_frames.to(tl.int64), mask=u < U)


@triton.jit(do_not_specialize=["T", "U", "num_blocks"])
def _token_kernel(
    frames_ptr,
    position_ptr,
    fire_frames_ptr,
    token_lens_ptr,
    embeds_ptr,
    delays_ptr,
    T,
    U,
    D,
    num_blocks,
    SCALE: tl.constexpr,
    SUM: tl.constexpr,
    BLOCK_U: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """One program owns BLOCK_U tokens of a row and BLOCK_D features: it sums their frames, and zeros past them."""
    b = (tl.program_id(0) // num_blocks).to(tl.int64)
    first_token = tl.program_id(0) % num_blocks * BLOCK_U
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    position_ptr += b * T
    fire_frames_ptr += b * U + first_token
    num_tokens = tl.minimum(tl.load(token_lens_ptr + b).to(tl.int32) - first_token, BLOCK_U)
    # A token begins in the frame in which the one before it fired.
    begin = tl.load(fire_frames_ptr - 1, mask=(first_token > 0) & (num_tokens > 0), other=0).to(tl.int32)
    end = tl.load(fire_frames_ptr + num_tokens - 1, mask=num_tokens > 0, other=-1).to(tl.int32) + 1
    begins_at = tl.arange(0, BLOCK_U)[:, None] << _UNIT_BITS  # (U, 1), from where the block begins: int32 holds it
    block_begins_at = first_token.to(tl.int64) << _UNIT_BITS
    block_length = num_tokens.to(tl.int64) << _UNIT_BITS
    sums = tl.full([BLOCK_U, BLOCK_D], 0.0, dtype=SUM)
    weights = tl.full([BLOCK_U, BLOCK_T], 0, dtype=tl.int64)
    moments = weights
    for start in range(begin, end, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        before = tl.load(position_ptr + t - 1, mask=(t > 0) & (t < end), other=0) - block_begins_at
        after = tl.load(position_ptr + t, mask=t < end, other=0) - block_begins_at
        before = tl.minimum(tl.maximum(before, 0), block_length).to(tl.int32)[None, :] - begins_at
        after = tl.minimum(tl.maximum(after, 0), block_length).to(tl.int32)[None, :] - begins_at
        units = tl.minimum(tl.maximum(after, 0), _TOKEN) - tl.minimum(tl.maximum(before, 0), _TOKEN)  # (U, T)
        offset = tl.arange(0, BLOCK_T)[:, None] * D + d[None, :]
        inside = (t < end)[:, None] & (d < D)[None, :]
        frames = tl.load(frames_ptr + (b * T + start) * D + offset, mask=inside, other=0.0).to(SUM)
        sums += tl.sum((units.to(SUM) * SCALE)[:, :, None] * frames[None, :, :], 1)
        if tl.program_id(1) == 0:
            weights += units
            moments += units.to(tl.int64) * (t + 1)[None, :]
    u = first_token + tl.arange(0, BLOCK_U)
    inside = (u < U)[:, None] & (d < D)[None, :]
    tl.store(embeds_ptr + (b * U + u)[:, None] * D + d[None, :], sums.to(embeds_ptr.dtype.element_ty), mask=inside)
    if tl.program_id(1) == 0:
        delays = tl.sum(moments, 1).to(tl.float64) / tl.maximum(tl.sum(weights, 1), 1).to(tl.float64)
        tl.store(delays_ptr + b * U + u, delays, mask=u < U)


@triton.jit(do_not_specialize=["T", "U", "num_blocks"])
def _frame_grad_kernel(
    grad_ptr,
    frames_ptr,
    position_ptr,
    frame_lens_ptr,
    token_lens_ptr,
    frame_grad_ptr,
    dot_before_ptr,
    dot_after_ptr,
    T,
    U,
    D,
    num_blocks,
    FOR_FRAMES: tl.constexpr,
    FOR_ALPHA: tl.constexpr,
    SCALE: tl.constexpr,
    SUM: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """One program owns BLOCK_T frames of a row: their gradients, and their dots with two tokens' gradients.

    The two are the token that holds the membrane before the frame, and the one that holds it after.
    """
    b = (tl.program_id(0) // num_blocks).to(tl.int64)
    first_frame = tl.program_id(0) % num_blocks * BLOCK_T
    position_ptr += b * T
    num_frames = tl.minimum(tl.load(frame_lens_ptr + b), T).to(tl.int32)
    end_frame = tl.minimum(first_frame + BLOCK_T, num_frames)
    is_some = end_frame > first_frame
    first = tl.load(position_ptr + first_frame - 1, mask=is_some & (first_frame > 0), other=0)
    last = tl.load(position_ptr + end_frame - 1, mask=is_some, other=-1)
    first_token = (first >> _UNIT_BITS).to(tl.int32)
    end_token = tl.minimum(last >> _UNIT_BITS, tl.load(token_lens_ptr + b) - 1).to(tl.int32) + 1

    t = first_frame + tl.arange(0, BLOCK_T)
    valid = t < num_frames
    before = tl.load(position_ptr + t - 1, mask=valid & (t > 0), other=0)
    after = tl.load(position_ptr + t, mask=valid, other=0)
    token_before, part_before = (before >> _UNIT_BITS).to(tl.int32), (before & (_TOKEN - 1)).to(tl.int32)
    token_after, part_after = (after >> _UNIT_BITS).to(tl.int32), (after & (_TOKEN - 1)).to(tl.int32)
    dot_before = tl.full([BLOCK_T], 0.0, dtype=SUM)
    dot_after = tl.full([BLOCK_T], 0.0, dtype=SUM)
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)[None, :]
        offset = (b * T + first_frame) * D + (tl.arange(0, BLOCK_T)[:, None] * D + d)
        frame_grad = tl.full([BLOCK_T, BLOCK_D], 0.0, dtype=SUM)
        frames = frame_grad
        if FOR_ALPHA:
            frames = tl.load(frames_ptr + offset, mask=valid[:, None] & (d < D), other=0.0).to(SUM)
        for u in range(first_token, end_token):
            grad = tl.load(grad_ptr + (b * U + u) * D + d, mask=d < D, other=0.0).to(SUM)  # (1, D)
            if FOR_FRAMES:
                units = tl.where(token_after > u, _TOKEN, tl.where(token_after == u, part_after, 0))
                units -= tl.where(token_before > u, _TOKEN, tl.where(token_before == u, part_before, 0))
                frame_grad += (units.to(SUM) * SCALE)[:, None] * grad
            if FOR_ALPHA:
                dots = tl.sum(frames * grad, 1)
                dot_before += tl.where(token_before == u, dots, 0.0)
                dot_after += tl.where(token_after == u, dots, 0.0)
        if FOR_FRAMES:
            inside = (t < T)[:, None] & (d < D)
            tl.store(frame_grad_ptr + offset, frame_grad.to(frame_grad_ptr.dtype.element_ty), mask=inside)
    if FOR_ALPHA:
        tl.store(dot_before_ptr + b * T + t, dot_before, mask=t < T)
        tl.store(dot_after_ptr + b * T + t, dot_after, mask=t < T)


@triton.jit
def _sum_from_behind(dot_before_ptr, dot_after_ptr, t, num_frames):
    """Sum the gradient to the weights within a block, without what comes after it.

    Moving the membrane after a frame gives that frame to the token that holds it there, and takes the next frame from
    the same token.
    """
    taken = tl.load(dot_before_ptr + t + 1, mask=t + 1 < num_frames, other=0.0).to(tl.float64)
    given = tl.load(dot_after_ptr + t, mask=t < num_frames, other=0.0).to(tl.float64)
    return tl.cumsum(given - taken, 0, reverse=True), tl.sum(given - taken, 0)


@triton.jit(do_not_specialize=["T"])
def _alpha_grad_kernel(
    dot_before_ptr,
    dot_after_ptr,
    alpha_ptr,
    frame_lens_ptr,
    target_lens_ptr,
    alpha_grad_ptr,
    T,
    THRESHOLD: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    """One program owns one row, and runs over it from behind; twice where the sum was scaled."""
    b = tl.program_id(0).to(tl.int64)
    alpha_ptr += b * T
    dot_before_ptr += b * T
    dot_after_ptr += b * T
    num_frames = tl.minimum(tl.load(frame_lens_ptr + b), T)
    last_start = (T - 1) // BLOCK_T * BLOCK_T
    gain = tl.full([], 1.0, dtype=tl.float64)
    along = tl.zeros([], dtype=tl.float64)  # mean of the gradient along the weights, which scaling takes away
    if SCALED:
        total = tl.zeros([], dtype=tl.int64)
        behind = tl.zeros([], dtype=tl.float64)
        for back in range(0, T, BLOCK_T):
            t = last_start - back + tl.arange(0, BLOCK_T)
            grad, block = _sum_from_behind(dot_before_ptr, dot_after_ptr, t, num_frames)
            units = _load_units(alpha_ptr, t, t < num_frames, THRESHOLD)
            total += tl.sum(units, 0)
            along += tl.sum((behind + grad) * units.to(tl.float64), 0)
            behind += block
        whole = tl.maximum(total, 1).to(tl.float64)
        along = along / whole
        target = tl.load(target_lens_ptr + b).to(tl.float64) * _UNITS
        gain = tl.where(total > 0, target / whole, 0.0)
    behind = tl.zeros([], dtype=tl.float64)
    for back in range(0, T, BLOCK_T):
        t = last_start - back + tl.arange(0, BLOCK_T)
        grad, block = _sum_from_behind(dot_before_ptr, dot_after_ptr, t, num_frames)
        grad = tl.where(t < num_frames, gain * (behind + grad - along), 0.0)
        if alpha_grad_ptr.dtype.element_ty != tl.float64:
            grad = grad.to(tl.float32)  # there is no way from float64 to bfloat16 but over float32
        tl.store(alpha_grad_ptr + b * T + t, grad.to(alpha_grad_ptr.dtype.element_ty), mask=t < T)
        behind += block


def positions(
    alpha: Tensor,
    frame_lens: Tensor,
    target_lens: Tensor | None,
    threshold: float,
    tail_units: int,
    max_tokens: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Integrate, scale and count: see `integrate`, `scale_to_targets` and `count_tokens`.

    Args:
        alpha: (B, T) weights, contiguous.
        frame_lens: (B,) int64.
        target_lens: (B,) int64, or None for no scaling.
        threshold: Weight of one token.
        tail_units: Least remainder that fires; a whole token's never does.
        max_tokens: Tokens past it are not counted.

    Returns:
        position: (B, T) int64, where the membrane stands after each frame, in units.
        token_lens: (B,) int64.
        remainder: (B,) float64, weight.
    """
    B, T = alpha.shape
    position = alpha.new_empty(B, T, dtype=torch.int64)
    token_lens = torch.empty_like(frame_lens)
    remainder = torch.empty_like(frame_lens, dtype=torch.float64)
    if B:
        scaled = target_lens is not None
        _position_kernel[(B,)](
            alpha,
            frame_lens,
            target_lens if scaled else frame_lens,
            position,
            token_lens,
            remainder,
            T,
            tail_units,
            max_tokens,
            THRESHOLD=threshold,
            SCALED=scaled,
            BLOCK_T=SCAN_BLOCK_T,
            **EXACT,
        )
    return position, token_lens, remainder


def fire_frames(position: Tensor, frame_lens: Tensor, token_lens: Tensor, num_tokens: int) -> Tensor:
    """Find out in which frames tokens fire.

    Args:
        position: (B, T) int64, contiguous, as all that follow.
        frame_lens: (B,) int64.
        token_lens: (B,) int64.
        num_tokens: U, the width of the output.

    Returns:
        (B, U) int64, zero past the tokens.
    """
    (B, T), U = position.shape, num_tokens
    if B * T * U == 0:
        return position.new_zeros(B, U)
    frames = position.new_empty(B, U)
    _fire_kernel[(B, triton.cdiv(U, FIRE_BLOCK_U))](
        position, frame_lens, token_lens, frames, T, U, T.bit_length(), BLOCK_U=FIRE_BLOCK_U
    )
    return frames


def sum_tokens(
    frames: Tensor, position: Tensor, fire_frames: Tensor, token_lens: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """Sum frames into tokens.

    Args:
        frames: (B, T, D), contiguous, as all that follow.
        position: (B, T) int64.
        fire_frames: (B, U) int64.
        token_lens: (B,) int64.
        threshold: Weight of one token.

    Returns:
        embeds: (B, U, D) in the dtype of the frames.
        delays: (B, U) float64, frames.
    """
    (B, T, D), U = frames.shape, fire_frames.shape[1]
    if B * T * U == 0:
        return frames.new_zeros(B, U, D), frames.new_zeros(B, U, dtype=torch.float64)
    embeds = frames.new_empty(B, U, D)
    delays = frames.new_empty(B, U, dtype=torch.float64)
    num_blocks = triton.cdiv(U, TOKEN_BLOCKS["BLOCK_U"])
    block_d = TOKEN_BLOCK_BYTES // frames.element_size()
    _token_kernel[(B * num_blocks, max(1, triton.cdiv(D, block_d)))](
        frames,
        position,
        fire_frames,
        token_lens,
        embeds,
        delays,
        T,
        U,
        D,
        num_blocks,
        SCALE=threshold / UNITS_PER_TOKEN,
        SUM=sum_dtype(frames),
        num_warps=NUM_WARPS,
        BLOCK_D=block_d,
        **TOKEN_BLOCKS,
    )
    return embeds, delays


def gradients(
    grad: Tensor,
    frames: Tensor,
    alpha: Tensor,
    position: Tensor,
    frame_lens: Tensor,
    token_lens: Tensor,
    target_lens: Tensor | None,
    threshold: float,
    for_frames: bool,
    for_alpha: bool,
) -> tuple[Tensor, Tensor]:
    """Compute the gradients to frames and weights.

    Args:
        grad: (B, U, D) gradient to the embeddings, contiguous, as all that follow.
        frames: (B, T, D).
        alpha: (B, T).
        position: (B, T) int64.
        frame_lens: (B,) int64.
        token_lens: (B,) int64.
        target_lens: (B,) int64, or None for no scaling.
        threshold: Weight of one token.
        for_frames: Whether the first is wanted; else it is without elements.
        for_alpha: Whether the second is.

    Returns:
        (B, T, D) in the dtype of the frames, (B, T) in that of the weights.
    """
    (B, T, D), U = frames.shape, grad.shape[1]
    is_empty = B * T * U * D == 0
    new_like = torch.zeros_like if is_empty else torch.empty_like
    frame_grad = new_like(frames) if for_frames else frames.new_empty(0)
    alpha_grad = new_like(alpha) if for_alpha else alpha.new_empty(0)
    if is_empty:
        return frame_grad, alpha_grad
    dots_shape = (B, T) if for_alpha else (0,)
    # Two tensors, not halves of one: a half would be aligned for some T and not for others, which compiles twice.
    dot_before = frames.new_empty(dots_shape, dtype=torch.promote_types(frames.dtype, torch.float32))
    dot_after = torch.empty_like(dot_before)
    num_blocks = triton.cdiv(T, FRAME_BLOCKS["BLOCK_T"])
    _frame_grad_kernel[(B * num_blocks,)](
        grad,
        frames,
        position,
        frame_lens,
        token_lens,
        frame_grad,
        dot_before,
        dot_after,
        T,
        U,
        D,
        num_blocks,
        FOR_FRAMES=for_frames,
        FOR_ALPHA=for_alpha,
        SCALE=threshold / UNITS_PER_TOKEN,
        SUM=sum_dtype(frames),
        num_warps=NUM_WARPS,
        **FRAME_BLOCKS,
    )
    if not for_alpha:
        return frame_grad, alpha_grad
    scaled = target_lens is not None
    _alpha_grad_kernel[(B,)](
        dot_before,
        dot_after,
        alpha,
        frame_lens,
        target_lens if scaled else frame_lens,
        alpha_grad,
        T,
        THRESHOLD=threshold,
        SCALED=scaled,
        BLOCK_T=SCAN_BLOCK_T,
    )
    return frame_grad, alpha_grad


def sum_dtype(frames: Tensor) -> tl.dtype:
    """Dtype of sums: float64 for float64 frames, else float32."""
    return tl.float64 if frames.dtype == torch.float64 else tl.float32
