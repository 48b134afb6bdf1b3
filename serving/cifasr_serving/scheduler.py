"""The model off the event loop: one worker thread, one turn at a time, live streams first.

A stream has at most one turn waiting, so the queue is bounded by the number of streams, and first come first served is
round robin. A turn that raises fails only its own stream. `Scheduler._next_turn` is where turns of several streams
would be gathered into one batched model call.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from cifasr.errors import StateError

T = TypeVar("T")
_log = logging.getLogger(__name__)

# While live streams wait, recordings still get one turn in so many.
_RECORDING_EVERY = 8


class Lane(Enum):
    """Who waits for a turn: somebody who listens, or a file."""

    LIVE = "live"
    RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class _Turn:
    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[tuple[Any, float]]"


class Scheduler:
    """Gives the one worker thread to the streams in turns."""

    def __init__(self) -> None:
        self._waiting: dict[Lane, deque[_Turn]] = {lane: deque() for lane in Lane}
        self._changed = threading.Condition()
        self._stopping = False
        self._turns_since_recording = 0
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._work, name="cifasr-model", daemon=True)

    def start(self) -> None:
        """Start the worker thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Cancel what waits and end the thread after the turn that runs; blocks for at most ``timeout_s``."""
        with self._changed:
            self._stopping = True
            for turns in self._waiting.values():
                while turns:
                    turn = turns.popleft()
                    turn.loop.call_soon_threadsafe(turn.answer.cancel)
            self._changed.notify()
        self._thread.join(timeout_s)

    def healthy(self, stall_s: float) -> bool:
        """Whether the thread is alive and its present turn runs for less than ``stall_s`` seconds."""
        busy_since = self._busy_since
        return self._thread.is_alive() and (busy_since is None or time.monotonic() - busy_since < stall_s)

    async def run(self, work: Callable[[], T], lane: Lane) -> tuple[T, float]:
        """Wait for a turn and do ``work`` in it.

        Args:
            work: Called on the worker thread.
            lane: Live turns go before those of recordings.

        Returns:
            What ``work`` returned, and the seconds it took.

        Raises:
            StateError: The scheduler does not run.
            Exception: Whatever ``work`` raised.
        """
        loop = asyncio.get_running_loop()
        turn = _Turn(work, loop, loop.create_future())
        with self._changed:
            if self._stopping or not self._thread.is_alive():
                raise StateError("the model's thread does not run")
            self._waiting[lane].append(turn)
            self._changed.notify()
        answer: tuple[T, float] = await turn.answer
        return answer

    def _work(self) -> None:
        while (turn := self._next_turn()) is not None:
            if turn.answer.cancelled():  # the stream went away while it waited
                continue
            self._busy_since = begin = time.monotonic()
            value: Any = None
            error: BaseException | None = None
            try:
                value = turn.work()
            except BaseException as raised:  # whatever it is belongs to this stream, not to this thread
                error = raised
            took_s = time.monotonic() - begin
            self._busy_since = None
            try:
                turn.loop.call_soon_threadsafe(_settle, turn.answer, (value, took_s), error)
            except RuntimeError:
                _log.warning("a turn ended after its event loop was closed")
            del turn, value, error

    def _next_turn(self) -> _Turn | None:
        live, recordings = self._waiting[Lane.LIVE], self._waiting[Lane.RECORDING]
        with self._changed:
            self._changed.wait_for(lambda: live or recordings or self._stopping)
            if self._stopping:
                return None
            if recordings and (not live or self._turns_since_recording >= _RECORDING_EVERY):
                self._turns_since_recording = 0
                return recordings.popleft()
            self._turns_since_recording += 1
            return live.popleft()


def _settle(answer: "asyncio.Future[tuple[Any, float]]", value: tuple[Any, float], error: BaseException | None) -> None:
    if answer.cancelled():
        return
    if error is None:
        answer.set_result(value)
    elif isinstance(error, Exception) and not isinstance(error, StopIteration):
        answer.set_exception(error)
    else:  # these would end the event loop or the coroutine instead of the stream
        wrapped = RuntimeError(f"the model raised {type(error).__name__}")
        wrapped.__cause__ = error
        answer.set_exception(wrapped)
