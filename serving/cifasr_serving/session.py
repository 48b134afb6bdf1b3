"""The life of one live stream: settings, audio, results. Knows no gRPC."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeVar

from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples
from cifasr.decoding.result import Result, Segment
from cifasr_serving.audio import AudioReader, AudioSpec
from cifasr_serving.config import ServerConfig
from cifasr_serving.errors import LimitPassedError, StreamEndedError
from cifasr_serving.inbox import Audio, End, Finalize, Inbox, Notice, draining
from cifasr_serving.model import Endpointing, Recognizer, SpeechModel
from cifasr_serving.scheduler import Lane, Scheduler

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What a caller asked of a live stream; times in seconds of its audio.

    Attributes:
        model: Who recognizes.
        audio: How the audio comes.
        endpointing: When utterances end.
        word_times: Whether words with their times are sent.
        word_confidence: Whether words with their confidence are sent.
        interim_results: Whether results are sent that still grow.
        interim_interval_s: Lower bound between two of them.
        single_utterance: Whether the stream ends after its first final result.
        voice_activity_events: Whether the begin and the end of speech are told.
        speech_start_timeout_s: The stream ends if nothing was said by then; None for never.
        speech_end_timeout_s: The stream ends if nothing was said for so long after speech; None for never.
        audio_offset_s: Added to every offset in what is sent.
    """

    model: SpeechModel
    audio: AudioSpec
    endpointing: Endpointing = field(default_factory=Endpointing)
    word_times: bool = False
    word_confidence: bool = False
    interim_results: bool = False
    interim_interval_s: float = 0.0
    single_utterance: bool = False
    voice_activity_events: bool = False
    speech_start_timeout_s: float | None = None
    speech_end_timeout_s: float | None = None
    audio_offset_s: float = 0.0


class Event(Enum):
    """What happened in a stream; the names are those of the wire."""

    END_OF_SINGLE_UTTERANCE = auto()
    SPEECH_ACTIVITY_BEGIN = auto()
    SPEECH_ACTIVITY_END = auto()
    SPEECH_ACTIVITY_TIMEOUT = auto()
    DRAINING = auto()


@dataclass(frozen=True, slots=True)
class Update:
    """One message to the caller: a segment, or an event at its place in the audio; times without ``audio_offset_s``."""

    segment: Segment | None = None
    event: Event | None = None
    event_s: float = 0.0


@dataclass(slots=True)
class Totals:
    """What was done so far, in seconds."""

    audio_received_s: float = 0.0
    audio_processed_s: float = 0.0
    compute_s: float = 0.0
    warnings: list[str] = field(default_factory=list)


Emit = Callable[[Update], Awaitable[None]]


