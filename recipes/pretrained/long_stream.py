"""One long stream of utterances joined end to end, against the same utterances alone: WER, and speed at both ends."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.progress import track

from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples
from cifasr.data.batches import load_cuts, load_samples, written_style
from cifasr.decoding.endpoint import Endpointer, TrailingSilence
from cifasr.decoding.result import Segment
from cifasr.decoding.streaming import StreamingOptions, StreamingRecognizer, transcribe
from cifasr.metrics.wer import ErrorCounts, count_errors
from cifasr.models.cif_asr import CifAsr
from cifasr.models.pretrained import PRETRAINED_PATH, load_model
from cifasr.text.normalize import normalize_for_wer

_MINUTE = 60 * SAMPLE_RATE_HZ


def main(
    cuts: Annotated[Path, typer.Argument(help="Cuts to join; they are gone round until the stream is long enough.")],
    model: Annotated[Path, typer.Option(help="Checkpoint.")] = PRETRAINED_PATH,
    minutes: Annotated[int, typer.Option(help="Length of the stream.")] = 10,
    endpointer: Annotated[bool, typer.Option(help="Let pauses end segments; without, all is one segment.")] = True,
) -> None:
    """Print one JSON line."""
    torch.set_num_threads(1)
    recogniser = load_model(model)
    everything = list(load_cuts([cuts]))
    chosen, length = [], 0
    while length < minutes * _MINUTE:
        cut = everything[len(chosen) % len(everything)]
        chosen.append((load_samples(cut), normalize_for_wer(written_style(cut.supervisions[0].text or ""))))
        length += len(chosen[-1][0])
    alone, of_cut = ErrorCounts(), {}
    for place, (samples, text) in enumerate(track(chosen, description="alone")):
        if place < len(everything):
            of_cut[place] = count_errors(text, _text(transcribe(recogniser, samples, endpointer=_ends(endpointer))))
        alone += of_cut[place % len(everything)]
    stream = np.concatenate([samples for samples, _ in chosen])
    text, seconds = _streamed(recogniser, stream, _ends(endpointer))
    joined = count_errors(" ".join(text for _, text in chosen), text)
    figures = {
        "minutes": round(length / _MINUTE, 1),
        "wer_alone": round(alone.wer, 4),
        "wer_joined": round(joined.wer, 4),
        "rtf_first_minute": round(seconds[0] / 60, 4),
        "rtf_last_minute": round(seconds[-1] / 60, 4),
    }
    print(json.dumps(figures))


def _ends(wanted: bool) -> Endpointer | None:
    return TrailingSilence() if wanted else None


def _text(segments: Sequence[Segment]) -> str:
    return normalize_for_wer(" ".join(segment.text for segment in segments))


def _streamed(model: CifAsr, samples: Samples, endpointer: Endpointer | None) -> tuple[str, list[float]]:
    """Stream a recording; its text, and how many seconds each whole minute of it took."""
    recognizer = StreamingRecognizer(model, StreamingOptions(), endpointer)
    segments, seconds = [], []
    for first in track(range(0, len(samples), _MINUTE), description="joined"):
        begin = time.perf_counter()
        segments += recognizer.accept_waveform(samples[first : first + _MINUTE]).finals
        if first + _MINUTE <= len(samples):
            seconds.append(time.perf_counter() - begin)
    segments += recognizer.input_finished().finals
    return _text(segments), seconds


if __name__ == "__main__":
    typer.run(main)
