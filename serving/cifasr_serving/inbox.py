"""What waits for the model in one live stream: audio bounded in seconds, and what comes between."""

import asyncio
from collections import deque
from dataclasses import dataclass

import numpy as np

from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples
from cifasr_serving.errors import DrainingError, LimitPassedError, StreamEndedError

_MAX_ITEMS = 1024


@dataclass(frozen=True, slots=True)
class Audio:
    """Samples at 16 kHz."""

    samples: Samples


@dataclass(frozen=True, slots=True)
class Finalize:
    """The caller ends the utterance."""


@dataclass(frozen=True, slots=True)
class Notice:
    """The server is going to end the stream; overtakes the audio."""


@dataclass(frozen=True, slots=True)
class End:
    """Nothing follows.

    Attributes:
        error: None: the caller is done. A StreamEndedError: the final results are still sent. Any other: they are not.
    """

    error: Exception | None


Item = Audio | Finalize | Notice | End


class Inbox:
    """One producer, one consumer, one event loop.

    Args:
        queue_s: Audio that may wait, in seconds; a producer with more is held back.
        idle_s: Longest time without a sign of the producer, in seconds.
        max_s: Longest life, in seconds.
    """

    def __init__(self, queue_s: float, idle_s: float, max_s: float) -> None:
        self._items: deque[Item] = deque()
        self._num_queued = self._num_accepted = 0
        self._max_queued = max(1, round(queue_s * SAMPLE_RATE_HZ))
        self._changed = asyncio.Condition()
        self._closed = False
        self._idle_s = idle_s
        self._max_s = max_s
        self._loop = asyncio.get_running_loop()
        self._born = self._last_sign = self._loop.time()

    @property
    def queued_s(self) -> float:
        """Audio that waits, in seconds."""
        return self._num_queued / SAMPLE_RATE_HZ

    @property
    def accepted_s(self) -> float:
        """Audio that was put in and not dropped, in seconds: all of it will be decoded."""
        return self._num_accepted / SAMPLE_RATE_HZ

    @property
    def closed(self) -> bool:
        """Whether whatever is put in from now on is dropped."""
        return self._closed

    def keep_alive(self) -> None:
        """Start the idle time anew."""
        self._last_sign = self._loop.time()

    async def put(self, item: Audio | Finalize) -> None:
        """Add an item, once there is room; dropped where the stream is over."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._closed or (self._num_queued < self._max_queued and len(self._items) < _MAX_ITEMS)
            )
            self.keep_alive()
            if self._closed:
                return
            self._items.append(item)
            if isinstance(item, Audio):
                self._num_queued += len(item.samples)
                self._num_accepted += len(item.samples)
            self._changed.notify_all()

    async def close(self, error: Exception | None = None) -> None:
        """Say that nothing follows; the first to say it is heard."""
        async with self._changed:
            self._close(error)
            self._changed.notify_all()

    async def get(self, max_samples: int) -> Item:
        """Wait for the next item; neighbouring audio comes as one item of at most ``max_samples``."""
        async with self._changed:
            while not self._items:
                now = self._loop.time()
                deadline = min(self._last_sign + self._idle_s, self._born + self._max_s)
                try:
                    async with asyncio.timeout(max(0.0, deadline - now)):
                        await self._changed.wait_for(lambda: self._items)
                except TimeoutError:
                    self._end_of_time()
            if self._loop.time() >= self._born + self._max_s:
                self._end_of_time()
            item = self._take(max_samples)
            self._changed.notify_all()
            return item

    def _close(self, error: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        if isinstance(error, StreamEndedError):
            self._items.appendleft(Notice())
        self._items.append(End(error))

    def _end_of_time(self) -> None:
        now = self._loop.time()
        if now >= self._born + self._max_s:
            self._close(LimitPassedError(f"max_stream_s: the stream is older than {self._max_s:g} s"))
        elif now >= self._last_sign + self._idle_s:
            self._close(LimitPassedError(f"idle_s: no message for {self._idle_s:g} s"))

    def _take(self, max_samples: int) -> Item:
        item = self._items.popleft()
        if not isinstance(item, Audio):
            return item
        pieces, room = [item.samples[:max_samples]], max_samples - len(item.samples)
        rest = item.samples[max_samples:]
        while room > 0 and self._items and isinstance(next_item := self._items[0], Audio):
            self._items.popleft()
            pieces.append(next_item.samples[:room])
            rest, room = next_item.samples[room:], room - len(next_item.samples)
        if len(rest):
            self._items.appendleft(Audio(rest))
        joined = np.concatenate(pieces)
        self._num_queued -= len(joined)
        return Audio(joined)


def draining() -> DrainingError:
    """The error of a stream that ends because the server goes away."""
    return DrainingError("the server goes away; connect again with audio_offset")
