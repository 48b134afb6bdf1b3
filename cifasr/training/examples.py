"""From cuts to what one training step computes on: augmented, collated, and with the decoder's questions drawn.

Everything drawn for an utterance comes from the seed, the step and the utterance's name, never from a global state: a
resumed run draws what the uninterrupted one does, and an utterance is the same on whichever process it falls.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from lhotse.cut import Cut

from cifasr.audio.augment import change_level, limit_band, mix_noise, perturb_speed, reverberate, spec_augment
from cifasr.audio.samples import AUDIO_SUFFIXES, SAMPLE_RATE_HZ, Samples, read_samples
from cifasr.data.batches import Batch, Utterance, collate, load_utterance
from cifasr.errors import DataError
from cifasr.models.cif_asr import CifAsr
from cifasr.nn.context import Context
from cifasr.training.config import AugmentConfig, StreamingConfig, TrainConfig
from cifasr.training.queries import UNCLEAR_MS, Queries, collate_queries, draw_queries

_NOISE_DB = (-90.0, -55.0)
"""Level of the faint noise that stands for silence, in decibels of full scale."""

_ROUNDING = 1e-6
"""In frames: seconds written in decimals must not turn a border on a frame into one in the next."""


@dataclass(frozen=True)
class Examples:
    """What one step computes on.

    Attributes:
        batch: Features and targets.
        queries: What the decoder is asked.
        context: What an encoder frame sees.
        token_ends: (B, U) int64, one past each token's last encoder frame; None where the cuts were not aligned.
        first_frame: (B, 1) int64, the place of each utterance in an imagined stream.
        speech_starts: (B,) int64, encoder frames of silence that were put before each utterance.
        speech_ends: (B,) int64, a little after the last token of each; None where the cuts were not aligned.
        fired_at_borders: (B,) bool, the utterances in which tokens are fired at their true borders.
        undisturbed_feats: (B, T, F), the features before anything but speed and silence changed them; for a teacher.
    """

    batch: Batch
    queries: Queries
    context: Context
    token_ends: torch.Tensor | None
    first_frame: torch.Tensor
    speech_starts: torch.Tensor
    speech_ends: torch.Tensor | None
    fired_at_borders: torch.Tensor
    undisturbed_feats: torch.Tensor | None


def make_examples(cuts: Sequence[Cut], model: CifAsr, config: TrainConfig, step: int) -> Examples:
    """Load, augment and collate cuts, and draw what the decoder is asked.

    Raises:
        DataError: A cut cannot be loaded, or has no token borders where the configuration needs them.
    """
    needs_borders = config.loss.border + config.loss.frame > 0 or model.window_frames > 0
    placed, utterances, rngs = [], [], []
    for cut in cuts:
        rng = np.random.default_rng([config.seed, step, zlib.crc32(cut.id.encode())])
        utterance = place_utterance(load_utterance(cut, model.tokenizer), config.augment, rng)
        if utterance.token_ends_s is None and needs_borders:
            raise DataError(f"cut {cut.id}: has no token borders; run `cifasr align` on its cuts")
        placed.append(utterance)
        utterances.append(disguise_utterance(utterance, config.augment, rng))
        rngs.append(rng)
    batch = _mask_features(collate(utterances), config.augment, rngs)

    chunk_ms, context = draw_context(model, config.streaming, np.random.default_rng([config.seed, step]))
    num_frames = -(-batch.feat_lens // model.encoder.subsampling)
    token_ends = None
    if batch.token_ends_s is not None:
        token_ends = (batch.token_ends_s * 1000 / model.frame_ms - _ROUNDING).ceil().long()
    queries = [
        draw_queries(
            utterance.token_ids,
            # A decoder without a window does not hear where a chunk ends: everything is asked at the end.
            None
            if token_ends is None or model.window_frames == 0
            else token_ends[row, : len(utterance.token_ids)].tolist(),
            int(num_frames[row]),
            chunk_frames=chunk_ms // model.frame_ms,
            window_frames=model.window_frames,
            unclear_frames=-(-UNCLEAR_MS // model.frame_ms),
            tokenizer=model.tokenizer,
            config=config.streaming,
            rng=rngs[row],
        )
        for row, utterance in enumerate(utterances)
    ]
    first_frame = torch.tensor([[int(rng.integers(0, 1500))] for rng in rngs])
    starts = torch.tensor([int(utterance.speech_start_s * 1000 / model.frame_ms) for utterance in utterances])
    speech_ends = None
    if token_ends is not None:
        last = (batch.target_lens - 1).clamp_min(0)[:, None]
        speech_ends = token_ends.gather(1, last)[:, 0] + -(-UNCLEAR_MS // model.frame_ms)
    at_borders = torch.tensor([rng.random() < config.streaming.border_firing for rng in rngs])
    undisturbed = None if config.teacher is None else collate(placed).feats
    return Examples(
        batch,
        collate_queries(queries),
        context,
        token_ends,
        first_frame,
        starts,
        speech_ends,
        at_borders,
        undisturbed,
    )


def draw_context(model: CifAsr, config: StreamingConfig, rng: np.random.Generator) -> tuple[int, Context]:
    """Draw the chunk, in milliseconds, and what an encoder frame sees in this step."""
    chunk_ms = int(rng.choice(config.chunk_ms))
    left_ms = int(rng.choice(config.left_context_ms))
    full = rng.random() < config.full_context_probability
    return chunk_ms, Context() if full else model.context(chunk_ms, left_ms)


def place_utterance(utterance: Utterance, config: AugmentConfig, rng: np.random.Generator) -> Utterance:
    """Change speed, and put faint noise before and after; borders move along."""
    speed = float(rng.choice(config.speeds))
    before, after = _faint_noise(config, rng), _faint_noise(config, rng)
    ends = utterance.token_ends_s
    if ends is not None:
        ends = [end / speed + len(before) / SAMPLE_RATE_HZ for end in ends]
    return replace(
        utterance,
        samples=np.concatenate([before, perturb_speed(utterance.samples, speed), after]),
        speech_start_s=len(before) / SAMPLE_RATE_HZ,
        token_ends_s=ends,
    )


def disguise_utterance(utterance: Utterance, config: AugmentConfig, rng: np.random.Generator) -> Utterance:
    """Change room, noise, bandwidth and level: what moves no border.

    Raises:
        DataError: A folder of sounds has none in it.
        AudioError: A sound cannot be decoded.
    """
    samples = utterance.samples
    if config.room_folder is not None and rng.random() < config.room_probability:
        samples = reverberate(samples, _draw_sound(config.room_folder, rng))
    if config.noise_folder is not None and rng.random() < config.noise_probability:
        samples = mix_noise(samples, _draw_sound(config.noise_folder, rng), float(rng.uniform(*config.snr_db)), rng)
    if config.band_probability > 0 and rng.random() < config.band_probability:
        samples = limit_band(samples, float(rng.uniform(*config.band_hz)))
    return replace(utterance, samples=change_level(samples, float(rng.uniform(-config.level_db, config.level_db))))


def _draw_sound(folder: Path, rng: np.random.Generator) -> Samples:
    paths = _sounds_in(folder)
    return read_samples(paths[int(rng.integers(len(paths)))])


@cache
def _sounds_in(folder: Path) -> tuple[Path, ...]:
    paths = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES))
    if not paths:
        raise DataError(f"{folder}: wanted a folder with sounds ({', '.join(AUDIO_SUFFIXES)}), found none in it")
    return paths


def _faint_noise(config: AugmentConfig, rng: np.random.Generator) -> Samples:
    if rng.random() >= config.silence_probability:
        return np.zeros(0, dtype=np.float32)
    num_samples = int(rng.uniform(0.0, config.silence_seconds) * SAMPLE_RATE_HZ)
    level = 10.0 ** (rng.uniform(*_NOISE_DB) / 20)
    noise: Samples = (level * rng.standard_normal(num_samples)).astype(np.float32)
    return noise


def _mask_features(batch: Batch, config: AugmentConfig, rngs: Sequence[np.random.Generator]) -> Batch:
    rows = [
        spec_augment(
            batch.feats[row : row + 1],
            batch.feat_lens[row : row + 1],
            rng,
            num_freq_masks=config.num_freq_masks,
            freq_width=config.freq_width,
            frames_per_time_mask=config.frames_per_time_mask,
            time_width=config.time_width,
        )
        for row, rng in enumerate(rngs)
    ]
    return replace(batch, feats=torch.cat(rows))
