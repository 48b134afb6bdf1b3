from types import SimpleNamespace

import pytest
import torch

from cifasr.decoding.case import restore_case
from cifasr.text.tokenizer import tokenizer_from_pieces

TOKENIZER = tokenizer_from_pieces(
    {" The": 9, " the": 8, " boat": 7, " Boat": 6, " of": 5, " Mar": 4, " mar": 3, "ius": 2, "m": 1, " ": 1}
)


def model_that_prefers(piece):
    """A recogniser that hears nothing, and finds one piece likelier than any other wherever it is asked."""
    preferred = TOKENIZER.encode(piece)[0]

    def decoder(tokens, encoder_out, starts, ends):
        logits = torch.zeros(*tokens.shape, TOKENIZER.vocab_size)
        logits[..., preferred] = 1.0
        return logits

    return SimpleNamespace(tokenizer=TOKENIZER, decoder=decoder)


@pytest.mark.parametrize(
    ("preferred", "restored"),
    [
        ("Mar", "The boat of Marius"),
        ("mar", "The boat of marius"),
        ("Boat", "The Boat of marius"),
        ("the", "The boat of marius"),
    ],
)
def test_a_word_gets_a_capital_where_its_first_piece_is_likelier_with_one(preferred, restored):
    frames = torch.zeros(1, 20, 8)

    texts = restore_case(model_that_prefers(preferred), frames, torch.tensor([20]), ["The boat of marius"])

    assert texts == [restored]


def test_each_transcript_of_a_batch_is_read_at_its_own_places():
    frames = torch.zeros(2, 20, 8)
    given = ["The boat of marius", "The marius"]

    texts = restore_case(model_that_prefers("Mar"), frames, torch.tensor([20, 9]), given)

    assert texts == ["The boat of Marius", "The Marius"]
