"""What the decoder is asked in training: for each token, from how much of the audio it has to be told.

In a stream the decoder is asked at the end of a chunk, and sees a bounded window that ends there. Training draws the
same: most tokens are asked for at the end of the chunk in which they end, some later; a token that a chunk's end cuts
is sometimes asked for there, and then the answer is "nothing".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cifasr.losses import IGNORE
from cifasr.text.tokenizer import Tokenizer
from cifasr.training.config import StreamingConfig

UNCLEAR_MS = 100
"""Borders are known to about this: nearer to a chunk's end it is open whether a token is cut by it."""


@dataclass(frozen=True)
class Queries:
    """The decoder's input and the answers wanted, for one utterance (L,) or a batch (B, L).

    Attributes:
        tokens: int64, the prompt and the history.
        window_starts: int64 frames.
        window_ends: int64 frames, at least one past the start.
        answers: int64, `IGNORE` where not asked.
    """

    tokens: Tensor
    window_starts: Tensor
    window_ends: Tensor
    answers: Tensor


def draw_queries(
    token_ids: Sequence[int],
    token_ends: Sequence[int] | None,
    num_frames: int,
    *,
    chunk_frames: int,
    window_frames: int,
    unclear_frames: int,
    tokenizer: Tokenizer,
    config: StreamingConfig,
    rng: np.random.Generator,
) -> Queries:
    """Draw what the decoder is asked about one utterance.

    Args:
        token_ids: U tokens.
        token_ends: One past each token's last frame; None without alignment: all is asked at the end.
        num_frames: T >= 1.
        chunk_frames: Frames of a chunk.
        window_frames: Frames seen before the chunk at whose end is asked.
        unclear_frames: A token is called cut only where it ends more than this after the chunk.
        tokenizer: For the prompt and "nothing".
        config: The probabilities.
        rng: Of this utterance in this step.
    """
    num_tokens = len(token_ids)
    answers = np.array([*token_ids, tokenizer.nothing_id])
    limits = np.full(num_tokens + 1, num_frames)
    if token_ends is not None and num_tokens:
        ends = np.minimum(np.asarray(token_ends), num_frames)
        delays = rng.choice(len(config.delay_probabilities), num_tokens, p=config.delay_probabilities)
        limits[:-1] = np.minimum((-(-ends // chunk_frames) + delays) * chunk_frames, num_frames)
        # The last border before the token's end; all that was written before it has to have ended by then.
        cut_at = (ends - 1 - unclear_frames) // chunk_frames * chunk_frames
        cuttable = cut_at >= np.maximum(np.concatenate([[0], ends[:-1]]), 1)
        cut = cuttable & (rng.random(num_tokens) < config.nothing_probability)
        limits[:-1][cut] = cut_at[cut]
        answers[:-1][cut] = tokenizer.nothing_id
    history = np.array(token_ids, dtype=np.int64)
    noisy = rng.random(num_tokens) < config.history_noise
    history[noisy] = rng.integers(0, tokenizer.vocab_size, int(noisy.sum()))

    before = len(tokenizer.prompt_ids) - 1  # places of the prompt that are not asked
    limits = np.concatenate([np.repeat(limits[:1], before), np.maximum(limits, 1)])
    return Queries(
        tokens=torch.from_numpy(np.concatenate([np.array(tokenizer.prompt_ids), history]).astype(np.int64)),
        window_starts=torch.from_numpy(np.maximum(limits - window_frames - chunk_frames, 0)),
        window_ends=torch.from_numpy(np.maximum(limits, 1)),
        answers=torch.from_numpy(np.concatenate([np.full(before, IGNORE), answers]).astype(np.int64)),
    )


def collate_queries(queries: Sequence[Queries]) -> Queries:
    """Put the queries of utterances side by side; what is added is not asked."""

    def pad(rows: list[Tensor], value: int) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

    return Queries(
        tokens=pad([query.tokens for query in queries], 0),
        window_starts=pad([query.window_starts for query in queries], 0),
        window_ends=pad([query.window_ends for query in queries], 1),
        answers=pad([query.answers for query in queries], IGNORE),
    )
