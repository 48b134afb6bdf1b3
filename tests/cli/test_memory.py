import json

import pytest
from typer.testing import CliRunner

from cifasr.audio.samples import write_samples
from cifasr.cli.main import build_app
from cifasr.errors import CheckpointError, ConfigError


@pytest.fixture
def recording(tmp_path, sound):
    path = tmp_path / "name.wav"
    write_samples(path, sound(2.0), 16_000)
    return path


@pytest.fixture
def cifasr(babbler, tmp_path):
    """Run a command on the memory and the model of this test; the lines that it prints, as JSON where they are."""

    def run(*arguments):
        options = ["--memory", tmp_path / "me.cifmem", "--model", babbler]
        result = CliRunner().invoke(build_app(), [str(argument) for argument in (*arguments, *options)])
        if result.exception is not None:
            raise result.exception
        return [json.loads(line) for line in result.stdout.splitlines()]

    return run


def test_a_phrase_is_taught_listed_and_forgotten(cifasr, recording):
    taught = cifasr("teach", recording, "stone [old wall]")
    listed = cifasr("memory", "list")
    cifasr("memory", "forget", "old wall")

    assert taught == [{"taught": [{"phrase": "old wall", "lessons": 1, "caution": 0.0}], "phrases": 1}]
    assert listed == taught[0]["taught"]
    assert cifasr("memory", "list") == []


def test_a_second_recording_adds_to_the_first(cifasr, recording):
    cifasr("teach", recording, "old wall", "--backend", "mushroom")

    (row,) = cifasr("teach", recording, "old wall")

    assert row["taught"][0]["lessons"] == 2


def test_another_backend_than_the_memory_was_begun_with_is_refused(cifasr, recording):
    cifasr("teach", recording, "old wall", "--backend", "mushroom")

    with pytest.raises(ConfigError, match="wanted mushroom"):
        cifasr("teach", recording, "old wall", "--backend", "hopfield")


def test_a_correction_says_what_changed(cifasr, recording):
    cifasr("teach", recording, "old wall")

    assert cifasr("memory", "correct", recording, "old wall") == [{"changed": []}]


def test_transcribe_refuses_a_memory_that_is_not_there(cifasr, recording):
    with pytest.raises(CheckpointError, match="not a word memory"):
        cifasr("transcribe", recording, "--json")


def test_transcribe_takes_a_memory(cifasr, recording):
    cifasr("teach", recording, "old wall")

    (row,) = cifasr("transcribe", recording, "--json")

    assert row["source"] == str(recording)
