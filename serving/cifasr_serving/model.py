"""What the server asks of a model."""

from dataclasses import dataclass
from typing import Protocol

from cifasr.audio.samples import Samples
from cifasr.decoding.endpoint_config import EndpointerKind
from cifasr.decoding.result import Result


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What ListModels says.

    Attributes:
        name: For ``RecognitionConfig.model``.
        version: Version of the weights.
        language_codes: BCP-47 tags.
        chunk_s: Audio the model waits for before it answers, in seconds.
    """

    name: str
    version: str
    language_codes: tuple[str, ...]
    chunk_s: float


@dataclass(frozen=True, slots=True)
class Endpointing:
    """A caller's wishes; None keeps the model's value.

    Attributes:
        endpointer: Who says that an utterance is over.
        trailing_silence_s: Silence that ends an utterance with words, in seconds.
        initial_silence_s: Silence that ends one without, in seconds.
        max_utterance_s: Longest utterance, in seconds.
        automatic: False: only the caller ends utterances, but for those longer than ``max_utterance_s``.
    """

    endpointer: EndpointerKind | None = None
    trailing_silence_s: float | None = None
    initial_silence_s: float | None = None
    max_utterance_s: float | None = None
    automatic: bool = True


class Recognizer(Protocol):
    """One stream of 16 kHz audio in, segments out; heavy, so never called on the event loop."""

    def accept_waveform(self, samples: Samples) -> Result:
        """Take (S,) samples."""

    def finish_segment(self) -> Result:
        """End the segment now, and go on."""

    def input_finished(self) -> Result:
        """End the stream."""


class SpeechModel(Protocol):
    """A loaded model."""

    @property
    def info(self) -> ModelInfo:
        """What ListModels says."""

    def open_stream(self, endpointing: Endpointing) -> Recognizer:
        """Begin a stream; heavy."""


@dataclass(frozen=True, slots=True)
class TaughtPhrase:
    """A phrase of a word memory.

    Attributes:
        text: How it is written.
        num_lessons: Recordings that it is known from.
    """

    text: str
    num_lessons: int


class Memories(Protocol):
    """Word memories by name. `teach`, `forget` and `phrases` are heavy, and called by one thread only."""

    def remembering(self, model: SpeechModel, name: str) -> SpeechModel:
        """Give the model as it is with a memory.

        Raises:
            UnknownPhraseError: There is no such memory.
        """

    def teach(self, model: SpeechModel, name: str, samples: Samples, text: str) -> tuple[TaughtPhrase, ...]:
        """Teach a memory from a recording, (S,) at 16 kHz; give what was learnt."""

    def forget(self, model: SpeechModel, name: str, text: str) -> None:
        """Take a phrase out of a memory."""

    def phrases(self, model: SpeechModel, name: str) -> tuple[TaughtPhrase, ...]:
        """Say what a memory knows."""
