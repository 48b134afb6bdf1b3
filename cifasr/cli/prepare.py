"""`cifasr prepare`: corpora to cuts."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from cifasr.cli.output import err_console, print_json
from cifasr.cli.progress import progress_bar
from cifasr.data.download import OPENSLR_URL, download_librispeech
from cifasr.data.librispeech import SplitReport, prepare_librispeech

app = typer.Typer(name="prepare", help="Turn a corpus into cuts, for training and evaluation.", no_args_is_help=True)


@app.callback()
def _prepare() -> None:
    """Turn a corpus into cuts, for training and evaluation."""  # so that typer keeps the name of a lone sub-command


@app.command()
def librispeech(
    corpus: Annotated[Path, typer.Argument(help="Folder of the splits: LibriSpeech, or a corpus laid out like it.")],
    out: Annotated[Path, typer.Option(help="Folder for the manifests, cuts_SPLIT.jsonl.gz.")],
    split: Annotated[
        list[str] | None, typer.Option(help="A split; may be repeated. All that are there if absent.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out what is wrong instead of stopping.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Decode all audio, not only the end of each file.")] = False,
    download: Annotated[
        bool, typer.Option("--download/--no-download", help="Fetch the official splits named to CORPUS first.")
    ] = False,
    mirror: Annotated[str, typer.Option(help="Where to fetch the official archives from.")] = OPENSLR_URL,
) -> None:
    """Check a corpus laid out like LibriSpeech and write a manifest of cuts for each split."""
    if download and not split:
        raise typer.BadParameter("name what to fetch with --split, for example --split dev-clean")
    with progress_bar() as bar:
        if download:
            download_librispeech(corpus, split or [], base_url=mirror, progress=_shown_on(bar))
        reports = prepare_librispeech(
            corpus, out, splits=split, skip_bad=skip_bad, verify=verify, progress=_shown_on(bar)
        )
    for report in reports:
        for fault in report.faults:
            err_console.print(f"left out: {fault}", markup=False, highlight=False, soft_wrap=True)
        print_json(_row(report))


def _row(report: SplitReport) -> dict[str, str | int | float | None]:
    return {
        "split": report.split,
        "utterances": report.num_utterances,
        "hours": round(report.seconds / 3600, 3),
        "speakers": report.num_speakers,
        "left_out": len(report.faults),
        "path": None if report.path is None else str(report.path),
    }


def _shown_on(bar: Progress) -> Callable[[str, int, int | None], None]:
    """Return a callback that moves one bar for each name."""
    tasks = {}

    def show(name: str, done: int, total: int | None) -> None:
        if name not in tasks:
            tasks[name] = bar.add_task(name, total=total)
        bar.update(tasks[name], completed=done, total=total)

    return show
