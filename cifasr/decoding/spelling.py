"""What a lexicon says of hypotheses while they are written, a piece of a word at a time."""

import torch
from torch import Tensor

from cifasr.text.lexicon import Lexicon
from cifasr.text.tokenizer import Tokenizer

_MAX_BYTES = 64
"""Of an unfinished word; what is longer is no word any more."""

_APOSTROPHES = "'\u2019"


class Spelling:
    """Scores words by a lexicon: a begun word by all words that begin so, a finished one by itself.

    Each piece gets the difference that it makes, so that a word gets the logarithm of its probability in all, and a
    misspelling is noticed at the letter at which it stops to be a word's beginning.

    Args:
        lexicon: The words.
        tokenizer: Gives a token's text.
        weight: Of the lexicon's logarithms beside the decoder's.
    """

    def __init__(self, lexicon: Lexicon, tokenizer: Tokenizer, weight: float) -> None:
        self._lexicon = lexicon
        self._tokenizer = tokenizer
        self._weight = weight

    def score(self, unfinished: Tensor, tokens: Tensor) -> Tensor:
        """Score tokens.

        Args:
            unfinished: (K, `_MAX_BYTES`) uint8, see `no_word`.
            tokens: (K, n) int64, what may come next.

        Returns:
            (K, n) float64, what each token adds.
        """
        rows = [
            [self._gain(word, token) for token in row]
            for word, row in zip(map(_text, unfinished), tokens.tolist(), strict=True)
        ]
        return self._weight * torch.tensor(rows, dtype=torch.float64)

    def end(self, unfinished: Tensor) -> Tensor:
        """Score the end of the text: (K,) float64, what ending the last word adds."""
        ends = [self._end(word) for word in map(_text, unfinished)]
        return self._weight * torch.tensor(ends, dtype=torch.float64)

    def follow(self, unfinished: Tensor, tokens: Tensor) -> Tensor:
        """Append a token, (K,), to each unfinished word."""
        words = [
            _pieces(word + self._tokenizer.piece_text(token))[-1]
            for word, token in zip(map(_text, unfinished), tokens.tolist(), strict=True)
        ]
        return torch.stack([_bytes(word) for word in words])

    def _gain(self, word: str, token: int) -> float:
        *finished, begun = _pieces(word + self._tokenizer.piece_text(token))
        ends = sum(self._lexicon.log_word(each) for each in (piece.strip("'") for piece in finished) if each)
        return ends + self._lexicon.log_prefix(begun) - self._lexicon.log_prefix(word)

    def _end(self, word: str) -> float:
        bare = word.strip("'")
        return self._lexicon.log_word(bare) - self._lexicon.log_prefix(word) if bare else 0.0


def no_word() -> Tensor:
    """Begin a text: (1, `_MAX_BYTES`) uint8, the letters of a word that is not finished, in UTF-8, zeros behind."""
    return torch.zeros(1, _MAX_BYTES, dtype=torch.uint8)


def _pieces(text: str) -> list[str]:
    """Cut a text where a word ends; the last piece is not finished, and may be empty."""
    letters = (char if char.isalpha() else "'" if char in _APOSTROPHES else " " for char in text.lower())
    return "".join(letters).lstrip("'").split(" ")


def _text(unfinished: Tensor) -> str:
    return bytes(unfinished.tolist()).rstrip(b"\0").decode(errors="ignore")


def _bytes(word: str) -> Tensor:
    return torch.frombuffer(bytearray(word.encode()[:_MAX_BYTES].ljust(_MAX_BYTES, b"\0")), dtype=torch.uint8)
