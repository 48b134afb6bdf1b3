"""One progress bar for every command that takes a while."""

import sys

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cifasr.cli.output import err_console


def progress_bar() -> Progress:
    """Make a bar on stderr with the time left; nothing is drawn where stderr is no terminal.

    Results may be written to stdout while it stands: on a terminal they appear above it, and anywhere else they
    go where stdout goes.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err_console,
        disable=not sys.stderr.isatty(),
        redirect_stdout=sys.stdout.isatty(),
    )
