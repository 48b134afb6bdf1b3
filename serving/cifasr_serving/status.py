"""The one table from errors to status codes; nothing leaves the server as UNKNOWN or with a raw exception's text."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from cifasr.errors import AudioError
from cifasr_serving.errors import (
    DrainingError,
    ForeignMemoryError,
    InvalidRequestError,
    LimitPassedError,
    MemoryFullError,
    ServerFullError,
    SlowReaderError,
    UnknownModelError,
    UnknownPhraseError,
)
from cifasr_serving.responses import duration

_log = logging.getLogger(__name__)

RESUME_OFFSET_KEY = "resume-offset-ms"
"""Trailing metadata of a live stream that the server ended: where the caller goes on, in milliseconds."""

STATUS_CODES: dict[type[Exception], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    AudioError: grpc.StatusCode.INVALID_ARGUMENT,
    message.DecodeError: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownModelError: grpc.StatusCode.NOT_FOUND,
    UnknownPhraseError: grpc.StatusCode.NOT_FOUND,
    ForeignMemoryError: grpc.StatusCode.FAILED_PRECONDITION,
    MemoryFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    LimitPassedError: grpc.StatusCode.OUT_OF_RANGE,
    ServerFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    SlowReaderError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DrainingError: grpc.StatusCode.UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How an RPC ends: what `grpc.aio.ServicerContext.abort` takes."""

    code: grpc.StatusCode
    text: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def ending_of(error: Exception, request_id: str, resume_s: float | None = None) -> Ending:
    """Give the status that ends an RPC, with its details.

    Args:
        error: What ended it. One that is not in the table is logged, and the caller gets only ``request_id``.
        request_id: The server's id of this request.
        resume_s: Where the caller may go on, in seconds; None where there is no such place.
    """
    code = STATUS_CODES.get(type(error))
    if code is None:
        _log.error("request_id=%s failed", request_id, exc_info=error)
        code, text = grpc.StatusCode.INTERNAL, f"internal error; request_id={request_id}"
    elif isinstance(error, message.DecodeError):
        text = "the request is not a protobuf message of this method"
    elif isinstance(error, AudioError):
        text = f"audio: {error}"
    else:
        text = str(error)
    status = rpc_status.to_status(
        status_pb2.Status(code=code_pb2.Code.Value(code.name), message=text, details=_details(error))
    )
    resume = () if resume_s is None else ((RESUME_OFFSET_KEY, str(int(resume_s * 1000))),)
    return Ending(code, text, (*status.trailing_metadata, *resume))


def _details(error: Exception) -> Sequence[any_pb2.Any]:
    detail: message.Message
    if isinstance(error, InvalidRequestError):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.problem)
        detail = error_details_pb2.BadRequest(field_violations=[violation])
    elif isinstance(error, ServerFullError):
        detail = error_details_pb2.RetryInfo(retry_delay=duration(error.retry_s))
    else:
        return ()
    packed = any_pb2.Any()
    packed.Pack(detail)
    return (packed,)
