"""The `.cifmem` file: one memory in one safetensors file, written whole or not at all."""

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cifasr.decoding.memory.word_memory import Backend, Phrase, WordMemory
from cifasr.errors import CheckpointError
from cifasr.models.cif_asr import CifAsr

_FORMAT = "cifasr-word-memory"
_FORMAT_VERSION = "1"


def save_memory(memory: WordMemory, path: Path) -> None:
    """Write a memory; a reader sees the old file or the new one.

    Raises:
        CheckpointError: The file cannot be written.
    """
    state, lessons, phrases = memory.state()
    metadata = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "model_version": memory.version,
        "backend": memory.backend.value,
        "phrases": json.dumps([asdict(phrase) for phrase in phrases]),
        "lessons": json.dumps(lessons),
    }
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, part, metadata=metadata)
        os.replace(part, path)
    except OSError as error:
        if part is not None:
            Path(part).unlink(missing_ok=True)
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def load_memory(path: Path, model: CifAsr, version: str) -> WordMemory:
    """Open a memory.

    Args:
        path: The file.
        model: The recogniser.
        version: The `content_version` of its file.

    Raises:
        CheckpointError: The file is absent, damaged or no memory, or was taught to another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a word memory that can be read: {error}") from error
    found = metadata.get("format"), metadata.get("format_version")
    if found != (_FORMAT, _FORMAT_VERSION):
        raise CheckpointError(f"{path}: wanted format {_FORMAT} {_FORMAT_VERSION}, got {found[0]} {found[1]}")
    if (taught := metadata.get("model_version")) != version:
        raise CheckpointError(f"{path}: was taught to model {taught}, this one is {version}; teach its words anew")
    try:
        memory = WordMemory(model, version, Backend(metadata["backend"]))
        phrases = [Phrase(**p | {"token_ids": tuple(p["token_ids"])}) for p in json.loads(metadata["phrases"])]
        memory.restore(state, json.loads(metadata["lessons"]), tuple(phrases))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its contents are damaged: {error}") from error
    return memory
