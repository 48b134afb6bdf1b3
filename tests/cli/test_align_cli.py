import json
import sys

import numpy as np
import pytest
from lhotse import CutSet

from cifasr.cli.align import AlignBy, align
from cifasr.cli.main import main
from cifasr.data.batches import load_utterance
from cifasr.errors import ConfigError, DataError
from cifasr.models.checkpoint import load_checkpoint, save_checkpoint
from cifasr.models.cif_asr import CifAsr, CifAsrConfig
from cifasr.text.tokenizer import tokenizer_from_pieces
from tests.made_speech import TONES_HZ, make_cuts, tiny_recipe


def save_model(path, **config):
    """A tiny recogniser that knows half of the words and spells the others."""
    words = [style(word) for word in list(TONES_HZ)[:3] for style in (str, str.capitalize)]
    letters = sorted({letter for word in TONES_HZ for letter in (*word, *word.upper())})
    pieces = {f" {word}": 1.0 for word in words} | {letter: 0.1 for letter in letters} | {" ": 0.1}
    model = CifAsr(CifAsrConfig.model_validate(tiny_recipe()["model"] | config), tokenizer_from_pieces(pieces))
    save_checkpoint(model, path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", ctc=True, alignment_heads=[[0, 1]])


@pytest.fixture
def cuts(tmp_path):
    return make_cuts(tmp_path, "train", 7, aligned=False)


def items_of(cut):
    return cut.supervisions[0].alignment["token"]


def without_alignment(cut):
    cut.supervisions[0].alignment = None
    return cut


@pytest.mark.parametrize("by", AlignBy)
def test_borders_grow_and_lie_inside_the_audio(cuts, model, by):
    tokenizer = load_checkpoint(model).tokenizer

    align(cuts, model, by)

    aligned = list(CutSet.from_file(cuts))
    assert len(aligned) == 7
    for cut in aligned:
        ends = [item.end for item in items_of(cut)]
        assert len(ends) == len(tokenizer.encode(cut.supervisions[0].text.capitalize()))
        assert min(np.diff([0.0, *ends])) > 0
        assert ends[-1] <= cut.duration
        assert load_utterance(cut, tokenizer).token_ends_s == pytest.approx(ends, abs=2e-3)


def test_the_manifest_is_replaced_whole_with_all_that_was_in_it(cuts, model, capsys):
    before = [without_alignment(cut) for cut in CutSet.from_file(cuts)]

    align(cuts, model, AlignBy.ctc)

    assert [without_alignment(cut) for cut in CutSet.from_file(cuts)] == before
    assert [path.name for path in cuts.parent.iterdir() if path.is_file()] == [cuts.name]
    assert json.loads(capsys.readouterr().out) == {"cuts": str(cuts), "aligned": 7, "by": "ctc"}


def test_the_cuts_stay_as_they_are_with_another_place_to_write(cuts, model, tmp_path):
    before = cuts.read_bytes()

    align(cuts, model, AlignBy.ctc, out=tmp_path / "aligned.jsonl.gz")

    assert cuts.read_bytes() == before
    assert all(items_of(cut) for cut in CutSet.from_file(tmp_path / "aligned.jsonl.gz"))


def test_aligning_twice_gives_the_same_borders(cuts, model):
    align(cuts, model, AlignBy.ctc)
    once = list(CutSet.from_file(cuts))

    align(cuts, model, AlignBy.ctc)

    assert list(CutSet.from_file(cuts)) == once


def test_the_text_of_a_token_begins_with_the_space_of_its_word(cuts, model):
    align(cuts, model, AlignBy.ctc)

    for cut in CutSet.from_file(cuts):
        spelled = "".join(item.symbol for item in items_of(cut))
        assert spelled.upper() == cut.supervisions[0].text


def test_letters_that_the_model_does_not_know_have_borders_too(tmp_path, model):
    cuts = make_cuts(tmp_path, "train", 1, aligned=False)
    (cut,) = CutSet.from_file(cuts)
    cut.supervisions[0].text = "go é stop ü"
    CutSet.from_cuts([cut]).to_file(cuts)

    align(cuts, model, AlignBy.ctc)

    (cut,) = CutSet.from_file(cuts)
    tokenizer = load_checkpoint(model).tokenizer
    assert len(load_utterance(cut, tokenizer).token_ends_s) == len(tokenizer.encode("go é stop ü"))


def test_audio_that_cannot_be_decoded_is_named_and_nothing_is_written(cuts, model, monkeypatch, capsys):
    (cuts.parent / "audio" / "train-3.wav").write_bytes(b"not audio")
    before = cuts.read_bytes()
    monkeypatch.setattr(sys, "argv", ["cifasr", "align", str(cuts), "--model", str(model), "--by", "ctc"])

    with pytest.raises(SystemExit) as exit_:
        main()

    assert exit_.value.code == 2
    assert "cifasr align: cut train-3: its audio cannot be decoded" in capsys.readouterr().err
    assert [path.name for path in cuts.parent.iterdir() if path.is_file()] == [cuts.name]
    assert cuts.read_bytes() == before


def test_absent_cuts_are_named(tmp_path, model):
    with pytest.raises(DataError, match=r"absent\.jsonl\.gz: no such cuts"):
        align(tmp_path / "absent.jsonl.gz", model)


@pytest.mark.parametrize(("by", "key"), [(AlignBy.attention, "alignment_heads"), (AlignBy.ctc, "ctc")])
def test_a_model_without_the_part_that_borders_are_read_from_is_refused(cuts, tmp_path, by, key):
    plain = save_model(tmp_path / "plain.safetensors")

    with pytest.raises(ConfigError, match=rf"^{key}: wanted"):
        align(cuts, plain, by)
