"""Words taught once, each from a recording.

The neuron gives each token of a text a firing of its own, so a taught word needs no alignment: the decoder is made to
write it while it hears it, and what each of its tokens was read from is its key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor

from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples
from cifasr.config import Config
from cifasr.decoding.biasing import Dictation
from cifasr.decoding.memory.associative import (
    AssociativeMemory,
    Boosting,
    GatedHebbian,
    Hopfield,
    Mushroom,
    NearestNeighbour,
)
from cifasr.decoding.memory.limits import MAX_LESSON_S, MAX_LESSONS, MAX_PHRASES, MAX_TOKENS
from cifasr.decoding.memory.marked_text import MarkedPhrase, marked_phrases
from cifasr.decoding.memory.phrase_bias import PhraseBias
from cifasr.decoding.streaming import StreamingOptions, StreamingRecognizer, transcribe
from cifasr.errors import AudioError, ConfigError
from cifasr.models.cif_asr import CifAsr
from cifasr.nn.state import State
from cifasr.text.normalize import normalize_for_wer

_SURE_OF_NOTHING = (0.9, 0.999)
"""Probability of "nothing" at which a firing in a lesson is no token: a lesson is known to hold its text. The second is
for one that does not hold it by the first: a name's last letters may be silent.
"""

_CAUTION = 0.05
"""Step by which a phrase that was written and not said becomes harder to recognise."""


class Backend(StrEnum):
    """How keys are remembered; "boosting" remembers none, and favours its phrases everywhere."""

    nearest = "nearest"
    mushroom = "mushroom"
    hebbian = "hebbian"
    hopfield = "hopfield"
    boosting = "boosting"


DEFAULT_BACKEND = Backend.nearest
"""What the table in `cifasr/cerebellum/README.md` says."""

MEMORIES: Mapping[Backend, type[AssociativeMemory]] = {
    Backend.nearest: NearestNeighbour,
    Backend.mushroom: Mushroom,
    Backend.hebbian: GatedHebbian,
    Backend.hopfield: Hopfield,
    Backend.boosting: Boosting,
}
"""The memory of each backend."""


class Strength(Config):
    """When a key counts as recognised, and what that is worth.

    Attributes:
        least_score: Score that a key must reach.
        boost: Added to the natural logarithm of its token's probability.
    """

    least_score: float
    boost: float


STRENGTHS: Mapping[Backend, Strength] = {
    Backend.nearest: Strength(least_score=0.7, boost=6.0),
    Backend.mushroom: Strength(least_score=0.3, boost=6.0),
    Backend.hebbian: Strength(least_score=0.4, boost=8.0),
    Backend.hopfield: Strength(least_score=0.7, boost=6.0),
    Backend.boosting: Strength(least_score=0.5, boost=2.0),
}
"""Set on other names and speakers than those of the tables in `cifasr/cerebellum/README.md`, but for two boosts of 6:
they were 8, and its table of real speech says why they are not.
"""


@dataclass(frozen=True, slots=True)
class Phrase:
    """A word or a few that were taught.

    Attributes:
        text: How it is written.
        token_ids: Its tokens.
        num_lessons: Recordings that it is known from.
        caution: How much more than `Strength.least_score` its keys must score; see `WordMemory.correct`.
    """

    text: str
    token_ids: tuple[int, ...]
    num_lessons: int = 0
    caution: float = 0.0


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one recording has to teach.

    Attributes:
        parts: Each phrase with the keys of its tokens, (U, D) of length 1.
    """

    parts: tuple[tuple[MarkedPhrase, Tensor], ...]


