"""Which sentences are read, in which order, and how they are handed to a synthesiser."""

import lzma
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifasr.errors import DataError
from cifasr.text.normalize import to_sentence_case

MIN_WORDS, MAX_WORDS = 4, 35
"""Words of a sentence that is read."""

MAX_SENTENCES = 3
"""Most sentences in one utterance."""

_WANTED_WORDS = (5, 46)  # an utterance goes on until it has a number of words drawn from here ...
_MOST_WORDS = 50  # ... if the next sentence fits

_SPEAKABLE = re.compile(r"'?[A-Za-z]+(?:['-][A-Za-z]+)*'?[.,;:!?]*")  # a word with what stands behind it
_PIECES = {"LL", "VE", "RE", "MR", "MRS", "DR", "ST", "ND", "RD", "TH"}  # what is left of "I'LL", "MR.", "2ND"
_WORDS_OF_ONE_LETTER = {"A", "I", "O"}

_CONJUNCTIONS = {
    "and",
    "but",
    "or",
    "nor",
    "for",
    "yet",
    "so",
    "because",
    "although",
    "though",
    "while",
    "when",
    "where",
    "which",
    "who",
    "whom",
    "if",
    "unless",
    "until",
    "since",
    "as",
    "than",
}
_QUESTIONS = {
    "who",
    "whom",
    "whose",
    "what",
    "when",
    "where",
    "why",
    "how",
    "which",
    "is",
    "are",
    "was",
    "were",
    "do",
    "does",
    "did",
    "can",
    "could",
    "will",
}
_CLAUSE_WORDS = 3  # no pause is made nearer than so many words to another or to an end

_PLAN_DRAW, _PAUSE_DRAW = 3, 4


@dataclass(frozen=True)
class PlannedUtterance:
    """One utterance before it is spoken.

    Attributes:
        number: Its place in the plan, from 0.
        sentences: One to three sentences, as the text has them.
    """

    number: int
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The transcript."""
        return " ".join(self.sentences)


def read_sentences(path: Path) -> list[str]:
    """Read a text of one sentence a line, and keep the lines that can be spoken as they are written.

    Args:
        path: UTF-8 text, plain or compressed as ``.xz``.

    Returns:
        Lines of 4 to 35 words of letters, apostrophes and hyphens, in the order of the file.

    Raises:
        DataError: The file is absent or unreadable, or no line can be used.
    """
    try:
        content = path.read_bytes()
        content = lzma.decompress(content) if path.suffix == ".xz" else content
        lines = content.decode("utf-8").splitlines()
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: wanted UTF-8 text of one sentence a line: {error}") from error
    sentences = [line for line in (" ".join(line.split()) for line in lines) if is_speakable(line)]
    if not sentences:
        raise DataError(f"{path}: none of its {len(lines)} lines is a sentence of {MIN_WORDS} to {MAX_WORDS} words")
    return sentences


def is_speakable(sentence: str) -> bool:
    """Say whether a sentence has the right length, and nothing that may be read in several ways."""
    words = sentence.upper().split()
    if not MIN_WORDS <= len(words) <= MAX_WORDS or not all(map(_SPEAKABLE.fullmatch, words)):
        return False
    if words[0].startswith("'"):  # a quotation, or a word cut short
        return False
    bare = [word.rstrip(".,;:!?") for word in words]
    return all(word not in _PIECES and (len(word) > 1 or word in _WORDS_OF_ONE_LETTER) for word in bare)


def plan_utterances(sentences: Sequence[str], seed: int) -> Iterator[PlannedUtterance]:
    """Put sentences into utterances, in an order that the seed fixes and that any beginning of spreads over the text.

    Args:
        sentences: What may be read; each is used at most once.
        seed: Of the whole corpus, >= 0.

    Yields:
        Utterances of one to three sentences, until the sentences end.
    """
    rng = np.random.default_rng((_PLAN_DRAW, seed))
    order = rng.permutation(len(sentences)).tolist()
    number = 0
    while order:
        wanted = int(rng.integers(*_WANTED_WORDS))
        taken = [sentences[order.pop()]]
        num_words = len(taken[0].split())
        while order and len(taken) < MAX_SENTENCES and num_words < wanted:
            following = sentences[order[-1]]
            num_words += len(following.split())
            if num_words > _MOST_WORDS:
                break
            taken.append(following)
            order.pop()
        yield PlannedUtterance(number, tuple(taken))
        number += 1


def spoken_form(sentence: str, pause_rate: float, rng: np.random.Generator) -> str:
    """Write a sentence the way a synthesiser expects it: in lower case, with commas and an end.

    A sentence that has punctuation or small letters already keeps what it has.

    Args:
        sentence: As the text has it.
        pause_rate: Share of the conjunctions that get a comma, 0 to 1.
        rng: Draws which.

    Returns:
        For ``HE KNEW THE MAN BUT HE SAID NOTHING`` perhaps ``He knew the man, but he said nothing.``
    """
    words = (to_sentence_case(sentence) if sentence.isupper() else sentence).split()
    last_pause = 0
    for place in range(_CLAUSE_WORDS, len(words) - _CLAUSE_WORDS):
        if words[place].lower() not in _CONJUNCTIONS or place - last_pause < _CLAUSE_WORDS:
            continue
        if rng.random() < pause_rate and words[place - 1][-1].isalpha():
            words[place - 1] += ","
            last_pause = place
    if words[-1][-1] not in ".!?":
        words[-1] = words[-1].rstrip(",;:") + ("?" if words[0].lower() in _QUESTIONS and rng.random() < 0.5 else ".")
    return " ".join(words)
