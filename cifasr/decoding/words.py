"""Tokens to words with times and confidences."""

from collections.abc import Sequence

from cifasr.decoding.result import Word
from cifasr.text.tokenizer import Tokenizer


def words_of(
    tokenizer: Tokenizer,
    token_ids: Sequence[int],
    starts_s: Sequence[float],
    ends_s: Sequence[float],
    confidences: Sequence[float],
) -> tuple[Word, ...]:
    """Join tokens into words.

    Args:
        tokenizer: Whose tokens they are.
        token_ids: U tokens.
        starts_s: Where each begins, in seconds.
        ends_s: Where each ends, never decreasing.
        confidences: Posterior of each.

    Returns:
        The words in order; a word is as sure as its weakest token, and no word begins before the last has ended.
    """
    groups: list[list[int]] = []
    for place, token_id in enumerate(token_ids):
        if tokenizer.starts_word(token_id) or not groups:
            groups.append([])
        groups[-1].append(place)
    words: list[Word] = []
    for group in groups:
        text = tokenizer.decode([token_ids[place] for place in group]).strip()
        if not text:
            continue
        end = ends_s[group[-1]]
        start = min(end, max(starts_s[group[0]], words[-1].end_s if words else 0.0))
        words.append(Word(text, start, end, min(confidences[place] for place in group)))
    return tuple(words)
