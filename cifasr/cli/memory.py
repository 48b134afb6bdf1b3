"""`cifasr teach` and `cifasr memory`: words that the recogniser is taught once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cifasr.audio.samples import read_samples
from cifasr.cli.output import print_json
from cifasr.decoding.memory.cifmem import load_memory, save_memory
from cifasr.decoding.memory.phrase_bias import PhraseBias
from cifasr.decoding.memory.word_memory import DEFAULT_BACKEND, Backend, Phrase, WordMemory
from cifasr.errors import ConfigError
from cifasr.models.checkpoint import content_version
from cifasr.models.cif_asr import CifAsr
from cifasr.models.pretrained import PRETRAINED_PATH, load_model

app = typer.Typer(help="What a word memory knows, and taking it back.", no_args_is_help=True)

_Memory = Annotated[Path, typer.Option(help="The memory, such as me.cifmem.")]
_Model = Annotated[Path | None, typer.Option(help="Checkpoint; the model in the box without it.")]
_Recording = Annotated[Path, typer.Argument(help="WAV, FLAC, Ogg or MP3 of at most 30 s.")]
_Said = Annotated[str, typer.Argument(help='All that is said in it; "I met [Threlkeld] today" marks what to learn.')]


def teach(
    recording: _Recording,
    text: _Said,
    memory: _Memory,
    model: _Model = None,
    backend: Annotated[
        Backend | None, typer.Option(help="How a new memory remembers.", show_default=DEFAULT_BACKEND.value)
    ] = None,
) -> None:
    """Teach a word from one recording; the memory's file is made if it is not there.

    The text is all that is said: only the word, or a sentence with the word in brackets. A second recording of a word
    adds to the first.
    """
    recogniser = load_model(model)
    if memory.exists():
        known = open_memory(memory, recogniser, model)
        if backend not in (None, known.backend):
            raise ConfigError(f"--backend: wanted {known.backend}, which {memory} was begun with, got {backend}")
    else:
        known = WordMemory(recogniser, content_version(model or PRETRAINED_PATH), backend or DEFAULT_BACKEND)
    taught = known.teach(read_samples(recording), text)
    save_memory(known, memory)
    print_json({"taught": [_row(phrase) for phrase in taught], "phrases": len(known.phrases)})


@app.command("list")
def list_phrases(memory: _Memory, model: _Model = None) -> None:
    """Print what was taught, one line of JSON a phrase."""
    for phrase in open_memory(memory, load_model(model), model).phrases:
        print_json(_row(phrase))


@app.command()
def forget(
    phrase: Annotated[str, typer.Argument(help="As `cifasr memory list` writes it.")],
    memory: _Memory,
    model: _Model = None,
) -> None:
    """Forget a phrase."""
    known = open_memory(memory, load_model(model), model)
    known.forget(phrase)
    save_memory(known, memory)


@app.command()
def correct(recording: _Recording, text: _Said, memory: _Memory, model: _Model = None) -> None:
    """Say what was said where a taught phrase was written wrongly; it is recognised less easily from then on."""
    known = open_memory(memory, load_model(model), model)
    changed = known.correct(read_samples(recording), text)
    save_memory(known, memory)
    print_json({"changed": [_row(phrase) for phrase in changed]})


def open_memory(path: Path, recogniser: CifAsr, model: Path | None) -> WordMemory:
    """Open a memory that was taught to a model.

    Args:
        path: The memory.
        recogniser: The model, loaded.
        model: Its file; None for the model in the box.

    Raises:
        CheckpointError: See `load_memory`.
    """
    return load_memory(path, recogniser, content_version(model or PRETRAINED_PATH))


def biasing_of(path: Path | None, recogniser: CifAsr, model: Path | None) -> PhraseBias | None:
    """Favour what a memory knows; None without one. Arguments and errors as `open_memory`."""
    return None if path is None else open_memory(path, recogniser, model).biasing()


def _row(phrase: Phrase) -> dict[str, Any]:
    return {"phrase": phrase.text, "lessons": phrase.num_lessons, "caution": round(phrase.caution, 2)}
