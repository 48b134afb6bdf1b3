import itertools
from pathlib import Path

import numpy as np
import pytest

from cifasr.audio.samples import write_samples
from cifasr.cli.train import train
from cifasr.config import load_config
from cifasr.models.checkpoint import save_checkpoint
from cifasr.models.cif_asr import CifAsr, CifAsrConfig
from cifasr.text.tokenizer import tokenizer_from_pieces
from cifasr.training.checkpointing import load_state
from cifasr.training.config import TrainConfig
from tests.made_speech import TONES_HZ, make_cuts

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*/configs/*.toml"))
SMALL = ["num_layers=1", "d_model=32", "num_heads=2", "d_ff=32"]
SHORT = ["dtype=float32", "vocab_size=24", "data.batch_seconds=4", "optim.num_steps=2", "validation.max_utterances=1"]


@pytest.fixture(scope="module")
def warm_start(tmp_path_factory):
    """A model with the parts of a warm start, at the least size."""
    sizes = {"num_layers": 1, "d_model": 32, "num_heads": 2, "d_ff": 32}
    config = CifAsrConfig.model_validate(
        {
            "encoder": {"kind": "whisper", **sizes},
            "estimator": {"num_layers": 1, "d_model": 16, "num_heads": 2},
            "decoder": {**sizes, "fired_embedding": False},
        }
    )
    words = [style(word) for word in TONES_HZ for style in (str, str.capitalize)]
    path = tmp_path_factory.mktemp("start") / "tiny.safetensors"
    save_checkpoint(CifAsr(config, tokenizer_from_pieces({f" {word}": 1 for word in words})), path)
    return path


def test_there_are_recipes():
    assert {path.name for path in RECIPES} >= {"warm_start.toml", "conformer.toml", "conformer_960h.toml"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_recipe_trains(path, warm_start, tmp_path):
    recipe = load_config(TrainConfig, path)
    (tmp_path / "sounds").mkdir()
    for split in {*recipe.data.train, *recipe.data.dev}:
        make_cuts(tmp_path, split, 6)
    shrunk = [f"model.{part}.{size}" for part, size in itertools.product(("encoder", "decoder"), SMALL)]
    shrunk += [f"model.estimator.{size}" for size in SMALL[:3]]
    init, overrides = (warm_start, [*SHORT]) if recipe.model is None else (None, [*SHORT, *shrunk])
    if recipe.teacher is not None:
        overrides.append(f"teacher.checkpoint={warm_start}")
    write_samples(tmp_path / "sounds" / "click.wav", np.eye(1, 1600, dtype=np.float32)[0], 16_000)
    for sounds in ("room_folder", "noise_folder"):
        if getattr(recipe.augment, sounds) is not None:
            overrides.append(f"augment.{sounds}={tmp_path / 'sounds'}")

    train(path, tmp_path, tmp_path / "run", init=init, overrides=overrides)

    state = load_state(tmp_path / "run")
    assert state["place"]["step"] == 2
    assert state["place"]["best_wer"] < float("inf")
