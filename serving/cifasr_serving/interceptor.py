"""Requests that are no protobuf message: the library would end them as UNKNOWN, with the exception's text."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc.aio
from google.protobuf.message import DecodeError

from cifasr_serving.status import ending_of

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class RefuseUndecodable(grpc.aio.ServerInterceptor):
    """Ends the RPCs of one service that take one request with INVALID_ARGUMENT if that is no message.

    Streams of requests are left alone: they are decoded within the servicer, which answers for itself.

    Args:
        service_name: Full name of the service; its handlers are coroutines.
    """

    def __init__(self, service_name: str) -> None:
        self._prefix = f"/{service_name}/"

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the deserializer and the handler of a method."""
        handler: Any = await continuation(handler_call_details)
        if (
            handler is None
            or handler.request_streaming
            or not str(handler_call_details.method).startswith(self._prefix)
        ):
            return handler  # type: ignore[no-any-return]
        kind = "unary_stream" if handler.response_streaming else "unary_unary"
        wrapped: Handler = handler._replace(
            **{"request_deserializer": _lenient(handler.request_deserializer), kind: _strict(getattr(handler, kind))}
        )
        return wrapped


def _lenient(deserialize: Callable[[bytes], object]) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        try:
            return deserialize(data)
        except DecodeError as error:
            return error

    return read


def _strict(answer: Callable[[Any, Any], Awaitable[object]]) -> Callable[[Any, Any], Awaitable[object]]:
    async def refuse_or_answer(request: object, context: grpc.aio.ServicerContext[Any, Any]) -> object:
        if isinstance(request, DecodeError):
            ending = ending_of(request, request_id="")
            await context.abort(ending.code, ending.text, ending.trailing_metadata)
        return await answer(request, context)

    return refuse_or_answer
