"""`cifasr lexicon`: the words of a text, for a model to tell from misspellings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cifasr.cli.output import print_json
from cifasr.cli.progress import progress_bar
from cifasr.errors import ConfigError
from cifasr.models.checkpoint import LEXICON_SUFFIX
from cifasr.text.lexicon import Lexicon, count_words


def lexicon(
    texts: Annotated[list[Path], typer.Argument(help="Plain text in UTF-8, a sentence a line, in whatever case.")],
    model: Annotated[Path, typer.Option(help="Checkpoint beside which the words shall lie.")],
) -> None:
    """Count the words of a text, so that a model prefers them to misspellings, and what often stands together."""
    for path in texts:
        if not path.is_file():
            raise ConfigError(f"{path}: wanted a text file, found none")
    found = Lexicon(count_words(_lines(texts)))
    out = model.with_suffix(LEXICON_SUFFIX)
    found.save(out)
    print_json({"lexicon": str(out), "words": len(found), "bytes": out.stat().st_size})


def _lines(texts: list[Path]) -> Iterator[str]:
    with progress_bar() as bar:
        task = bar.add_task("counting", total=sum(path.stat().st_size for path in texts))
        for path in texts:
            with path.open(encoding="utf-8") as file:
                for line in file:
                    yield line
                    bar.advance(task, len(line.encode()))
