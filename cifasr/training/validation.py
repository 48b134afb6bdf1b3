"""The dev speakers transcribed as a stream: the one figure that chooses a checkpoint."""

from collections.abc import Sequence

from lhotse.cut import Cut

from cifasr.decoding.scoring import scored_transcripts
from cifasr.decoding.streaming import StreamingOptions, transcribe
from cifasr.metrics.wer import ErrorReport
from cifasr.models.cif_asr import CifAsr
from cifasr.training.config import ValidationConfig


def choose_cuts(cuts: Sequence[Cut], max_utterances: int) -> list[Cut]:
    """Take at most so many cuts, spread evenly over the list; all for 0."""
    if not max_utterances or len(cuts) <= max_utterances:
        return list(cuts)
    return [cuts[i * len(cuts) // max_utterances] for i in range(max_utterances)]


def validate(model: CifAsr, cuts: Sequence[Cut], config: ValidationConfig) -> ErrorReport:
    """Transcribe cuts as streams, and count the errors.

    Args:
        model: In evaluation mode, on the CPU.
        cuts: The dev speakers.
        config: Chunk and context.
    """
    options = StreamingOptions(chunk_ms=config.chunk_ms, left_context_ms=config.left_context_ms)
    transcripts = scored_transcripts(cuts, lambda samples: transcribe(model, samples, options))
    return ErrorReport(transcript.score for transcript in transcripts)
