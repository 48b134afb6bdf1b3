"""`cifasr warm-start`: a recogniser that begins where an openly licensed Whisper stands."""

import lzma
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from cifasr.cli.output import err_console, print_json
from cifasr.models.checkpoint import save_checkpoint
from cifasr.models.teacher import count_pieces, read_teacher
from cifasr.models.warm_start import warm_start as build_warm_start


def warm_start(
    source: Annotated[Path, typer.Argument(help="Hugging Face folder, openai-whisper .pt, or CTranslate2 folder.")],
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")],
    text: Annotated[Path, typer.Option(help="Sentences, one a line (.xz allowed): which sub-words are frequent.")],
    tokenizer: Annotated[Path | None, typer.Option(help="The teacher's tokenizer.json, if not beside it.")] = None,
    vocab_size: Annotated[int, typer.Option(help="Sub-words to keep.")] = 14_000,
    max_lines: Annotated[int, typer.Option(help="Lines of the text to count.")] = 2_000_000,
    name: Annotated[str, typer.Option(help="Name of the model.")] = "cifasr",
) -> None:
    """Build a model from a Whisper's weights: encoder, decoder, and the rows of its frequent sub-words."""
    teacher = read_teacher(source, tokenizer)
    path = tokenizer or (source if source.is_dir() else source.parent) / "tokenizer.json"
    err_console.print(f"counting sub-words in {text}")
    counts = count_pieces(path, islice(_lines(text), max_lines))
    model = build_warm_start(teacher, counts, vocab_size=vocab_size, name=name)
    save_checkpoint(model, out, notes={"started_from": str(source.name)})
    covered = sum(counts.get(i, 0) for i, piece in teacher.pieces.items() if model.tokenizer.has_piece(piece))
    print_json(
        {
            "checkpoint": str(out),
            "parameters": model.num_parameters,
            "pieces": model.tokenizer.vocab_size,
            "text_covered": round(covered / max(1, sum(counts.values())), 4),
        }
    )


def _lines(path: Path) -> Iterator[str]:
    with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
        yield from (line.strip() for line in file if line.strip())
