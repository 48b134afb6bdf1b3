"""What a lexicon says of hypotheses while they are written, a piece of a word at a time."""

from itertools import pairwise

import torch
from torch import Tensor

from cifasr.models.cif_asr import CifAsr
from cifasr.text.lexicon import Lexicon
from cifasr.text.tokenizer import Tokenizer

_MAX_BYTES = 64
"""Of an unfinished word; what is longer is no word any more."""

_APOSTROPHES = "'\u2019"


class Spelling:
    """Scores words by a lexicon: a begun word by all words that begin so, a finished one by itself.

    Each piece gets the difference that it makes, so that a word gets in all the logarithm of its probability after the
    word before, and a misspelling is noticed at the letter at which it stops to be a word's beginning.

    Args:
        lexicon: The words.
        tokenizer: Gives a token's text.
        weight: Of the lexicon's logarithms beside the decoder's.
    """

    def __init__(self, lexicon: Lexicon, tokenizer: Tokenizer, weight: float) -> None:
        self._lexicon = lexicon
        self._tokenizer = tokenizer
        self._weight = weight

    def score(self, writing: Tensor, tokens: Tensor) -> Tensor:
        """Score tokens.

        Args:
            writing: (K, `_MAX_BYTES`) uint8, see `nothing_written`.
            tokens: (K, n) int64, what may come next.

        Returns:
            (K, n) float64, what each token adds.
        """
        rows = [
            [self._gain(text, self._tokenizer.piece_text(token)) for token in row]
            for text, row in zip(map(_text, writing), tokens.tolist(), strict=True)
        ]
        return self._weight * torch.tensor(rows, dtype=torch.float64)

    def end(self, writing: Tensor) -> Tensor:
        """Score the end of the text: (K,) float64, what ending the last word adds."""
        return self._weight * torch.tensor([self._gain(text, " ") for text in map(_text, writing)], dtype=torch.float64)

    def follow(self, writing: Tensor, tokens: Tensor) -> Tensor:
        """Append a token, (K,), to what each hypothesis is writing."""
        texts = [
            " ".join(_words(text, self._tokenizer.piece_text(token))[-2:])
            for text, token in zip(map(_text, writing), tokens.tolist(), strict=True)
        ]
        return torch.stack([_bytes(text) for text in texts])

    def _gain(self, text: str, piece: str) -> float:
        *finished, begun = _words(text, piece)
        ended = sum(self._lexicon.log_word(word, before or None) for before, word in pairwise(finished))
        return ended + self._lexicon.log_prefix(begun) - self._lexicon.log_prefix(text.partition(" ")[2])


def spelling_of(model: CifAsr, weight: float) -> Spelling | None:
    """Spell by the lexicon of a model, if it has one and its weight is not 0."""
    return Spelling(model.lexicon, model.tokenizer, weight) if model.lexicon and weight else None


def nothing_written() -> Tensor:
    """Begin a text: (1, `_MAX_BYTES`) uint8 of UTF-8, zeros behind: the word before, a space, and the one begun."""
    return torch.zeros(1, _MAX_BYTES, dtype=torch.uint8)


def _words(text: str, piece: str) -> list[str]:
    """Append a piece to a text, of a word before and one begun; give the one before, those that ended, and one begun.

    Where there is none before, or nothing is begun, it is empty.
    """
    before, _, begun = text.partition(" ")
    letters = (char if char.isalpha() else "'" if char in _APOSTROPHES else " " for char in (begun + piece).lower())
    *ended, begun = "".join(letters).split(" ")
    return [before, *filter(None, (word.strip("'") for word in ended)), begun.lstrip("'")]


def _text(writing: Tensor) -> str:
    return bytes(writing.tolist()).rstrip(b"\0").decode(errors="ignore")


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text.encode()[:_MAX_BYTES].ljust(_MAX_BYTES, b"\0")), dtype=torch.uint8)
