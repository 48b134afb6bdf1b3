"""The RPCs: protobuf on one side, sessions and recordings on the other."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from cifasr.decoding.result import Segment
from cifasr_serving.calls import Call, Context, Slots, write
from cifasr_serving.config import ServerConfig
from cifasr_serving.errors import InvalidRequestError
from cifasr_serving.inbox import draining
from cifasr_serving.live import LiveStream, Opened
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
from cifasr_serving.session import Session, StreamSettings

T = TypeVar("T")


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
        self._live: set[LiveStream] = set()
        self.is_draining = False

    @property
    def num_active(self) -> int:
        """Live streams and recordings in work."""
        return self.streams.num_taken + self.recordings.num_taken

    async def drain(self) -> None:
        """Refuse new requests, and let every live stream send its final results and end."""
        self.is_draining = True
        for stream in list(self._live):
            await stream.drain()

    async def StreamingRecognize(  # type: ignore[override]  # noqa: N802 (writes instead of yielding; gRPC's name)
        self, request_iterator: AsyncIterator[pb.StreamingRecognizeRequest], context: Context
    ) -> None:
        """Recognize a live stream."""
        call = Call("StreamingRecognize")
        try:
            self._refuse_while_draining()
            with self.streams.take():
                open_session = partial(self._open_session, call=call)
                stream = LiveStream(request_iterator, context, call, self._config, open_session)
                self._live.add(stream)
                try:
                    await stream.run()
                finally:
                    self._live.discard(stream)
        except Exception as error:
            await call.abort(context, error)
        call.log_end()

    async def Recognize(self, request: pb.RecognizeRequest, context: Context) -> pb.RecognizeResponse:  # noqa: N802
        """Recognize a recording, in one answer."""
        call = Call("Recognize")
        response = pb.RecognizeResponse()
        try:
            writer = self._open_recording(request, call)

            async def emit(segment: Segment) -> None:
                response.results.append(writer.final(segment))

            await self._recognize(request, writer, call, emit)
            response.metadata.CopyFrom(writer.metadata(call.totals))
        except Exception as error:
            await call.abort(context, error)
        call.log_end()
        return response

    async def RecognizeSegments(  # type: ignore[override]  # noqa: N802 (writes instead of yielding; gRPC's name)
        self, request: pb.RecognizeSegmentsRequest, context: Context
    ) -> None:
        """Recognize a recording, segment by segment."""
        call = Call("RecognizeSegments")
        try:
            writer = self._open_recording(request, call)

            async def emit(segment: Segment) -> None:
                response = pb.RecognizeSegmentsResponse(result=writer.final(segment))
                await write(context, response, self._config.write_s)

            await self._recognize(request, writer, call, emit)
            response = pb.RecognizeSegmentsResponse(metadata=writer.metadata(call.totals))
            await write(context, response, self._config.write_s)
        except Exception as error:
            await call.abort(context, error)
        call.log_end()

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: N802
        """List the loaded models."""
        return pb.ListModelsResponse(models=[describe(model) for model in self._models])

    async def TeachPhrase(  # noqa: N802 (gRPC's name)
        self, request: pb.TeachPhraseRequest, context: Context
    ) -> pb.TeachPhraseResponse:
        """Teach a word memory from a recording."""

        def prepare(call: Call) -> Callable[[], pb.TeachPhraseResponse]:
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

        def prepare(call: Call) -> Callable[[], pb.ForgetPhraseResponse]:
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

        def prepare(call: Call) -> Callable[[], pb.ListPhrasesResponse]:
            memories, name = self._memory(request.memory, "memory")
            model = find_model(request.model, self._models)
            return lambda: pb.ListPhrasesResponse(phrases=taught_phrases(memories.phrases(model, name)))

        return await self._in_one_turn("ListPhrases", context, prepare)

    async def _in_one_turn(self, method: str, context: Context, prepare: Callable[[Call], Callable[[], T]]) -> T:
        """Answer an RPC by one turn of the model's thread, which also keeps the writers of a memory apart."""
        call = Call(method)
        try:
            self._refuse_while_draining()
            work = prepare(call)
            with self.recordings.take():
                response, call.totals.compute_s = await self._scheduler.run(work, Lane.RECORDING)
        except Exception as error:
            await call.abort(context, error)
        call.log_end()
        return response

    def _open_session(self, request: pb.StreamingRecognizeRequest, call: Call) -> Opened:
        kind = request.WhichOneof("streaming_request")
        if kind != "streaming_config":
            raise InvalidRequestError("streaming_config", f"wanted in the first message, got {kind or 'nothing'}")
        client_request_id = check_client_request_id(request.client_request_id)
        config = request.streaming_config
        settings = parse_streaming_config(config, self._models, self._config)
        settings = self._remembering(settings, config.config.memory, "streaming_config.config.memory")
        writer = ResponseWriter(settings, call.request_id, client_request_id)
        return Session(settings, self._scheduler, self._config), writer

    def _open_recording(self, request: pb.RecognizeRequest | pb.RecognizeSegmentsRequest, call: Call) -> ResponseWriter:
        self._refuse_while_draining()
        client_request_id = check_client_request_id(request.client_request_id)
        settings = self._remembering(parse_config(request, self._models), request.config.memory, "config.memory")
        return ResponseWriter(settings, call.request_id, client_request_id)

    async def _recognize(
        self,
        request: pb.RecognizeRequest | pb.RecognizeSegmentsRequest,
        writer: ResponseWriter,
        call: Call,
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
        if self.is_draining:
            raise draining()
