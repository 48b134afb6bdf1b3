"""`cifasr pack`: the same model in a smaller file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cifasr.cli.output import print_json
from cifasr.errors import ConfigError
from cifasr.models.checkpoint import load_checkpoint, read_notes, save_checkpoint


class PackedDtype(StrEnum):
    """How weights lie on disk; the model computes in float32 whatever they lie in."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


def pack(
    checkpoint: Annotated[Path, typer.Argument(help="The model, as `cifasr train` writes it.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    dtype: Annotated[PackedDtype, typer.Option(help="int8 has one scale a row.")] = PackedDtype.int8,
    note: Annotated[
        list[str] | None, typer.Option(help="key=value to keep in the file, such as licence=Apache-2.0.")
    ] = None,
) -> None:
    """Write a model with smaller weights, and what is known of it."""
    notes = read_notes(checkpoint)
    for item in note or ():
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise ConfigError(f"--note {item!r}: wanted key=value")
        notes[key] = value
    model = load_checkpoint(checkpoint)
    save_checkpoint(model, out, dtype.value, notes)
    size = out.stat().st_size
    print_json({"checkpoint": str(out), "parameters": model.num_parameters, "bytes": size, "notes": notes})
