"""When each token ends: read from a teacher's attention, or from a CTC branch, and laid down as a monotone path."""

import torch
import torchaudio
from torch import Tensor

from cifasr.errors import ConfigError
from cifasr.models.cif_asr import CifAsr

_SMOOTHING_FRAMES = 7


@torch.inference_mode()
def attention_borders(
    model: CifAsr, encoder_out: Tensor, lens: Tensor, targets: Tensor, target_lens: Tensor
) -> list[list[float]]:
    """Find where each token ends from where the decoder's alignment heads look.

    The decoder is given the reference as its history and every frame to see. The attention of its alignment heads is
    normalised over tokens, smoothed over frames and averaged; the best monotone path through it gives the borders.

    Args:
        model: A model whose configuration names alignment heads: one that was warm-started.
        encoder_out: (B, T, D), of the whole utterances.
        lens: (B,) int64.
        targets: (B, U) int64 token ids.
        target_lens: (B,) int64.

    Returns:
        For each utterance the end of each token in seconds.

    Raises:
        ConfigError: The model has no alignment heads.

    Source:
        Word timing of Whisper: normalise, median filter, dynamic time warping over chosen heads.
    """
    if not model.config.alignment_heads:
        raise ConfigError(
            "alignment_heads: wanted at least one (layer, head), this model has none; use a CTC alignment"
        )
    heads = [[h for block, h in model.config.alignment_heads if block == i] for i in range(len(model.decoder.blocks))]
    prompt = torch.tensor(model.tokenizer.prompt_ids).expand(targets.shape[0], -1)
    tokens = torch.cat([prompt, targets], dim=1)
    weights = model.decoder.attention_weights(tokens, encoder_out, lens, heads)[:, :, prompt.shape[1] - 1 :]
    borders = []
    for row, num_tokens, num_frames in zip(weights, target_lens.tolist(), lens.tolist(), strict=True):
        # One row more than tokens: where the decoder looks for "nothing", so that the silence after the last token
        # does not belong to it.
        score = _smoothed(row[:, : num_tokens + 1, :num_frames])
        ends = monotone_path(score)[:-1] if num_frames > num_tokens else _evenly(num_tokens, num_frames)
        borders.append([end * model.frame_ms / 1000 for end in ends])
    return borders


@torch.inference_mode()
def ctc_borders(
    model: CifAsr, encoder_out: Tensor, lens: Tensor, targets: Tensor, target_lens: Tensor
) -> list[list[float]]:
    """Find where each token ends by a forced alignment with the CTC branch; arguments as `attention_borders`.

    Raises:
        ConfigError: The model has no CTC branch.
    """
    log_probs = model.ctc_log_probs(encoder_out)
    borders = []
    for row, target, num_tokens, num_frames in zip(
        log_probs, targets, target_lens.tolist(), lens.tolist(), strict=True
    ):
        ids = target[:num_tokens]
        needed = num_tokens + int((ids[1:] == ids[:-1]).sum())  # CTC puts a blank between equal neighbours
        if needed > num_frames or not num_tokens:
            ends = _evenly(num_tokens, num_frames)
        else:
            path, _ = torchaudio.functional.forced_align(
                row[None, :num_frames], ids[None].int(), blank=model.tokenizer.nothing_id
            )
            ends = _ends_of_runs(path[0].tolist(), model.tokenizer.nothing_id)
        borders.append([end * model.frame_ms / 1000 for end in ends])
    return borders


def monotone_path(score: Tensor) -> list[int]:
    """Find the path that gives every frame to one token, tokens in order, none left out, at the highest score.

    Args:
        score: (U, T) float, T >= U >= 1.

    Returns:
        For each token one past its last frame.
    """
    num_tokens, num_frames = score.shape
    best = torch.full((num_tokens,), -torch.inf)
    best[0] = score[0, 0]
    came_from_previous = torch.zeros(num_frames, num_tokens, dtype=torch.bool)
    for t in range(1, num_frames):
        advanced = torch.cat([best.new_tensor([-torch.inf]), best[:-1]])
        came_from_previous[t] = advanced > best
        best = torch.maximum(advanced, best) + score[:, t]
    ends = [num_frames] * num_tokens
    token = num_tokens - 1
    for t in range(num_frames - 1, 0, -1):
        if came_from_previous[t, token]:
            token -= 1
            ends[token] = t
    return ends


def _smoothed(weights: Tensor) -> Tensor:
    """Turn the attention of several heads (A, U, T) into one score (U, T)."""
    mean, std = weights.mean(1, keepdim=True), weights.std(1, keepdim=True, correction=0)
    normed = (weights - mean) / std.clamp_min(1e-6)
    reach = _SMOOTHING_FRAMES // 2
    padded = torch.nn.functional.pad(normed, (reach, reach), mode="replicate")
    return padded.unfold(-1, _SMOOTHING_FRAMES, 1).median(-1).values.mean(0)


def _ends_of_runs(path: list[int], blank_id: int) -> list[int]:
    """Say where each token's run of frames ends in a CTC path."""
    ends: list[int] = []
    previous = blank_id
    for t, token in enumerate(path):
        if token != blank_id and token != previous:
            ends.append(t + 1)
        elif token != blank_id:
            ends[-1] = t + 1
        previous = token
    return ends


def _evenly(num_tokens: int, num_frames: int) -> list[int]:
    """Share frames out evenly: all that can be said of speech with more tokens than frames."""
    return [(u + 1) * num_frames // max(1, num_tokens) for u in range(num_tokens)]
