"""The dev speakers transcribed as a stream: the one figure that chooses a checkpoint."""

from collections.abc import Sequence

from lhotse.cut import Cut

from cifasr.data.batches import load_utterance
from cifasr.decoding.streaming import StreamingOptions, transcribe
from cifasr.metrics.wer import ErrorReport, score_utterance
from cifasr.models.cif_asr import CifAsr
from cifasr.text.normalize import normalize_for_wer
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
    scored = []
    for cut in cuts:
        utterance = load_utterance(cut.drop_alignments(), model.tokenizer)
        text = "".join(segment.text for segment in transcribe(model, utterance.samples, options))
        speaker = cut.supervisions[0].speaker or cut.id
        scored.append(score_utterance(cut.id, speaker, utterance.text, text, normalize=normalize_for_wer))
    return ErrorReport(scored)
