import math

import numpy as np
import pytest

from cifasr.errors import ConfigError
from cifasr.text import lexicon as module
from cifasr.text.lexicon import Lexicon, count_words

TEXT = ["The cat, the CATTLE and the cat's cattle", "a car; the cat -- don't, don't! 1842 1842", "the cat"]
WORDS = {"the": 5, "cat": 3, "cattle": 2, "don't": 2}  # of 16; "and", "cat's", "a" and "car" once each


@pytest.fixture
def lexicon():
    return Lexicon(count_words(TEXT))


def test_words_that_occur_twice_are_known_in_whatever_case_and_no_numbers(lexicon):
    assert [word for word in (*WORDS, "car", "1842", "The") if word in lexicon] == list(WORDS)
    assert len(lexicon) == 4


def test_after_a_word_that_is_unknown_probabilities_are_counts_over_all_words(lexicon):
    for word, count in WORDS.items():
        assert lexicon.log_word(word, "unknown") == pytest.approx(math.log(count / 16))


def test_a_pair_has_its_count_less_a_discount_and_what_that_leaves_goes_to_words_alone(lexicon):
    # "the cat" three times of five; no other pair with "the" before it occurs twice
    assert lexicon.log_word("cat", "the") == pytest.approx(math.log(2.25 / 5 + 2.75 / 5 * 3 / 16))
    assert lexicon.log_word("don't", "the") == pytest.approx(math.log(2.75 / 5 * 2 / 16))


def test_a_text_begins_with_what_texts_begin_with(lexicon):
    assert lexicon.log_word("the", None) == pytest.approx(math.log(1.25 / 3 + 1.75 / 3 * 5 / 16))


def test_words_after_any_word_add_up_to_one_with_those_unknown():
    lexicon = Lexicon(count_words([*TEXT, "cattle the cat the cattle", "cattle"]))
    counts, num_all = np.array([7, 4, 5, 2]), 22

    for before in ("the", "cat", "cattle", "don't", None):
        total = sum(math.exp(lexicon.log_word(word, before)) for word in WORDS)
        left = lexicon._left[len(WORDS) if before is None else sorted(WORDS).index(before)]
        assert total == pytest.approx(1 - left * (1 - counts.sum() / num_all))


def test_a_beginning_is_as_likely_as_all_words_that_begin_so(lexicon):
    assert lexicon.log_prefix("") == 0.0
    assert lexicon.log_prefix("ca") == pytest.approx(math.log(5 / 16))
    assert lexicon.log_prefix("catt") == pytest.approx(math.log(2 / 16))


def test_an_unknown_word_is_less_likely_than_any_known_and_less_with_every_letter(lexicon):
    known = min(lexicon.log_word(word, before) for word in WORDS for before in WORDS)

    unknown = [lexicon.log_word("x" * length, "the") for length in (1, 2, 9)]

    assert known > unknown[0] > unknown[1] > unknown[2]
    assert lexicon.log_prefix("cax") == lexicon.log_word("cax", "the")


def test_of_too_many_words_the_most_frequent_stay(monkeypatch):
    monkeypatch.setattr(module, "MAX_WORDS", 2)

    lexicon = Lexicon(count_words(TEXT))

    assert [word in lexicon for word in WORDS] == [True, True, False, False]
    assert lexicon.log_word("cat", "the") == pytest.approx(math.log(2.25 / 5 + 2.75 / 5 * 3 / 16))


def test_what_was_saved_is_loaded(lexicon, tmp_path):
    lexicon.save(tmp_path / "words.safetensors")

    loaded = Lexicon.load(tmp_path / "words.safetensors")

    asked = [("cat", "the"), ("cat", None), ("cut", "the")]
    assert [loaded.log_word(*each) for each in asked] == [lexicon.log_word(*each) for each in asked]


def test_a_text_without_repeated_words_is_refused():
    with pytest.raises(ConfigError, match="some word occurs more than once"):
        count_words(["one two three"])


@pytest.mark.parametrize("content", [b"", b"no tensors", None])
def test_another_file_is_refused_by_name(content, tmp_path):
    path = tmp_path / "words.safetensors"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"words\.safetensors: wanted a lexicon"):
        Lexicon.load(path)
