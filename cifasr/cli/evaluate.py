"""`cifasr evaluate`: error rates of cuts, how far they can be trusted, and what they cost."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import jiwer
import torch
import typer
from lhotse.cut import Cut
from rich.table import Table

from cifasr.audio.samples import SAMPLE_RATE_HZ
from cifasr.cli.memory import biasing_of
from cifasr.cli.options import recogniser_options
from cifasr.cli.output import err_console, print_json
from cifasr.cli.progress import progress_bar
from cifasr.data.batches import load_cuts
from cifasr.decoding.endpoint import TrailingSilence
from cifasr.decoding.scoring import Transcriber, Transcript, scored_transcripts
from cifasr.decoding.streaming import StreamingOptions, transcribe
from cifasr.errors import ConfigError, DataError
from cifasr.metrics.latency import RealTimeFactor
from cifasr.metrics.wer import ErrorReport, ScoredUtterance
from cifasr.models.checkpoint import content_version
from cifasr.models.pretrained import PRETRAINED_PATH, WeightFormat, load_model
from cifasr.spiking.activation import set_spike_steps
from cifasr.text.normalize import normalize_for_wer
from cifasr.text.tokenizer import Tokenizer
from cifasr.training.validation import choose_cuts

_WORST = 20
_LINE_WIDTH = 110


class Mode(StrEnum):
    """How much audio the encoder hears before it answers."""

    streaming = "streaming"
    offline = "offline"


@dataclass(frozen=True)
class _Subject:
    """What is evaluated, and what the result says of it."""

    transcriber: Transcriber
    about: dict[str, Any]
    tokenizer: Tokenizer | None = None


def evaluate(
    cuts: Annotated[list[Path], typer.Argument(help="Cuts, as `cifasr prepare` writes them.")],
    model: Annotated[Path | None, typer.Option(help="Checkpoint; the model in the box without it.")] = None,
    memory: Annotated[Path | None, typer.Option(help="Word memory, as `cifasr teach` writes it.")] = None,
    mode: Annotated[Mode | None, typer.Option(help="As a stream, or whole.", show_default="streaming")] = None,
    server: Annotated[str | None, typer.Option(help="Ask a running server instead, host:port.")] = None,
    chunk_ms: Annotated[
        int | None, typer.Option(help="Audio a stream hears at a time.", min=1, show_default="640")
    ] = None,
    left_context_ms: Annotated[
        int | None, typer.Option(help="Past that a stream keeps.", min=0, show_default="10240")
    ] = None,
    max_utterances: Annotated[
        int, typer.Option(help="At most so many, spread evenly over the cuts; 0 for all.", min=0)
    ] = 0,
    weights: Annotated[
        WeightFormat | None, typer.Option(help="How weights are multiplied.", show_default="auto")
    ] = None,
    spike_steps: Annotated[
        int | None, typer.Option(help="Steps a frame of spiking feed-forwards; the model's own without it.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Another option of the recogniser, such as max_history_tokens=64.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for hypotheses.jsonl and worst.txt.")] = None,
    worst: Annotated[int | None, typer.Option(help="Utterances in worst.txt.", min=0, show_default=str(_WORST))] = None,
) -> None:
    """Transcribe cuts and print error rates and costs as one line of JSON.

    Streaming hears each utterance in chunks, and ends segments at silences, as the server does. Offline hears it
    whole: every encoder frame sees the full utterance, past and future.

    Rates are fractions, after case and punctuation are taken away. wer_interval: 95 % bootstrap over speakers.
    """
    if worst is not None and out is None:
        raise ConfigError("--worst: wanted --out as well, the folder of worst.txt")
    flags = {"chunk_ms": chunk_ms, "left_context_ms": left_context_ms}
    asked = [*(f"{key}={value}" for key, value in flags.items() if value is not None), *(overrides or ())]
    if server is None:
        options = recogniser_options(asked, offline=mode is Mode.offline)
        subject = _model_subject(model, options, weights or WeightFormat.auto, spike_steps, memory)
    elif model or memory or mode or weights or spike_steps or asked:
        raise ConfigError(
            f"--server {server}: wanted no --model, --memory, --mode or options beside it, the server has its own"
        )
    else:
        subject = _server_subject(server)
    chosen = choose_cuts(list(load_cuts(cuts)), max_utterances)
    transcripts = list(_shown(chosen, subject.transcriber))
    report = ErrorReport(transcript.score for transcript in transcripts)
    if not report.words.reference_words:
        raise DataError(f"{cuts[0]}: wanted transcripts to compare with, got cuts without words")
    row = _figures(report, transcripts) | _neuron_figures(transcripts, subject.tokenizer) | subject.about
    if out is not None:
        _write(out, report, _WORST if worst is None else worst)
    err_console.print(_table(row))
    print_json(row)


def _model_subject(
    path: Path | None,
    options: StreamingOptions,
    weights: WeightFormat,
    spike_steps: int | None,
    memory: Path | None,
) -> _Subject:
    model = load_model(path, weights)
    biasing = biasing_of(memory, model, path)
    if spike_steps is not None:
        set_spike_steps(model.encoder, spike_steps)
    about = {
        "model": model.config.name,
        "version": content_version(path or PRETRAINED_PATH),
        "mode": (Mode.offline if options.chunk_ms is None else Mode.streaming).value,
        **options.model_dump(),
        "lexicon_words": 0 if model.lexicon is None else len(model.lexicon),
        "weights": weights.value,
        **({} if spike_steps is None else {"spike_steps": spike_steps}),
        "threads": torch.get_num_threads(),
    }
    return _Subject(
        lambda samples: transcribe(model, samples, options, TrailingSilence(), biasing),
        about,
        tokenizer=model.tokenizer,
    )


def _server_subject(address: str) -> _Subject:
    entry = next(iter(entry_points(group="cifasr.transcribers", name="server")), None)
    if entry is None:
        raise ConfigError("--server: wanted an installation with cifasr_serving, which has the client")
    ask: Callable[..., Any] = entry.load()
    return _Subject(lambda samples: ask(address, samples, SAMPLE_RATE_HZ), {"mode": "server", "server": address})


def _shown(cuts: list[Cut], transcriber: Transcriber) -> Iterator[Transcript]:
    """Transcribe with a bar that moves by audio and says the rate so far."""
    with progress_bar() as bar:
        task = bar.add_task("evaluate", total=sum(float(cut.duration) for cut in cuts))
        errors = words = 0
        for transcript in scored_transcripts(cuts, transcriber):
            errors += transcript.score.words.errors
            words += transcript.score.words.reference_words
            bar.update(
                task,
                advance=transcript.cost.audio_seconds,
                description=f"WER {100 * errors / max(1, words):.1f} %",
            )
            yield transcript


def _figures(report: ErrorReport, transcripts: list[Transcript]) -> dict[str, Any]:
    interval = report.wer_interval()
    cost = sum((transcript.cost for transcript in transcripts), RealTimeFactor())
    return {
        "wer": round(report.wer, 5),
        "wer_interval": None if interval is None else [round(rate, 5) for rate in interval],
        "cer": round(report.cer, 5),
        "substitutions": report.words.substitutions,
        "deletions": report.words.deletions,
        "insertions": report.words.insertions,
        "reference_words": report.words.reference_words,
        "utterances": len(report.utterances),
        "speakers": len({utterance.speaker for utterance in report.utterances}),
        "audio_seconds": round(cost.audio_seconds, 3),
        "rtf": round(cost.rtf, 5),
    }


def _neuron_figures(transcripts: list[Transcript], tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Compare firings with the tokens of the reference, in the segments that have text; nothing for a server."""
    if tokenizer is None:
        return {}
    surplus = [
        sum(segment.num_firings for segment in transcript.segments) - len(tokenizer.encode(transcript.score.reference))
        for transcript in transcripts
    ]
    segments = [segment for transcript in transcripts for segment in transcript.segments]
    num_tokens = sum(len(segment.token_ids) for segment in segments)
    num_calls = sum(segment.num_decoder_calls for segment in segments)
    return {
        "firings_minus_tokens": round(fmean(surplus), 4),
        "firings_minus_tokens_abs": round(fmean(map(abs, surplus)), 4),
        "decoder_calls_per_token": round(num_calls / num_tokens, 4) if num_tokens else None,
    }