class WordMemory:
    """What one person taught a recogniser.

    Args:
        model: The recogniser.
        version: The `content_version` of its file: keys of another model mean nothing to it.
        backend: How keys are remembered.
        strength: When they count, and what for; None: what suits the backend.
    """

    def __init__(
        self,
        model: CifAsr,
        version: str,
        backend: Backend = DEFAULT_BACKEND,
        strength: Strength | None = None,
    ) -> None:
        self.version = version
        self.backend = backend
        self._model = model
        self._strength = strength or STRENGTHS[backend]
        self._memory = MEMORIES[backend]()
        self._phrases: dict[str, Phrase] = {}
        self._lessons: list[str] = []  # phrase of each, oldest first; its entries, one a token, lie together
        self._state = self._memory.begin(model.config.decoder.d_model)

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """What was taught, oldest first."""
        return tuple(self._phrases.values())

    @property
    def num_bytes(self) -> int:
        """Size of what is remembered of the keys."""
        return sum(tensor.nbytes for tensor in self._state.values())

    def teach(self, samples: Samples, text: str) -> tuple[Phrase, ...]:
        """Learn from one recording.

        Args:
            samples: (S,) float32 at 16 kHz.
            text: All that is said in it. Of "I met [Threlkeld] today" what stands in brackets is learnt, each bracket
                as a phrase; of a text without brackets, all of it as one.

        Returns:
            The phrases learnt.

        Raises:
            ConfigError: The text cannot be learnt, or the memory is full.
            AudioError: The recording is too long, or holds less than the text.
        """
        return self.learn(self.hear(samples, text))

    @torch.no_grad()
    def hear(self, samples: Samples, text: str) -> Lesson:
        """Make a recording into what can be learnt of it, which any memory of the same model takes; see `teach`."""
        token_ids, phrases = marked_phrases(self._model.tokenizer, text)
        for phrase in phrases:
            if len(phrase.token_ids) > MAX_TOKENS:
                raise ConfigError(f"text: wanted at most {MAX_TOKENS} tokens a phrase, got {len(phrase.token_ids)}")
        keys = self._keys(self._dictate(samples, token_ids))
        return Lesson(tuple((p, keys[p.first : p.first + len(p.token_ids)]) for p in phrases))

    def learn(self, lesson: Lesson) -> tuple[Phrase, ...]:
        """Learn what was heard.

        Raises:
            ConfigError: The memory is full.
        """
        names = dict.fromkeys(phrase.text for phrase, _ in lesson.parts)
        if len(self._phrases.keys() | names.keys()) > MAX_PHRASES:
            raise ConfigError(f"memory: wanted at most {MAX_PHRASES} phrases, forget some first")
        for phrase, keys in lesson.parts:
            self._learn(phrase, keys)
        return tuple(self._phrases[name] for name in names)

    def correct(self, samples: Samples, text: str) -> tuple[Phrase, ...]:
        """Learn from a recording in which taught phrases are written more often than they are said.

        Each becomes harder to recognise, by as little as takes it away here.

        Args:
            samples: (S,) float32 at 16 kHz.
            text: All that is said in it.

        Returns:
            The phrases that changed.

        Raises:
            AudioError: The recording is too long.
        """
        self._check_length(samples)
        changed: set[str] = set()
        least = self._strength.least_score
        while wrong := {p.text for p in self._written_too_often(samples, text) if least + p.caution <= 1}:
            for name in wrong:
                phrase = self._phrases[name]
                self._phrases[name] = replace(phrase, caution=phrase.caution + _CAUTION)
            changed |= wrong
        return tuple(phrase for phrase in self.phrases if phrase.text in changed)

    def forget(self, text: str) -> None:
        """Forget a phrase, and every lesson of it.

        Raises:
            ConfigError: It was not taught.
        """
        if text not in self._phrases:
            raise ConfigError(f"phrase: wanted one that was taught, got {text!r}")
        self._drop([place for place, name in enumerate(self._lessons) if name == text])
        del self._phrases[text]

    def biasing(self) -> PhraseBias:
        """Favour the phrases as they are now; what is taught later changes nothing for it."""
        lessons = [self._phrases[name] for name in self._lessons]
        memory, state, keys = self._memory, self._state, self._keys
        return PhraseBias(
            phrases=[phrase.token_ids for phrase in lessons for _ in phrase.token_ids],
            places=[place for phrase in lessons for place in range(len(phrase.token_ids))],
            recognise=lambda hidden: memory.scores(state, keys(hidden)),
            least_scores=torch.tensor(
                [self._strength.least_score + phrase.caution for phrase in lessons for _ in phrase.token_ids]
            ),
            boost=self._strength.boost,
            vocab_size=self._model.tokenizer.vocab_size,
        )

    def state(self) -> tuple[State, list[str], tuple[Phrase, ...]]:
        """Take out what was learnt: the keys, the phrase of each lesson, and the phrases."""
        return self._state, list(self._lessons), self.phrases

    def restore(self, state: State, lessons: list[str], phrases: tuple[Phrase, ...]) -> None:
        """Put it back in."""
        self._state, self._lessons = state, list(lessons)
        self._phrases = {phrase.text: phrase for phrase in phrases}

    def _dictate(self, samples: Samples, token_ids: list[int]) -> Tensor:
        """Make the decoder write a text while it hears it: (U, D), what each token was read from."""
        self._check_length(samples)
        for threshold in _SURE_OF_NOTHING:
            dictation = Dictation(token_ids, self._model.tokenizer.vocab_size)
            options = StreamingOptions(nothing_threshold=threshold)
            recognizer = StreamingRecognizer(self._model, options, biasing=dictation)
            recognizer.accept_waveform(samples)
            recognizer.input_finished()
            if len(dictation.hidden) == len(token_ids):
                return torch.stack(dictation.hidden)
        heard = self._model.tokenizer.decode(token_ids[: len(dictation.hidden)])
        raise AudioError(f"samples: wanted a recording of all of the text, heard no more than {heard!r}")

    def _keys(self, hidden: Tensor) -> Tensor:
        """Turn what tokens are read from into keys: what the output layer sees, at length 1."""
        return torch.nn.functional.normalize(self._model.decoder.norm(hidden), dim=1)

    def _learn(self, phrase: MarkedPhrase, keys: Tensor) -> None:
        known = self._phrases.get(phrase.text, Phrase(phrase.text, phrase.token_ids))
        if known.num_lessons == MAX_LESSONS:
            self._drop([self._lessons.index(phrase.text)])
            known = replace(known, num_lessons=MAX_LESSONS - 1)
        self._state = self._memory.write(self._state, keys)
        self._lessons.append(phrase.text)
        self._phrases[phrase.text] = replace(known, num_lessons=known.num_lessons + 1)

    def _drop(self, lessons: list[int]) -> None:
        lens = [len(self._phrases[name].token_ids) for name in self._lessons]
        dropped = torch.zeros(len(lens), dtype=torch.bool)
        dropped[lessons] = True
        entries = torch.repeat_interleave(~dropped, torch.tensor(lens)).nonzero()[:, 0]
        self._state = self._memory.keep(self._state, entries)
        self._lessons = [name for name, gone in zip(self._lessons, dropped.tolist(), strict=True) if not gone]

    def _written_too_often(self, samples: Samples, text: str) -> list[Phrase]:
        segments = transcribe(self._model, samples, biasing=self.biasing())
        written = _words(" ".join(segment.text for segment in segments))
        said = _words(text)
        return [p for p in self.phrases if written.count(_words(p.text)) > said.count(_words(p.text))]

    def _check_length(self, samples: Samples) -> None:
        if len(samples) > MAX_LESSON_S * SAMPLE_RATE_HZ:
            got = len(samples) / SAMPLE_RATE_HZ
            raise AudioError(f"samples: wanted at most {MAX_LESSON_S} s to learn from, got {got:.1f} s")


def _words(text: str) -> str:
    return f" {normalize_for_wer(text)} "
