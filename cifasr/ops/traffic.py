"""Bytes that an operator moves, counted while Triton interprets its kernels: no GPU, no clock, no cache.

Counted are, of kernels, the bytes of every lane of every load and store to global memory that its mask lets through: a
lane switched off moves nothing; what a second program, or the same one again, reads is counted again. Of torch's own
operations between kernels, all of their inputs and outputs, views left out. Not counted is what a cache would save, nor
what a wider transaction would add.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cifasr.errors import BackendUnavailableError
from cifasr.ops.problems import PROBLEMS, Problem, Size

if TYPE_CHECKING:
    from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle

TORCH = "torch"
"""Name under which torch's own operations are counted."""

OnProgram = Callable[[str, int, int], None]
"""Is told the name of the kernel that runs, how many of its programs have begun, and how many there are."""


class Moved(NamedTuple):
    """Bytes read and written."""

    read: int = 0
    written: int = 0


class Traffic(NamedTuple):
    """What one direction of an operator moved.

    Attributes:
        moved: By name of kernel, and of `TORCH`.
        compulsory: Bytes of every input read once and every output written once. Backward, the gradient that comes in
            is an input, and what forward kept is not.
    """

    moved: dict[str, Moved]
    compulsory: int

    @property
    def ratio(self) -> float:
        """Bytes moved over compulsory ones: 1 is the least that can be."""
        return sum(map(sum, self.moved.values())) / self.compulsory


def count_both_ways(problem: Problem, on_program: OnProgram = lambda kernel, done, of: None) -> tuple[Traffic, Traffic]:
    """Run a problem forward and backward; give what each moved. Needs `counting`'s conditions."""
    with counting(on_program) as forward:
        outputs = problem.run()
    grad = torch.ones_like(outputs[0])
    with counting(on_program) as backward:
        grads = torch.autograd.grad(outputs[0], problem.learned, grad)
    return (
        Traffic(forward, tensor_bytes((problem.inputs, outputs))),
        Traffic(backward, tensor_bytes((problem.inputs, grad, grads))),
    )


@contextmanager
def counting(on_program: OnProgram = lambda kernel, done, of: None) -> Iterator[dict[str, Moved]]:
    """Count what moves inside; only where ``TRITON_INTERPRET=1`` was set before triton was imported.

    Args:
        on_program: Called before each program of a kernel.

    Yields:
        Bytes by name of kernel, and under `TORCH` those of torch's operations.
    """
    from triton.runtime.interpreter import GridExecutor, InterpreterBuilder

    moved: dict[str, Moved] = {}
    kernel, done, of = TORCH, 0, 0
    launch, start = GridExecutor.__call__, InterpreterBuilder.set_grid_idx
    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store

    def counted_launch(self: "GridExecutor", *args: object, **kwargs: object) -> None:
        nonlocal kernel, done, of
        kernel, done, of = self.fn.__name__, 0, math.prod(self.grid)
        launch(self, *args, **kwargs)

    def counted_start(self: "InterpreterBuilder", *place: int) -> None:
        nonlocal done
        done += 1
        on_program(kernel, done, of)
        start(self, *place)

    def counted_load(self: "InterpreterBuilder", ptrs: "TensorHandle", mask: "TensorHandle", *more: object) -> object:
        _add(moved, kernel, read=_bytes_through(ptrs, mask))
        return load(self, ptrs, mask, *more)

    def counted_store(
        self: "InterpreterBuilder", ptrs: "TensorHandle", value: "TensorHandle", mask: "TensorHandle", *more: object
    ) -> object:
        _add(moved, kernel, written=_bytes_through(ptrs, mask))
        return store(self, ptrs, value, mask, *more)

    with (
        patch.object(GridExecutor, "__call__", counted_launch),
        patch.object(InterpreterBuilder, "set_grid_idx", counted_start),
        patch.object(InterpreterBuilder, "create_masked_load", counted_load),
        patch.object(InterpreterBuilder, "create_masked_store", counted_store),
        _TorchOperations(moved),
    ):
        yield moved


class _TorchOperations(TorchDispatchMode):
    """Count the inputs and outputs of torch's operations; kernels' own count themselves."""

    def __init__(self, moved: dict[str, Moved]) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's
        self._moved = moved

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        if func.namespace == "aten" and not func.is_view:
            _add(self._moved, TORCH, read=tensor_bytes((args, kwargs)), written=tensor_bytes(result))
        return result


def tensor_bytes(tree: object) -> int:
    """Sum the sizes of all tensors in a tree of containers."""
    return sum(x.numel() * x.element_size() for x in tree_leaves(tree) if isinstance(x, Tensor))


def _bytes_through(ptrs: "TensorHandle", mask: "TensorHandle") -> int:
    bytes_a_lane: int = ptrs.get_element_ty().primitive_bitwidth // 8
    return int(mask.data.sum()) * bytes_a_lane


def _add(moved: dict[str, Moved], name: str, read: int = 0, written: int = 0) -> None:
    before = moved.get(name, Moved())
    moved[name] = Moved(before.read + read, before.written + written)


def count_elsewhere(
    operator: str, dtype: str, variant: bool, size: Size, on_program: OnProgram = lambda kernel, done, of: None
) -> tuple[Traffic, Traffic]:
    """Do `count_both_ways` in a process of its own, in which Triton interprets.

    Args:
        operator: A key of `PROBLEMS`.
        dtype: Name of the frames' dtype.
        variant: The last argument of the operator's problem.
        size: How large.
        on_program: Told how far it is, a hundred times a kernel.

    Raises:
        BackendUnavailableError: Triton is not installed.
    """
    if not find_spec("triton"):
        raise BackendUnavailableError("the package triton is not installed here: nothing interprets the kernels")
    asked = json.dumps([operator, dtype, variant, size])
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cifasr.ops.traffic", asked]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        answer = None
        for line in child.stdout:
            answer = json.loads(line)
            if "kernel" in answer:
                on_program(answer["kernel"], answer["done"], answer["of"])
    if child.returncode or not answer:
        raise RuntimeError(f"counting {asked} ended with exit code {child.returncode}")
    forward, backward = (
        Traffic({name: Moved(*both) for name, both in moved.items()}, compulsory)
        for moved, compulsory in answer["directions"]
    )
    return forward, backward


def _main() -> None:
    operator, dtype, variant, size = json.loads(sys.argv[1])
    make_problem, _ = PROBLEMS[operator]

    def tell(kernel: str, done: int, of: int) -> None:
        if done == of or done % max(1, of // 100) == 0:
            _write({"kernel": kernel, "done": done, "of": of})

    _write({"directions": count_both_ways(make_problem(Size(*size), getattr(torch, dtype), variant), tell)})


def _write(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main()
