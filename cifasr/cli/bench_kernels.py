"""``cifasr bench kernels --static``: what the Triton kernels cost, as far as that is known without a GPU."""

from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from typing import Annotated, Any, NamedTuple

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cifasr.cli.output import print_json
from cifasr.cli.progress import progress_bar
from cifasr.ops.problems import PROBLEMS, Size
from cifasr.ops.static import TARGETS, Footprint, check_compiler, compiling_for, examine
from cifasr.ops.traffic import Traffic, count_elsewhere

DTYPES = ("float32", "bfloat16", "float16")
_COMPILED = Size(2, 96, 512)  # lengths are arguments at run time; only whether 16 divides the width is compiled in


class Compiled(NamedTuple):
    """One compilation: where it is launched, and what it takes."""

    target: str
    operator: str
    kernel: str
    dtypes: str
    variants: str
    footprint: Footprint


class Counted(NamedTuple):
    """One direction of one problem, and what it moves."""

    operator: str
    dtype: str
    variant: str
    direction: str
    traffic: Traffic


def bench_kernels(
    static: Annotated[  # the only way so far: it is asked for by name, since no time is measured
        bool, typer.Option("--static", help="Compile for GPUs that need not be here, and count bytes.")
    ],
    operator: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(PROBLEMS)}; all without it.")] = None,
    target: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(TARGETS)}; all without it.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(DTYPES)}; all without it.")] = None,
    batch_size: Annotated[int, typer.Option("--batch", "-B", help="Rows, for the bytes.", min=1)] = 8,
    num_frames: Annotated[int, typer.Option("--frames", "-T", help="Frames a row, for the bytes.", min=1)] = 1600,
    d_model: Annotated[int, typer.Option("--width", "-D", help="Width of a frame, for the bytes.", min=1)] = 512,
    mean_alpha: Annotated[float, typer.Option(help="Mean weight of a frame, for the bytes.")] = 0.15,
    count: Annotated[bool, typer.Option(help="Count bytes: minutes in Triton's interpreter.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Lines of JSON in place of tables.")] = False,
) -> None:
    """Print what each kernel takes on each GPU, and how many bytes it moves for each that it must.

    Registers, shared memory, spills, instructions and widths of global accesses are read off the machine code, as
    ``cifasr.ops.static`` says. Bytes are counted in Triton's interpreter, as ``cifasr.ops.traffic`` says.
    """
    operators = _chosen("--operator", operator, tuple(PROBLEMS))
    targets, dtypes = _chosen("--target", target, tuple(TARGETS)), _chosen("--dtype", dtype, DTYPES)
    check_compiler()
    with progress_bar() as bar:
        compiled = list(_compile(operators, targets, dtypes, bar))
        size = Size(batch_size, num_frames, d_model, mean_alpha)
        counted = list(_count(operators, dtypes, size, bar)) if count else []
    if as_json:
        for row in [*map(_compiled_row, compiled), *(_counted_row(each, size) for each in counted)]:
            print_json(row)
        return
    console = Console()
    console.print(footprint_table(compiled))
    if counted:
        console.print(traffic_table(counted, size))
    console.print(f"triton {version('triton')}, torch {torch.__version__}")


