import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from cifasr.cli.train import train
from cifasr.config import load_config
from cifasr.data.batches import load_cuts
from cifasr.errors import CheckpointError, ConfigError, DataError
from cifasr.models.checkpoint import load_checkpoint, read_notes
from cifasr.models.cif_asr import CifAsr
from cifasr.training import loop
from cifasr.training.checkpointing import load_state
from cifasr.training.config import TrainConfig
from cifasr.training.distributed import Processes
from cifasr.training.journal import read_metrics
from cifasr.training.loop import usable_cuts
from cifasr.training.objective import Objective

NUM_STEPS = 16
PATIENCE_S = 600
CIFASR = "from cifasr.cli.main import main; main()"
KILLED = """
import os, signal
from cifasr.training import loop

keep = loop.save_state

def save_state(out, state):
    if state["place"]["step"] <= 9:
        keep(out, state)
    elif state["place"]["step"] == 14:
        os.kill(os.getpid(), signal.SIGKILL)

loop.save_state = save_state
"""


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums are then added in one order, here and in the processes started
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole_run(folder):
    """A run that nothing interrupted."""
    torch.set_num_threads(1)
    train(folder / "recipe.toml", folder, folder / "whole")
    return folder / "whole"


@contextmanager
def training(folder, out, *, program=CIFASR, launcher=(), overrides=()):
    """`cifasr train` in a process of its own, which does not outlive the test."""
    arguments = ["train", folder / "recipe.toml", "--cuts", folder, "--out", out]
    for override in overrides:
        arguments += ["--set", override]
    command = [*launcher, sys.executable, "-c", program, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.terminate()  # nothing where it has ended; torchrun ends its processes


def tensors_of(tree, name=""):
    if isinstance(tree, torch.Tensor):
        return {name: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return {key: value for part, item in items for key, value in tensors_of(item, f"{name}/{part}").items()}


def figures(out, name):
    return [(row["step"], row[name]) for row in read_metrics(out) if name in row]


def test_the_loss_falls(whole_run):
    steps, losses = zip(*figures(whole_run, "loss_tokens"), strict=True)

    assert steps == (10, 16)
    assert losses[-1] < 0.95 * losses[0]


def test_the_best_of_the_checkpoints_is_kept_with_what_it_reached(whole_run):
    steps, errors = zip(*figures(whole_run, "dev_wer"), strict=True)

    assert steps == (8, 16)
    assert load_state(whole_run)["place"]["best_wer"] == min(errors)
    assert load_checkpoint(whole_run / "best.safetensors").tokenizer.vocab_size == 24
    assert (whole_run / "curves.png").stat().st_size > 10_000


def test_the_average_is_of_the_second_half_of_the_steps(whole_run):
    state = load_state(whole_run)

    assert int(state["average"]["n_averaged"]) == NUM_STEPS / 2
    assert not torch.equal(
        state["average"]["module.decoder.embedding.weight"], state["model"]["decoder.embedding.weight"]
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(folder, whole_run, tmp_path):
    out = tmp_path / "killed"

    with training(folder, out, program=KILLED + CIFASR) as process:
        process.communicate(timeout=PATIENCE_S)
    kept, told = load_state(out)["place"]["step"], read_metrics(out)[-1]["step"]
    train(folder / "recipe.toml", folder, out)

    assert process.returncode == -signal.SIGKILL
    assert (kept, told) == (9, 10)  # the average has begun, dev was transcribed once, and five steps are lost
    got, want = load_state(out), load_state(whole_run)
    got_tensors, want_tensors = tensors_of(got), tensors_of(want)
    assert got["place"] == want["place"]
    assert len(want_tensors) > 200
    assert got_tensors.keys() == want_tensors.keys()
    assert [name for name in want_tensors if not torch.equal(got_tensors[name], want_tensors[name])] == []
    for name in ("start.safetensors", "best.safetensors", "last.safetensors"):
        got_model, want_model = load_checkpoint(out / name), load_checkpoint(whole_run / name)
        torch.testing.assert_close(got_model.state_dict(), want_model.state_dict(), rtol=0, atol=0)
        assert read_notes(out / name) == read_notes(whole_run / name)


@pytest.mark.slow
def test_a_run_killed_while_it_transcribes_dev_transcribes_it_again(folder, whole_run, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "validate", killed)

    with pytest.raises(KeyboardInterrupt):
        train(folder / "recipe.toml", folder, tmp_path / "killed")
    monkeypatch.undo()
    killed_at = load_state(tmp_path / "killed")["place"]
    train(folder / "recipe.toml", folder, tmp_path / "killed")

    assert (killed_at["step"], killed_at["validated"]) == (8, 0)
    assert figures(tmp_path / "killed", "dev_wer") == figures(whole_run, "dev_wer")
    assert figures(tmp_path / "killed", "loss_tokens") == figures(whole_run, "loss_tokens")
    got, want = load_state(tmp_path / "killed"), load_state(whole_run)
    assert got["place"] == want["place"]
    torch.testing.assert_close(tensors_of(got), tensors_of(want), rtol=0, atol=0)


def test_a_finished_run_is_not_trained_on(folder, whole_run, tmp_path, capsys):
    shutil.copytree(whole_run, tmp_path / "again")

    train(folder / "recipe.toml", folder, tmp_path / "again")

    assert f'"dev_wer": {round(load_state(whole_run)["place"]["best_wer"], 4)}' in capsys.readouterr().out
    assert (tmp_path / "again" / "metrics.jsonl").read_text() == (whole_run / "metrics.jsonl").read_text()


def test_a_run_is_not_gone_on_with_another_configuration(folder, whole_run):
    with pytest.raises(ConfigError, match=r"whole: holds a run with another configuration .*another --out"):
        train(folder / "recipe.toml", folder, whole_run, overrides=["optim.num_steps=25"])


@pytest.mark.parametrize("num_kept", [0, 1000])
def test_a_damaged_state_is_named(folder, whole_run, tmp_path, num_kept):
    shutil.copytree(whole_run, tmp_path / "damaged")
    state = tmp_path / "damaged" / "state.pt"
    state.write_bytes(state.read_bytes()[:num_kept])

    with pytest.raises(CheckpointError, match=r"state\.pt: the state of this run cannot be read"):
        train(folder / "recipe.toml", folder, tmp_path / "damaged")


@pytest.mark.slow
def test_two_processes_learn_what_one_does(folder, tmp_path):
    # The longest utterance has 1.9 s: at 2 s a batch some have one utterance, and the second process none.
    overrides = ["data.batch_seconds=2", "optim.num_steps=4", "optim.accumulate=2", "optim.ema_from=0"]
    overrides += ["validation.every_steps=2", "model.ctc=true"]  # no loss reaches the CTC branch
    overrides += ["optim.encoder_lr=3e-4", "optim.decoder_lr=3e-4", "optim.new_lr=3e-4"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]

    with training(folder, tmp_path / "two", launcher=launcher, overrides=overrides) as process:
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
    train(folder / "recipe.toml", folder, tmp_path / "one", overrides=overrides)

    assert process.returncode == 0, stderr
    assert len(stdout.splitlines()) == 1
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert [row["step"] for row in two] == [2, 4, 4]
    for name in (
        "loss_tokens",
        "loss_border",
        "loss_silence",
        "accuracy",
        "count_error",
        "norm_encoder",
        "audio_seconds",
    ):
        assert two[1][name] == pytest.approx(one[1][name], rel=1e-5)
    got, want = load_state(tmp_path / "two"), load_state(tmp_path / "one")
    for part in ("model", "average"):
        torch.testing.assert_close(dict(got[part]), dict(want[part]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("num_items", "shares"), [(5, ["ace", "bd"]), (2, ["a", "b"]), (1, ["a", "a"])])
def test_a_batch_is_shared_out_and_a_process_without_a_share_borrows_one(num_items, shares):
    processes = [Processes(rank, 2, torch.device("cpu")) for rank in (0, 1)]

    assert ["".join(process.share("abcde"[:num_items])) for process in processes] == shares
    assert [process.has_share(num_items) for process in processes] == [True, num_items > 1]


def texts_of(cuts):
    return {cut.id: cut.supervisions[0].text for cut in cuts}


def test_cuts_that_cannot_be_learned_from_are_left_out(folder, whole_run):
    model = load_checkpoint(whole_run / "start.safetensors")
    config = load_config(TrainConfig, folder / "recipe.toml", ["data.min_seconds=0.8", "data.max_seconds=1.5"])
    cuts = load_cuts([folder / "cuts_train.jsonl.gz"])

    kept = {cut.id for cut in usable_cuts(cuts.map(without_first_text), config, model)}

    usable = {name for name, text in texts_of(cuts).items() if len(text.split()) in (2, 3)}  # 1.0 and 1.3 s
    assert kept == usable - {"train-1"}


def without_first_text(cut):
    if cut.id == "train-1":
        cut.supervisions[0].text = None
    return cut


def test_a_set_with_nothing_to_learn_from_is_refused(folder, whole_run):
    model = load_checkpoint(whole_run / "start.safetensors")
    config = load_config(TrainConfig, folder / "recipe.toml", ["data.min_seconds=9.0"])

    with pytest.raises(DataError, match=r"no cut between 9\.0 and 25\.0 s with a text of 1 to 447 tokens"):
        usable_cuts(load_cuts([folder / "cuts_train.jsonl.gz"]), config, model)


def test_an_utterance_with_more_tokens_than_the_decoder_holds_is_left_out(folder, whole_run):
    config = load_config(TrainConfig, folder / "recipe.toml", ["model.decoder.max_tokens=16"])
    model = CifAsr(config.model, load_checkpoint(whole_run / "start.safetensors").tokenizer)
    cuts = load_cuts([folder / "cuts_train.jsonl.gz"])

    kept = [cut.supervisions[0].text for cut in usable_cuts(cuts, config, model)]

    counts = {text: len(model.tokenizer.encode(text.capitalize())) for text in texts_of(cuts).values()}
    assert 0 < len(kept) < 13
    assert set(kept) == {text for text, count in counts.items() if count <= 15}


def test_a_part_that_no_loss_reaches_does_not_learn(folder, whole_run):
    config = load_config(TrainConfig, folder / "recipe.toml", ["model.ctc=true"])
    model = CifAsr(config.model, load_checkpoint(whole_run / "start.safetensors").tokenizer)

    Objective(model, config.loss)

    still = {name.partition(".")[0] for name, weight in model.named_parameters() if not weight.requires_grad}
    assert still == {"ctc_head"}
