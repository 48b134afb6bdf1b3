import math

import pytest

from cifasr.errors import ConfigError
from cifasr.text.lexicon import Lexicon

TEXT = ["The cat, the CATTLE and the cat's cattle", "a car; the cat -- don't, don't! 1842 1842"]


@pytest.fixture
def lexicon():
    return Lexicon.from_text(TEXT)


def test_words_that_occur_twice_are_known_in_whatever_case_and_no_numbers(lexicon):
    assert [word for word in ("the", "cat", "cattle", "don't", "car", "1842", "The") if word in lexicon] == [
        "the",
        "cat",
        "cattle",
        "don't",
    ]
    assert len(lexicon) == 4


def test_probabilities_are_counts_over_all_words(lexicon):
    assert lexicon.log_word("the") == pytest.approx(math.log(4 / 14))
    assert lexicon.log_word("cat") == pytest.approx(math.log(2 / 14))


def test_a_beginning_is_as_likely_as_all_words_that_begin_so(lexicon):
    assert lexicon.log_prefix("") == 0.0
    assert lexicon.log_prefix("ca") == pytest.approx(math.log(4 / 14))
    assert lexicon.log_prefix("catt") == pytest.approx(lexicon.log_word("cattle"))


def test_an_unknown_word_is_less_likely_than_any_known_and_less_with_every_letter(lexicon):
    known = min(map(lexicon.log_word, ("the", "cat", "cattle", "don't")))

    unknown = [lexicon.log_word("x" * length) for length in (1, 2, 9)]

    assert known > unknown[0] > unknown[1] > unknown[2]
    assert lexicon.log_prefix("cax") == lexicon.log_word("cax")


def test_what_was_saved_is_loaded_and_is_the_same_file_each_time(lexicon, tmp_path):
    for name in "ab":
        lexicon.save(tmp_path / name)

    loaded = Lexicon.load(tmp_path / "a")

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert [loaded.log_word(word) for word in ("cat", "cut")] == [lexicon.log_word(word) for word in ("cat", "cut")]
    assert len(loaded) == len(lexicon)


def test_a_text_without_repeated_words_is_refused():
    with pytest.raises(ConfigError, match="some word occurs more than once"):
        Lexicon.from_text(["one two three"])


@pytest.mark.parametrize("content", [b"", b"no gzip", None])
def test_another_file_is_refused_by_name(content, tmp_path):
    path = tmp_path / "words.gz"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"words\.gz: wanted a lexicon"):
        Lexicon.load(path)
