"""Word and character error rates: of one utterance, of many, and how far the number can be trusted."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jiwer
import numpy as np


@dataclass(frozen=True)
class ErrorCounts:
    """The edits that turn a reference into a hypothesis, counted in words or in characters.

    Attributes:
        substitutions: Units replaced.
        deletions: Units of the reference that the hypothesis lacks.
        insertions: Units that only the hypothesis has.
        hits: Units that are the same.
    """

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    hits: int = 0

    @property
    def errors(self) -> int:
        """All edits."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_words(self) -> int:
        """Units of the reference: words, or characters where those were counted."""
        return self.substitutions + self.deletions + self.hits

    @property
    def wer(self) -> float:
        """Errors over the length of the reference, a rate; infinite where only the reference is empty."""
        if self.reference_words == 0:
            return float("inf") if self.errors else 0.0
        return self.errors / self.reference_words

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.hits + other.hits,
        )


def count_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Count the word errors of a hypothesis, with words as they stand between spaces.

    Against an empty reference, all words of the hypothesis are insertions.

    Args:
        reference: What was said, after `cifasr.text.normalize.normalize_for_wer`.
        hypothesis: What was recognised, after the same.
    """
    output = jiwer.process_words(reference, hypothesis)
    return ErrorCounts(output.substitutions, output.deletions, output.insertions, output.hits)


def count_character_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Count the character errors of a hypothesis, spaces included; the texts are those of `count_errors`."""
    output = jiwer.process_characters(reference, hypothesis)
    return ErrorCounts(output.substitutions, output.deletions, output.insertions, output.hits)


@dataclass(frozen=True)
class ScoredUtterance:
    """One utterance with its errors.

    Attributes:
        utterance_id: Its name in the corpus.
        speaker: Who speaks; the bootstrap draws speakers.
        reference: Text as in the corpus.
        hypothesis: Text as recognised.
        words: Word errors.
        characters: Character errors.
    """

    utterance_id: str
    speaker: str
    reference: str
    hypothesis: str
    words: ErrorCounts
    characters: ErrorCounts


def score_utterance(
    utterance_id: str, speaker: str, reference: str, hypothesis: str, *, normalize: Callable[[str], str]
) -> ScoredUtterance:
    """Count the errors of one utterance in words and in characters.

    Args:
        utterance_id: Its name in the corpus.
        speaker: Who speaks.
        reference: Text as in the corpus.
        hypothesis: Text as recognised.
        normalize: What is done to both before they are compared: `cifasr.text.normalize.normalize_for_wer`.
    """
    said, heard = normalize(reference), normalize(hypothesis)
    words, characters = count_errors(said, heard), count_character_errors(said, heard)
    return ScoredUtterance(utterance_id, speaker, reference, hypothesis, words, characters)


class ErrorReport:
    """The errors over a set of utterances.

    Args:
        utterances: Any number, of any speakers.
    """

    def __init__(self, utterances: Iterable[ScoredUtterance]) -> None:
        self.utterances = tuple(utterances)
        self.words = sum((utterance.words for utterance in self.utterances), ErrorCounts())
        self.characters = sum((utterance.characters for utterance in self.utterances), ErrorCounts())

    @property
    def wer(self) -> float:
        """All word errors over all reference words, a rate."""
        return self.words.wer

    @property
    def cer(self) -> float:
        """All character errors over all reference characters, a rate."""
        return self.characters.wer

    def wer_interval(
        self, *, confidence: float = 0.95, num_resamples: int = 10_000, seed: int = 0
    ) -> tuple[float, float] | None:
        """Bootstrap the word error rate over speakers: draw speakers with replacement, pool their counts.

        Utterances of one speaker fail together, so that drawing utterances would promise too much.

        Args:
            confidence: Share of the resampled rates that lie inside, in (0, 1).
            num_resamples: How often to draw.
            seed: The same seed gives the same interval.

        Returns:
            The lower and the upper rate (percentile method); None for fewer than two speakers, which say
            nothing about others.

        Source:
            Bisani and Ney, Bootstrap estimates for confidence intervals in ASR performance evaluation,
            ICASSP 2004; here over speakers.
        """
        counts: dict[str, ErrorCounts] = {}
        for utterance in self.utterances:
            counts[utterance.speaker] = counts.get(utterance.speaker, ErrorCounts()) + utterance.words
        if len(counts) < 2:
            return None
        by_speaker = np.array([(count.errors, count.reference_words) for count in counts.values()])  # (speakers, 2)
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(len(counts), [1 / len(counts)] * len(counts), size=num_resamples)  # how often each
        errors, words = (drawn @ by_speaker).T.astype(np.float64)
        rates = np.divide(errors, words, out=np.where(errors > 0, np.inf, 0.0), where=words > 0)
        tail = (1 - confidence) / 2
        low, high = np.quantile(rates, [tail, 1 - tail], method="inverted_cdf")
        return float(low), float(high)

    def worst(self, count: int) -> list[ScoredUtterance]:
        """Return the ``count`` utterances with the most word errors, and of those the higher rate first."""
        return sorted(self.utterances, key=lambda utterance: (-utterance.words.errors, -utterance.words.wer))[:count]
