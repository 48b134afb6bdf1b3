"""Everything a run needs to go on as if nothing had happened, in one file that is written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cifasr.errors import CheckpointError, ConfigError
from cifasr.models.checkpoint import load_checkpoint, save_checkpoint
from cifasr.models.cif_asr import CifAsr
from cifasr.training.config import TrainConfig

_STATE = "state.pt"
_CONFIG = "config.json"
_START = "start.safetensors"


def open_run(out: Path, config: TrainConfig, start: Callable[[], CifAsr], *, write: bool) -> CifAsr:
    """Begin a run in a folder, or find the one that is there.

    The start is kept in the folder: a resumed run needs nothing else, and the shape of the model is never guessed.

    Args:
        out: The run's folder.
        config: The run's configuration; a run is resumed only with its own.
        start: Makes the model that a new run starts from.
        write: Whether this process writes.

    Returns:
        The model as it started.

    Raises:
        ConfigError: The folder holds a run with another configuration.
    """
    kept = out / _CONFIG
    written = config.model_dump_json(indent=2)
    if not kept.is_file():
        model = start()
        if write:
            out.mkdir(parents=True, exist_ok=True)
            save_checkpoint(model, out / _START)
            write_whole(kept, lambda part: part.write_text(written, encoding="utf-8"))
        return model
    if kept.read_text(encoding="utf-8") != written:
        raise ConfigError(f"{out}: holds a run with another configuration ({kept}); give this run another --out")
    return load_checkpoint(out / _START)


def save_state(out: Path, state: dict[str, Any]) -> None:
    """Write the state of a run."""
    write_whole(out / _STATE, lambda part: torch.save(state, part))


def load_state(out: Path) -> dict[str, Any] | None:
    """Read the state of a run; None where none was written yet.

    Raises:
        CheckpointError: The file is damaged.
    """
    path = out / _STATE
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(f"{path}: the state of this run cannot be read: {error}") from error
    return state


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name and give it its own when it is complete and on disk."""
    part = path.with_name(f"{path.name}.part")
    write(part)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
