import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifasr.training.journal import Journal, draw_curves, read_metrics


@pytest.fixture
def out(tmp_path):
    rows = [
        {"step": 10, "loss_tokens": 2.0},
        {"step": 20, "loss_tokens": 1.0, "loss_ctc": 3.0},
        {"step": 20, "dev_wer": 0.5},
        {"step": 30, "loss_tokens": 0.5},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def steps(out):
    return [row["step"] for row in read_metrics(out)]


def test_what_is_written_can_be_read_while_the_run_goes_on(tmp_path):
    journal = Journal(tmp_path, 0, 100)

    journal.write(10, {"loss_tokens": 2.0, "accuracy": 0.25})
    rows = read_metrics(tmp_path)
    journal.close()

    assert rows == [{"step": 10, "loss_tokens": 2.0, "accuracy": 0.25}]


def test_a_folder_without_figures_has_none(tmp_path):
    assert read_metrics(tmp_path) == []


@pytest.mark.parametrize("num_cut", [2, 10, 31])
def test_a_last_line_cut_by_a_kill_is_left_out(out, num_cut):
    text = (out / "metrics.jsonl").read_text()
    (out / "metrics.jsonl").write_text(text[:-num_cut])

    assert steps(out) == [10, 20, 20]


def test_figures_past_the_step_gone_on_from_are_dropped(out):
    journal = Journal(out, 20, 100)
    journal.write(30, {"loss_tokens": 0.25})
    journal.close()

    assert steps(out) == [10, 20, 20, 30]
    assert read_metrics(out)[-1]["loss_tokens"] == 0.25


def test_tensorboard_has_the_same_figures(tmp_path):
    journal = Journal(tmp_path, 0, 100)
    journal.write(10, {"loss_tokens": 2.0})
    journal.write(20, {"loss_tokens": 1.5, "dev_wer": 0.5})
    journal.close()

    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()

    assert [(event.step, event.value) for event in board.Scalars("loss_tokens")] == [(10, 2.0), (20, 1.5)]
    assert [(event.step, event.value) for event in board.Scalars("dev_wer")] == [(20, 0.5)]


def test_the_figures_of_a_step_are_told_on_stderr(tmp_path, capsys):
    journal = Journal(tmp_path, 0, 100)
    journal.write(10, {"loss_tokens": 2.123456})
    journal.close()

    assert "step 10: loss_tokens 2.123" in capsys.readouterr().err


def test_the_curves_are_drawn_with_losses_and_errors(out):
    losses, errors = draw_curves(read_metrics(out)).axes

    assert [line.get_label() for line in losses.lines] == ["tokens", "ctc"]
    assert losses.lines[0].get_xydata().tolist() == [[10, 2.0], [20, 1.0], [30, 0.5]]
    assert errors.lines[0].get_xydata().tolist() == [[20, 50.0]]


@pytest.mark.parametrize("first_step", [0, 30])
def test_the_curves_are_a_picture_with_figures_and_without(out, first_step):
    journal = Journal(out, first_step, 100)
    journal.draw()
    journal.close()

    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
