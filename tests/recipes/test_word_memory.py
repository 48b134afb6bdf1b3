import sys
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet, Recording, SupervisionSegment

from cifasr.audio.samples import write_samples
from cifasr.decoding.memory.word_memory import Strength, WordMemory
from cifasr.decoding.streaming import transcribe
from cifasr.text.lexicon import Lexicon, count_words

sys.path.append(str(Path(__file__).resolve().parents[2] / "recipes" / "synthetic"))  # a recipe is scripts, no package
sys.path.append(str(Path(__file__).resolve().parents[2] / "recipes" / "cerebellum"))

import names
import word_memory
from heard import hear_all

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 16_000).astype(np.float32)


@pytest.fixture(params=["no lexicon", "lexicon"])
def heard(tiny_model, tmp_path, request):
    """A model, and what it hears in one cut."""
    write_samples(tmp_path / "noise.wav", NOISE, 16_000)
    cut = Recording.from_file(tmp_path / "noise.wav").to_cut()
    cut.supervisions = [SupervisionSegment("noise", cut.recording_id, 0.0, cut.duration, text="face bed")]
    model = tiny_model()
    if request.param == "lexicon":
        model.lexicon = Lexicon(count_words(["a bad cab", "a bed", "a bad bed", "cab"]))
    return model, hear_all(model, CutSet.from_cuts([cut]), tmp_path)[0]


def test_what_was_heard_once_is_what_a_stream_writes(heard):
    model, utterance = heard

    assert utterance.hypothesis == " ".join(segment.text for segment in transcribe(model, NOISE))


def test_an_utterance_is_decoded_again_only_where_a_memory_changes_it(heard):
    model, utterance = heard
    sure = WordMemory(model, "", strength=Strength(least_score=0.99, boost=200.0))
    never = WordMemory(model, "", strength=Strength(least_score=1.5, boost=200.0))
    for memory in (sure, never):
        memory.teach(NOISE, "face bed")

    again = utterance.rewritten(model, sure.biasing())

    assert again == " ".join(segment.text for segment in transcribe(model, NOISE, biasing=sure.biasing()))
    assert again != utterance.hypothesis
    assert utterance.rewritten(model, never.biasing()) is None


@pytest.mark.parametrize(
    ("hypothesis", "errors"),
    [
        ("we met rusk today", 0),
        ("we met rust today", 0),
        ("he met rusk today", 1),
        ("we met rusk", 1),
        ("we met the rusk today", 1),
    ],
)
def test_errors_on_taught_words_are_not_those_of_the_rest(hypothesis, errors):
    reference = ["we", "met", "rusk", "today"]

    assert word_memory._errors_of_the_rest(reference, hypothesis.split(), {"rusk"}) == (errors, 3)


def test_a_word_is_marked_where_it_is_first_said():
    assert word_memory._marked("Poor Rusk met Rusk", "rusk") == "Poor [Rusk] met Rusk"


def test_names_are_rare_words_behind_a_title():
    lines = ["I SAW MISTER RUSK", "I SAW LADY OFTEN"] + ["OFTEN"] * 40

    assert names.rare_names(lines, seed=0) == ["Rusk"]
