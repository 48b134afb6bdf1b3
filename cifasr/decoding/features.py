"""A stream of samples re-cut into the model's own chunks of features, whatever pieces it arrives in."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cifasr.audio.fbank import (
    HOP_SAMPLES,
    LEFT_SAMPLES,
    NUM_MELS,
    SILENCE_FEATURE,
    WINDOW_SAMPLES,
    log_mel_frames,
    num_frames,
)
from cifasr.audio.samples import Samples
from cifasr.nn.encoder import Encoder
from cifasr.nn.state import State


class FeatureStream:
    """Collects samples and gives out chunks, each with the feature frames around it that the encoder needs.

    The same samples give the same chunks, bit for bit, for every cut: features are computed when a whole chunk is
    there, never before.

    Args:
        encoder: Whose surroundings of a chunk are needed.
        chunk_feats: Feature frames of a chunk; None for one chunk at the end of the input.
        ahead_feats: Feature frames of the next chunk that each comes with besides.
    """

    def __init__(self, encoder: Encoder, chunk_feats: int | None, ahead_feats: int = 0) -> None:
        self._left, self._factor = encoder.left_feats, encoder.subsampling
        self._right = encoder.right_feats + ahead_feats
        self._chunk_feats = chunk_feats
        self._samples: Samples = np.zeros(LEFT_SAMPLES, dtype=np.float32)  # from the next window's first sample on
        self._feats = torch.full((self._left, NUM_MELS), SILENCE_FEATURE)  # from the next chunk's surroundings on
        self._pending: Samples = np.zeros(0, dtype=np.float32)  # past the last chunk given out
        self._num_samples = 0
        self._num_feats_out = 0

    @property
    def num_samples(self) -> int:
        """How many samples were heard."""
        return self._num_samples

    @property
    def num_pending_samples(self) -> int:
        """How many samples were heard past the last chunk given out."""
        return len(self._pending)

    def accept(self, samples: Samples) -> Iterator[Tensor]:
        """Take samples in; give out complete chunks, (1, left + n * subsampling + ahead + right, F) each."""
        self._samples = np.concatenate([self._samples, samples])
        self._pending = np.concatenate([self._pending, samples])
        self._num_samples += len(samples)
        while self._chunk_feats is not None:
            missing = self._left + self._chunk_feats + self._right - len(self._feats)
            if len(self._samples) < (missing - 1) * HOP_SAMPLES + WINDOW_SAMPLES:
                return
            self._compute(missing)
            yield self._give(self._chunk_feats)

    def finish(self) -> Iterator[Tensor]:
        """Give out what is left, silence following the last sample."""
        total = num_frames(self._num_samples)
        self._samples = np.concatenate([self._samples, np.zeros(WINDOW_SAMPLES, dtype=np.float32)])
        self._compute(total - self._num_feats_out - (len(self._feats) - self._left))
        while (rest := total - self._num_feats_out) > 0:
            size = rest if self._chunk_feats is None else min(rest, self._chunk_feats)
            size = -(-size // self._factor) * self._factor
            short = max(0, self._left + size + self._right - len(self._feats))
            self._feats = F.pad(self._feats, (0, 0, 0, short), value=SILENCE_FEATURE)
            yield self._give(size)

    def pending_samples(self) -> Samples:
        """Copy the samples heard past the last chunk given out."""
        return self._pending.copy()

    def state(self) -> State:
        """Take the state out."""
        counts = torch.tensor([self._num_samples, self._num_feats_out])
        return {
            "samples": torch.from_numpy(self._samples.copy()),
            "pending": torch.from_numpy(self._pending.copy()),
            "feats": self._feats.clone(),
            "counts": counts,
        }

    def restore(self, state: State) -> None:
        """Put a state back in."""
        self._samples = state["samples"].numpy().copy()
        self._pending = state["pending"].numpy().copy()
        self._feats = state["feats"].clone()
        self._num_samples, self._num_feats_out = state["counts"].tolist()

    def _compute(self, count: int) -> None:
        if count <= 0:
            return
        needed = (count - 1) * HOP_SAMPLES + WINDOW_SAMPLES
        new = log_mel_frames(torch.from_numpy(self._samples[:needed]))
        self._feats = torch.cat([self._feats, new])
        self._samples = self._samples[count * HOP_SAMPLES :]

    def _give(self, size: int) -> Tensor:
        chunk = self._feats[None, : self._left + size + self._right]
        self._feats = self._feats[size:]
        self._pending = self._pending[size * HOP_SAMPLES :]
        self._num_feats_out += size
        return chunk
