"""``cifasr demo``: a server, a microphone's pace, and text that grows, in one command."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples, read_samples
from cifasr.decoding.result import Segment
from cifasr.metrics.wer import count_errors
from cifasr.text.normalize import normalize_for_wer
from cifasr_serving.client import transcribe_samples
from cifasr_serving.errors import ServerError

SAMPLE = Path(__file__).with_name("sample") / "letter.flac"


def demo(
    model: Annotated[Path | None, typer.Option(help="Model file; the model in the box without it.")] = None,
) -> None:
    """Start a server, stream a spoken sample to it live, and show text, word times and WER."""
    console = Console()
    samples = read_samples(SAMPLE)
    console.print(
        f"{SAMPLE.name}: {len(samples) / SAMPLE_RATE_HZ:.0f} s, spoken by a synthesiser; starting a server ..."
    )
    with _running_server(model) as (address, greeting):
        console.print(greeting)
        finals = _stream_shown(console, address, samples)
    console.print(_word_table(finals))
    reference = SAMPLE.with_suffix(".txt").read_text(encoding="utf-8")
    said, heard = normalize_for_wer(reference), normalize_for_wer(" ".join(segment.text for segment in finals))
    errors = count_errors(said, heard)
    console.print(f"said:  {said}", f"heard: {heard}", sep="\n", highlight=False)
    console.print(f"WER {100 * errors.wer:.1f} % ({errors.errors} errors in {errors.reference_words} words)")


@contextmanager
def _running_server(model: Path | None) -> Iterator[tuple[str, str]]:
    """Run `cifasr serve` on a free port; give its address and what it says when it is ready."""
    command = [sys.executable, "-c", "from cifasr.cli.main import main; main()", "serve", "--port", "0"]
    command += [] if model is None else ["--model", str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            greeting = server.stdout.readline().strip()
            if not greeting.startswith("listening on "):
                raise ServerError("demo: the server did not start; `cifasr serve` says why")
            yield greeting.split(",")[0].removeprefix("listening on "), greeting
        finally:
            server.terminate()


def _stream_shown(console: Console, address: str, samples: Samples) -> list[Segment]:
    """Stream at the pace of speech; the open segment grows in place, or line by line where there is no terminal."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        shown: dict[int, str] = {}

        def show(segment: Segment) -> None:
            if not segment.text or shown.get(segment.index) == segment.text:
                return
            shown[segment.index] = segment.text
            if console.is_terminal:
                live.update(Text(f"  ... {segment.text}", style="dim"), refresh=True)
            else:
                console.print(f"  ... {segment.text}", highlight=False)

        finals = transcribe_samples(address, samples, SAMPLE_RATE_HZ, paced=True, on_interim=show)
    for segment in finals:
        console.print(
            f"  [{segment.start_s:5.2f} - {segment.end_s:5.2f} s]  {segment.text}", highlight=False, markup=False
        )
    return finals


def _word_table(segments: list[Segment]) -> Table:
    table = Table("from s", "to s", "sure", "word", title="words", title_justify="left")
    for segment in segments:
        for word in segment.words:
            table.add_row(f"{word.start_s:.2f}", f"{word.end_s:.2f}", f"{word.confidence:.2f}", word.text)
    return table