def _chosen(option: str, asked: list[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := set(asked or ()) - set(known):
        raise typer.BadParameter(f"{option}: got {unknown.pop()!r}, wanted one of {', '.join(known)}")
    return tuple(asked or known)


def _compile(
    operators: tuple[str, ...], targets: tuple[str, ...], dtypes: tuple[str, ...], bar: Progress
) -> Iterator[Compiled]:
    """Compile what the operators launch; a kernel that several problems share comes once."""
    task = bar.add_task("compiling", total=len(targets) * len(operators) * len(dtypes) * 2)
    for target in targets:
        for operator in operators:
            make_problem, variants = PROBLEMS[operator]
            kernels: dict[int, Any] = {}  # by identity: triton gives the same object for the same compilation
            launched_by: dict[int, list[tuple[str, str]]] = defaultdict(list)
            for dtype in dtypes:
                for variant in (False, True):
                    with compiling_for(target) as launched:
                        make_problem(_COMPILED, getattr(torch, dtype), variant).both_ways()
                    for kernel in launched:
                        kernels[id(kernel)] = kernel
                        launched_by[id(kernel)].append((dtype, variants[variant]))
                    bar.advance(task)
            for key, kernel in kernels.items():
                of_dtypes, of_variants = (_all_or(each) for each in zip(*launched_by[key], strict=True))
                yield Compiled(target, operator, kernel.metadata.name, of_dtypes, of_variants, examine(kernel))


def _all_or(names: tuple[str, ...]) -> str:
    """Name what launches a kernel, if it is one alone."""
    return names[0] if len(set(names)) == 1 else "any"


def _count(operators: tuple[str, ...], dtypes: tuple[str, ...], size: Size, bar: Progress) -> Iterator[Counted]:
    for operator in operators:
        for dtype in dtypes:
            for variant, name in enumerate(PROBLEMS[operator][1]):
                task = bar.add_task(f"counting {operator} {dtype} {name}")

                def advance(kernel: str, done: int, of: int, task: Any = task, label: str = name) -> None:  # noqa: ANN401
                    bar.update(task, description=f"counting {kernel} {label}", completed=done, total=of)

                directions = count_elsewhere(operator, dtype, bool(variant), size, advance)
                for direction, traffic in zip(("forward", "backward"), directions, strict=True):
                    yield Counted(operator, dtype, name, direction, traffic)
                bar.remove_task(task)


def footprint_table(compiled: list[Compiled]) -> Table:
    """Lay out what each compilation takes."""
    table = Table(
        title="Compiled kernels",
        caption="Accesses: bits a thread x instructions. Spills: see cifasr.ops.static, whose figures these are.",
    )
    for name in ("target", "kernel", "dtype", "variant"):
        table.add_column(name)
    for name in ("registers", "shared, B", "spills", "instructions", "global loads", "global stores"):
        table.add_column(name, justify="right")
    for each in compiled:
        figures = each.footprint
        table.add_row(
            each.target,
            f"{each.operator}{each.kernel}",
            each.dtypes,
            each.variants,
            *map(str, figures[:4]),
            _widths(figures.load_bits),
            _widths(figures.store_bits),
        )
    return table


def _widths(bits: dict[int, int]) -> str:
    return " ".join(f"{width}x{bits[width]}" for width in sorted(bits, reverse=True))


def traffic_table(counted: list[Counted], size: Size) -> Table:
    """Lay out what each direction moves."""
    B, T, D, mean_alpha = size
    table = Table(
        title=f"Bytes moved over compulsory ones: B={B} T={T} D={D}, mean alpha {mean_alpha}",
        caption="Moved: see cifasr.ops.traffic. Compulsory: every input read once, every output written once.",
    )
    for name in ("operator", "dtype", "variant", "direction"):
        table.add_column(name)
    for name in ("moved / compulsory", "compulsory, MiB", "moved by each, MiB"):
        table.add_column(name, justify="right")
    for each in counted:
        moved, compulsory = each.traffic
        by_each = ", ".join(f"{name} {sum(both) / 2**20:.2f}" for name, both in moved.items())
        labels = each.operator, each.dtype, each.variant, each.direction
        table.add_row(*labels, f"{each.traffic.ratio:.3f}", f"{compulsory / 2**20:.2f}", by_each)
    return table


def _compiled_row(each: Compiled) -> dict[str, Any]:
    return {**each._asdict(), "footprint": each.footprint._asdict()}


def _counted_row(each: Counted, size: Size) -> dict[str, Any]:
    moved = {name: both._asdict() for name, both in each.traffic.moved.items()}
    traffic = {"ratio": each.traffic.ratio, "compulsory": each.traffic.compulsory, "moved": moved}
    return {**each._asdict(), "size": size._asdict(), "traffic": traffic}
