"""Cuts transcribed and scored, one after the other: what validation and evaluation share."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lhotse.cut import Cut

from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples
from cifasr.data.batches import load_samples, written_style
from cifasr.decoding.result import Segment
from cifasr.errors import DataError
from cifasr.metrics.latency import RealTimeFactor
from cifasr.metrics.wer import ScoredUtterance, score_utterance
from cifasr.text.normalize import normalize_for_wer

Transcriber = Callable[[Samples], list[Segment]]
"""Whole utterances in, (S,) float32 at 16 kHz; final segments out."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """One cut, transcribed and scored.

    Attributes:
        score: Reference, hypothesis and errors. A cut without a speaker counts as a speaker of its own.
        segments: What the transcriber answered; their texts, with spaces between, are the hypothesis.
        cost: Time that the transcriber took, and length of the audio.
    """

    score: ScoredUtterance
    segments: tuple[Segment, ...]
    cost: RealTimeFactor


def scored_transcripts(cuts: Iterable[Cut], transcriber: Transcriber) -> Iterator[Transcript]:
    """Transcribe cuts, and count the errors after `normalize_for_wer`.

    Args:
        cuts: Each with one supervision.
        transcriber: What is scored.

    Raises:
        DataError: The audio of a cut cannot be decoded, or it has not one supervision.
    """
    for cut in cuts:
        if len(cut.supervisions) != 1:
            raise DataError(f"cut {cut.id}: wanted one supervision, got {len(cut.supervisions)}")
        samples = load_samples(cut)
        begin = time.perf_counter()
        segments = tuple(transcriber(samples))
        cost = RealTimeFactor(time.perf_counter() - begin, len(samples) / SAMPLE_RATE_HZ)
        reference = written_style(cut.supervisions[0].text or "")
        hypothesis = " ".join(segment.text for segment in segments)
        speaker = cut.supervisions[0].speaker or cut.id
        score = score_utterance(cut.id, speaker, reference, hypothesis, normalize=normalize_for_wer)
        yield Transcript(score, segments, cost)
