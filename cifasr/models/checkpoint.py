"""One safetensors file holds a model: configuration, weights and tokenizer; checked when it is opened.

A list of words may lie beside it: `tiny.words.safetensors` beside `tiny.safetensors`.
"""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cifasr.config import parse_config
from cifasr.errors import CheckpointError, ConfigError
from cifasr.models.cif_asr import CifAsr, CifAsrConfig
from cifasr.nn.int8 import round_rows
from cifasr.text.lexicon import Lexicon
from cifasr.text.tokenizer import Tokenizer

FORMAT = "cifasr"
FORMAT_VERSION = "1"
LEXICON_SUFFIX = ".words.safetensors"
_SCALE = ".scale"

StorageDtype = Literal["float32", "float16", "int8"]


def save_checkpoint(
    model: CifAsr, path: Path, dtype: StorageDtype = "float32", notes: dict[str, str] | None = None
) -> None:
    """Write a model, whole or not at all.

    Args:
        model: The model.
        path: The file; one that is there is replaced.
        dtype: How weights lie on disk. "int8" keeps one scale a row of each matrix, and other tensors in float16.
        notes: What a reader should know of the model: origin, data, measured WER.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        tensors |= _stored(name, value.detach().cpu().contiguous(), dtype)
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": model.config.model_dump_json(),
        "tokenizer": base64.b64encode(model.tokenizer.model).decode("ascii"),
        "notes": json.dumps(notes or {}),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    save_file(tensors, part, metadata=metadata)
    os.replace(part, path)


def load_checkpoint(path: Path) -> CifAsr:
    """Open a model, in float32 and in evaluation mode, with the lexicon beside it if there is one.

    Raises:
        CheckpointError: The file is absent, is not a cifasr checkpoint, is of a later format, or is damaged.
    """
    metadata, tensors = _read(path)
    try:
        config = parse_config(CifAsrConfig, json.loads(metadata["config"]))
        tokenizer = Tokenizer(base64.b64decode(metadata["tokenizer"]))
    except (KeyError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{path}: its configuration cannot be read: {error}") from error
    model = CifAsr(config, tokenizer)
    try:
        model.load_state_dict(_restored(tensors))
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit its configuration: {error}") from error
    if (words := path.with_suffix(LEXICON_SUFFIX)).is_file():
        model.lexicon = Lexicon.load(words)
    return model.eval()


def read_notes(path: Path) -> dict[str, str]:
    """Read what was written about a model; see `load_checkpoint` for the errors."""
    notes: dict[str, str] = json.loads(_open(path)[0].get("notes", "{}"))
    return notes


def content_version(path: Path) -> str:
    """Name a model's file by what is in it: the first 12 hexadecimal digits of its SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _open(path: Path) -> tuple[dict[str, str], list[str]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            names = list(file.keys())
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: a safetensors file, but not a cifasr checkpoint (format {metadata.get('format')!r})"
        )
    if metadata.get("format_version") != FORMAT_VERSION:
        version = metadata.get("format_version")
        raise CheckpointError(f"{path}: checkpoint format {version!r}; this version reads {FORMAT_VERSION!r}")
    return metadata, names


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    metadata, names = _open(path)
    with safe_open(path, framework="pt") as file:
        return metadata, {name: file.get_tensor(name) for name in names}


def _stored(name: str, value: Tensor, dtype: StorageDtype) -> dict[str, Tensor]:
    if dtype == "float32" or not value.is_floating_point():
        return {name: value}
    if dtype == "float16" or value.dim() < 2:
        return {name: value.half()}
    scale, rows = round_rows(value)
    return {name: rows, name + _SCALE: scale}


def _restored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    restored = {}
    for name, value in tensors.items():
        if name.endswith(_SCALE):
            continue
        scale = tensors.get(name + _SCALE)
        if scale is None and value.is_floating_point():
            restored[name] = value.float()
        elif scale is None:
            raise RuntimeError(f"{name} is {value.dtype}, and no {name}{_SCALE} says what that means")
        else:
            restored[name] = value.float() * scale.view(-1, *[1] * (value.dim() - 1))
    return restored
