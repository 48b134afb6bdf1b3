import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from cifasr.audio.samples import read_samples, write_samples
from cifasr.data.librispeech import prepare_librispeech
from cifasr.errors import DataError

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def add_utterance(split: Path, utterance_id: str, text: str | None = "SOME WORDS", num_samples: int = 8_000) -> Path:
    speaker, chapter, _ = utterance_id.split("-")
    folder = split / speaker / chapter
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{speaker}-{chapter}.trans.txt").open("a") as transcript:
        if text is not None:
            transcript.write(f"{utterance_id} {text}\n")
    noise = np.random.default_rng(0).normal(0, 0.1, num_samples).astype(np.float32)
    write_samples(folder / f"{utterance_id}.flac", noise, 16_000)
    return folder / f"{utterance_id}.flac"


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "corpus"
    add_utterance(root / "dev", "84-2-0001", "MISTER QUILTER", num_samples=16_000)
    add_utterance(root / "dev", "84-2-0000", "IT'S HE", num_samples=12_345)
    add_utterance(root / "dev", "1272-1-0000", num_samples=4_000)
    add_utterance(root / "train", "7-1-0000")
    return root


def test_every_split_becomes_cuts_with_their_text(corpus, tmp_path):
    reports = prepare_librispeech(corpus, tmp_path / "new" / "cuts")

    assert [(report.split, report.num_utterances, report.num_speakers) for report in reports] == [
        ("dev", 3, 2),
        ("train", 1, 1),
    ]
    assert reports[0].path == tmp_path / "new" / "cuts" / "cuts_dev.jsonl.gz"
    assert reports[0].seconds == pytest.approx((16_000 + 12_345 + 4_000) / 16_000)
    cuts = list(CutSet.from_file(reports[0].path))
    assert [cut.id for cut in cuts] == ["1272-1-0000", "84-2-0000", "84-2-0001"]
    (supervision,) = cuts[1].supervisions
    assert (supervision.text, supervision.speaker, supervision.language) == ("IT'S HE", "84", "en")
    assert cuts[1].load_audio().shape == (1, 12_345)


def test_the_official_top_folder_is_found(corpus, tmp_path):
    official = tmp_path / "download" / "LibriSpeech"
    official.parent.mkdir()
    corpus.rename(official)

    reports = prepare_librispeech(official.parent, tmp_path / "cuts", splits=["train"])

    assert [report.split for report in reports] == ["train"]


