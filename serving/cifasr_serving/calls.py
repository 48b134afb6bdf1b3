"""What every RPC needs around its work: a slot, a log line, a write that is taken in time, and a last word."""

import asyncio
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc.aio
from google.protobuf.message import Message

from cifasr_serving.errors import ServerFullError, SlowReaderError
from cifasr_serving.session import Totals
from cifasr_serving.status import ending_of

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
class Call:
    """One RPC, for its log line and its last words.

    Attributes:
        method: Its name.
        request_id: The server's name for it.
        totals: What it took.
        resume_s: Where a stream that the server ends may go on.
    """

    method: str
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    totals: Totals = field(default_factory=Totals)
    resume_s: float | None = None

    def log_end(self, code: str = "OK") -> None:
        """Write the one line of the log that tells of it."""
        _log.info(
            "%s request_id=%s code=%s audio_s=%.2f compute_s=%.2f",
            self.method,
            self.request_id,
            code,
            self.totals.audio_received_s,
            self.totals.compute_s,
        )

    async def abort(self, context: Context, error: Exception) -> NoReturn:
        """End it with the status that belongs to an error."""
        ending = ending_of(error, self.request_id, self.resume_s)
        self.log_end(ending.code.name)
        await context.abort(ending.code, ending.text, ending.trailing_metadata)


async def write(context: Context, response: Message, limit_s: float) -> None:
    """Send a response of a stream.

    Raises:
        SlowReaderError: It was not taken for that long.
    """
    writing = asyncio.ensure_future(context.write(response))
    try:
        await asyncio.wait({writing}, timeout=limit_s)
        if not writing.done():
            raise SlowReaderError(f"write_s: a response was not taken for {limit_s:g} s")
    except BaseException:
        writing.cancel()
        raise
    await writing
