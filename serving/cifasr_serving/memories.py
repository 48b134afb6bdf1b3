"""A folder of word memories, one file a name. One server a folder: its one model thread is what keeps writers apart."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from cifasr.audio.samples import Samples
from cifasr.decoding.memory.cifmem import load_memory, save_memory
from cifasr.decoding.memory.word_memory import Phrase, WordMemory
from cifasr.errors import CheckpointError, ConfigError
from cifasr_serving.cifasr_model import CifasrModel
from cifasr_serving.config import ServerConfig
from cifasr_serving.errors import ForeignMemoryError, InvalidRequestError, MemoryFullError, UnknownPhraseError
from cifasr_serving.model import SpeechModel, TaughtPhrase

_SUFFIX = ".cifmem"


class MemoryFolder:
    """Keeps word memories in files, which are written whole or not at all; see `Memories`.

    Args:
        folder: Made if it is not there. Names are checked before they come here, and are file names.
        limits: For ``max_memories`` and ``max_phrases``.

    Raises:
        ConfigError: The folder cannot be made.
    """

    def __init__(self, folder: Path, limits: ServerConfig) -> None:
        self._folder = folder
        self._limits = limits
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"memories {folder}: wanted a folder: {error}") from error

    def remembering(self, model: SpeechModel, name: str) -> SpeechModel:
        """Give the model as it is with a memory, opened when a stream begins."""
        network = _of_cifasr(model)
        self._existing(name)
        return replace(network, memory=lambda: self._open(network, name))

    def teach(self, model: SpeechModel, name: str, samples: Samples, text: str) -> tuple[TaughtPhrase, ...]:
        """Teach a memory from a recording; it is made if it is not there.

        Raises:
            InvalidRequestError: The text cannot be learnt.
            AudioError: The recording holds less than the text.
            MemoryFullError: One memory more, or one phrase more, is too many.
            ForeignMemoryError: The memory was taught to another model.
        """
        network = _of_cifasr(model)
        if self._path(name).exists():
            memory = self._open(network, name)
        elif len(list(self._folder.glob(f"*{_SUFFIX}"))) < self._limits.max_memories:
            memory = WordMemory(network.network, network.info.version)
        else:
            raise MemoryFullError(f"max_memories: there are {self._limits.max_memories} memories")
        try:
            learnt = memory.teach(samples, text)
        except ConfigError as error:
            raise InvalidRequestError("text", str(error)) from error
        if len(memory.phrases) > self._limits.max_phrases:
            raise MemoryFullError(f"max_phrases: {name!r} has {self._limits.max_phrases} phrases; forget some first")
        save_memory(memory, self._path(name))
        return _taught(learnt)

    def forget(self, model: SpeechModel, name: str, text: str) -> None:
        """Take a phrase out of a memory.

        Raises:
            UnknownPhraseError: There is no such memory, or it does not know the phrase.
            ForeignMemoryError: The memory was taught to another model.
        """
        memory = self._open(_of_cifasr(model), name)
        try:
            memory.forget(text)
        except ConfigError as error:
            raise UnknownPhraseError(f"text: {name!r} does not know this phrase") from error
        save_memory(memory, self._path(name))

    def phrases(self, model: SpeechModel, name: str) -> tuple[TaughtPhrase, ...]:
        """Say what a memory knows; errors as `forget`."""
        return _taught(self._open(_of_cifasr(model), name).phrases)

    def _open(self, model: CifasrModel, name: str) -> WordMemory:
        try:
            return load_memory(self._existing(name), model.network, model.info.version)
        except CheckpointError as error:
            raise ForeignMemoryError(f"memory {name!r}: damaged, or taught to another model; teach it anew") from error

    def _existing(self, name: str) -> Path:
        if not self._path(name).is_file():
            raise UnknownPhraseError(f"memory: there is none named {name!r}; TeachPhrase makes it")
        return self._path(name)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"


def _taught(phrases: Iterable[Phrase]) -> tuple[TaughtPhrase, ...]:
    return tuple(TaughtPhrase(phrase.text, phrase.num_lessons) for phrase in phrases)


def _of_cifasr(model: SpeechModel) -> CifasrModel:
    if not isinstance(model, CifasrModel):
        raise InvalidRequestError("memory", f"model {model.info.name} cannot be taught")
    return model
