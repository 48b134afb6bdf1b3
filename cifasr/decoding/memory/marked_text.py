"""Texts in which brackets mark what is to be learnt: "I met [Threlkeld] today"."""

import re
from typing import NamedTuple

from cifasr.errors import ConfigError
from cifasr.text.tokenizer import Tokenizer

_MARKED = re.compile(r"(?<!\S)\[([^][]+)\](?!\S)")


class MarkedPhrase(NamedTuple):
    """A phrase within a text.

    Attributes:
        text: Its words, with single spaces between.
        token_ids: Its tokens.
        first: The first one's place among the text's.
    """

    text: str
    token_ids: tuple[int, ...]
    first: int


def marked_phrases(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[MarkedPhrase]]:
    """Find the tokens of a text, and the phrases that are marked in it.

    Args:
        tokenizer: Whose tokens.
        text: Words; some may stand in brackets.

    Returns:
        token_ids: Of the whole text, without the brackets.
        phrases: What stands in them; without any, the whole text.

    Raises:
        ConfigError: A bracket is empty, unpaired or within a word; or there is nothing to write, or something that the
            tokenizer cannot.
    """
    parts = _MARKED.split(text if "[" in text or "]" in text else f"[{text}]")
    token_ids: list[int] = []
    phrases: list[MarkedPhrase] = []
    for place, part in enumerate(parts):
        words, is_marked = " ".join(part.split()), place % 2 == 1
        if "[" in part or "]" in part or (is_marked and not words):
            raise ConfigError(f"text: wanted words, or brackets around whole words, got {text!r}")
        part_ids = tokenizer.encode(words)
        if tokenizer.decode(part_ids) != words:
            raise ConfigError(f"text: wanted what the model's tokens can write, got {words!r}")
        if is_marked:
            phrases.append(MarkedPhrase(words, tuple(part_ids), len(token_ids)))
        token_ids += part_ids
    return token_ids, phrases
