"""``cifasr bench``: operators side by side, as ratios."""

import platform
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console
from rich.table import Table

from cifasr.cli.bench_clock import Cost, copy_bytes_per_ms, measure
from cifasr.cli.bench_kernels import bench_kernels
from cifasr.cli.bench_peers import BASELINE, PEERS, Inputs, make_inputs, operators, run_cif
from cifasr.errors import BackendUnavailableError
from cifasr.ops.traffic import tensor_bytes

app = typer.Typer(help="Measure operators side by side.", no_args_is_help=True)

Dtype = Literal["float32", "bfloat16", "float16", "float64"]


@app.callback()
def bench() -> None:
    """Measure operators side by side."""


app.command("kernels")(bench_kernels)


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
    device: Annotated[str, typer.Option(help="Where to run, as torch names it: cpu, cuda, ...")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    repeats: Annotated[int, typer.Option(help="Interleaved repeats.", min=1)] = 21,
    reference: Annotated[bool, typer.Option(help="Add the reference, a loop: slow on long rows.")] = False,
) -> None:
    """Compare CIF backends, and torch-cif and FunASR where they are installed.

    Operators take turns in every repeat, so that a busy machine slows all of them. Times are, on a CPU, CPU time of one
    process and all its threads; on a GPU what its events say, launches included. There the share of the copy bandwidth
    is shown too: the bytes that CIF must move, over the time, over what a plain copy moves in that time.
    """
    _check_device(device)
    torch.set_num_threads(threads)
    present, absent = operators(device, reference=reference)
    copy_speed = None if device == "cpu" else copy_bytes_per_ms(device)
    table = _new_table(
        f"CIF, {'scaled to targets' if scaled else 'unscaled'}: B={batch_size} D={d_model} {dtype} on {device}, "
        f"mean alpha {mean_alpha}, {threads} thread(s), medians of {repeats}",
        with_share=copy_speed is not None,
    )
    for T in num_frames:
        inputs = make_inputs(
            batch_size,
            T,
            d_model,
            mean_alpha=mean_alpha,
            dtype=getattr(torch, dtype),
            scaled=scaled,
            device=device,
        )
        compulsory = None if copy_speed is None else [each / copy_speed for each in _compulsory_bytes(inputs)]
        _add_rows(table, T, measure(present, inputs, repeats, may_raise=PEERS), absent, compulsory)
    console = Console()
    console.print(table)
    console.print(f"torch {torch.__version__}, {_cpu_name()}, {platform.system()} {platform.machine()}")
    if copy_speed is not None:
        console.print(f"{_device_name(device)}: a copy moves {copy_speed / 1e6:.0f} GB/s")


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
    ) as error:  # what torch raises depends on how it was built
        reason = str(error).strip().splitlines()[0]
        raise BackendUnavailableError(
            f"--device: got {device!r}, wanted one that this machine has: {reason}"
        ) from error


def _compulsory_bytes(inputs: Inputs) -> tuple[int, int]:
    """Bytes that CIF must move forward, and both ways: every input read once, every output written once."""
    tensors = inputs.frames, inputs.frame_lens, inputs.alpha, inputs.target_lens
    output = run_cif(inputs, "vectorized")
    forward = tensor_bytes((tensors, output))
    backward = tensor_bytes((tensors, output.acoustic_embeds, inputs.frames, inputs.alpha))  # gradients in and out
    return forward, forward + backward


def _new_table(title: str, *, with_share: bool) -> Table:
    caption = f"Ratios to {BASELINE}, below 1 is less. Memory is what comes beyond the inputs."
    table = Table(title=title, caption=caption)
    table.add_column("T", justify="right")
    table.add_column("operator")
    for quantity in ("forward", "forward + backward", "memory, forward", "memory, both"):
        table.add_column(quantity, justify="right")
    if with_share:
        table.add_column("of copy bandwidth: forward, both", justify="right")
    return table


def _add_rows(
    table: Table,
    num_frames: int,
    results: dict[str, Cost | Exception],
    absent: dict[str, str],
    copy_ms: list[float] | None,
) -> None:
    """Add what was measured; ``copy_ms`` is how long copying as many bytes takes as forward and both must move."""
    for name, hint in absent.items():
        table.add_row(str(num_frames), name, "not installed", f"({hint})")
    baseline = results.get(BASELINE)
    for name, cost in results.items():
        if isinstance(cost, Exception):
            table.add_row(str(num_frames), name, f"raised {type(cost).__name__}", str(cost)[:60])
            continue
        base = baseline if isinstance(baseline, Cost) else None
        cells = [
            _cell(value, None if base is None else base[place], ("ms", "ms", "MiB", "MiB")[place])
            for place, value in enumerate(cost)
        ]
        if copy_ms is not None:
            shares = copy_ms[0] / cost.forward_ms, copy_ms[1] / cost.both_ms
            cells.append(", ".join(f"{share:.0%}" for share in shares))
        table.add_row(str(num_frames), name, *cells)


def _cell(value: float | None, base: float | None, unit: str) -> str:
    if value is None:
        return "-"
    ratio = "-" if not base else f"{value / base:.2f}"
    return f"{ratio} ({value:.0f} {unit})" if value >= 100 else f"{ratio} ({value:.3g} {unit})"


def _device_name(device: str) -> str:
    module = torch.get_device_module(device)
    return str(module.get_device_name()) if hasattr(module, "get_device_name") else device


def _cpu_name() -> str:
    """Name the processor, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except FileNotFoundError:  # not Linux
        names = []
    return f"{len(names)} x {names[0]}" if names else platform.processor() or "unknown processor"
