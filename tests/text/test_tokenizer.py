import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2 as proto

from cifasr.errors import ConfigError
from cifasr.text.tokenizer import Tokenizer, tokenizer_from_pieces, train_tokenizer

SENTENCES = [
    "The cat sat on the mat, and the dog sat by the door.",
    "I'm late: it's a quarter past ten!",
    "Bright vixens jump; dozy fowl quack.",
    "Pack my box with five dozen liquor jugs.",
]
PIECES = [" ", *"abcdefghijklmnopqrstuvwxyz'", " the", " a", "ing", " and", "er", " t"]

TRAINED = train_tokenizer(SENTENCES * 5, vocab_size=80)
GIVEN = tokenizer_from_pieces({piece: 100.0 - place for place, piece in enumerate(PIECES)})
BOTH = pytest.mark.parametrize("tokenizer", [TRAINED, GIVEN], ids=["trained", "from_pieces"])

words = st.text(alphabet="abcdefghijklmnopqrstuvwxyz'", min_size=1, max_size=8)
texts = st.lists(words, max_size=8).map(" ".join)


@BOTH
@settings(max_examples=50)
@given(text=texts)
def test_any_text_of_the_alphabet_comes_back(tokenizer, text):
    ids = tokenizer.encode(text)

    assert tokenizer.decode(ids) == text
    assert not set(ids) & {0, *tokenizer.prompt_ids, tokenizer.nothing_id}


@BOTH
@settings(max_examples=50)
@given(data=st.data())
def test_a_longer_sequence_decodes_to_a_text_that_begins_with_the_shorter_ones(tokenizer, data):
    first_id = 1 + max(tokenizer.nothing_id, *tokenizer.prompt_ids)
    ids = data.draw(st.lists(st.integers(first_id, tokenizer.vocab_size - 1), max_size=12))

    decoded = [tokenizer.decode(ids[:count]) for count in range(len(ids) + 1)]

    assert all(longer.startswith(shorter) for shorter, longer in itertools.pairwise(decoded))


@BOTH
@settings(max_examples=50)
@given(text=texts)
def test_each_word_begins_with_one_token_that_says_so(tokenizer, text):
    ids = tokenizer.encode(text)

    assert sum(tokenizer.starts_word(token_id) for token_id in ids) == len(text.split())
    assert "".join(tokenizer.piece_text(token_id) for token_id in ids).lstrip(" ") == text


def test_single_letters_as_words_are_spelled():
    ids = GIVEN.encode("t x")

    assert [GIVEN.piece_text(token_id) for token_id in ids] == [" t", " ", "x"]
    assert GIVEN.decode(ids) == "t x"


def test_frequent_pieces_are_used_where_they_fit():
    ids = GIVEN.encode("the singer and")

    assert [GIVEN.piece_text(token_id) for token_id in ids] == [" the", " ", "s", "ing", "er", " and"]


@BOTH
def test_the_control_pieces_mean_what_the_recogniser_needs(tokenizer):
    assert tokenizer.piece_text(tokenizer.start_id) == "<start>"
    assert tokenizer.piece_text(tokenizer.nothing_id) == "<nothing>"
    assert tokenizer.piece_text(0) == "<unk>"
    assert (tokenizer.start_id, tokenizer.nothing_id) == (1, 2)


def test_only_a_tokenizer_with_a_prompt_piece_prompts_with_it():
    assert TRAINED.prompt_ids == (1,)
    assert GIVEN.prompt_ids == (1, 3)


def test_given_pieces_keep_their_order_after_the_four_control_pieces():
    assert GIVEN.vocab_size == 4 + len(PIECES)
    assert [GIVEN.piece_text(4 + place) for place in range(len(PIECES))] == PIECES


@BOTH
@pytest.mark.parametrize("text", ["<nothing>", "<start>", "<prompt>", "a<nothing>b"])
def test_no_text_encodes_to_a_control_piece(tokenizer, text):
    ids = tokenizer.encode(text)

    assert not set(ids) & {tokenizer.nothing_id, *tokenizer.prompt_ids}


@BOTH
def test_control_pieces_decode_to_no_text(tokenizer):
    ids = tokenizer.encode("at ease")

    decoded = tokenizer.decode([*tokenizer.prompt_ids, *ids, tokenizer.nothing_id])

    assert decoded == "at ease"


@BOTH
def test_spaces_around_and_between_words_are_one(tokenizer):
    assert tokenizer.encode("  the   cat ") == tokenizer.encode("the cat")
    assert tokenizer.encode("   ") == tokenizer.encode("") == []


def test_a_piece_is_known_with_or_without_the_space_in_front():
    assert GIVEN.has_piece(" the")
    assert GIVEN.has_piece("ing")
    assert not GIVEN.has_piece("the")
    assert not GIVEN.has_piece(" ing")


@BOTH
def test_its_bytes_make_the_same_tokenizer(tokenizer):
    again = Tokenizer(tokenizer.model)

    assert again.encode("the cat") == tokenizer.encode("the cat")
    assert again.vocab_size == tokenizer.vocab_size


def test_a_text_with_few_pieces_makes_a_small_vocabulary():
    tokenizer = train_tokenizer(["ab ab", "ba"], vocab_size=1000)

    assert tokenizer.vocab_size < 20
    assert tokenizer.decode(tokenizer.encode("ba ab")) == "ba ab"


@pytest.mark.parametrize(("texts", "vocab_size"), [([], 100), ([""], 100), (SENTENCES, 5)])
def test_too_little_text_or_too_small_a_vocabulary_is_refused(texts, vocab_size):
    with pytest.raises(ConfigError, match=f"tokenizer: vocab_size {vocab_size}: "):
        train_tokenizer(texts, vocab_size)


@pytest.mark.parametrize("model", [b"", b"not a sentencepiece model", TRAINED.model[:100]])
def test_bytes_that_are_no_tokenizer_are_refused(model):
    with pytest.raises(ConfigError, match="tokenizer: "):
        Tokenizer(model)


def test_a_sentencepiece_model_without_nothing_is_refused():
    model = proto.ModelProto.FromString(GIVEN.model)
    model.trainer_spec.eos_id = -1
    model.trainer_spec.eos_piece = "<absent>"

    with pytest.raises(ConfigError, match="needs an end-of-sentence and a begin-of-sentence piece"):
        Tokenizer(model.SerializeToString())
