"""The microphone as a stream of samples."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from cifasr.audio.samples import Samples
from cifasr.errors import AudioError, BackendUnavailableError
from cifasr_serving.client import MESSAGE_S

_MAX_BLOCKS = 600  # a minute that the server is behind; then the newest is dropped


async def microphone(sample_rate_hz: int) -> AsyncIterator[Samples]:
    """Give the default microphone in blocks of 100 ms until Ctrl-C.

    Args:
        sample_rate_hz: Rate of the samples.

    Raises:
        BackendUnavailableError: sounddevice or its PortAudio is not installed.
        AudioError: There is no microphone that can be opened.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there and PortAudio is not
        raise BackendUnavailableError(f"--mic: {error}; wanted pip install 'cifasr[mic]' and PortAudio") from error
    loop = asyncio.get_running_loop()
    blocks: asyncio.Queue[Samples | None] = asyncio.Queue()

    def put(samples: Samples) -> None:
        if blocks.qsize() < _MAX_BLOCKS:
            blocks.put_nowait(samples)

    def heard(indata: np.ndarray[Any, Any], *_: object) -> None:
        loop.call_soon_threadsafe(put, indata[:, 0].copy())

    loop.add_signal_handler(signal.SIGINT, blocks.put_nowait, None)
    try:
        with sounddevice.InputStream(sample_rate_hz, round(MESSAGE_S * sample_rate_hz), channels=1, callback=heard):
            while (samples := await blocks.get()) is not None:
                yield samples
    except sounddevice.PortAudioError as error:
        raise AudioError(f"--mic: the microphone cannot be opened: {error}") from error
    finally:
        loop.remove_signal_handler(signal.SIGINT)
