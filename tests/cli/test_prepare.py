import json

import numpy as np
import pytest
from lhotse import CutSet
from typer.testing import CliRunner

from cifasr.audio.samples import write_samples
from cifasr.cli import prepare
from cifasr.errors import DataError


@pytest.fixture
def corpus(tmp_path):
    chapter = tmp_path / "corpus" / "dev" / "84" / "121123"
    chapter.mkdir(parents=True)
    for name in ("84-121123-0000", "84-121123-0001"):
        write_samples(chapter / f"{name}.flac", np.full(36_000, 0.1, np.float32), 16_000)
    (chapter / "84-121123.trans.txt").write_text("84-121123-0000 GO\n84-121123-0001 DO YOU HEAR\n")
    return tmp_path / "corpus"


def run(*arguments):
    return CliRunner().invoke(prepare.app, ["librispeech", *map(str, arguments)])


def test_one_line_of_json_is_printed_a_split(corpus, tmp_path):
    result = run(corpus, "--out", tmp_path / "cuts")

    path = tmp_path / "cuts" / "cuts_dev.jsonl.gz"
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"split": "dev", "utterances": 2, "hours": 0.001, "speakers": 1, "left_out": 0, "path": str(path)}
    ]
    assert [cut.supervisions[0].text for cut in CutSet.from_file(path)] == ["GO", "DO YOU HEAR"]


def test_what_was_left_out_is_told_on_stderr(corpus, tmp_path):
    (corpus / "dev" / "84" / "121123" / "84-121123-0001.flac").write_bytes(b"not audio")

    result = run(corpus, "--out", tmp_path / "cuts", "--split", "dev", "--skip-bad")

    assert json.loads(result.stdout)["left_out"] == 1
    assert "84-121123-0001.flac: not audio" in result.stderr


def test_a_fault_is_an_error_of_ours_without_skip_bad(corpus, tmp_path):
    result = run(corpus, "--out", tmp_path / "cuts", "--split", "absent")

    assert isinstance(result.exception, DataError)
    assert result.stdout == ""


def test_named_splits_are_fetched_before_they_are_prepared(corpus, tmp_path, monkeypatch):
    fetched = []

    def fetch(dest, splits, *, base_url, progress):
        progress("fetch dev", 5, None)
        fetched.append((dest, splits, base_url))

    monkeypatch.setattr(prepare, "download_librispeech", fetch)
    result = run(corpus, "--out", tmp_path / "cuts", "--split", "dev", "--download", "--mirror", "https://mirror/12")

    assert result.exit_code == 0
    assert fetched == [(corpus, ["dev"], "https://mirror/12")]


def test_fetching_needs_the_names_of_splits(corpus, tmp_path):
    result = run(corpus, "--out", tmp_path / "cuts", "--download")

    assert result.exit_code == 2
    assert "--split" in result.stderr
