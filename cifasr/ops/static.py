"""What Triton's compiler makes of the kernels, for GPUs that need not be there.

Inside `compiling_for` the launchers compile for a target and run nothing: what is examined is what a GPU would get,
specialisations and all. Figures are read off the machine code: of NVIDIA's by ``cuobjdump``, which comes with Triton,
of AMD's by the assembler text that Triton keeps.
"""

import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from cifasr.errors import BackendUnavailableError

if TYPE_CHECKING:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import CompiledKernel

TARGETS: dict[str, tuple[str, int | str, int]] = {
    "sm_80": ("cuda", 80, 32),
    "sm_90": ("cuda", 90, 32),
    "sm_100": ("cuda", 100, 32),
    "gfx942": ("hip", "gfx942", 64),
}
"""Triton's backend, its architecture and its threads a warp, for each target by its name."""

_SASS = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
_AMDGCN = re.compile(r"^\s+([a-z]\w+)", re.MULTILINE)
_AMD_GLOBAL = re.compile(r"(?:buffer|global|flat)_(load|store)_(?:lds_)?(\w+)")
_AMD_BITS = {"byte": 8, "short": 16, "dword": 32, "dwordx2": 64, "dwordx3": 96, "dwordx4": 128}


class Footprint(NamedTuple):
    """What one compiled kernel takes.

    Attributes:
        registers: 32-bit registers a thread; on AMD vector registers, accumulation registers included.
        shared_bytes: Shared memory a program.
        spills: NVIDIA: instructions that load or store local memory. AMD: registers spilled, scalar ones too.
        instructions: Machine instructions, padding left out.
        load_bits: Global loads, by bits a thread: how many instructions. AMD's scalar loads, which fetch arguments and
            what all threads share, are left out; NVIDIA has no such instruction, and counts them.
        store_bits: Global stores, the same way.
    """

    registers: int
    shared_bytes: int
    spills: int
    instructions: int
    load_bits: dict[int, int]
    store_bits: dict[int, int]


class _NoDevice:
    """What Triton asks its driver for before it compiles."""

    def __init__(self, target: "GPUTarget") -> None:
        self._target = target

    def get_current_target(self) -> "GPUTarget":
        return self._target

    def get_current_device(self) -> str:
        return f"no device, {self._target}"  # kernels are kept by device: targets must not share one

    def get_current_stream(self, device: str) -> int:
        return 0


@contextmanager
def compiling_for(target: str) -> Iterator[list["CompiledKernel"]]:
    """Compile what is launched, and run nothing.

    Args:
        target: A key of `TARGETS`.

    Yields:
        The compiled kernel of every launch so far; launches that share one compilation share the object.

    Raises:
        BackendUnavailableError: Triton is not installed, or was imported to interpret and not to compile.
    """
    check_compiler()
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    launched: list[CompiledKernel] = []
    compile_or_find = JITFunction.run

    def run(self: "JITFunction[Any]", *args: object, grid: object, warmup: bool, **options: object) -> None:
        launched.append(compile_or_find(self, *args, grid=grid, warmup=True, **options))

    before = driver._active
    driver.set_active(_NoDevice(GPUTarget(*TARGETS[target])))
    try:
        with patch.object(JITFunction, "run", run):
            yield launched
    finally:
        driver._active = before


def check_compiler() -> None:
    """Raise ``BackendUnavailableError`` where Triton cannot compile."""
    if not find_spec("triton"):
        raise BackendUnavailableError("the package triton is not installed here: nothing compiles the kernels")
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise BackendUnavailableError("TRITON_INTERPRET=1 is set: kernels would be interpreted, wanted them compiled")


def examine(kernel: "CompiledKernel") -> Footprint:
    """Read a compiled kernel's figures off its machine code.

    Raises:
        BackendUnavailableError: ``cuobjdump`` is not where Triton keeps it.
    """
    if "cubin" in kernel.asm:
        return _examine_nvidia(kernel.asm["cubin"], kernel.metadata.shared)
    return _examine_amd(kernel.asm["amdgcn"], kernel.metadata.shared)


def _examine_nvidia(cubin: bytes, shared_bytes: int) -> Footprint:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, sass = _cuobjdump("-res-usage", file.name), _cuobjdump("-sass", file.name)
    instructions = [name for name in _SASS.findall(sass) if name != "NOP"]
    if not (registers := re.search(r"REG:(\d+)", usage)) or not instructions:
        raise RuntimeError(f"cuobjdump wrote what we cannot read: {usage[:200]!r}")
    loads, stores, spills = Counter[int](), Counter[int](), 0
    for opcode, *modifiers in (name.split(".") for name in instructions):
        if opcode in ("LDG", "LDGSTS"):
            loads[sass_bits(modifiers)] += 1
        elif opcode == "STG":
            stores[sass_bits(modifiers)] += 1
        spills += opcode in ("LDL", "STL")
    return Footprint(int(registers[1]), shared_bytes, spills, len(instructions), dict(loads), dict(stores))


def sass_bits(modifiers: list[str]) -> int:
    """Width of an access: ``LDG.E.128`` 128, ``LDG.E.U16`` 16, ``LDG.E`` 32."""
    widths = [modifier.lstrip("US") for modifier in modifiers]
    return next((int(width) for width in widths if width in ("8", "16", "64", "128")), 32)


def _cuobjdump(*arguments: str) -> str:
    from triton import knobs

    try:
        tool = knobs.nvidia.cuobjdump.path
    except RuntimeError as error:
        raise BackendUnavailableError(f"cuobjdump, which comes with triton's wheel, is not there: {error}") from error
    return subprocess.run([tool, *arguments], check=True, capture_output=True, text=True).stdout


def _examine_amd(assembler: str, shared_bytes: int) -> Footprint:
    def figure(name: str) -> int:
        if not (found := re.search(rf"^\s*\.{name}:\s+(\d+)", assembler, re.MULTILINE)):
            raise RuntimeError(f"the assembler text has no .{name}")
        return int(found[1])

    instructions = [name for name in _AMDGCN.findall(assembler) if name not in ("s_nop", "s_code_end")]
    widths: dict[str, Counter[int]] = {"load": Counter(), "store": Counter()}
    for name in instructions:
        if found := _AMD_GLOBAL.fullmatch(name):
            kind, width = found.groups()
            widths[kind][amd_bits(width)] += 1
    spills = figure("vgpr_spill_count") + figure("sgpr_spill_count")
    loads, stores = dict(widths["load"]), dict(widths["store"])
    return Footprint(figure("vgpr_count"), shared_bytes, spills, len(instructions), loads, stores)


def amd_bits(width: str) -> int:
    """Width of an access: ``dwordx4`` 128, ``ushort`` 16, ``short_d16_hi`` 16."""
    name = re.sub(r"(_d16)?(_hi)?$", "", width)
    return _AMD_BITS[re.sub(r"^[us](?=byte|short)", "", name)]
