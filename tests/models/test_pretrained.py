import tarfile
from pathlib import Path

import cifasr_serving
import pytest
import soundfile
from lhotse import CutSet
from torch import nn

from cifasr.audio.samples import read_samples
from cifasr.data.librispeech import prepare_librispeech
from cifasr.decoding.endpoint import TrailingSilence
from cifasr.decoding.scoring import scored_transcripts
from cifasr.decoding.streaming import transcribe
from cifasr.errors import BackendUnavailableError
from cifasr.metrics.wer import ErrorReport, count_errors
from cifasr.models import pretrained
from cifasr.models.checkpoint import read_notes
from cifasr.models.pretrained import PRETRAINED_PATH, WeightFormat, load_model
from cifasr.nn.int8 import Int8Linear
from cifasr.text.normalize import normalize_for_wer

SAMPLE = Path(cifasr_serving.__file__).with_name("sample") / "letter.flac"
SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def model():
    return load_model()


def test_the_model_in_the_box_is_small_and_says_where_it_comes_from():
    notes = read_notes(PRETRAINED_PATH)

    assert PRETRAINED_PATH.stat().st_size <= 25_000_000
    assert {"started_from", "trained_on", "dev_wer", "licence"} <= notes.keys()


@pytest.mark.parametrize("weights", [WeightFormat.float32, WeightFormat.auto])
def test_the_model_in_the_box_hears_the_letter_and_its_pauses(weights):
    segments = transcribe(load_model(weights=weights), read_samples(SAMPLE), endpointer=TrailingSilence())

    said = normalize_for_wer(SAMPLE.with_suffix(".txt").read_text(encoding="utf-8"))
    heard = normalize_for_wer(" ".join(segment.text for segment in segments))
    assert count_errors(said, heard).wer <= 0.15
    assert len(segments) == 3


@pytest.mark.parametrize("there", [True, False])
def test_weights_are_int8_by_themselves_where_the_processor_has_it(monkeypatch, there):
    monkeypatch.setattr(pretrained, "has_int8", lambda: there)

    kinds = {type(module) for module in load_model().modules()}

    assert (Int8Linear in kinds, nn.Linear in kinds) == (there, not there)


def test_int8_by_name_wants_a_processor_that_has_it(monkeypatch):
    monkeypatch.setattr(pretrained, "has_int8", lambda: False)

    with pytest.raises(BackendUnavailableError, match="wanted auto or float32 on a processor without VNNI"):
        load_model(weights=WeightFormat.int8)


@pytest.mark.shared_data
def test_the_model_in_the_box_hears_real_speech(model, tmp_path):
    corpus = _unpacked(tmp_path, num_utterances=6)
    prepare_librispeech(corpus, tmp_path / "cuts", splits=["dev"])
    cuts = CutSet.from_file(tmp_path / "cuts" / "cuts_dev.jsonl.gz")

    transcripts = scored_transcripts(cuts, lambda samples: transcribe(model, samples))

    assert ErrorReport(transcript.score for transcript in transcripts).wer <= 0.25


def _unpacked(folder, num_utterances):
    """Lay the first utterances of a chapter of dev out as LibriSpeech does."""

    with tarfile.open(SHARED_DATA / "dev.tar") as tar:
        members = [member for member in tar if member.name.endswith((".opus", ".trans.txt"))]
        chapter = next(str(Path(member.name).parent) for member in members)
        inside = [member for member in members if str(Path(member.name).parent) == chapter]
        audio = [member for member in inside if member.name.endswith(".opus")][:num_utterances]
        target = folder / chapter
        target.mkdir(parents=True)
        for member in audio:
            samples, rate = soundfile.read(tar.extractfile(member))
            soundfile.write(target / f"{Path(member.name).stem}.flac", samples, rate)
        (transcript,) = [member for member in inside if member.name.endswith(".trans.txt")]
        lines = tar.extractfile(transcript).read().decode().splitlines(keepends=True)
        names = {Path(member.name).stem for member in audio}
        kept = [line for line in lines if line.split()[0] in names]
        (target / Path(transcript.name).name).write_text("".join(kept))
    return folder
