"""What a run tells: JSON lines and TensorBoard for machines, a bar and a picture for people."""

import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from cifasr.training.checkpointing import write_whole

mpl.use("Agg")


class Journal:
    """Keeps the figures of a run.

    Args:
        out: The run's folder: ``metrics.jsonl``, ``tensorboard/`` and ``curves.png`` are in it.
        first_step: The step the run goes on from; what was written of later steps before a kill is dropped.
        num_steps: The last.
    """

    def __init__(self, out: Path, first_step: int, num_steps: int) -> None:
        self._out = out
        self._rows = [row for row in read_metrics(out) if row["step"] <= first_step]
        lines = "".join(json.dumps(row) + "\n" for row in self._rows)
        write_whole(out / "metrics.jsonl", lambda part: part.write_text(lines, encoding="utf-8"))
        self._file = (out / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first_step)
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("train", total=num_steps, completed=first_step)
        self._progress.start()

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Keep figures of a step."""
        row = {"step": step, **figures}
        self._rows.append(row)
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in figures.items():
            self._board.add_scalar(name, value, step)
        self._progress.update(self._task, completed=step)
        if not self._console.is_terminal or "dev_wer" in figures:
            self._console.print(f"step {step}: " + "  ".join(f"{name} {value:.4g}" for name, value in figures.items()))

    def draw(self) -> None:
        """Draw losses and dev WER over the steps into ``curves.png``."""
        figure = draw_curves(self._rows)
        figure.savefig(self._out / "curves.png", dpi=110)

    def close(self) -> None:
        """End the bar and the files."""
        self._progress.stop()
        self._board.close()
        self._file.close()


def read_metrics(out: Path) -> list[dict[str, float]]:
    """Read the figures that a run has kept; a line cut by a kill is left out."""
    path = out / "metrics.jsonl"
    rows: list[dict[str, float]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


def draw_curves(rows: list[dict[str, float]]) -> Figure:
    """Draw the losses on the left and dev WER on the right."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, errors = figure.subplots(1, 2)
    names = dict.fromkeys(name for row in rows for name in row if name.startswith("loss_"))
    for name in names:
        points = [(row["step"], row[name]) for row in rows if name in row]
        losses.plot(*zip(*points, strict=True), label=name.removeprefix("loss_"), linewidth=1)
    losses.set(xlabel="step", ylabel="loss", yscale="log")
    if names:
        losses.legend()
    points = [(row["step"], 100 * row["dev_wer"]) for row in rows if "dev_wer" in row]
    if points:
        errors.plot(*zip(*points, strict=True), marker="o")
    errors.set(xlabel="step", ylabel="dev WER, streaming (%)", ylim=(0, None))
    return figure
