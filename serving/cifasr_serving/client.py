"""A client that sends and reads in tasks of their own, so that the server's last words are never lost."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc.aio
import numpy as np
from google.protobuf.duration_pb2 import Duration

from cifasr.audio.samples import Samples
from cifasr.decoding.result import Segment, Word
from cifasr_serving.errors import ServerError
from cifasr_serving.model import TaughtPhrase
from cifasr_serving.pb import speech_pb2 as pb
from cifasr_serving.pb.speech_pb2_grpc import SpeechServiceStub

if TYPE_CHECKING:
    from cifasr_serving.pb.speech_pb2_grpc import SpeechServiceAsyncStub

MESSAGE_S = 0.1
_CONNECT_S = 10.0
_LAST_EVENTS = {"END_OF_SINGLE_UTTERANCE", "SPEECH_ACTIVITY_TIMEOUT", "DRAINING"}


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What to ask of a live stream.

    Attributes:
        interim_results: Whether to get segments that still grow.
        single_utterance: Whether to end after the first final segment.
        language_code: BCP-47; empty for the model's.
        model: Name of the model; empty for the server's default.
        memory: Name of the word memory; empty for none.
    """

    interim_results: bool = False
    single_utterance: bool = False
    language_code: str = ""
    model: str = ""
    memory: str = ""


@dataclass(slots=True)
class Heard:
    """What one response brought.

    Attributes:
        segments: Final and growing segments.
        event: Name of an event of the wire without its prefix; empty for none.
        warnings: What the server put right.
    """

    segments: list[Segment] = field(default_factory=list)
    event: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Turn:
    """Whose turn it is to speak: audio is sent after the server has accepted the settings, until it hears no more.

    Audio written to an RPC that is over would make grpc.aio report INTERNAL instead of the server's status.
    """

    may_send: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False


async def recognize_stream(
    address: str, blocks: AsyncIterable[Samples], sample_rate_hz: int, options: StreamOptions
) -> AsyncIterator[Heard]:
    """Send audio as it comes and give what the server answers.

    Args:
        address: ``host:port``.
        blocks: (S,) float32, at most a second each; their end is the end of the audio.
        sample_rate_hz: Rate of the samples, 8000 to 48000.
        options: What to ask for.

    Raises:
        ServerError: The server cannot be reached, or it refused or ended the stream.
        Exception: Whatever ``blocks`` raised, after the server answered what came before.
    """
    async with grpc.aio.insecure_channel(address) as channel:
        await _connect(channel, address)
        failed: list[Exception] = []
        turn = _Turn()
        requests = _requests(_until_failure(blocks, failed), sample_rate_hz, options, turn)
        call = SpeechServiceStub(channel).StreamingRecognize(requests)
        try:
            async for response in call:
                turn.may_send.set()
                heard = _heard(response)
                turn.over = turn.over or heard.event in _LAST_EVENTS
                yield heard
        except grpc.aio.AioRpcError as error:
            raise ServerError(f"server {address}: {error.code().name}: {error.details()}") from error
        finally:
            turn.over = True
            turn.may_send.set()
            call.cancel()
        if failed:
            raise failed[0]


def transcribe_samples(
    address: str,
    samples: Samples,
    sample_rate_hz: int,
    *,
    paced: bool = False,
    on_interim: Callable[[Segment], None] | None = None,
) -> list[Segment]:
    """Transcribe audio through a live stream of a server, and wait for the end; not within an event loop.

    Args:
        address: ``host:port``.
        samples: (S,) float32 in [-1, 1].
        sample_rate_hz: Rate of the samples, 8000 to 48000.
        paced: Send at the speed of speech, as a microphone does, instead of as fast as the server takes it.
        on_interim: Called with each growing state of a segment.

    Returns:
        The final segments with text, in order.

    Raises:
        ServerError: The server cannot be reached, or it refused or ended the stream.
    """

    async def collect() -> list[Segment]:
        finals = []
        blocks = cut(samples, sample_rate_hz, paced=paced)
        options = StreamOptions(interim_results=on_interim is not None)
        async for heard in recognize_stream(address, blocks, sample_rate_hz, options):
            for segment in heard.segments:
                if segment.is_final:
                    finals.append(segment)
                elif on_interim is not None:
                    on_interim(segment)
        return finals

    return asyncio.run(collect())


async def teach_phrase(
    address: str, memory: str, samples: Samples, sample_rate_hz: int, text: str
) -> list[TaughtPhrase]:
    """Teach one of a server's word memories from a recording.

    Args:
        address: ``host:port``.
        memory: Its name; it is made if there is none.
        samples: (S,) float32 in [-1, 1].
        sample_rate_hz: Rate of the samples, 8000 to 48000.
        text: All that is said, with what is to be learnt in brackets; without brackets, all is.

    Returns:
        The phrases learnt.

    Raises:
        ServerError: The server cannot be reached, or it refused.
    """
    config = pb.RecognitionConfig(encoding=pb.AUDIO_ENCODING_FLOAT32, sample_rate_hertz=sample_rate_hz, memory=memory)
    request = pb.TeachPhraseRequest(config=config, audio=np.asarray(samples, "<f4").tobytes(), text=text)
    async with _stub(address) as stub:
        return _phrases((await stub.TeachPhrase(request)).phrases)