def test_cuts_are_found_from_any_folder(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(corpus.parent)
    prepare_librispeech(Path("corpus"), Path("cuts"), splits=["train"])
    monkeypatch.chdir("/")

    (cut,) = CutSet.from_file(tmp_path / "cuts" / "cuts_train.jsonl.gz")

    assert cut.load_audio().shape == (1, 8_000)


def damage(corpus: Path) -> None:
    """Give the dev split one fault of each kind."""
    truncated = add_utterance(corpus / "dev", "9-1-0000", num_samples=80_000)
    truncated.write_bytes(truncated.read_bytes()[:40_000])
    add_utterance(corpus / "dev", "9-1-0001").write_bytes(b"not audio")
    add_utterance(corpus / "dev", "9-1-0002", num_samples=0)
    add_utterance(corpus / "dev", "9-1-0003", text=None)
    add_utterance(corpus / "dev", "9-1-0004").unlink()
    add_utterance(corpus / "dev", "9-1-0005", text="")
    add_utterance(corpus / "other", "84-1-0000").unlink()
    copies = corpus / "dev" / "10" / "1"
    copies.mkdir(parents=True)
    for name in ("84-2-0000", "84-2-0001"):
        write_samples(copies / f"{name}.flac", np.zeros(10, np.float32), 16_000)
    (copies / "10-1.trans.txt").write_text("84-2-0001 A COPY\n")
    add_utterance(corpus / "dev", "84-2-0000", num_samples=12_345)
    add_utterance(corpus / "dev", "8-1-0000").with_name("8-1.trans.txt").write_bytes(b"8-1-0000 \xff\n")


FAULTS = [
    r"9-1-0000\.flac: .*truncated",
    r"9-1-0001\.flac: not audio",
    r"9-1-0002\.flac: (holds no samples|not audio)",
    r"9-1-0003\.flac: no transcript: no line of 9-1-0003 in 9-1\.trans\.txt",
    r"9-1-0004\.flac: no such file, but a transcript",
    r"9-1\.trans\.txt:5: wanted 'ID WORDS \.\.\.', got '9-1-0005 '",
    r"other: an empty split",
    r"10/1/84-2-0000\.flac: no transcript",
    r"84/2/84-2-0001\.flac: a second utterance",
    r"84-2\.trans\.txt:3: a second transcript of 84-2-0000",
    r"8-1\.trans\.txt: not a transcript: .*utf-8",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named_and_nothing_is_written(corpus, tmp_path, fault):
    damage(corpus)

    with pytest.raises(DataError, match=fault):
        prepare_librispeech(corpus, tmp_path / "cuts")

    assert not (tmp_path / "cuts").exists()


def test_what_is_wrong_is_left_out_on_request(corpus, tmp_path):
    damage(corpus)

    dev, other, train = prepare_librispeech(corpus, tmp_path / "cuts", skip_bad=True)

    cuts = CutSet.from_file(dev.path)
    assert [cut.id for cut in cuts] == ["84-2-0001", "1272-1-0000", "84-2-0000"]
    assert (dev.num_utterances, len(dev.faults)) == (3, 12)
    assert (other.num_utterances, other.path) == (0, None)
    assert (train.num_utterances, train.faults) == (1, ())
    assert sorted(path.name for path in (tmp_path / "cuts").iterdir()) == ["cuts_dev.jsonl.gz", "cuts_train.jsonl.gz"]


def test_damage_in_the_middle_is_found_by_decoding_all(corpus, tmp_path):
    path = add_utterance(corpus / "dev", "9-1-0000", num_samples=160_000)
    audio = bytearray(path.read_bytes())
    audio[len(audio) // 2 : len(audio) // 2 + 2_000] = bytes(2_000)
    path.write_bytes(audio)

    prepare_librispeech(corpus, tmp_path / "cuts")

    with pytest.raises(DataError, match=r"9-1-0000\.flac"):
        prepare_librispeech(corpus, tmp_path / "cuts", verify=True)


def test_two_channels_are_refused(corpus, tmp_path):
    soundfile.write(corpus / "dev" / "84" / "2" / "84-2-0000.flac", np.zeros((100, 2), np.float32), 16_000)

    with pytest.raises(DataError, match="2 channels, wanted 1"):
        prepare_librispeech(corpus, tmp_path / "cuts")


def test_absent_corpora_and_splits_are_named(corpus, tmp_path):
    with pytest.raises(DataError, match="absent: no such folder"):
        prepare_librispeech(tmp_path / "absent", tmp_path / "cuts")
    with pytest.raises(DataError, match="no split test-clean; there are dev, train"):
        prepare_librispeech(corpus, tmp_path / "cuts", splits=["dev", "test-clean"])
    with pytest.raises(DataError, match="no split: wanted SPLIT/SPEAKER"):
        prepare_librispeech(corpus / "dev" / "84", tmp_path / "cuts")


def test_progress_counts_every_file(corpus, tmp_path):
    calls = []

    prepare_librispeech(corpus, tmp_path / "cuts", progress=lambda *call: calls.append(call))

    assert calls == [("dev", 1, 3), ("dev", 2, 3), ("dev", 3, 3), ("train", 1, 1)]


@pytest.mark.shared_data
def test_real_speech_is_prepared(tmp_path):
    with tarfile.open(SHARED_DATA / "dev.tar") as tar:
        for member in tar:
            if member.name.startswith("dev/1970/"):
                tar.extract(member, tmp_path, filter="data")
    for opus in tmp_path.glob("dev/*/*/*.opus"):
        write_samples(opus.with_suffix(".flac"), read_samples(opus), 16_000)

    (report,) = prepare_librispeech(tmp_path, tmp_path / "cuts", verify=True)

    assert report.num_utterances > 10
    assert report.num_speakers == 1