def _table(row: dict[str, Any]) -> Table:
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in row.items():
        table.add_row(name.replace("_", " "), _for_people(name, value))
    return table


def _for_people(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return " to ".join(f"{100 * rate:.2f}" for rate in value) + " %"
    if name in ("wer", "cer") and isinstance(value, float):
        return f"{100 * value:.2f} %"
    return str(value)


def _write(out: Path, report: ErrorReport, num_worst: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(_hypothesis(utterance), ensure_ascii=False) for utterance in report.utterances]
    (out / "hypotheses.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    worst = "\n".join(_aligned(utterance) for utterance in report.worst(num_worst) if utterance.words.errors)
    (out / "worst.txt").write_text(worst, encoding="utf-8")


def _hypothesis(utterance: ScoredUtterance) -> dict[str, Any]:
    return {
        "id": utterance.utterance_id,
        "speaker": utterance.speaker,
        "ref": utterance.reference,
        "hyp": utterance.hypothesis,
        "word_errors": utterance.words.errors,
    }


def _aligned(utterance: ScoredUtterance) -> str:
    """Put what was said over what was heard, with a letter under each difference."""
    said, heard = normalize_for_wer(utterance.reference), normalize_for_wer(utterance.hypothesis)
    pairs = jiwer.visualize_alignment(
        jiwer.process_words(said, heard), show_measures=False, skip_correct=False, line_width=_LINE_WIDTH
    )
    body = [line.rstrip() for line in pairs.splitlines()[1:] if line.strip()]  # without jiwer's "SENTENCE 1"
    words = utterance.words
    head = f"{utterance.utterance_id}  speaker {utterance.speaker}"
    return "\n".join([f"{head}  {words.errors} errors in {words.reference_words} words", *body, ""])
