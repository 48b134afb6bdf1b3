"""What the neuron buys: a model asked when its neuron fires, against the same model asked at every chunk's end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer
from lhotse.cut import Cut
from rich.progress import track
from torch import Tensor, nn

from cifasr.data.batches import load_cuts
from cifasr.decoding.scoring import Transcript, scored_transcripts
from cifasr.decoding.streaming import StreamingOptions, transcribe
from cifasr.metrics.wer import ErrorCounts
from cifasr.models.checkpoint import load_checkpoint
from cifasr.models.cif_asr import CifAsr
from cifasr.models.pretrained import PRETRAINED_PATH
from cifasr.nn.state import State

_TOKENS_PER_SECOND = 12
"""More than anybody says: the decoder is asked until it answers "nothing"."""


class Clock(nn.Module):
    """Stands in for the weight estimator, hears nothing, and fires enough at every chunk's end.

    Args:
        num_firings: At the last frame of each chunk.
    """

    def __init__(self, num_firings: int) -> None:
        super().__init__()
        self.num_firings = num_firings

    def init_state(self) -> State:
        """Make a state, which is empty."""
        return {}

    def step(
        self, encoder_out: Tensor, state: State, left_frames: int | None, ahead_frames: int = 0
    ) -> tuple[Tensor, State]:
        """Weigh the frames of a chunk (1, n, D); the weights (1, n) are all on the last that does not come again."""
        alpha = encoder_out.new_zeros(encoder_out.shape[:2])
        alpha[:, -1 - ahead_frames] = self.num_firings
        return alpha, state


def main(
    cuts: Annotated[Path, typer.Argument(help="Cuts to transcribe.")],
    model: Annotated[Path, typer.Option(help="Checkpoint.")] = PRETRAINED_PATH,
    num: Annotated[int, typer.Option(help="How many utterances, spread evenly.")] = 60,
    chunk_ms: Annotated[int, typer.Option(help="Chunk.")] = 640,
) -> None:
    """Print a JSON line for the neuron, and one for the clock."""
    torch.set_num_threads(1)
    everything = list(load_cuts([cuts]))
    chosen = everything[:: max(1, len(everything) // num)][:num]
    options = StreamingOptions(chunk_ms=chunk_ms)
    for who in ("neuron", "clock"):
        recogniser = load_checkpoint(model)
        if who == "clock":
            recogniser.estimator = Clock(_TOKENS_PER_SECOND * chunk_ms // 1000 + 1)  # type: ignore[assignment]
        errors, num_tokens, num_calls = ErrorCounts(), 0, 0
        for transcript in track(_transcripts(recogniser, chosen, options), total=len(chosen), description=who):
            errors += transcript.score.words
            tokens = sum(len(segment.token_ids) for segment in transcript.segments)
            calls = sum(segment.num_decoder_calls for segment in transcript.segments)
            if who == "clock":  # the first "nothing" of a chunk would have been enough
                calls = tokens + int(-(-transcript.cost.audio_seconds * 1000 // chunk_ms))
            num_tokens, num_calls = num_tokens + tokens, num_calls + calls
        figures = {"asked_by": who, "chunk_ms": chunk_ms, "utterances": len(chosen), "wer": round(errors.wer, 4)}
        print(json.dumps(figures | {"decoder_calls_a_token": round(num_calls / max(1, num_tokens), 3)}))


def _transcripts(model: CifAsr, cuts: list[Cut], options: StreamingOptions) -> Iterator[Transcript]:
    return scored_transcripts(cuts, lambda samples: transcribe(model, samples, options))


if __name__ == "__main__":
    typer.run(main)