async def forget_phrase(address: str, memory: str, text: str) -> None:
    """Take a phrase out of one of a server's word memories; arguments and errors as `teach_phrase`."""
    async with _stub(address) as stub:
        await stub.ForgetPhrase(pb.ForgetPhraseRequest(memory=memory, text=text))


async def list_phrases(address: str, memory: str) -> list[TaughtPhrase]:
    """Ask what one of a server's word memories knows; arguments and errors as `teach_phrase`."""
    async with _stub(address) as stub:
        return _phrases((await stub.ListPhrases(pb.ListPhrasesRequest(memory=memory))).phrases)


async def cut(samples: Samples, sample_rate_hz: int, *, paced: bool) -> AsyncIterator[Samples]:
    """Give audio in messages of 100 ms, each when a microphone would have it, or at once.

    Args:
        samples: (S,) float32.
        sample_rate_hz: Rate of the samples.
        paced: Whether to wait; by a schedule fixed at the start, so that delays do not add up.
    """
    loop = asyncio.get_running_loop()
    begin = loop.time()
    step = max(1, round(MESSAGE_S * sample_rate_hz))
    for start in range(0, len(samples), step):
        block = samples[start : start + step]
        if paced:
            await asyncio.sleep(begin + (start + len(block)) / sample_rate_hz - loop.time())
        yield block


@asynccontextmanager
async def _stub(address: str) -> AsyncIterator["SpeechServiceAsyncStub"]:
    async with grpc.aio.insecure_channel(address) as channel:
        await _connect(channel, address)
        try:
            yield SpeechServiceStub(channel)
        except grpc.aio.AioRpcError as error:
            raise ServerError(f"server {address}: {error.code().name}: {error.details()}") from error


async def _connect(channel: grpc.aio.Channel, address: str) -> None:
    try:
        await asyncio.wait_for(channel.channel_ready(), _CONNECT_S)
    except TimeoutError:
        raise ServerError(
            f"server {address}: no connection within {_CONNECT_S:g} s; is `cifasr serve` running?"
        ) from None


async def _until_failure(blocks: AsyncIterable[Samples], failed: list[Exception]) -> AsyncIterator[Samples]:
    # grpc.aio logs what a request iterator raises and cancels the call, so it is kept here.
    try:
        async for block in blocks:
            yield block
    except Exception as error:
        failed.append(error)


async def _requests(
    blocks: AsyncIterable[Samples], sample_rate_hz: int, options: StreamOptions, turn: "_Turn"
) -> AsyncIterator[pb.StreamingRecognizeRequest]:
    config = pb.RecognitionConfig(
        encoding=pb.AUDIO_ENCODING_FLOAT32,
        sample_rate_hertz=sample_rate_hz,
        language_code=options.language_code,
        model=options.model,
        memory=options.memory,
        enable_word_time_offsets=True,
        enable_word_confidence=True,
    )
    yield pb.StreamingRecognizeRequest(
        streaming_config=pb.StreamingRecognitionConfig(
            config=config, interim_results=options.interim_results, single_utterance=options.single_utterance
        )
    )
    await turn.may_send.wait()
    async for block in blocks:
        if turn.over:
            return
        yield pb.StreamingRecognizeRequest(audio_content=np.asarray(block, "<f4").tobytes())


def _heard(response: pb.StreamingRecognizeResponse) -> Heard:
    event = pb.StreamingRecognizeResponse.SpeechEventType.Name(response.speech_event_type)
    name = event.removeprefix("SPEECH_EVENT_TYPE_")
    return Heard(
        segments=[_segment(result) for result in response.results],
        event="" if name == "UNSPECIFIED" else name,
        warnings=tuple(response.metadata.warnings),
    )


def _phrases(phrases: Iterable[pb.TaughtPhrase]) -> list[TaughtPhrase]:
    return [TaughtPhrase(phrase.text, phrase.num_lessons) for phrase in phrases]


def _segment(result: pb.StreamingRecognitionResult) -> Segment:
    best = result.alternatives[0]
    return Segment(
        index=result.segment_index,
        text=best.transcript.removeprefix(" "),
        words=tuple(_words(best.words)),
        start_s=_seconds(result.result_start_offset),
        end_s=_seconds(result.result_end_offset),
        is_final=result.is_final,
    )


def _words(words: Iterable[pb.WordInfo]) -> Iterable[Word]:
    return (Word(w.word, _seconds(w.start_offset), _seconds(w.end_offset), w.confidence) for w in words)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