class Session:
    """One stream: a producer calls `accept`, `finalize` and `end`; `run` decodes and emits.

    `run` decodes one turn of audio, and goes on when its results were taken; so a slow caller holds back only itself,
    and everything that waits is bounded.
    """

    def __init__(self, settings: StreamSettings, scheduler: Scheduler, limits: ServerConfig) -> None:
        self.totals = Totals()
        self._settings = settings
        self._scheduler = scheduler
        self._limits = limits
        self._reader = AudioReader(settings.audio)
        self._inbox = Inbox(limits.queue_s, limits.idle_s, limits.max_stream_s)
        self._max_turn = max(1, round(limits.turn_s * SAMPLE_RATE_HZ))
        self._speaking: int | None = None  # index of the segment whose text has begun
        self._last_speech_s: float | None = None
        self._last_interim: tuple[int, str, float] | None = None

    @property
    def resume_s(self) -> float:
        """Where the caller goes on after the server ended the stream, in seconds of its audio."""
        return self._inbox.accepted_s

    async def accept(self, data: bytes) -> None:
        """Take audio bytes; waits while too much audio is queued.

        Raises:
            AudioError: The bytes are not what the settings say.
            InvalidRequestError: A header and the settings disagree.
        """
        if self._inbox.closed:
            return
        samples = self._reader.read(data)
        self.totals.audio_received_s = self._reader.received_s
        await self._inbox.put(Audio(samples))
        if self._reader.received_s > self._limits.max_stream_s:
            limit = self._limits.max_stream_s
            await self._inbox.close(LimitPassedError(f"max_stream_s: more than {limit:g} s of audio"))

    async def finalize(self) -> None:
        """End the utterance after the audio so far."""
        await self._inbox.put(Finalize())

    def keep_alive(self) -> None:
        """Start the idle time anew."""
        self._inbox.keep_alive()

    async def end(self) -> None:
        """Say that the audio is over.

        Raises:
            AudioError: It ended within its header.
        """
        if self._inbox.closed:
            return
        await self._inbox.put(Audio(self._reader.finish()))
        await self._inbox.close()

    async def fail(self, error: Exception) -> None:
        """End the stream with an error, after the audio so far."""
        await self._inbox.close(error)

    async def stop_listening(self) -> None:
        """Drop whatever is still sent."""
        await self._inbox.close()

    async def drain(self) -> None:
        """End the stream because the server goes away; its final results are sent first."""
        await self._inbox.close(draining())

    async def run(self, emit: Emit) -> None:
        """Decode until the stream is over.

        Args:
            emit: Sends one message; decoding waits for it.

        Raises:
            StreamEndedError: The server ended the stream; the final results were emitted.
            Exception: What `fail` was given, or what the model raised.
        """
        recognizer = await self._compute(lambda: self._settings.model.open_stream(self._settings.endpointing))
        while True:
            match await self._inbox.get(self._max_turn):
                case Notice():
                    await emit(Update(event=Event.DRAINING, event_s=self.resume_s))
                case End(error):
                    if error is None or isinstance(error, StreamEndedError):
                        await self._finish(recognizer, emit)
                    if error is not None:
                        raise error
                    return
                case Finalize():
                    if await self._tell(await self._compute(recognizer.finish_segment), emit):
                        return
                case Audio(samples):
                    if await self._tell(await self._decode(recognizer, samples), emit):
                        return
                    if self._silent_too_long():
                        event_s = self.totals.audio_processed_s
                        await emit(Update(event=Event.SPEECH_ACTIVITY_TIMEOUT, event_s=event_s))
                        await self._finish(recognizer, emit)
                        return

    async def _decode(self, recognizer: Recognizer, samples: Samples) -> Result | None:
        return await self._compute(lambda: recognizer.accept_waveform(samples)) if len(samples) else None

    async def _finish(self, recognizer: Recognizer, emit: Emit) -> None:
        result = await self._compute(recognizer.input_finished)
        await self._tell(result, emit)
        self.totals.audio_processed_s = self._inbox.accepted_s
        self.totals.warnings = self._reader.warnings

    async def _compute(self, work: Callable[[], T]) -> T:
        value, took_s = await self._scheduler.run(work, Lane.LIVE)
        self.totals.compute_s += took_s
        return value

    async def _tell(self, result: Result | None, emit: Emit) -> bool:
        """Emit what a result brought; True once a single utterance is over."""
        if result is None:
            return False
        for segment in result.finals:
            self._note_progress(segment)
            if not segment.text:
                continue
            await self._tell_begin(segment, emit)
            if self._settings.single_utterance:
                await emit(Update(event=Event.END_OF_SINGLE_UTTERANCE, event_s=segment.end_s))
            if self._settings.voice_activity_events:
                await emit(Update(event=Event.SPEECH_ACTIVITY_END, event_s=_speech_end_s(segment)))
            await emit(Update(segment))
            if self._settings.single_utterance:
                return True
        if result.partial is not None:
            self._note_progress(result.partial)
            if result.partial.text:
                await self._tell_begin(result.partial, emit)
                await self._tell_interim(result.partial, emit)
        return False

    async def _tell_begin(self, segment: Segment, emit: Emit) -> None:
        if self._settings.voice_activity_events and self._speaking != segment.index:
            begin_s = segment.words[0].start_s if segment.words else segment.start_s
            await emit(Update(event=Event.SPEECH_ACTIVITY_BEGIN, event_s=begin_s))
        self._speaking = segment.index

    async def _tell_interim(self, segment: Segment, emit: Emit) -> None:
        if not self._settings.interim_results:
            return
        if self._last_interim is not None:
            index, text, end_s = self._last_interim
            if (index, text) == (segment.index, segment.text):
                return
            if segment.end_s - end_s < self._settings.interim_interval_s:
                return
        self._last_interim = (segment.index, segment.text, segment.end_s)
        await emit(Update(segment))

    def _note_progress(self, segment: Segment) -> None:
        self.totals.audio_processed_s = max(self.totals.audio_processed_s, segment.end_s)
        if segment.text:
            self._last_speech_s = _speech_end_s(segment)

    def _silent_too_long(self) -> bool:
        processed_s = self.totals.audio_processed_s
        if self._last_speech_s is None:
            limit_s = self._settings.speech_start_timeout_s
            return limit_s is not None and processed_s >= limit_s
        limit_s = self._settings.speech_end_timeout_s
        return limit_s is not None and processed_s - self._last_speech_s >= limit_s


def _speech_end_s(segment: Segment) -> float:
    return segment.words[-1].end_s if segment.words else segment.end_s
