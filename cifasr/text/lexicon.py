"""A list of words with how often each is written, which tells a word from a misspelling."""

import gzip
import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

from cifasr.errors import ConfigError
from cifasr.text.normalize import normalize_for_wer

_UNKNOWN_LETTER = 4.0
"""Nats that each letter of an unknown word costs; more than a letter tells, since most such words are misspellings."""

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_AFTER_ALL = chr(0x10FFFF)


class Lexicon:
    """Words and their probabilities, of whole words and of those that begin alike.

    Args:
        counts: How often each word occurs, in lower case.
        num_unknown: How often words occurred that are not among them.

    Raises:
        ConfigError: There is no word.
    """

    def __init__(self, counts: Mapping[str, int], num_unknown: int) -> None:
        if not counts:
            raise ConfigError("lexicon: wanted a text in which some word occurs more than once, got none")
        self._counts = dict(sorted(counts.items()))
        self._words = list(self._counts)
        self._num_unknown = num_unknown
        self._below = [0, *accumulate(self._counts.values())]
        self._log_total = math.log(self._below[-1] + num_unknown)
        self.log_prefix = lru_cache(maxsize=1 << 16)(self._log_prefix)

    @classmethod
    def from_text(cls, lines: Iterable[str]) -> "Lexicon":
        """Count the words of a text; what has other signs than letters and apostrophes in it is no word.

        Words that occur once are not kept: together they are as likely as a word that is unknown (Good, 1953).
        """
        counts: Counter[str] = Counter()
        for line in lines:
            counts.update(word for word in normalize_for_wer(line).split() if _WORD.fullmatch(word))
        known = {word: count for word, count in counts.items() if count > 1}
        return cls(known, len(counts) - len(known))

    def __len__(self) -> int:
        """Count the words."""
        return len(self._words)

    def __contains__(self, word: str) -> bool:
        """Say whether a word is known."""
        return word in self._counts

    def log_word(self, word: str) -> float:
        """Give the natural logarithm of a word's probability."""
        count = self._counts.get(word)
        return self._log_unknown(word) if count is None else math.log(count) - self._log_total

    def _log_prefix(self, prefix: str) -> float:
        """Give the natural logarithm of the probability that a word begins so; 0 for the empty beginning."""
        if not prefix:
            return 0.0
        count = (
            self._below[bisect_left(self._words, prefix + _AFTER_ALL)] - self._below[bisect_left(self._words, prefix)]
        )
        return math.log(count) - self._log_total if count else self._log_unknown(prefix)

    def _log_unknown(self, word: str) -> float:
        return math.log(max(self._num_unknown, 1)) - self._log_total - _UNKNOWN_LETTER * len(word)

    def save(self, path: Path) -> None:
        """Write a word a line behind its count, compressed; the first line has the count of unknown words."""
        lines = [f"{self._num_unknown}\t", *(f"{count}\t{word}" for word, count in self._counts.items())]
        with path.open("wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            packed.write("\n".join(lines).encode())

    @classmethod
    def load(cls, path: Path) -> "Lexicon":
        """Read what `save` wrote.

        Raises:
            ConfigError: The file is not there or not of that kind.
        """
        try:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                (unknown, _), *rows = (line.rstrip("\n").split("\t") for line in file)
                return cls({word: int(count) for count, word in rows}, int(unknown))
        except (OSError, EOFError, ValueError) as error:
            raise ConfigError(f"{path}: wanted a lexicon, as `cifasr lexicon` writes it: {error}") from error
