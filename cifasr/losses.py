"""What is minimised. Each loss is a sum and the number of things it sums over, so that processes can be joined."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cifasr.lengths import padding_mask

IGNORE = -100
"""Answer of a place that is not asked."""

_SPANS = (1, 2, 4, 8, 16)


def token_cross_entropy(logits: Tensor, answers: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """Cross entropy of tokens and "nothing".

    Args:
        logits: (B, L, V).
        answers: (B, L) int64, `IGNORE` where not asked.
        label_smoothing: Share of the probability spread over all tokens.

    Returns:
        Sum in nat, and the number of answers.
    """
    total = F.cross_entropy(
        logits.float().flatten(0, 1),
        answers.flatten(),
        ignore_index=IGNORE,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    return total, (answers != IGNORE).sum()


def soft_cross_entropy(logits: Tensor, teacher_logits: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """How far a pupil's distribution of tokens is from its teacher's: Kullback-Leibler, at temperature 1.

    Args:
        logits: (B, L, V) of the pupil.
        teacher_logits: (B, L, V).
        asked: (B, L) bool, where to compare.

    Returns:
        Sum in nat, and the number of places compared.

    Source:
        Hinton, Vinyals and Dean 2015, arXiv:1503.02531.
    """
    pupil = torch.log_softmax(logits[asked].float(), dim=-1)
    teacher = torch.log_softmax(teacher_logits[asked].float(), dim=-1)
    return F.kl_div(pupil, teacher, log_target=True, reduction="sum"), asked.sum()


def frame_distance(frames: Tensor, teacher_frames: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
    """How far a pupil's encoder frames are from its teacher's: squared error over the teacher's variance, by feature.

    A few features of Whisper's frames are large and say mostly where in its 30 seconds a frame lies; what was heard is
    in the many small ones. So each feature is measured by its own variance.

    Args:
        frames: (B, T, D) of the pupil.
        teacher_frames: (B, T, D).
        lens: (B,) int64.

    Returns:
        Sum over frames of the mean over features, and the number of frames. A pupil that gives out the teacher's mean
        frame is at 1.
    """
    inside = ~padding_mask(lens, frames.shape[1])
    pupil, teacher = frames[inside].float(), teacher_frames[inside].float()
    variance = teacher.var(0, correction=0).clamp_min(1e-6)
    return ((pupil - teacher).square() / variance).mean(1).sum(), inside.sum()


def border_loss(alpha: Tensor, lens: Tensor, token_ends: Tensor, target_lens: Tensor) -> tuple[Tensor, Tensor]:
    """Hold the weight between true borders to the number of tokens there.

    Over spans of 1, 2, 4, 8 and 16 tokens and over the whole utterance: smooth L1 of
    ``(weight - tokens) / sqrt(tokens)``. A loss on single tokens alone undercounts: its median is not its mean.

    Args:
        alpha: (B, T) float32.
        lens: (B,) int64.
        token_ends: (B, U) int64, one past each token's last frame.
        target_lens: (B,) int64.

    Returns:
        Sum over utterances of the mean over spans, and the number of utterances.
    """
    weight = alpha.masked_fill(padding_mask(lens, alpha.shape[1]), 0.0)
    membrane = F.pad(weight.cumsum(1), (1, 0))  # (B, T + 1)
    ends = torch.minimum(token_ends, lens[:, None])
    at_border = membrane.gather(1, F.pad(ends, (1, 0)))  # (B, U + 1)
    is_border = ~padding_mask(target_lens + 1, at_border.shape[1])
    total = alpha.new_zeros(alpha.shape[0])
    for span in _SPANS:
        if at_border.shape[1] <= span:
            break
        error = (at_border[:, span:] - at_border[:, :-span] - span) / span**0.5
        valid = is_border[:, span:]
        loss = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none").masked_fill(~valid, 0.0)
        total = total + loss.sum(1) / valid.sum(1).clamp_min(1)
    whole, num_utterances = quantity_loss(weight, lens, target_lens)
    return total.sum() + whole, num_utterances


def silence_loss(alpha: Tensor, lens: Tensor, speech_starts: Tensor, speech_ends: Tensor) -> tuple[Tensor, Tensor]:
    """Hold the weight outside the speech to nothing, so that the neuron rests in pauses and an endpoint can be told.

    The border loss leaves open where inside a token's stretch its weight lies, and a pause is part of such a stretch.

    Args:
        alpha: (B, T) float32.
        lens: (B,) int64.
        speech_starts: (B,) int64, first frame of the speech.
        speech_ends: (B,) int64, one past its last.

    Returns:
        Sum of the weight before and after, in tokens, and the number of utterances.
    """
    frame = torch.arange(alpha.shape[1], device=alpha.device)
    outside = (frame < speech_starts[:, None]) | (frame >= speech_ends[:, None])
    silent = outside & ~padding_mask(lens, alpha.shape[1])
    return alpha.masked_fill(~silent, 0.0).sum(), torch.tensor(alpha.shape[0], device=alpha.device)


def quantity_loss(alpha: Tensor, lens: Tensor, target_lens: Tensor) -> tuple[Tensor, Tensor]:
    """Hold the weight of an utterance to its number of tokens: smooth L1 of ``(weight - U) / sqrt(U)``.

    Args:
        alpha: (B, T) float32.
        lens: (B,) int64.
        target_lens: (B,) int64.

    Returns:
        Sum over utterances, and their number.

    Source:
        Dong and Xu 2020, arXiv:1905.11235, section 3.2, with the square root so that long utterances do not rule.
    """
    weight = alpha.masked_fill(padding_mask(lens, alpha.shape[1]), 0.0).sum(1)
    error = (weight - target_lens) / target_lens.clamp_min(1).sqrt()
    total = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="sum")
    return total, torch.tensor(alpha.shape[0], device=alpha.device)


def activity_loss(hidden: Sequence[Tensor], lens: Tensor) -> tuple[Tensor, Tensor]:
    """Keep hidden layers silent, so that few of their values have to be multiplied.

    Args:
        hidden: (B, T, D_i) of each layer, >= 0: spikes' counts in values, or cut values.
        lens: (B,) int64.

    Returns:
        Sum over frames and layers of the mean value, and the number of frames and layers.
    """
    padding = padding_mask(lens, hidden[0].shape[1])
    total = torch.stack([layer.float().mean(-1).masked_fill(padding, 0).sum() for layer in hidden]).sum()
    return total, lens.sum() * len(hidden)


def ctc_loss(
    log_probs: Tensor, lens: Tensor, targets: Tensor, target_lens: Tensor, blank_id: int
) -> tuple[Tensor, Tensor]:
    """Connectionist temporal classification; utterances with more tokens than frames count for nothing.

    Args:
        log_probs: (B, T, V) natural log.
        lens: (B,) int64.
        targets: (B, U) int64.
        target_lens: (B,) int64.
        blank_id: The blank.

    Returns:
        Sum in nat, and the number of tokens, those of utterances that count for nothing left out.
    """
    total = F.ctc_loss(
        log_probs.transpose(0, 1), targets, lens, target_lens, blank=blank_id, reduction="sum", zero_infinity=True
    )
    is_repeat = (targets[:, 1:] == targets[:, :-1]) & ~padding_mask(target_lens, targets.shape[1])[:, 1:]
    fits = target_lens + is_repeat.sum(1) <= lens  # a blank stands between equal neighbours
    return total, (target_lens * fits).sum()


def frame_cross_entropy(
    log_probs: Tensor,
    lens: Tensor,
    targets: Tensor,
    target_lens: Tensor,
    token_ends: Tensor,
    speech_starts: Tensor,
    blank_id: int,
) -> tuple[Tensor, Tensor]:
    """Cross entropy of each frame with the token that is spoken in it, which is known where borders are.

    It teaches an encoder of random weights to tell frames apart; CTC, which may put its tokens anywhere, first teaches
    it to give out blanks, and a small encoder does not come back from that.

    Args:
        log_probs: (B, T, V) natural log.
        lens: (B,) int64.
        targets: (B, U) int64.
        target_lens: (B,) int64.
        token_ends: (B, U) int64, one past each token's last frame.
        speech_starts: (B,) int64, first frame of the speech.
        blank_id: What is said before the speech and after the last token.

    Returns:
        Sum in nat, and the number of frames.
    """
    frame = torch.arange(log_probs.shape[1], device=log_probs.device).expand(log_probs.shape[:2]).contiguous()
    ends = token_ends.masked_fill(padding_mask(target_lens, token_ends.shape[1]), log_probs.shape[1])
    spoken = torch.searchsorted(ends.contiguous(), frame, right=True)  # tokens that ended before each frame
    silent = (spoken >= target_lens[:, None]) | (frame < speech_starts[:, None])
    labels = F.pad(targets, (0, 1)).gather(1, spoken.clamp_max(targets.shape[1])).masked_fill(silent, blank_id)
    inside = ~padding_mask(lens, log_probs.shape[1])
    return F.nll_loss(log_probs[inside], labels[inside], reduction="sum"), inside.sum()
