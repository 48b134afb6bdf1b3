"""The model with its losses in one module, so that data-parallel training wraps both."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cifasr.errors import ConfigError
from cifasr.lengths import padding_mask
from cifasr.losses import (
    IGNORE,
    activity_loss,
    border_loss,
    ctc_loss,
    frame_cross_entropy,
    frame_distance,
    quantity_loss,
    silence_loss,
    soft_cross_entropy,
    token_cross_entropy,
)
from cifasr.models.cif_asr import CifAsr
from cifasr.nn.context import Context
from cifasr.ops.cif import cif
from cifasr.spiking.activation import recorded_events
from cifasr.training.config import LossConfig, TeacherConfig
from cifasr.training.examples import Examples


@dataclass(frozen=True)
class Term:
    """One loss: its sum, the number of things summed over, and its weight in the total."""

    total: Tensor
    count: Tensor
    weight: float


class Objective(nn.Module):
    """Computes the losses of a batch. Parts of the model that no loss reaches do not learn.

    Args:
        model: The recogniser.
        config: Weights of the losses.
        teaching: What is taken from the teacher; None without one.
        teacher: Hears whole utterances undisturbed, and does not learn.

    Raises:
        ConfigError: A loss has no part of the model to act on, or the teacher's shapes are not the model's.
    """

    def __init__(
        self,
        model: CifAsr,
        config: LossConfig,
        teaching: TeacherConfig | None = None,
        teacher: CifAsr | None = None,
    ) -> None:
        super().__init__()
        if teacher is not None:
            _check_teacher(teacher, model)
            teacher.requires_grad_(False)
        self.teacher, self.teaching = teacher, teaching
        if config.ctc + config.frame > 0 and model.ctc_head is None:
            got = f"{config.ctc} and {config.frame}"
            raise ConfigError(f"loss.ctc, loss.frame: wanted 0 for a model without a CTC branch, got {got}")
        if config.activity > 0 and model.config.encoder.feed_forward == "dense":
            raise ConfigError(f"loss.activity: wanted 0 for a model with dense feed-forwards, got {config.activity}")
        self.model = model
        self.config = config
        if model.ctc_head is not None and config.ctc == config.frame == 0:
            model.ctc_head.requires_grad_(False)
        if config.border == config.silence == config.quantity == 0 and not model.config.decoder.fired_embedding:
            model.estimator.requires_grad_(False)

    def forward(self, examples: Examples) -> dict[str, Term]:
        """Compute each loss, and under "accuracy" and "count_error" two figures of weight 0 to watch."""
        model, config, batch, queries = self.model, self.config, examples.batch, examples.queries
        with recorded_events(model.encoder) as events:
            encoded = model.encode(batch.feats, batch.feat_lens, examples.context, examples.first_frame)
        encoder_out, lens, alpha = encoded
        fired = self._fired(model, encoder_out, lens, alpha, examples)
        logits = model.decoder(queries.tokens, encoder_out, queries.window_starts, queries.window_ends, fired)
        terms = {"tokens": Term(*token_cross_entropy(logits, queries.answers, config.label_smoothing), 1.0)}
        if config.border > 0 and examples.token_ends is not None:
            terms["border"] = Term(*border_loss(alpha, lens, examples.token_ends, batch.target_lens), config.border)
        if config.silence > 0 and examples.speech_ends is not None:
            silence = silence_loss(alpha, lens, examples.speech_starts, examples.speech_ends)
            terms["silence"] = Term(*silence, config.silence)
        if config.quantity > 0:
            terms["quantity"] = Term(*quantity_loss(alpha, lens, batch.target_lens), config.quantity)
        if config.activity > 0:
            terms["activity"] = Term(*activity_loss(events, lens), config.activity)
        if config.ctc + config.frame > 0:
            terms |= self._framewise(model.ctc_log_probs(encoder_out), lens, examples)
        if self.teaching is not None:
            terms |= self._taught(encoder_out, lens, logits, examples, self.teaching)
        return terms | _figures(logits.detach(), queries.answers, alpha.detach(), lens, batch.target_lens)

    def _framewise(self, log_probs: Tensor, lens: Tensor, examples: Examples) -> dict[str, Term]:
        batch, blank_id, terms = examples.batch, self.model.tokenizer.nothing_id, {}
        if self.config.ctc > 0:
            ctc = ctc_loss(log_probs, lens, batch.targets, batch.target_lens, blank_id)
            terms["ctc"] = Term(*ctc, self.config.ctc)
        if self.config.frame > 0 and examples.token_ends is not None:
            targets = (batch.targets, batch.target_lens, examples.token_ends)
            frame = frame_cross_entropy(log_probs, lens, *targets, examples.speech_starts, blank_id)
            terms["frame"] = Term(*frame, self.config.frame)
        return terms

    def _taught(
        self, encoder_out: Tensor, lens: Tensor, logits: Tensor, examples: Examples, teaching: TeacherConfig
    ) -> dict[str, Term]:
        """Compare with a teacher that is asked the same, and hears every utterance whole and undisturbed."""
        teacher, batch, queries = self.teacher, examples.batch, examples.queries
        assert teacher is not None
        assert examples.undisturbed_feats is not None
        with torch.no_grad():
            heard = teacher.encode(examples.undisturbed_feats, batch.feat_lens, Context(), examples.first_frame)
            frames, fired = heard[0], self._fired(teacher, *heard, examples)
            expected = teacher.decoder(queries.tokens, frames, queries.window_starts, queries.window_ends, fired)
        # One that hears what follows a chunk knows the words that the chunk's end cuts.
        asked = (queries.answers != IGNORE) & (queries.answers != self.model.tokenizer.nothing_id)
        return {
            "taught_frames": Term(*frame_distance(encoder_out, frames, lens), teaching.frames),
            "taught_tokens": Term(*soft_cross_entropy(logits, expected, asked), teaching.tokens),
        }

    def _fired(
        self, model: CifAsr, encoder_out: Tensor, lens: Tensor, alpha: Tensor, examples: Examples
    ) -> Tensor | None:
        """Fire once for each token, and set each firing where its token is asked for."""
        if not model.config.decoder.fired_embedding:
            return None
        targets = examples.batch.targets
        neuron = model.config.neuron
        if examples.token_ends is not None:
            weight = border_weights(examples.token_ends, examples.batch.target_lens, alpha.shape[1])
            alpha = torch.where(examples.fired_at_borders[:, None], weight, alpha)
        output = cif(
            encoder_out,
            lens,
            alpha,
            threshold=neuron.threshold,
            target_lens=examples.batch.target_lens,
            max_tokens=targets.shape[1],
        )
        before = len(model.tokenizer.prompt_ids) - 1
        return torch.nn.functional.pad(output.acoustic_embeds, (0, 0, before, 1))  # (B, L, D): nothing fired at the end


def _check_teacher(teacher: CifAsr, model: CifAsr) -> None:
    if teacher.tokenizer.model != model.tokenizer.model:
        raise ConfigError("teacher.checkpoint: wanted a model with the tokenizer of the one that learns, got another")
    if teacher.config.encoder.d_model != model.config.encoder.d_model:
        width, wanted = teacher.config.encoder.d_model, model.config.encoder.d_model
        raise ConfigError(f"teacher.checkpoint: wanted an encoder of d_model {wanted}, got {width}")
    if teacher.frame_ms != model.frame_ms or teacher.window_frames == 0:
        raise ConfigError(f"teacher.checkpoint: wanted a decoder with a window and frames of {model.frame_ms} ms")


def _figures(logits: Tensor, answers: Tensor, alpha: Tensor, lens: Tensor, target_lens: Tensor) -> dict[str, Term]:
    asked = answers != IGNORE
    right = ((logits.argmax(-1) == answers) & asked).sum()
    weight = alpha.masked_fill(padding_mask(lens, alpha.shape[1]), 0.0).sum(1)
    count_error = (weight - target_lens).abs().sum()
    num_utterances = torch.tensor(alpha.shape[0], device=alpha.device)
    return {"accuracy": Term(right, asked.sum(), 0.0), "count_error": Term(count_error, num_utterances, 0.0)}


def border_weights(token_ends: Tensor, target_lens: Tensor, num_frames: int) -> Tensor:
    """Spread one unit of weight evenly over the frames of each token: what a neuron that knows the borders would get.

    Args:
        token_ends: (B, U) int64, one past each token's last frame, not falling.
        target_lens: (B,) int64.
        num_frames: T.

    Returns:
        (B, T) float32. A token that ends in the frame of the one before shares that frame.
    """
    ends = token_ends.clamp(1, num_frames)
    starts = torch.minimum(torch.nn.functional.pad(ends[:, :-1], (1, 0)), ends - 1)
    frame = torch.arange(num_frames, device=ends.device)
    inside = (frame >= starts[..., None]) & (frame < ends[..., None])  # (B, U, T)
    inside &= ~padding_mask(target_lens, ends.shape[1])[..., None]
    return (inside / (ends - starts)[..., None]).sum(1)
