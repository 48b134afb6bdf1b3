import re
import sys
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

import cifasr.cli.bench_clock
import cifasr.cli.bench_peers
from cifasr.cli.bench import app
from cifasr.cli.bench_clock import measure
from cifasr.cli.bench_peers import Inputs, make_inputs
from cifasr.errors import BackendUnavailableError

SMALL = ["cif", "-T", "12", "-T", "20", "-B", "2", "-D", "4", "--repeats", "1"]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "180")
    return lambda *more: CliRunner().invoke(app, [*SMALL, *more], catch_exceptions=False)


@pytest.fixture
def funasr(monkeypatch):
    """Put a FunASR there, as far as the bench calls it; give the calls of it."""
    calls = []

    def cif_v1(hidden, alphas, threshold):
        calls.append((alphas.sum(1).tolist(), threshold))
        return hidden[:, :2] * alphas[:, :2, None], None

    def cif(hidden, alphas, threshold):
        raise IndexError("nothing fired")

    name = "funasr.models.paraformer.cif_predictor"
    monkeypatch.setattr(cifasr.cli.bench_peers, "find_spec", lambda name: name == "funasr")
    for place in range(1, 5):
        monkeypatch.setitem(sys.modules, ".".join(name.split(".")[:place]), SimpleNamespace(cif=cif, cif_v1=cif_v1))
    return calls


def test_every_operator_has_a_row_a_length_with_ratios_and_times(run):
    pytest.importorskip("torch_cif")

    out = run("--reference").stdout

    rows = [line for line in out.splitlines() if re.search(r"\d\.\d\d \([\d.]+ ms\)", line)]
    assert [re.findall(r"[a-z-]+", row)[0] for row in rows] == ["torch-cif", "vectorized", "reference"] * 2
    assert rows[0].count("1.00 (") == 4
    assert "B=2 D=4 float32 on cpu" in out
    assert re.search(r"^torch \d.*, .+, \w+ \w+$", out, re.MULTILINE)


@pytest.mark.parametrize("option", ["--no-scaled", "--dtype=bfloat16", "--dtype=float64"])
def test_the_options_of_the_problem_run(run, option):
    assert run(option).exit_code == 0


def test_absent_peers_are_said_and_no_ratio_is_made_up(run, monkeypatch):
    monkeypatch.setattr(cifasr.cli.bench_peers, "find_spec", lambda name: None)

    out = run().stdout

    assert len(re.findall("torch-cif +│ +not installed", out)) == 2
    assert len(re.findall("FunASR cif, cif_v1 +│ +not installed", out)) == 2
    assert not re.search(r"\d\.\d\d \(", out)


def test_funasr_is_given_weights_that_sum_to_the_targets_and_what_it_raises_is_said(run, funasr):
    out = run().stdout

    assert len(re.findall(r"FunASR cif_v1 +│ +- \([\d.]+ ms\)", out)) == 2
    assert len(re.findall(r"FunASR cif +│ +raised IndexError +│ +nothing fired", out)) == 2
    for sums, threshold in funasr:
        assert sums == pytest.approx([round(each) for each in sums], abs=1e-5)
        assert threshold == 1.0


def test_what_our_own_operators_raise_is_not_put_in_a_table():
    def broken(inputs):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure({"vectorized": broken}, make_inputs(1, 4, 2, mean_alpha=0.5, dtype=torch.float32, scaled=True), 1)


def test_a_device_that_is_not_there_is_named(run):
    with pytest.raises(BackendUnavailableError, match="--device: got 'gpu', wanted one that this machine has"):
        run("--device", "gpu")


class Accelerator:
    """A CPU that says of itself what an accelerator does: every step takes 2 ms, every run 3 MiB."""

    def __init__(self):
        self.clock = 0

    def Event(self, *, enable_timing):  # noqa: N802 - torch's name
        event = SimpleNamespace(elapsed_time=lambda end: end.at - event.at)

        def record():
            self.clock += 2
            event.at = self.clock

        event.record = record
        return event

    def synchronize(self):
        pass

    reset_peak_memory_stats = synchronize

    def memory_allocated(self):
        return 1 << 20

    def max_memory_allocated(self):
        return 4 << 20


def test_on_an_accelerator_its_events_and_its_peak_count(monkeypatch):
    device = Accelerator()
    monkeypatch.setattr(torch, "get_device_module", lambda name: device)
    frames, alpha = (torch.zeros(size, device="meta", requires_grad=True) for size in [(1, 4, 2), (1, 4)])
    inputs = Inputs(frames, torch.tensor([4]), alpha, None, None)

    cost = measure({"sum": lambda inputs: inputs.frames.sum(1) + inputs.alpha.sum()}, inputs, 3)["sum"]

    assert cost == (2.0, 4.0, 3.0, 3.0)


@pytest.mark.gpu
def test_on_a_gpu_the_kernels_have_a_row_with_their_share_of_the_copy_bandwidth(run):
    out = run("--device", "cuda").stdout

    assert len(re.findall(r"│ triton +│.* \d+%, \d+% │", out)) == 2
    assert re.search(r"a copy moves \d+ GB/s", out)
