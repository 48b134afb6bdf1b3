"""`cifasr transcribe`: audio files to text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cifasr.audio.samples import AUDIO_SUFFIXES, read_samples
from cifasr.cli.memory import biasing_of
from cifasr.cli.options import recogniser_options
from cifasr.cli.output import err_console, print_json
from cifasr.cli.progress import progress_bar
from cifasr.decoding.endpoint_config import EndpointConfig, EndpointerKind
from cifasr.decoding.endpointers import make_endpointer
from cifasr.decoding.result import Segment
from cifasr.decoding.streaming import transcribe as recognise
from cifasr.errors import AudioError
from cifasr.models.pretrained import load_model


def transcribe(
    files: Annotated[list[Path], typer.Argument(help="WAV, FLAC, Ogg or MP3; a folder is searched for them.")],
    model: Annotated[Path | None, typer.Option(help="Checkpoint; the model in the box without it.")] = None,
    memory: Annotated[Path | None, typer.Option(help="Word memory, as `cifasr teach` writes it.")] = None,
    chunk_ms: Annotated[int | None, typer.Option(help="Audio heard at a time.", min=1, show_default="640")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Hear each file whole: slow and large for long ones.")
    ] = False,
    endpointer: Annotated[
        EndpointerKind, typer.Option(help="Who says that a segment is over.")
    ] = EndpointConfig().endpointer,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Another option of the recogniser, such as beam_size=8.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON a file, with its segments.")] = False,
    words: Annotated[
        bool, typer.Option("--words", help="The same, with the time and confidence of each word.")
    ] = False,
) -> None:
    """Print the text of audio files; of several or of a folder, each line begins with the file's name and a tab.

    A file that cannot be read is named on stderr and the others go on. Exit code 1: some could not be read; 2: none
    could.

    Segments end at silences, and at 30 s, so that an hour takes no more memory to recognise than a minute.
    """
    chunking = [] if chunk_ms is None else [f"chunk_ms={chunk_ms}"]
    options = recogniser_options([*chunking, *(overrides or ())], offline=offline)
    recogniser = load_model(model)
    biasing = biasing_of(memory, recogniser, model)
    sources, num_bad = _sources(files)
    named = len(files) > 1 or files[0].is_dir()
    ends = make_endpointer(EndpointConfig(endpointer=endpointer))
    num_good = 0
    with progress_bar() as bar:
        for path in bar.track(sources, description="transcribe"):
            try:
                segments = recognise(recogniser, read_samples(path), options, ends, biasing)
            except AudioError as error:
                _complain(error)
                num_bad += 1
                continue
            num_good += 1
            if as_json or words:
                print_json(_row(path, segments, words=words))
            else:
                text = " ".join(segment.text for segment in segments)
                typer.echo(f"{path}\t{text}" if named else text)
    if num_bad:
        raise typer.Exit(1 if num_good else 2)


def _sources(files: Sequence[Path]) -> tuple[list[Path], int]:
    """Put what is in folders in their place; count the folders without audio."""
    sources: list[Path] = []
    num_empty = 0
    for path in files:
        if not path.is_dir():
            sources.append(path)
        elif found := sorted(f for f in path.rglob("*") if f.suffix.lower() in AUDIO_SUFFIXES and f.is_file()):
            sources += found
        else:
            _complain(AudioError(f"{path}: no audio files in this folder, wanted {', '.join(AUDIO_SUFFIXES)}"))
            num_empty += 1
    return sources, num_empty


def _complain(error: AudioError) -> None:
    err_console.print(f"cifasr transcribe: {error}", markup=False, highlight=False, soft_wrap=True)


def _row(path: Path, segments: Sequence[Segment], *, words: bool) -> dict[str, Any]:
    return {
        "source": str(path),
        "text": " ".join(segment.text for segment in segments),
        "segments": [_segment(segment, words=words) for segment in segments],
    }


def _segment(segment: Segment, *, words: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "text": segment.text,
        **_place(segment.start_s, segment.end_s, segment.confidence),
    }
    if words:
        row["words"] = [
            {"text": word.text, **_place(word.start_s, word.end_s, word.confidence)} for word in segment.words
        ]
    return row


def _place(start_s: float, end_s: float, confidence: float) -> dict[str, float]:
    return {"start_s": round(start_s, 3), "end_s": round(end_s, 3), "confidence": round(confidence, 4)}
