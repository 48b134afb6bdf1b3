"""`cifasr energy`: what an encoder computes and moves, counted over a run, and what a model says that it costs."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cifasr.audio.samples import SAMPLE_RATE_HZ
from cifasr.cli.output import err_console, print_json
from cifasr.cli.progress import progress_bar
from cifasr.config import load_config
from cifasr.data.batches import load_cuts, load_samples
from cifasr.decoding.endpoint import TrailingSilence
from cifasr.decoding.streaming import StreamingOptions, transcribe
from cifasr.models.checkpoint import load_checkpoint
from cifasr.spiking.activation import set_spike_steps
from cifasr.spiking.energy import FLOAT32, INT8, Account, Meter, NumberFormat
from cifasr.training.validation import choose_cuts

_MICROJOULES = 1e-6
"""In a picojoule."""


def energy(
    checkpoint: Annotated[Path, typer.Argument(help="The model, in float32.")],
    cuts: Annotated[list[Path], typer.Argument(help="Cuts, as `cifasr prepare` writes them.")],
    max_utterances: Annotated[
        int, typer.Option(help="At most so many, spread evenly over the cuts; 0 for all.", min=0)
    ] = 20,
    spike_steps: Annotated[
        int | None, typer.Option(help="Steps a frame of spiking feed-forwards; the model's own without it.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the recogniser, such as chunk_ms=320.")
    ] = None,
) -> None:
    """Count operations and bytes of the encoder in a stream, a second of audio, and print their modelled energy.

    Beside the model as it is stand two that do the same: with cut values in place of spikes and 0 where no spike is (a
    thresholded ReLU), and dense. Nothing here is measured energy.
    """
    options = load_config(StreamingOptions, overrides=overrides or ())
    model, meter = load_checkpoint(checkpoint), Meter()
    if spike_steps is not None:
        set_spike_steps(model.encoder, spike_steps)
    chosen = choose_cuts(list(load_cuts(cuts)), max_utterances)
    num_samples = 0
    # A stream steps through the encoder's layers, so they are what is watched.
    with progress_bar() as bar, meter.watching(model.encoder):
        for cut in bar.track(chosen, description="energy"):
            samples = load_samples(cut)
            transcribe(model, samples, options, TrailingSilence())
            num_samples += len(samples)
    seconds = num_samples / SAMPLE_RATE_HZ
    accounts = {"as built": meter.as_built, "same zeros": meter.same_zeros, "dense": meter.dense}
    rows = [
        {"network": name, "format": kind, **_figures(account.scaled(1 / seconds), numbers)}
        for name, account in accounts.items()
        for kind, numbers in (("float32", FLOAT32), ("int8", INT8))
    ]
    err_console.print(_table(rows))
    encoder = model.config.encoder
    about = {"feed_forward": encoder.feed_forward, "spike_steps": spike_steps or encoder.spike_steps}
    print_json({"model": model.config.name, **about, "audio_seconds": round(seconds, 3), "per_audio_second": rows})


def _figures(account: Account, numbers: NumberFormat) -> dict[str, float]:
    figures = {
        "macs": account.macs,
        "acs": account.acs,
        "membrane_updates": account.membrane_updates,
        "bytes": account.moved_bytes(numbers),
        "arithmetic_uj": account.arithmetic_pj(numbers) * _MICROJOULES,
        "energy_uj": account.energy_pj(numbers) * _MICROJOULES,
    }
    return {name: round(value, 2) for name, value in figures.items()}


def _for_people(name: str, value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if name.endswith("uj") else f"{value / 1e6:,.1f} M"


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="encoder, a second of audio; energy is modelled")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if name in ("network", "format") else "right")
    for row in rows:
        table.add_row(*(_for_people(name, value) for name, value in row.items()))
    return table
