"""What is done to text: before it is scored, and before a model learns to write it."""

import re
import unicodedata

# What is typed for an apostrophe: single quotes, modifier letters, primes, the accents of a keyboard.
_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u02bb\u02bc\u2032\uff07`\u00b4"), "'")
_MINUS_SIGN = "\u2212"  # a dash to a reader, a mathematical symbol to Unicode

_PRONOUN = re.compile(r"(?<!\w)(?<!\w')i(?='(?:m|ll|d|ve)(?!\w)|(?!\w|'\w))")


def normalize_for_wer(text: str) -> str:
    """Reduce reference or hypothesis to the words that count in a word error rate.

    Lower case; hyphens and dashes become spaces; apostrophes stay inside words, in ASCII; all other
    punctuation and symbols are dropped; one space between words. Doing it twice changes nothing.

    Numbers are not spelled out, and nothing is done about spelling variants.

    Args:
        text: Any text.

    Returns:
        The words with single spaces between them; empty where there are none.
    """
    lowered = text.lower().translate(_APOSTROPHES)
    kept = (_keep(lowered, position) for position in range(len(lowered)))
    return unicodedata.normalize("NFC", " ".join("".join(kept).split()))


def to_sentence_case(text: str) -> str:
    """Turn the upper case of LibriSpeech into the style that the model writes.

    Lower case, but for the first letter and for "I", "I'm", "I'll", "I'd" and "I've". Names stay in lower
    case, since nothing in the corpus tells them from other words.

    Args:
        text: A transcript, usually in upper case and without punctuation.

    Returns:
        The transcript with single spaces between its words.
    """
    lowered = _PRONOUN.sub("I", " ".join(text.lower().split()))
    for position, char in enumerate(lowered):
        if char.isalpha():
            capital = char.upper() if len(char.upper()) == 1 else char
            return lowered[:position] + capital + lowered[position + 1 :]
    return lowered


def _keep(text: str, position: int) -> str:
    """Return what the character at ``position`` becomes: itself, a space, or nothing."""
    char = text[position]
    if _is_of_word(char):
        return char
    if char.isspace() or char == _MINUS_SIGN or unicodedata.category(char) == "Pd":
        return " "
    inside_word = 0 < position < len(text) - 1 and _is_of_word(text[position - 1]) and _is_of_word(text[position + 1])
    return char if char == "'" and inside_word else ""


def _is_of_word(char: str) -> bool:
    return unicodedata.category(char)[0] in "LMN"  # letters, marks on letters, numbers
