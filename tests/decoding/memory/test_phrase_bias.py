import pytest
import torch

from cifasr.decoding.memory.phrase_bias import PhraseBias

A, B, C, D, V = 0, 1, 2, 3, 5


def bias(phrases, *, fits=None):
    """All keys are recognised, or those of the entries in ``fits``."""
    entries = [(phrase, place) for phrase in phrases for place in range(len(phrase))]
    scores = torch.tensor([[float(fits is None or entry in fits) for entry in range(len(entries))]])
    return PhraseBias(
        [phrase for phrase, _ in entries],
        [place for _, place in entries],
        lambda hidden: scores.expand(len(hidden), -1),
        least_scores=torch.full((len(entries),), 0.5),
        boost=2.0,
        vocab_size=V,
    )


def told(biasing, *tokens):
    """Go on from the beginning with these tokens, one hypothesis, each with the bonus that it is given."""
    state = biasing.begin()
    for token in tokens:
        given = biasing.bonus(state, torch.zeros(1, 1))
        state = biasing.follow(state, torch.tensor([0]), torch.tensor([token]), given[:, token])
    return biasing.bonus(state, torch.zeros(1, 1))[0].tolist()


def test_only_first_tokens_are_favoured_at_the_beginning():
    assert told(bias([(A, B), (C,)])) == [2, 0, 2, 0, 0]


def test_within_a_phrase_its_next_token_is_favoured_and_a_break_pays_back():
    assert told(bias([(A, B, C)]), A) == [0, 2, -2, -2, -2]
    assert told(bias([(A, B, C)]), A, B) == [-2, -4, 2, -4, -4]


def test_a_whole_phrase_keeps_its_bonus():
    assert told(bias([(A, B)]), A, B) == [2, 0, 0, 0, 0]


def test_a_broken_phrase_is_over():
    assert told(bias([(A, B)]), A, D) == [2, 0, 0, 0, 0]


def test_a_phrase_that_breaks_into_another_begins_it():
    assert told(bias([(A, B), (C, D)]), A, C) == [0, -2, 0, 2, -2]


def test_a_longer_phrase_goes_on_where_a_shorter_one_is_whole():
    assert told(bias([(A, B), (A, B, C)]), A, B) == [2, 0, 2, 0, 0]


def test_a_token_whose_key_is_not_recognised_is_not_favoured_and_not_a_break():
    assert told(bias([(A, B, C)], fits={0, 2})) == [2, 0, 0, 0, 0]
    assert told(bias([(A, B, C)], fits={0, 2}), A) == [0, 0, -2, -2, -2]
    assert told(bias([(A, B, C)], fits={0, 2}), A, B) == [-0, -2, 2, -2, -2]


def test_a_memory_of_nothing_favours_nothing():
    assert told(bias([]), A, B) == [0] * V


def test_each_hypothesis_has_a_place_of_its_own():
    biasing = bias([(A, B)])
    state = biasing.follow(
        biasing.begin(), torch.tensor([0, 0]), torch.tensor([A, D]), torch.tensor([2.0, 0.0], dtype=torch.float64)
    )

    bonus = biasing.bonus(state, torch.zeros(2, 1))

    assert bonus.tolist() == [[0, 2, -2, -2, -2], [2, 0, 0, 0, 0]]
    assert state["prefixes"].tolist() == [[A, -1], [-1, -1]]


@pytest.mark.parametrize("name", ["prefixes", "spent"])
def test_state_has_a_row_for_each_hypothesis(name):
    assert bias([(A, B), (C,)]).begin()[name].shape[0] == 1
