import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cifasr.cli.main import build_app
from cifasr.decoding.streaming import transcribe
from cifasr.errors import ConfigError
from cifasr.models.checkpoint import load_checkpoint, read_notes


def run(*args):
    return CliRunner().invoke(build_app(), ["pack", *map(str, args)], catch_exceptions=False)


def test_a_packed_model_is_a_third_of_the_size_and_keeps_its_notes(babbler, tmp_path):
    out = tmp_path / "small.safetensors"

    result = run(babbler, "--out", out, "--note", "licence=Apache-2.0")

    assert result.exit_code == 0
    assert out.stat().st_size < babbler.stat().st_size / 3 + 20_000  # names and tokenizer stay as they are
    assert read_notes(out) == {"licence": "Apache-2.0"}
    assert json.loads(result.stdout)["bytes"] == out.stat().st_size


def test_a_model_packed_in_float16_hears_the_same_words(babbler, sound, tmp_path):
    out = tmp_path / "half.safetensors"
    samples = np.concatenate([sound(2.0, seed) for seed in range(3)])

    run(babbler, "--out", out, "--dtype", "float16")

    heard = [segment.text for segment in transcribe(load_checkpoint(out), samples)]
    assert heard == [segment.text for segment in transcribe(load_checkpoint(babbler), samples)]
    assert any(heard)


def test_a_note_without_a_value_is_refused(babbler, tmp_path):
    with pytest.raises(ConfigError, match="wanted key=value"):
        run(babbler, "--out", tmp_path / "x.safetensors", "--note", "licence")
