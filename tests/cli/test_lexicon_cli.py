import json

import pytest
from typer.testing import CliRunner

from cifasr.cli.main import build_app
from cifasr.errors import ConfigError
from cifasr.models.checkpoint import load_checkpoint


def run(*args):
    return CliRunner().invoke(build_app(), ["lexicon", *map(str, args)], catch_exceptions=False)


def test_the_words_of_texts_come_with_the_model_from_then_on(babbler, tmp_path):
    model = tmp_path / "own.safetensors"
    model.write_bytes(babbler.read_bytes())
    for name, text in (("a.txt", "A WORD\n"), ("b.txt", "a word, once")):
        (tmp_path / name).write_text(text)

    result = run(tmp_path / "a.txt", tmp_path / "b.txt", "--model", model)

    assert json.loads(result.stdout)["words"] == 2
    assert [word in load_checkpoint(model).lexicon for word in ("a", "word", "once")] == [True, True, False]


def test_a_text_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.txt: wanted a text file"):
        run(tmp_path / "none.txt", "--model", tmp_path / "a.safetensors")
