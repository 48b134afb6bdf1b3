import sys

import pytest

from cifasr.cli.main import main
from tests.made_speech import TINY_RECIPE, make_cuts


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(TINY_RECIPE)
    return path


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `cifasr train`; its exit code and what it wrote to stdout and stderr."""

    def run(recipe, *arguments):
        line = ["cifasr", "train", recipe, "--cuts", tmp_path, "--out", tmp_path / "run", *arguments]
        monkeypatch.setattr(sys, "argv", [str(word) for word in line])
        with pytest.raises(SystemExit) as exit_:
            main()
        return exit_.value.code, *capsys.readouterr()

    return run


def test_an_unknown_key_is_named_with_the_nearest_known_one(run, recipe):
    code, stdout, stderr = run(recipe, "--set", "optim.encodr_lr=1e-4")

    assert (code, stdout) == (2, "")
    assert stderr == "cifasr train: unknown key optim.encodr_lr; did you mean 'encoder_lr'?\n"


def test_a_value_that_does_not_fit_is_named_with_what_it_was(run, recipe):
    code, _, stderr = run(recipe, "--set", "optim.num_steps=many")

    assert code == 2
    assert stderr.startswith("cifasr train: config key optim.num_steps: ")
    assert "got 'many'" in stderr


def test_missing_cuts_are_named_and_no_run_is_begun(run, recipe, tmp_path):
    make_cuts(tmp_path, "train", 1)

    code, _, stderr = run(recipe)

    assert code == 2
    assert stderr == f"cifasr train: {tmp_path}/cuts_dev.jsonl.gz: no such cuts; `cifasr prepare` makes them\n"
    assert not (tmp_path / "run").exists()


def test_a_recipe_without_a_model_wants_a_checkpoint(run, recipe, tmp_path):
    head, _, tail = TINY_RECIPE.partition("[model.encoder]")
    recipe.write_text(head + tail[tail.index("[optim]") :])
    make_cuts(tmp_path, "train", 1)
    make_cuts(tmp_path, "dev", 1)

    code, _, stderr = run(recipe)

    assert code == 2
    assert "model: wanted a [model] table in the recipe, or a checkpoint to start from (--init)" in stderr


def test_a_recipe_with_a_model_wants_no_checkpoint(run, recipe, tmp_path):
    make_cuts(tmp_path, "train", 1)
    make_cuts(tmp_path, "dev", 1)

    code, _, stderr = run(recipe, "--init", tmp_path / "start.safetensors")

    assert code == 2
    assert "model: wanted nothing in a recipe that starts from a checkpoint (--init)" in stderr


def test_a_ctc_loss_wants_a_ctc_branch(run, recipe):
    code, _, stderr = run(recipe, "--set", "loss.ctc=0.3")

    assert code == 2
    assert "loss.ctc > 0 and loss.frame > 0 want model.ctc = true" in stderr
