"""Cuts to tensors: which cuts make a batch, and what a batch is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
import torch
from lhotse import CutSet, combine
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler
from torch import Tensor

from cifasr.audio.fbank import SILENCE_FEATURE, log_mel
from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples
from cifasr.errors import DataError
from cifasr.text.normalize import to_sentence_case
from cifasr.text.tokenizer import Tokenizer

TOKEN_ALIGNMENT = "token"
"""Key under which a supervision keeps the borders of its tokens."""

_CUTS_TO_MEASURE = 10_000
"""How many of the first cuts say what lengths there are."""


@dataclass(frozen=True)
class Utterance:
    """One cut, loaded.

    Attributes:
        id: The cut's.
        samples: (S,) float32 at 16 kHz.
        text: Its transcript, in the style the model writes.
        token_ids: The transcript in tokens.
        token_ends_s: Where each token ends, in seconds; None where the cuts were not aligned.
        speech_start_s: Silence known to be before the speech, in seconds.
    """

    id: str
    samples: Samples
    text: str
    token_ids: list[int]
    token_ends_s: list[float] | None
    speech_start_s: float = 0.0


@dataclass(frozen=True)
class Batch:
    """Utterances side by side.

    Attributes:
        feats: (B, T, F) float32, silence past ``feat_lens``.
        feat_lens: (B,) int64.
        targets: (B, U) int64, zero past ``target_lens``.
        target_lens: (B,) int64.
        token_ends_s: (B, U) float64 seconds, or None where the cuts were not aligned.
        num_audio_seconds: Sum over the utterances.
    """

    feats: Tensor
    feat_lens: Tensor
    targets: Tensor
    target_lens: Tensor
    token_ends_s: Tensor | None
    num_audio_seconds: float


def load_cuts(paths: Sequence[Path]) -> CutSet:
    """Open manifests, one after the other; cuts are read as they are used.

    Raises:
        DataError: A manifest is absent, unreadable or empty.
    """
    manifests = []
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such cuts; `cifasr prepare` makes them")
        manifest = CutSet.from_jsonl_lazy(path)
        try:
            first = next(iter(manifest), None)
        except Exception as error:  # lhotse raises whatever the parser below it does
            raise DataError(f"{path}: not a lhotse manifest of cuts: {error}") from error
        if not isinstance(first, Cut):
            raise DataError(f"{path}: there are no cuts in it")
        manifests.append(manifest)
    return combine(manifests)


def bucketed_batches(
    cuts: CutSet, *, max_seconds: float, num_buckets: int, seed: int, epoch: int, shuffle: bool = True
) -> Iterator[list[Cut]]:
    """Group cuts of like length, about ``max_seconds`` of audio together, in an order that seed and epoch fix."""
    seconds = [float(cut.duration) for cut in islice(cuts, _CUTS_TO_MEASURE)]
    borders = np.unique(np.quantile(seconds, np.arange(1, num_buckets) / num_buckets)).tolist()
    sampler = DynamicBucketingSampler(
        cuts,
        max_duration=max_seconds,
        duration_bins=borders or [float("inf")],  # lhotse's own refuse fewer cuts than buckets, and one bucket
        shuffle=shuffle,
        seed=seed,
        world_size=1,
        rank=0,
    )
    sampler.set_epoch(epoch)
    for batch in sampler:
        yield list(batch)


def load_utterance(cut: Cut, tokenizer: Tokenizer) -> Utterance:
    """Load a cut's audio and transcript.

    Raises:
        DataError: The audio cannot be decoded, or the cut has not one supervision.
    """
    if len(cut.supervisions) != 1:
        raise DataError(f"cut {cut.id}: wanted one supervision, got {len(cut.supervisions)}")
    supervision = cut.supervisions[0]
    samples = load_samples(cut)
    text = written_style(supervision.text or "")
    ids = tokenizer.encode(text)
    aligned = (supervision.alignment or {}).get(TOKEN_ALIGNMENT)
    ends = None
    if aligned is not None:
        ends = token_ends([(item.symbol, item.start + item.duration) for item in aligned], ids, tokenizer, cut.id)
    return Utterance(cut.id, samples, text, ids, ends)


def load_samples(cut: Cut) -> Samples:
    """Load a cut's audio at 16 kHz.

    Raises:
        DataError: It cannot be decoded.
    """
    try:
        audio = cut if cut.sampling_rate == SAMPLE_RATE_HZ else cut.resample(SAMPLE_RATE_HZ)
        return np.ascontiguousarray(audio.load_audio()[0], dtype=np.float32)
    except Exception as error:  # lhotse raises whatever the decoder below it does
        raise DataError(f"cut {cut.id}: its audio cannot be decoded: {error}") from error


def written_style(text: str) -> str:
    """Put a transcript in capitals, as LibriSpeech has them, into sentence case; leave any other as it is."""
    return to_sentence_case(text) if text.upper() == text else text


def token_ends(
    aligned: Sequence[tuple[str, float]], token_ids: Sequence[int], tokenizer: Tokenizer, cut_id: str
) -> list[float]:
    """Carry borders over from the tokens they were found for to those of any tokenizer.

    A border inside an aligned token is placed in proportion to its letters.

    Args:
        aligned: Text and end in seconds of each aligned token.
        token_ids: The same words in the tokenizer's tokens.
        tokenizer: Whose tokens they are.
        cut_id: For the error.

    Returns:
        Where each token ends, in seconds.

    Raises:
        DataError: The aligned text is not the transcript.
    """
    old_letters = list(accumulate(len(text.strip()) for text, _ in aligned))
    new_letters = [len(tokenizer.decode(token_ids[: i + 1]).replace(" ", "")) for i in range(len(token_ids))]
    if (old_letters[-1:] or [0]) != (new_letters[-1:] or [0]):
        raise DataError(f"cut {cut_id}: its borders belong to another transcript; run `cifasr align` again")
    old_ends = [end for _, end in aligned]
    if old_letters == new_letters:
        return old_ends
    letters, first = np.unique([0, *old_letters], return_index=True)  # a token of no letters comes after its equal
    return [float(end) for end in np.interp(new_letters, letters, np.array([0.0, *old_ends])[first])]


def collate(utterances: Sequence[Utterance]) -> Batch:
    """Put utterances side by side."""
    feats = [log_mel(torch.from_numpy(utterance.samples)) for utterance in utterances]
    feat_lens = torch.tensor([len(feat) for feat in feats])
    target_lens = torch.tensor([len(utterance.token_ids) for utterance in utterances])
    targets = torch.zeros(len(utterances), int(target_lens.max()), dtype=torch.int64)
    ends = torch.zeros(targets.shape, dtype=torch.float64)
    for row, utterance in enumerate(utterances):
        targets[row, : target_lens[row]] = torch.tensor(utterance.token_ids, dtype=torch.int64)
        if utterance.token_ends_s is not None:
            ends[row, : target_lens[row]] = torch.tensor(utterance.token_ends_s, dtype=torch.float64)
    aligned = all(utterance.token_ends_s is not None for utterance in utterances)
    return Batch(
        feats=torch.nn.utils.rnn.pad_sequence(feats, batch_first=True, padding_value=SILENCE_FEATURE),
        feat_lens=feat_lens,
        targets=targets,
        target_lens=target_lens,
        token_ends_s=ends if aligned else None,
        num_audio_seconds=sum(len(utterance.samples) for utterance in utterances) / SAMPLE_RATE_HZ,
    )
