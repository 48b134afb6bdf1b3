"""``cifasr bench``: operators side by side, as ratios."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Literal, NamedTuple

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cifasr.ops.backend import Backend
from cifasr.ops.cif import cif

app = typer.Typer(help="Measure operators side by side.", no_args_is_help=True)

BASELINE = "torch-cif"
Dtype = Literal["float32", "bfloat16", "float16", "float64"]


class Inputs(NamedTuple):
    """One problem: frames (B, T, D), frame_lens (B,), alpha (B, T), target_lens (B,) or None."""

    frames: Tensor
    frame_lens: Tensor
    alpha: Tensor
    target_lens: Tensor | None


Operator = Callable[[Inputs], Tensor]


class Cost(NamedTuple):
    """Medians over repeats, CPU time in ms; peak memory beyond the inputs in MiB."""

    forward_ms: float
    both_ms: float
    forward_mib: float
    both_mib: float


@app.callback()
def bench() -> None:
    """Measure operators side by side."""


@app.command("cif")
def bench_cif(
    num_frames: Annotated[list[int], typer.Option("--frames", "-T", help="Frames a row; may be given again.")] = [  # noqa: B006
        400,
        1600,
    ],
    batch_size: Annotated[int, typer.Option("--batch", "-B", help="Rows.", min=1)] = 8,
    d_model: Annotated[int, typer.Option("--width", "-D", help="Width of a frame.", min=1)] = 256,
    mean_alpha: Annotated[float, typer.Option(help="Mean weight of a frame.")] = 0.15,
    dtype: Annotated[Dtype, typer.Option(help="Dtype of the frames.")] = "float32",
    scaled: Annotated[bool, typer.Option(help="Scale to target lengths, as in training.")] = True,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    repeats: Annotated[int, typer.Option(help="Interleaved repeats.", min=1)] = 21,
    reference: Annotated[bool, typer.Option(help="Add the reference, a loop: slow on long rows.")] = False,
) -> None:
    """Compare CIF backends, and torch-cif where it is installed, on this machine's CPU.

    Operators take turns in every repeat, so that a busy machine slows all of them. Times are CPU time, of one process
    and all its threads.
    """
    torch.set_num_threads(threads)
    operators = _cif_operators(reference)
    table = _new_table(
        f"CIF, {'scaled to targets' if scaled else 'unscaled'}: B={batch_size} D={d_model} {dtype}, "
        f"mean alpha {mean_alpha}, {threads} thread(s), medians of {repeats}"
    )
    for T in num_frames:
        inputs = _make_inputs(batch_size, T, d_model, mean_alpha, getattr(torch, dtype), scaled)
        _add_rows(table, T, _measure(operators, inputs, repeats))
    console = Console()
    console.print(table)
    console.print(f"torch {torch.__version__}, {_cpu_name()}, {platform.system()} {platform.machine()}")


def _cif_operators(reference: bool) -> dict[str, Operator]:
    """Name what can run here; the baseline comes first."""
    operators: dict[str, Operator] = {}
    if find_spec("torch_cif"):
        operators[BASELINE] = _run_torch_cif
    operators["vectorized"] = lambda inputs: _run_cif(inputs, "vectorized")
    if reference:
        operators["reference"] = lambda inputs: _run_cif(inputs, "reference")
    return operators


def _run_cif(inputs: Inputs, backend: Backend) -> Tensor:
    frames, frame_lens, alpha, target_lens = inputs
    tail = 0.5 if target_lens is None else None
    return cif(frames, frame_lens, alpha, target_lens=target_lens, tail_threshold=tail, backend=backend).acoustic_embeds


def _run_torch_cif(inputs: Inputs) -> Tensor:
    from torch_cif import cif_function  # an optional measure, not a dependency

    frames, _, alpha, target_lens = inputs
    result = cif_function(frames, alpha, tail_thres=0.5, target_lengths=target_lens, unbound_alpha=True)
    embeds: Tensor = result["cif_out"][0]
    return embeds


def _make_inputs(B: int, T: int, D: int, mean_alpha: float, dtype: torch.dtype, scaled: bool) -> Inputs:
    """Draw full rows (torch-cif takes a mask, and cifasr lengths: no padding keeps them alike)."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(B, T, D, generator=generator).to(dtype).requires_grad_()
    alpha = torch.rand(B, T, generator=generator) * (2 * mean_alpha)
    target_lens = alpha.sum(1).round().long().clamp(min=1) if scaled else None
    return Inputs(frames, torch.full((B,), T), alpha.requires_grad_(), target_lens)


def _measure(operators: dict[str, Operator], inputs: Inputs, repeats: int) -> dict[str, Cost]:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in operators}
    for repeat in range(repeats + 1):
        for name, operator in operators.items():
            forward_ms, both_ms = _time_once(operator, inputs)
            if repeat > 0:  # the first turn warms up
                times[name].append((forward_ms, both_ms))
    costs = {}
    for name, operator in operators.items():
        forward_ms, both_ms = (statistics.median(column) for column in zip(*times[name], strict=True))
        forward_mib, both_mib = (_peak_mib(operator, inputs, backward) for backward in (False, True))
        costs[name] = Cost(forward_ms, both_ms, forward_mib, both_mib)
    return costs


def _time_once(operator: Operator, inputs: Inputs) -> tuple[float, float]:
    """CPU time of forward, and of forward and backward, in ms."""
    start = time.process_time()
    embeds = operator(inputs)
    middle = time.process_time()
    torch.autograd.grad(embeds, [inputs.frames, inputs.alpha], torch.ones_like(embeds))
    end = time.process_time()
    return (middle - start) * 1e3, (end - start) * 1e3


def _peak_mib(operator: Operator, inputs: Inputs, backward: bool) -> float:
    """Find the highest sum of live allocations during one run, results included, inputs not, in MiB."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler narrates on stderr
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        embeds = operator(inputs)
        grads = torch.autograd.grad(embeds.sum(), [inputs.frames, inputs.alpha]) if backward else None
    del embeds, grads
    results = profiler.kineto_results
    if results is None:
        raise RuntimeError("the profiler gave no results")
    events = [event for event in results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak / 2**20


def _new_table(title: str) -> Table:
    table = Table(
        title=title, caption=f"Ratios to {BASELINE}, below 1 is less. Memory is what comes beyond the inputs."
    )
    table.add_column("T", justify="right")
    table.add_column("operator")
    for quantity in ("forward", "forward + backward", "memory, forward", "memory, both"):
        table.add_column(quantity, justify="right")
    return table


def _add_rows(table: Table, num_frames: int, costs: dict[str, Cost]) -> None:
    baseline = costs.get(BASELINE)
    if baseline is None:
        table.add_row(str(num_frames), BASELINE, "not installed", "(pip install torch-cif)", "-", "-")
    for name, cost in costs.items():
        cells = []
        for quantity, unit in (("forward_ms", "ms"), ("both_ms", "ms"), ("forward_mib", "MiB"), ("both_mib", "MiB")):
            value = getattr(cost, quantity)
            ratio = "-" if baseline is None else f"{value / getattr(baseline, quantity):.2f}"
            cells.append(f"{ratio} ({value:.1f} {unit})")
        table.add_row(str(num_frames), name, *cells)


def _cpu_name() -> str:
    """Name the processor, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except FileNotFoundError:  # not Linux
        names = []
    return f"{len(names)} x {names[0]}" if names else platform.processor() or "unknown processor"
