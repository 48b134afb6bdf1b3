"""Words with how often each is written, and after which: what tells a word from a misspelling."""

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cifasr.errors import ConfigError
from cifasr.text.normalize import normalize_for_wer

MAX_WORDS = 1 << 16
_DISCOUNT = 0.75
"""Taken off the count of every pair, for pairs that were not seen."""

_UNKNOWN_LETTER = 4.0
"""Nats that each letter of an unknown word costs; more than a letter tells, since most such words are misspellings."""

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_AFTER_ALL = chr(0x10FFFF)


class Counts(NamedTuple):
    """What was counted in a text.

    Attributes:
        words: V words in the order of their letters, each a line of UTF-8, (bytes,) uint8.
        word_counts: (V,) int64.
        pair_starts: (V + 2,) int64, where the pairs of each first word begin; those that begin a text come last.
        pair_words: (P,) uint16, the second word of each pair, in order.
        pair_counts: (P,) int32.
        totals: (2,) int64, how many texts there were, and how many words that are not among the V.
    """

    words: NDArray[np.uint8]
    word_counts: NDArray[np.int64]
    pair_starts: NDArray[np.int64]
    pair_words: NDArray[np.uint16]
    pair_counts: NDArray[np.int32]
    totals: NDArray[np.int64]


class Lexicon:
    """Probabilities of words after each other, and of all that begin alike.

    A pair's count, less a discount, over that of its first word; what that leaves goes to words by themselves
    (absolute discounting, Ney, Essen and Kneser, 1994).

    Args:
        counts: See `count_words`.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._words = counts.words.tobytes().decode().split("\n")
        self._place = {word: place for place, word in enumerate(self._words)}
        self._below = [0, *accumulate(counts.word_counts.tolist())]
        num_texts, self._num_unknown = counts.totals.tolist()
        self._log_total = math.log(self._below[-1] + self._num_unknown)
        self._as_first = np.append(counts.word_counts, num_texts)
        first = np.repeat(np.arange(len(self._as_first)), np.diff(counts.pair_starts))
        seen = np.bincount(first, counts.pair_counts - _DISCOUNT, len(self._as_first))
        self._left = 1 - seen / np.maximum(self._as_first, 1)
        self.log_prefix = lru_cache(maxsize=1 << 16)(self._log_prefix)
        self.log_word = lru_cache(maxsize=1 << 16)(self._log_word)

    def __len__(self) -> int:
        """Count the words."""
        return len(self._words)

    def __contains__(self, word: str) -> bool:
        """Say whether a word is known."""
        return word in self._place

    def _log_word(self, word: str, before: str | None) -> float:
        """Give the natural logarithm of a word's probability after another one; None before: the first of a text."""
        place = self._place.get(word)
        if place is None:
            return self._log_unknown(word)
        alone = int(self._counts.word_counts[place]) / math.exp(self._log_total)
        first = len(self._words) if before is None else self._place.get(before)
        if first is None:
            return math.log(alone)
        start, end = self._counts.pair_starts[first : first + 2].tolist()
        pair = start + int(np.searchsorted(self._counts.pair_words[start:end], place))
        is_seen = pair < end and self._counts.pair_words[pair] == place
        seen = float(self._counts.pair_counts[pair] - _DISCOUNT) / int(self._as_first[first]) if is_seen else 0.0
        return math.log(seen + float(self._left[first]) * alone)

    def _log_prefix(self, prefix: str) -> float:
        """Give the natural logarithm of the probability that a word begins so; 0 for the empty beginning."""
        if not prefix:
            return 0.0
        first, end = bisect_left(self._words, prefix), bisect_left(self._words, prefix + _AFTER_ALL)
        count = self._below[end] - self._below[first]
        return math.log(count) - self._log_total if count else self._log_unknown(prefix)

    def _log_unknown(self, word: str) -> float:
        return math.log(max(self._num_unknown, 1)) - self._log_total - _UNKNOWN_LETTER * len(word)

    def save(self, path: Path) -> None:
        """Write the counts as one safetensors file."""
        save_file(self._counts._asdict(), path)

    @classmethod
    def load(cls, path: Path) -> "Lexicon":
        """Read what `save` wrote.

        Raises:
            ConfigError: The file is not there or not of that kind.
        """
        try:
            return cls(Counts(**load_file(path)))
        except (OSError, SafetensorError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}: wanted a lexicon, as `cifasr lexicon` writes it: {error}") from error


def count_words(texts: Iterable[str]) -> Counts:
    """Count words and pairs of neighbours; what has other signs than letters and apostrophes in it is no word.

    Words and pairs that occur once are not kept: such words are together as likely as one that is unknown (Good, 1953).
    Of the others at most `MAX_WORDS` are, the most frequent.

    Args:
        texts: Sentences, in whatever case.

    Raises:
        ConfigError: No word occurs twice.
    """
    words: Counter[str | None] = Counter()
    pairs: Counter[tuple[str | None, str]] = Counter()
    for text in texts:
        found = [word for word in normalize_for_wer(text).split() if _WORD.fullmatch(word)]
        words.update([None, *found])
        pairs.update((before, word) for before, word in pairwise([None, *found]) if word is not None)
    num_texts = words.pop(None, 0)
    repeated = [(word, count) for word, count in words.most_common(MAX_WORDS) if word is not None and count > 1]
    if not repeated:
        raise ConfigError("lexicon: wanted a text in which some word occurs more than once, got none")
    kept = dict(sorted(repeated))
    places: dict[str | None, int] = {word: place for place, word in enumerate(kept)} | {None: len(kept)}
    rows = sorted(
        (places[before], places[word], count)
        for (before, word), count in pairs.items()
        if count > 1 and before in places and word in places
    )
    first, second, count = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Counts(
        np.frombuffer("\n".join(kept).encode(), dtype=np.uint8),
        np.array(list(kept.values()), dtype=np.int64),
        np.searchsorted(first, np.arange(len(kept) + 2)),
        second.astype(np.uint16),
        count.astype(np.int32),
        np.array([num_texts, words.total() - sum(kept.values())], dtype=np.int64),
    )
