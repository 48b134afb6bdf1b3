"""The RPCs: protobuf on one side, sessions and recordings on the other."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeVar

import grpc.aio
from google.protobuf.message import DecodeError, Message

from cifasr.decoding.result import Segment
from cifasr_serving.config import ServerConfig
from cifasr_serving.errors import (
    InvalidRequestError,
    LimitPassedError,
    ServerFullError,
    SlowReaderError,
    StreamEndedError,
)
from cifasr_serving.inbox import draining
from cifasr_serving.model import Memories, SpeechModel
from cifasr_serving.pb import speech_pb2 as pb
from cifasr_serving.pb.speech_pb2_grpc import SpeechServiceServicer
from cifasr_serving.recording import read_lesson, recognize_recording
from cifasr_serving.requests import (
    check_client_request_id,
    check_memory,
    find_model,
    parse_config,
    parse_streaming_config,
)
from cifasr_serving.responses import ResponseWriter, describe, taught_phrases
from cifasr_serving.scheduler import Lane, Scheduler
from cifasr_serving.session import Session, StreamSettings, Totals, Update
from cifasr_serving.status import ending_of

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]
_log = logging.getLogger(__name__)


class Slots:
    """Counts what is in work and refuses what is too much, at once."""

    def __init__(self, name: str, limit: int, retry_s: float) -> None:
        self.num_taken = 0
        self._name = name
        self._limit = limit
        self._retry_s = retry_s

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a slot.

        Raises:
            ServerFullError: There is none.
        """
        if self.num_taken >= self._limit:
            raise ServerFullError(f"{self._name}: all {self._limit} are taken, come back later", self._retry_s)
        self.num_taken += 1
        try:
            yield
        finally:
            self.num_taken -= 1


@dataclass(slots=True)
class _Call:
    """One RPC, for its log line and its last words."""

    method: str
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    totals: Totals = field(default_factory=Totals)
    resume_s: float | None = None


