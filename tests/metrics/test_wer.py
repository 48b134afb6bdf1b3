import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifasr.metrics.wer import ErrorCounts, ErrorReport, count_character_errors, count_errors, score_utterance
from cifasr.text.normalize import normalize_for_wer

WORDS = st.lists(st.sampled_from(["a", "b", "it's"]), max_size=6).map(" ".join)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "want"),
    [
        ("a b c", "a x c d", ErrorCounts(substitutions=1, insertions=1, hits=2)),
        ("a b c", "a c", ErrorCounts(deletions=1, hits=2)),
        ("it's", "its", ErrorCounts(substitutions=1)),
        ("a b", "", ErrorCounts(deletions=2)),
        ("", "a b", ErrorCounts(insertions=2)),
        ("", "", ErrorCounts()),
    ],
)
def test_word_errors_are_counted(reference, hypothesis, want):
    assert count_errors(reference, hypothesis) == want


def test_characters_are_counted_with_their_spaces():
    counts = count_character_errors("the cat", "the cart s")

    assert counts == ErrorCounts(insertions=3, hits=7)
    assert counts.wer == pytest.approx(3 / 7)


def test_the_rate_is_errors_over_reference_words():
    assert count_errors("a b c d", "a b x").wer == 0.5
    assert count_errors("", "").wer == 0.0
    assert count_errors("", "a").wer == math.inf


@given(WORDS, WORDS)
def test_the_counts_add_up_to_both_lengths(reference, hypothesis):
    counts = count_errors(reference, hypothesis)

    assert counts.reference_words == len(reference.split())
    assert counts.substitutions + counts.insertions + counts.hits == len(hypothesis.split())
    assert (counts.errors == 0) == (reference == hypothesis)


def make_report(*utterances):
    return ErrorReport(
        score_utterance(str(i), *fields, normalize=normalize_for_wer) for i, fields in enumerate(utterances)
    )


def test_an_utterance_is_compared_after_normalisation_and_kept_before_it():
    utterance = score_utterance("1-2-3", "1", "IT'S WELL KNOWN", "It\u2019s well-known.", normalize=normalize_for_wer)

    assert utterance.words == ErrorCounts(hits=3)
    assert utterance.characters == ErrorCounts(hits=15)
    assert (utterance.reference, utterance.hypothesis) == ("IT'S WELL KNOWN", "It\u2019s well-known.")


def test_the_rate_of_a_set_is_pooled_and_not_a_mean_of_rates():
    report = make_report(("s1", "a", "x"), ("s2", "a b c", "a b c"))

    assert report.wer == 0.25
    assert report.cer == pytest.approx(1 / 6)


def test_a_set_may_have_empty_references_and_may_be_empty():
    assert make_report(("s1", "", "x"), ("s2", "a b", "a b")).wer == 0.5
    assert ErrorReport([]).wer == 0.0


def test_the_interval_of_two_speakers_spans_their_rates():
    report = make_report(("s1", "a b", "a b"), ("s2", "a b", "x y"))

    assert report.wer == 0.5
    assert report.wer_interval() == (0.0, 1.0)


def test_the_interval_over_equal_speakers_is_a_point():
    report = make_report(*[(f"s{i}", "a b c d", "a b c x") for i in range(5)])

    assert report.wer_interval() == (0.25, 0.25)


def test_the_interval_holds_the_rate_and_is_the_same_for_the_same_seed():
    report = make_report(*[(f"s{i % 7}", "a b c d", "a b c d"[: 2 * (i % 5)]) for i in range(50)])

    low, high = report.wer_interval(seed=3)

    assert low < report.wer < high
    assert (low, high) == report.wer_interval(seed=3)
    narrow_low, narrow_high = report.wer_interval(confidence=0.5, seed=3)
    assert low <= narrow_low <= narrow_high <= high


def test_one_speaker_gives_no_interval():
    assert make_report(("s1", "a", "a"), ("s1", "b", "x")).wer_interval() is None


def test_the_worst_utterances_come_first():
    report = make_report(("s", "a b c", "a b c"), ("s", "a b c d", "x y c d"), ("s", "a b", "x y"), ("s", "a", "x"))

    assert [utterance.utterance_id for utterance in report.worst(3)] == ["2", "1", "3"]
