import json
import re

import pytest
from typer import Typer
from typer.testing import CliRunner

from cifasr.audio.samples import read_samples, write_samples
from cifasr.cli import main
from cifasr.cli.transcribe import transcribe as command
from cifasr.decoding.endpoint import TrailingSilence
from cifasr.decoding.streaming import StreamingOptions, transcribe
from cifasr.errors import CheckpointError, ConfigError
from cifasr.models.pretrained import load_model

LONG_SECONDS = 31  # past the longest segment of a stream


def run(*arguments):
    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def audio(tmp_path, sound):
    """``audio(name, seconds)``: a file of tones."""

    def make(name, seconds=1.0):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_samples(path, sound(seconds), 16_000)
        return path

    return make


@pytest.fixture
def text_of(babbler):
    """``text_of(path, options)``: what the model writes."""
    model = load_model(babbler)

    def hear(path, options=None):
        return " ".join(s.text for s in transcribe(model, read_samples(path), options, TrailingSilence()))

    return hear


def test_of_one_file_only_the_text_is_printed(babbler, audio, text_of):
    path = audio("one.wav")

    result = run(path, "--model", babbler)

    assert result.stdout == f"{text_of(path)}\n" != "\n"
    assert result.exit_code == 0


def test_every_format_is_read_and_every_line_names_its_file(babbler, audio, text_of):
    paths = [audio(f"speech{suffix}") for suffix in (".wav", ".flac", ".ogg", ".opus", ".mp3")]

    result = run(*paths, "--model", babbler)

    assert result.stdout.splitlines() == [f"{path}\t{text_of(path)}" for path in paths]


def test_a_folder_is_searched_for_audio(babbler, audio, tmp_path):
    paths = [audio("in/a.wav"), audio("in/deep/b.FLAC")]
    (tmp_path / "in" / "notes.txt").write_text("no audio")

    result = run(tmp_path / "in", "--model", babbler)

    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [str(path) for path in paths]
    assert result.exit_code == 0


def test_a_bad_file_is_named_and_the_others_go_on(babbler, audio, tmp_path):
    good, bad, absent = audio("good.wav"), tmp_path / "bad.wav", tmp_path / "absent.wav"
    bad.write_bytes(b"not audio")

    result = run(bad, good, absent, "--model", babbler)

    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [str(good)]
    assert [line.split(": ")[:2] for line in result.stderr.splitlines()] == [
        ["cifasr transcribe", str(bad)],
        ["cifasr transcribe", str(absent)],
    ]
    assert result.exit_code == 1


def test_the_exit_code_is_2_where_nothing_could_be_read(babbler, tmp_path):
    result = run(tmp_path, "--model", babbler)

    assert f"{tmp_path}: no audio files in this folder" in result.stderr
    assert (result.stdout, result.exit_code) == ("", 2)


def test_a_long_file_has_segments_that_end_before_it_does(babbler, audio, text_of):
    path = audio("long.wav", LONG_SECONDS)

    row = json.loads(run(path, "--model", babbler, "--json").stdout)

    first, second = row["segments"]
    assert (first["start_s"], second["start_s"]) == (0.0, first["end_s"])
    assert second["end_s"] == pytest.approx(LONG_SECONDS, abs=0.02)
    assert row["text"] == f"{first['text']} {second['text']}" == text_of(path)
    assert "words" not in first


def test_words_have_times_and_confidences(babbler, audio):
    path = audio("one.wav", 2.0)

    row = json.loads(run(path, "--model", babbler, "--words").stdout)

    (segment,) = row["segments"]
    words = segment["words"]
    assert row["source"] == str(path)
    assert " ".join(word["text"] for word in words) == segment["text"] != ""
    assert all(0 <= word["start_s"] <= word["end_s"] <= 2.0 for word in words)
    assert all(0 < word["confidence"] <= 1 for word in words)


def test_offline_hears_the_file_whole(babbler, audio, text_of):
    path = audio("long.wav", LONG_SECONDS)

    row = json.loads(run(path, "--model", babbler, "--offline", "--json").stdout)

    assert [segment["text"] for segment in row["segments"]] == [text_of(path, StreamingOptions(chunk_ms=None))]


def test_the_chunk_reaches_the_recogniser(babbler, audio, text_of):
    path = audio("one.wav", 3.0)

    result = run(path, "--model", babbler, "--chunk-ms", "320")

    assert result.stdout == text_of(path, StreamingOptions(chunk_ms=320)) + "\n" != text_of(path) + "\n"


def test_any_option_of_the_recogniser_can_be_set(babbler, audio, text_of):
    path = audio("one.wav", 3.0)

    result = run(path, "--model", babbler, "--set", "lookahead_ms=0")

    assert result.stdout == text_of(path, StreamingOptions(lookahead_ms=0)) + "\n" != text_of(path) + "\n"


def test_offline_with_a_chunk_is_an_error(babbler, audio):
    result = run(audio("one.wav"), "--model", babbler, "--offline", "--chunk-ms", "640")

    assert isinstance(result.exception, ConfigError)


def test_a_model_that_is_not_there_is_an_error(audio, tmp_path):
    result = run(audio("one.wav"), "--model", tmp_path / "absent.safetensors")

    assert isinstance(result.exception, CheckpointError)


def test_both_commands_are_part_of_cifasr():
    result = CliRunner().invoke(main.build_app(), ["--help"])

    assert re.search(r"\btranscribe\b", result.stdout)
    assert re.search(r"\bevaluate\b", result.stdout)