class SpeechServicer(SpeechServiceServicer):
    """Answers the RPCs of SpeechService.

    Args:
        models: The loaded models; the first is the default.
        scheduler: Runs the models; started.
        config: The limits.
        memories: The word memories; None: the server keeps none.
    """

    def __init__(
        self,
        models: Sequence[SpeechModel],
        scheduler: Scheduler,
        config: ServerConfig,
        memories: Memories | None = None,
    ) -> None:
        self.streams = Slots("max_streams", config.max_streams, config.retry_s)
        self.recordings = Slots("max_recordings", config.max_recordings, config.retry_s)
        self._models = models
        self._scheduler = scheduler
        self._config = config
        self._memories = memories
        self._sessions: set[Session] = set()
        self._draining = asyncio.Event()

    @property
    def num_active(self) -> int:
        """Live streams and recordings in work."""
        return self.streams.num_taken + self.recordings.num_taken

    async def drain(self) -> None:
        """Refuse new requests, and let every live stream send its final results and end."""
        self._draining.set()
        for session in list(self._sessions):
            await session.drain()

    async def StreamingRecognize(  # type: ignore[override]  # noqa: N802 (writes instead of yielding; gRPC's name)
        self, request_iterator: AsyncIterator[pb.StreamingRecognizeRequest], context: Context
    ) -> None:
        """Recognize a live stream."""
        call = _Call("StreamingRecognize")
        try:
            self._refuse_while_draining()
            with self.streams.take():
                await self._stream(request_iterator, context, call)
        except Exception as error:
            await self._abort(context, call, error)
        self._log_end(call, "OK")

    async def Recognize(self, request: pb.RecognizeRequest, context: Context) -> pb.RecognizeResponse:  # noqa: N802
        """Recognize a recording, in one answer."""
        call = _Call("Recognize")
        response = pb.RecognizeResponse()
        try:
            writer = self._open_recording(request, call)

            async def emit(segment: Segment) -> None:
                response.results.append(writer.final(segment))

            await self._recognize(request, writer, call, emit)
            response.metadata.CopyFrom(writer.metadata(call.totals))
        except Exception as error:
            await self._abort(context, call, error)
        self._log_end(call, "OK")
        return response

    async def RecognizeSegments(  # type: ignore[override]  # noqa: N802 (writes instead of yielding; gRPC's name)
        self, request: pb.RecognizeSegmentsRequest, context: Context
    ) -> None:
        """Recognize a recording, segment by segment."""
        call = _Call("RecognizeSegments")
        try:
            writer = self._open_recording(request, call)

            async def emit(segment: Segment) -> None:
                await self._write(context, pb.RecognizeSegmentsResponse(result=writer.final(segment)))

            await self._recognize(request, writer, call, emit)
            await self._write(context, pb.RecognizeSegmentsResponse(metadata=writer.metadata(call.totals)))
        except Exception as error:
            await self._abort(context, call, error)
        self._log_end(call, "OK")

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: N802
        """List the loaded models."""
        return pb.ListModelsResponse(models=[describe(model) for model in self._models])

    async def TeachPhrase(  # noqa: N802 (gRPC's name)
        self, request: pb.TeachPhraseRequest, context: Context
    ) -> pb.TeachPhraseResponse:
        """Teach a word memory from a recording."""

        def prepare(call: _Call) -> Callable[[], pb.TeachPhraseResponse]:
            check_client_request_id(request.client_request_id)
            settings = parse_config(request, self._models)
            memories, name = self._memory(request.config.memory, "config.memory")

            def teach() -> pb.TeachPhraseResponse:
                samples = read_lesson(request.audio, settings.audio, self._config, call.totals)
                learnt = memories.teach(settings.model, name, samples, request.text)
                return pb.TeachPhraseResponse(phrases=taught_phrases(learnt))

            return teach

        return await self._in_one_turn("TeachPhrase", context, prepare)

    async def ForgetPhrase(  # noqa: N802 (gRPC's name)
        self, request: pb.ForgetPhraseRequest, context: Context
    ) -> pb.ForgetPhraseResponse:
        """Take a phrase out of a word memory."""

        def prepare(call: _Call) -> Callable[[], pb.ForgetPhraseResponse]:
            memories, name = self._memory(request.memory, "memory")
            model = find_model(request.model, self._models)

            def forget() -> pb.ForgetPhraseResponse:
                memories.forget(model, name, request.text)
                return pb.ForgetPhraseResponse()

            return forget

        return await self._in_one_turn("ForgetPhrase", context, prepare)

    async def ListPhrases(  # noqa: N802 (gRPC's name)
        self, request: pb.ListPhrasesRequest, context: Context
    ) -> pb.ListPhrasesResponse:
        """Say what a word memory knows."""

        def prepare(call: _Call) -> Callable[[], pb.ListPhrasesResponse]:
            memories, name = self._memory(request.memory, "memory")
            model = find_model(request.model, self._models)
            return lambda: pb.ListPhrasesResponse(phrases=taught_phrases(memories.phrases(model, name)))

        return await self._in_one_turn("ListPhrases", context, prepare)

    async def _in_one_turn(self, method: str, context: Context, prepare: Callable[[_Call], Callable[[], T]]) -> T:
        """Answer an RPC by one turn of the model's thread, which also keeps the writers of a memory apart."""
        call = _Call(method)
        try:
            self._refuse_while_draining()
            work = prepare(call)
            with self.recordings.take():
                response, call.totals.compute_s = await self._scheduler.run(work, Lane.RECORDING)
        except Exception as error:
            await self._abort(context, call, error)
        self._log_end(call, "OK")
        return response

    async def _stream(
        self, requests: AsyncIterator[pb.StreamingRecognizeRequest], context: Context, call: _Call
    ) -> None:
        opened: asyncio.Future[tuple[Session, ResponseWriter]] = asyncio.get_running_loop().create_future()
        # A task of its own reads, so that no time limit ever cancels a read of gRPC in the middle of a stream.
        pump = asyncio.create_task(self._pump(requests, opened, call))
        session: Session | None = None
        try:
            session, writer = await self._first_message(opened)
            call.totals = session.totals
            self._sessions.add(session)
            if self._draining.is_set():
                await session.drain()
            try:
                await self._run(session, writer, context, call)
            except SlowReaderError:
                raise
            except Exception:
                await self._linger(session, pump)
                raise
            await self._linger(session, pump)
        finally:
            if session is not None:
                self._sessions.discard(session)
            pump.cancel()
            await asyncio.wait({pump})

    async def _run(self, session: Session, writer: ResponseWriter, context: Context, call: _Call) -> None:
        """Write what a session brings, its totals last."""
        await self._write(context, writer.opening())

        async def emit(update: Update) -> None:
            await self._write(context, writer.update(update))

        try:
            await session.run(emit)
        except StreamEndedError:
            call.resume_s = session.resume_s + writer.settings.audio_offset_s
            await self._write(context, writer.closing(session.totals))
            raise
        await self._write(context, writer.closing(session.totals))

    async def _linger(self, session: Session, pump: "asyncio.Task[None]") -> None:
        # A caller whose write fails because the RPC is over may never see its true status: grpc.aio makes it INTERNAL.
        await session.stop_listening()
        await asyncio.wait({pump}, timeout=self._config.linger_s)

    async def _first_message(
        self, opened: "asyncio.Future[tuple[Session, ResponseWriter]]"
    ) -> tuple[Session, ResponseWriter]:
        going_away = asyncio.create_task(self._draining.wait())
        try:
            waiting: set[asyncio.Future[Any]] = {opened, going_away}
            await asyncio.wait(waiting, timeout=self._config.idle_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            going_away.cancel()
        if opened.done():
            return opened.result()
        self._refuse_while_draining()
        raise LimitPassedError(f"idle_s: no first message for {self._config.idle_s:g} s")

    async def _pump(
        self,
        requests: AsyncIterator[pb.StreamingRecognizeRequest],
        opened: "asyncio.Future[tuple[Session, ResponseWriter]]",
        call: _Call,
    ) -> None:
        """Read the requests of a stream into its session until the caller is done."""
        session: Session | None = None
        try:
            async for request in requests:
                if session is None:
                    session, writer = self._open_stream(request, call)
                    opened.set_result((session, writer))
                else:
                    await self._accept(session, request)
            if session is None:
                raise InvalidRequestError("streaming_config", "the stream ended without a message")
            await session.end()
        except Exception as error:
            if session is not None:
                await session.fail(error)
            elif not opened.done():
                opened.set_exception(error)
            if not isinstance(error, DecodeError):
                await self._drop_rest(requests)

    @staticmethod
    async def _drop_rest(requests: AsyncIterator[pb.StreamingRecognizeRequest]) -> None:
        with suppress(DecodeError):
            async for _ in requests:
                pass

    def _open_stream(self, request: pb.StreamingRecognizeRequest, call: _Call) -> tuple[Session, ResponseWriter]:
        kind = request.WhichOneof("streaming_request")
        if kind != "streaming_config":
            raise InvalidRequestError("streaming_config", f"wanted in the first message, got {kind or 'nothing'}")
        client_request_id = check_client_request_id(request.client_request_id)
        config = request.streaming_config
        settings = parse_streaming_config(config, self._models, self._config)
        settings = self._remembering(settings, config.config.memory, "streaming_config.config.memory")
        writer = ResponseWriter(settings, call.request_id, client_request_id)
        return Session(settings, self._scheduler, self._config), writer

    async def _accept(self, session: Session, request: pb.StreamingRecognizeRequest) -> None:
        match request.WhichOneof("streaming_request"):
            case "audio_content":
                num_bytes, limit = len(request.audio_content), self._config.max_audio_bytes
                if num_bytes > limit:
                    raise InvalidRequestError("audio_content", f"{num_bytes} bytes, wanted at most {limit}")
                await session.accept(request.audio_content)
            case "control" if request.control.action == pb.StreamControl.ACTION_FINALIZE:
                await session.finalize()
            case "control" if request.control.action == pb.StreamControl.ACTION_KEEP_ALIVE:
                session.keep_alive()
            case "control":
                raise InvalidRequestError("control.action", f"{request.control.action} is not an action")
            case "streaming_config":
                raise InvalidRequestError("streaming_config", "wanted in the first message only")
            case _:
                raise InvalidRequestError("streaming_request", "unset: wanted audio_content or control")

    def _open_recording(
        self, request: pb.RecognizeRequest | pb.RecognizeSegmentsRequest, call: _Call
    ) -> ResponseWriter:
        self._refuse_while_draining()
        client_request_id = check_client_request_id(request.client_request_id)
        settings = self._remembering(parse_config(request, self._models), request.config.memory, "config.memory")
        return ResponseWriter(settings, call.request_id, client_request_id)

    async def _recognize(
        self,
        request: pb.RecognizeRequest | pb.RecognizeSegmentsRequest,
        writer: ResponseWriter,
        call: _Call,
        emit: Callable[[Segment], Awaitable[None]],
    ) -> None:
        with self.recordings.take():
            await recognize_recording(request.audio, writer.settings, self._scheduler, self._config, call.totals, emit)

    def _remembering(self, settings: StreamSettings, name: str, field: str) -> StreamSettings:
        """Let a request go by a word memory, if it names one."""
        if not name:
            return settings
        memories, name = self._memory(name, field)
        return replace(settings, model=memories.remembering(settings.model, name))

    def _memory(self, name: str, field: str) -> tuple[Memories, str]:
        if self._memories is None:
            raise InvalidRequestError(field, "this server keeps no word memories: it was started without --memories")
        return self._memories, check_memory(name, field)

    def _refuse_while_draining(self) -> None:
        if self._draining.is_set():
            raise draining()

    async def _write(self, context: Context, response: Message) -> None:
        writing = asyncio.ensure_future(context.write(response))
        try:
            await asyncio.wait({writing}, timeout=self._config.write_s)
            if not writing.done():
                raise SlowReaderError(f"write_s: a response was not taken for {self._config.write_s:g} s")
        except BaseException:
            writing.cancel()
            raise
        await writing

    async def _abort(self, context: Context, call: _Call, error: Exception) -> NoReturn:
        ending = ending_of(error, call.request_id, call.resume_s)
        self._log_end(call, ending.code.name)
        await context.abort(ending.code, ending.text, ending.trailing_metadata)

    def _log_end(self, call: _Call, code: str) -> None:
        _log.info(
            "%s request_id=%s code=%s audio_s=%.2f compute_s=%.2f",
            call.method,
            call.request_id,
            code,
            call.totals.audio_received_s,
            call.totals.compute_s,
        )
