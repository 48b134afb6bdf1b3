import re

import pytest
from typer.testing import CliRunner

import cifasr.cli.bench
from cifasr.cli.bench import app

SMALL = ["cif", "-T", "12", "-T", "20", "-B", "2", "-D", "4", "--repeats", "1"]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    return lambda *more: CliRunner().invoke(app, [*SMALL, *more], catch_exceptions=False)


def test_every_operator_has_a_row_a_length_with_ratios_and_times(run):
    pytest.importorskip("torch_cif")

    out = run("--reference").stdout

    rows = [line for line in out.splitlines() if re.search(r"\d\.\d\d \(\d+\.\d ms\)", line)]
    assert [re.findall(r"[a-z-]+", row)[0] for row in rows] == ["torch-cif", "vectorized", "reference"] * 2
    assert rows[0].count("1.00 (") == 4
    assert "B=2 D=4 float32" in out
    assert re.search(r"^torch \d.*, .+, \w+ \w+$", out, re.MULTILINE)


@pytest.mark.parametrize("option", ["--no-scaled", "--dtype=bfloat16", "--dtype=float64"])
def test_the_options_of_the_problem_run(run, option):
    assert run(option).exit_code == 0


def test_an_absent_baseline_is_said_and_no_ratio_is_made_up(run, monkeypatch):
    monkeypatch.setattr(cifasr.cli.bench, "find_spec", lambda name: None)

    out = run().stdout

    assert len(re.findall("torch-cif +│ +not installed", out)) == 2
    assert not re.search(r"\d\.\d\d \(", out)
