import pytest
import torch

from cifasr.decoding.spelling import Spelling, nothing_written
from cifasr.text.lexicon import Lexicon, count_words
from cifasr.text.tokenizer import tokenizer_from_pieces

PIECES = [" gren", "ad", "ier", "eer", " don", "'t", ",", " a", "\u2019t"]


@pytest.fixture
def tokenizer():
    return tokenizer_from_pieces(dict.fromkeys(PIECES, 1.0))


@pytest.fixture
def lexicon():
    return Lexicon(
        count_words(["A grenadier, a grenade", "a grenadier", "a grenade a grenade", "don't a", "don't a b"])
    )


def totals(spelling, tokenizer, *pieces):
    """Give what each piece adds, and the end."""
    writing, gains = nothing_written(), []
    for piece in pieces:
        token = torch.tensor([ids(tokenizer, piece)])
        gains.append(float(spelling.score(writing, token[None])))
        writing = spelling.follow(writing, token)
    return [*gains, float(spelling.end(writing))]


def ids(tokenizer, piece):
    return next(each for each in range(tokenizer.vocab_size) if tokenizer.piece_text(each) == piece)


def test_a_word_gets_the_logarithm_of_its_probability_in_all(tokenizer, lexicon):
    spelling = Spelling(lexicon, tokenizer, 0.5)

    gains = totals(spelling, tokenizer, " gren", "ad", "ier")

    assert gains[0] == pytest.approx(0.5 * lexicon.log_prefix("gren"))
    assert sum(gains) == pytest.approx(0.5 * lexicon.log_word("grenadier", None))


def test_a_misspelling_is_noticed_where_it_stops_to_be_a_beginning(tokenizer, lexicon):
    spelling = Spelling(lexicon, tokenizer, 1.0)

    right, wrong = (totals(spelling, tokenizer, " gren", "ad", end) for end in ("ier", "eer"))

    assert right[:2] == wrong[:2]
    assert right[2] > wrong[2] + 10


@pytest.mark.parametrize("apostrophe", ["'t", "\u2019t"])
def test_an_apostrophe_is_part_of_a_word_and_a_comma_ends_it(tokenizer, lexicon, apostrophe):
    spelling = Spelling(lexicon, tokenizer, 1.0)

    gains = totals(spelling, tokenizer, " don", apostrophe, ",", " a")

    assert sum(gains[:3]) == pytest.approx(lexicon.log_word("don't", None))
    assert sum(gains) == pytest.approx(lexicon.log_word("don't", None) + lexicon.log_word("a", "don't"))


def test_hypotheses_are_scored_each_by_its_own_word(tokenizer, lexicon):
    spelling = Spelling(lexicon, tokenizer, 1.0)
    words = spelling.follow(
        nothing_written().expand(2, -1), torch.tensor([ids(tokenizer, " gren"), ids(tokenizer, " don")])
    )

    scores = spelling.score(words, torch.tensor([[ids(tokenizer, "ad"), ids(tokenizer, "'t")]]).expand(2, -1))

    assert scores[0, 0] > scores[0, 1] + 10
    assert scores[1, 1] > scores[1, 0] + 10


def test_what_is_too_long_for_a_word_is_one_that_is_unknown(tokenizer, lexicon):
    spelling = Spelling(lexicon, tokenizer, 1.0)
    writing = nothing_written()
    for _ in range(50):
        writing = spelling.follow(writing, torch.tensor([ids(tokenizer, "ad")]))

    assert bytes(writing[0].tolist()) == b" " + b"ad" * 31 + b"a"
    assert float(spelling.end(writing)) == 0.0  # it has been paid for already
