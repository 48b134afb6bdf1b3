import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifasr.text.normalize import normalize_for_wer, to_sentence_case


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Hello, World!", "hello world"),
        ("IT'S O'CLOCK", "it's o'clock"),
        ("it\u2019s \u201cquoted\u201d", "it's quoted"),
        ("'tis the boys' rock 'n' roll", "tis the boys rock n roll"),
        ("well-known \u2014 or not\u2013so", "well known or not so"),
        ("  many \t\n spaces  ", "many spaces"),
        ("caf\u00e9 cafe\u0301", "caf\u00e9 caf\u00e9"),
        ("3.5 % of $20", "35 of 20"),
        ("...", ""),
        ("", ""),
    ],
)
def test_only_words_are_left(text, want):
    assert normalize_for_wer(text) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("AND THEN I SAID I'M LATE", "And then I said I'm late"),
        ("I'LL GO IF I'D KNOWN WHAT I'VE LOST", "I'll go if I'd known what I've lost"),
        ("IT IS IN ISLE I", "It is in isle I"),
        ("'TIS I", "'Tis I"),
        ("  TWO   SPACES ", "Two spaces"),
        ("", ""),
    ],
)
def test_upper_case_becomes_sentence_case(text, want):
    assert to_sentence_case(text) == want


@given(st.text())
def test_normalizing_twice_changes_nothing(text):
    once = normalize_for_wer(text)

    assert normalize_for_wer(once) == once


@given(st.text())
def test_sentence_case_twice_changes_nothing(text):
    once = to_sentence_case(text)

    assert to_sentence_case(once) == once


@given(st.text(alphabet="abcdefghiIMLDV' \n"))
def test_the_case_of_text_does_not_count_for_wer(text):
    assert normalize_for_wer(to_sentence_case(text)) == normalize_for_wer(text.upper())
