"""Time and peak memory of operators that take turns, on a CPU or an accelerator."""

import os
import statistics
import time
from collections.abc import Callable, Collection
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cifasr.cli.bench_peers import Inputs, Operator

MIB = 2**20


class Cost(NamedTuple):
    """Medians over repeats in ms; peak memory beyond the inputs in MiB, None where the device does not tell."""

    forward_ms: float
    both_ms: float
    forward_mib: float | None
    both_mib: float | None


def measure(
    operators: dict[str, Operator], inputs: Inputs, repeats: int, may_raise: Collection[str] = ()
) -> dict[str, Cost | Exception]:
    """Let operators take turns in every repeat, so that a busy machine slows all of them.

    Args:
        operators: What runs, by name.
        inputs: On what.
        repeats: How often each.
        may_raise: Names of those that may raise without stopping the others: other people's.

    Returns:
        The cost of each; for one that raised, what it raised.
    """
    raised: dict[str, Cost | Exception] = {}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in operators}
    for repeat in range(repeats + 1):
        for name, operator in operators.items():
            try:
                forward_and_both = (0.0, 0.0) if name in raised else _time_once(operator, inputs)
            except Exception as error:
                if name not in may_raise:
                    raise
                raised[name] = error
                continue
            if repeat > 0:  # the first turn warms up
                times[name].append(forward_and_both)
    return {name: raised.get(name) or _cost(operator, inputs, times[name]) for name, operator in operators.items()}


def _cost(operator: Operator, inputs: Inputs, times: list[tuple[float, float]]) -> Cost:
    forward_ms, both_ms = (statistics.median(column) for column in zip(*times, strict=True))
    return Cost(forward_ms, both_ms, *(_peak_mib(operator, inputs, backward) for backward in (False, True)))


def copy_bytes_per_ms(device: str, mib: int = 256, repeats: int = 20) -> float:
    """Measure what the device's memory moves while it copies: bytes read and written."""
    source = torch.zeros(mib * MIB, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)  # warms up
    times = [_elapsed_ms(device, [lambda: target.copy_(source)])[0] for _ in range(repeats)]
    return 2 * source.numel() / statistics.median(times)


def _time_once(operator: Operator, inputs: Inputs) -> tuple[float, float]:
    """Time of forward, and of forward and backward, in ms."""
    embeds = torch.empty(0)

    def forward() -> None:
        nonlocal embeds
        embeds = operator(inputs)

    def backward() -> None:
        torch.autograd.grad(embeds, [inputs.frames, inputs.alpha], torch.ones_like(embeds))

    forward_ms, backward_ms = _elapsed_ms(inputs.frames.device.type, [forward, backward])
    return forward_ms, forward_ms + backward_ms


def _elapsed_ms(device: str, steps: list[Callable[[], Any]]) -> list[float]:
    """Time steps that follow each other: on a CPU in CPU time of this process, on an accelerator by its own events."""
    if device == "cpu":
        marks = [time.process_time()]
        for step in steps:
            step()
            marks.append(time.process_time())
        return [(end - start) * 1e3 for start, end in pairwise(marks)]
    module = torch.get_device_module(device)
    events = [module.Event(enable_timing=True) for _ in range(len(steps) + 1)]
    module.synchronize()
    events[0].record()
    for step, event in zip(steps, events[1:], strict=True):
        step()
        event.record()
    module.synchronize()
    return [start.elapsed_time(end) for start, end in pairwise(events)]


def _peak_mib(operator: Operator, inputs: Inputs, backward: bool) -> float | None:
    """Find the highest sum of live allocations during one run, results included, inputs not, in MiB."""

    def run() -> list[Tensor]:
        embeds = operator(inputs)
        grads = torch.autograd.grad(embeds.sum(), [inputs.frames, inputs.alpha]) if backward else ()
        return [embeds, *grads]

    device = inputs.frames.device.type
    if device == "cpu":
        return _peak_on_cpu(run) / MIB
    module = torch.get_device_module(device)
    if not hasattr(module, "max_memory_allocated"):
        return None
    module.synchronize()
    module.reset_peak_memory_stats()
    before = module.memory_allocated()
    run()
    module.synchronize()
    peak: int = module.max_memory_allocated() - before
    return peak / MIB


def _peak_on_cpu(run: Callable[[], object]) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler narrates on stderr
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        kept = run()
    del kept
    results = profiler.kineto_results
    if results is None:
        raise RuntimeError("the profiler gave no results")
    events = [event for event in results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak
