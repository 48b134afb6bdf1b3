"""One live stream: its requests are read into a session, and what that brings is written."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from google.protobuf.message import DecodeError

from cifasr_serving.calls import Call, Context, write
from cifasr_serving.config import ServerConfig
from cifasr_serving.errors import InvalidRequestError, LimitPassedError, SlowReaderError, StreamEndedError
from cifasr_serving.inbox import draining
from cifasr_serving.pb import speech_pb2 as pb
from cifasr_serving.responses import ResponseWriter
from cifasr_serving.session import Session, Update

Opened = tuple[Session, ResponseWriter]


class LiveStream:
    """Serves one StreamingRecognize.

    Args:
        requests: Of the caller.
        context: Of the RPC.
        call: Of the RPC; its totals become the session's.
        config: The limits.
        open_session: Makes a session, and who writes for it, of the first request.

    Attributes:
        session: None until there was a first request.
    """

    def __init__(
        self,
        requests: AsyncIterator[pb.StreamingRecognizeRequest],
        context: Context,
        call: Call,
        config: ServerConfig,
        open_session: Callable[[pb.StreamingRecognizeRequest], Opened],
    ) -> None:
        self._requests = requests
        self._context = context
        self._call = call
        self._config = config
        self._open_session = open_session
        self._opened: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()
        self.session: Session | None = None
        self._draining = asyncio.Event()

    async def drain(self) -> None:
        """Send the final results of what was heard, and end."""
        self._draining.set()
        if self.session is not None:
            await self.session.drain()

    async def run(self) -> None:
        """Serve it to its end."""
        # A task of its own reads, so that no time limit ever cancels a read of gRPC in the middle of a stream.
        pump = asyncio.create_task(self._pump())
        try:
            session, writer = await self._first_message()
            self.session, self._call.totals = session, session.totals
            if self._draining.is_set():
                await session.drain()
            try:
                await self._answer(session, writer)
            except SlowReaderError:
                raise
            except Exception:
                await self._linger(session, pump)
                raise
            await self._linger(session, pump)
        finally:
            pump.cancel()
            await asyncio.wait({pump})

    async def _answer(self, session: Session, writer: ResponseWriter) -> None:
        """Write what a session brings, its totals last."""
        await self._write(writer.opening())

        async def emit(update: Update) -> None:
            await self._write(writer.update(update))

        try:
            await session.run(emit)
        except StreamEndedError:
            self._call.resume_s = session.resume_s + writer.settings.audio_offset_s
            await self._write(writer.closing(session.totals))
            raise
        await self._write(writer.closing(session.totals))

    async def _linger(self, session: Session, pump: "asyncio.Task[None]") -> None:
        # A caller whose write fails because the RPC is over may never see its true status: grpc.aio makes it INTERNAL.
        await session.stop_listening()
        await asyncio.wait({pump}, timeout=self._config.linger_s)

    async def _first_message(self) -> Opened:
        going_away = asyncio.create_task(self._draining.wait())
        try:
            waiting: set[asyncio.Future[Any]] = {self._opened, going_away}
            await asyncio.wait(waiting, timeout=self._config.idle_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            going_away.cancel()
        if self._opened.done():
            return self._opened.result()
        if self._draining.is_set():
            raise draining()
        raise LimitPassedError(f"idle_s: no first message for {self._config.idle_s:g} s")

    async def _pump(self) -> None:
        """Read the requests into the session until the caller is done."""
        session: Session | None = None
        try:
            async for request in self._requests:
                if session is None:
                    session, writer = self._open_session(request)
                    self._opened.set_result((session, writer))
                else:
                    await self._accept(session, request)
            if session is None:
                raise InvalidRequestError("streaming_config", "the stream ended without a message")
            await session.end()
        except Exception as error:
            if session is not None:
                await session.fail(error)
            elif not self._opened.done():
                self._opened.set_exception(error)
            if not isinstance(error, DecodeError):
                await self._drop_rest()

    async def _drop_rest(self) -> None:
        with suppress(DecodeError):
            async for _ in self._requests:
                pass

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

    async def _write(self, response: pb.StreamingRecognizeResponse) -> None:
        await write(self._context, response, self._config.write_s)
