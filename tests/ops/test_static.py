"""What the compiler makes of the kernels. Compiling needs a process in which Triton does not interpret."""

import json
import os
import platform
import subprocess
import sys
from importlib.util import find_spec

import pytest

from cifasr.errors import BackendUnavailableError
from cifasr.ops.static import amd_bits, check_compiler, sass_bits

needs_compiler = pytest.mark.skipif(
    not (find_spec("triton") and platform.machine() == "x86_64"), reason="needs triton and its tools, on x86-64"
)


def run_compiling(code):
    """Run Python that prints one JSON value, where Triton compiles; return the value."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


TWO_HUNDRED_SHAPES = """
import json
from collections import defaultdict

import torch

from cifasr.ops.cif.triton_backend import cif_triton
from cifasr.ops.static import compiling_for, examine

shapes = torch.randint(1, 3000, (200, 2)).tolist()
shapes[:6] = [[1, 1], [16, 16], [1, 17], [48, 1], [1600, 240], [70_000, 2]]
with compiling_for("sm_90") as launched:
    for T, U in shapes:
        frames, alpha = torch.zeros(2, T, 16, requires_grad=True), torch.zeros(2, T, requires_grad=True)
        options = {"threshold": 1.0, "target_lens": None, "tail_threshold": 0.5, "max_tokens": U}
        embeds = cif_triton(frames, torch.tensor([T, 1]), alpha, **options).acoustic_embeds
        torch.autograd.grad(embeds, [frames, alpha], torch.zeros(2, U, 16))
compiled = defaultdict(set)
for kernel in launched:
    compiled[kernel.metadata.name].add(id(kernel))
footprints = {kernel.metadata.name: examine(kernel)._asdict() for kernel in launched[:5]}
print(json.dumps([len(launched), {name: len(ids) for name, ids in compiled.items()}, footprints]))
"""


@needs_compiler
def test_two_hundred_lengths_compile_each_kernel_once_and_without_spills():
    num_launches, compilations, footprints = run_compiling(TWO_HUNDRED_SHAPES)

    kernels = ["_position_kernel", "_fire_kernel", "_token_kernel", "_frame_grad_kernel", "_alpha_grad_kernel"]
    assert num_launches == 200 * len(kernels)
    assert compilations == dict.fromkeys(kernels, 1)
    assert [footprint["spills"] for footprint in footprints.values()] == [0] * len(kernels)
    assert all(0 < footprint["registers"] < 255 for footprint in footprints.values())
    assert all(footprint["instructions"] > 100 for footprint in footprints.values())
    for name in ("_token_kernel", "_frame_grad_kernel"):  # 16 float32 features: whole rows move as 128 bits
        assert "128" in footprints[name]["load_bits"]
        assert "128" in footprints[name]["store_bits"]


def test_where_triton_interprets_nothing_is_compiled_and_that_is_said(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")

    with pytest.raises(BackendUnavailableError, match="TRITON_INTERPRET=1 is set"):
        check_compiler()


def test_where_triton_is_not_installed_that_is_said(monkeypatch):
    monkeypatch.setattr("cifasr.ops.static.find_spec", lambda name: None)

    with pytest.raises(BackendUnavailableError, match="triton is not installed"):
        check_compiler()


@pytest.mark.parametrize(
    ("instruction", "bits"),
    [("LDG.E", 32), ("LDG.E.64.CONSTANT", 64), ("LDG.E.128", 128), ("STG.E.U16", 16), ("LDG.E.U8", 8), ("STG.E.S8", 8)],
)
def test_nvidia_s_names_tell_the_width(instruction, bits):
    assert sass_bits(instruction.split(".")[1:]) == bits


@pytest.mark.parametrize(
    ("name", "bits"), [("dword", 32), ("dwordx4", 128), ("ushort", 16), ("short_d16_hi", 16), ("sbyte", 8), ("byte", 8)]
)
def test_amd_s_names_tell_the_width(name, bits):
    assert amd_bits(name) == bits
