"""`cifasr bench kernels --static`, in processes of its own: here, Triton interprets, and nothing compiles."""

import io
import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cifasr.cli.bench import app
from cifasr.cli.bench_kernels import Compiled, Counted, footprint_table, traffic_table
from cifasr.ops.problems import Size
from cifasr.ops.static import Footprint
from cifasr.ops.traffic import Moved, Traffic

pytestmark = pytest.mark.skipif(not find_spec("triton"), reason="needs the package triton")
ONE = ["kernels", "--static", "--operator", "cif", "--target", "sm_90", "--dtype", "float32"]


def bench(*arguments):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | {"COLUMNS": "200"}
    command = [sys.executable, "-c", "from cifasr.cli.main import main; main()", "bench", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def test_it_says_what_each_kernel_takes_and_what_it_moves():
    run = bench(*ONE, "-B", "1", "-T", "40", "-D", "128", "--json")

    assert run.returncode == 0, run.stderr
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    kernels = {(row["kernel"], row["variants"]): row["footprint"] for row in rows if "kernel" in row}
    assert set(kernels) == {
        ("_position_kernel", "unscaled"),
        ("_position_kernel", "scaled"),
        ("_fire_kernel", "any"),
        ("_token_kernel", "any"),
        ("_frame_grad_kernel", "any"),
        ("_alpha_grad_kernel", "unscaled"),
        ("_alpha_grad_kernel", "scaled"),
    }
    assert {footprint["spills"] for footprint in kernels.values()} == {0}
    ratios = {(row["variant"], row["direction"]): row["traffic"]["ratio"] for row in rows if "traffic" in row}
    assert len(ratios) == 4
    assert all(1 < ratio < 1.25 for ratio in ratios.values())


def test_for_people_it_is_tables():
    footprint = Footprint(70, 512, 0, 900, {64: 9, 128: 4}, {128: 4})
    traffic = Traffic({"_token_kernel": Moved(2**20, 2**20), "torch": Moved(0, 2**19)}, 2**21)
    console = Console(record=True, width=200, file=io.StringIO())

    console.print(footprint_table([Compiled("sm_90", "cif", "_token_kernel", "float32", "any", footprint)]))
    console.print(traffic_table([Counted("cif", "float32", "scaled", "forward", traffic)], Size()))

    rows = [" ".join(line.replace("│", " ").split()) for line in console.export_text().splitlines()]
    assert "sm_90 cif_token_kernel float32 any 70 512 0 900 128x4 64x9 128x4" in rows
    assert "cif float32 scaled forward 1.250 2.00 _token_kernel 2.00, torch 0.50" in rows


def test_static_is_asked_for_by_name():
    run = CliRunner().invoke(app, ["kernels"])

    assert run.exit_code == 2
    assert "--static" in run.output


@pytest.mark.parametrize(("option", "known"), [("--operator", "cif"), ("--target", "sm_90"), ("--dtype", "float16")])
def test_a_name_it_does_not_know_is_told_those_it_does(option, known):
    run = CliRunner().invoke(app, ["kernels", "--static", option, "nothing"])

    assert run.exit_code == 2
    assert "nothing" in run.output
    assert known in run.output
