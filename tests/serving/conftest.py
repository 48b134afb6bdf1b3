"""A model of a few lines, and servers around it on loopback ports that the system chooses."""

import threading
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc.aio
import numpy as np
import pytest
from cifasr_serving.config import ServerConfig
from cifasr_serving.model import Endpointing, ModelInfo
from cifasr_serving.pb import speech_pb2 as pb
from cifasr_serving.pb.speech_pb2_grpc import SpeechServiceStub
from cifasr_serving.server import SpeechServer

from cifasr.decoding.result import Result, Segment, Word

FRAME = 1600  # 100 ms
FRAMES_A_WORD = 5


class FakeRecognizer:
    """One word for each half second of loud audio; a segment ends after its trailing silence."""

    def __init__(self, model, endpointing):
        self.model = model
        self.trailing_frames = round((endpointing.trailing_silence_s or 0.5) * 10)
        self.automatic = endpointing.automatic
        self.rest = np.zeros(0, np.float32)
        self.index = self.frame = self.start = self.loud = self.quiet = 0
        self.words = []

    def accept_waveform(self, samples):
        self.model.compute(samples)
        self.rest = np.concatenate([self.rest, samples])
        finals = []
        while len(self.rest) >= FRAME:
            frame, self.rest = self.rest[:FRAME], self.rest[FRAME:]
            finals += self._hear(np.abs(frame).mean() > 0.05)
        return Result(tuple(finals), self._segment(False))

    def finish_segment(self):
        return Result((self._end(),), self._segment(False))

    def input_finished(self):
        return Result((self._end(),), None)

    def _hear(self, loud):
        self.frame += 1
        self.loud, self.quiet = (self.loud + 1, 0) if loud else (self.loud, self.quiet + 1)
        if loud and self.loud % FRAMES_A_WORD == 0:
            end_s = self.frame / 10
            self.words.append(Word(f"word{self.index}.{len(self.words)}{self.model.suffix}", end_s - 0.5, end_s, 0.75))
        if self.automatic and self.words and self.quiet >= self.trailing_frames:
            return [self._end()]
        return []

    def _end(self):
        segment = self._segment(True)
        self.index, self.start, self.loud, self.quiet, self.words = self.index + 1, self.frame, 0, 0, []
        return segment

    def _segment(self, is_final):
        text = " ".join(word.text for word in self.words)
        return Segment(self.index, text, tuple(self.words), self.start / 10, self.frame / 10, is_final)


@dataclass
class FakeModel:
    """Makes fake recognisers that are as slow, or as broken, as a test wants.

    ``poison``: audio that has a sample of exactly this value makes the model raise.
    ``suffix``: ends each word.
    ``gate``: each model call waits for it.
    """

    info: ModelInfo = field(default_factory=lambda: ModelInfo("fake", "1", ("en",), 0.64))
    work_s: float = 0.0
    poison: float | None = None
    suffix: str = ""
    gate: threading.Event = field(default_factory=threading.Event)
    streams: list = field(default_factory=list)

    def __post_init__(self):
        self.gate.set()

    def open_stream(self, endpointing: Endpointing):
        self.streams.append(endpointing)
        return FakeRecognizer(self, endpointing)

    def compute(self, samples):
        assert self.gate.wait(60)
        time.sleep(self.work_s)
        if self.poison is not None and np.any(np.abs(samples - self.poison) < 1e-4):
            raise ValueError("secret of the model")


@dataclass
class Running:
    server: SpeechServer
    address: str
    channel: grpc.aio.Channel
    stub: SpeechServiceStub


@asynccontextmanager
async def _serve(model=None, **limits):
    config = ServerConfig(**{"drain_s": 30.0, "linger_s": 0.1, "max_audio_bytes": 1024 * 1024} | limits)
    server = SpeechServer([model or FakeModel()], config)
    address = await server.start("127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield Running(server, address, channel, SpeechServiceStub(channel))
    finally:
        await server.kill()


@pytest.fixture
def serving():
    """``async with serving(model, **limits) as running``."""
    return _serve


@pytest.fixture
def fake_model():
    return FakeModel


def speech(*spans, rate=16_000, value=0.5):
    """Loud and quiet spans in seconds, loud first: ``speech(1.2, 0.8)``."""
    parts = [np.full(round(s * rate), value if i % 2 == 0 else 0, np.float32) for i, s in enumerate(spans)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def linear16(samples):
    return np.round(samples * 32767).astype("<i2").tobytes()


def config(encoding="LINEAR16", rate=16_000, **fields):
    number = pb.AudioEncoding.Value(f"AUDIO_ENCODING_{encoding}") if isinstance(encoding, str) else encoding
    return pb.RecognitionConfig(encoding=number, sample_rate_hertz=rate, **fields)


def opening(recognition=None, client_request_id="", **fields):
    streaming = pb.StreamingRecognitionConfig(config=recognition or config(), **fields)
    return pb.StreamingRecognizeRequest(streaming_config=streaming, client_request_id=client_request_id)


def audio(data):
    return pb.StreamingRecognizeRequest(audio_content=data)


def pieces(data, size):
    return [audio(data[i : i + size]) for i in range(0, len(data), size)]


def control(action):
    return pb.StreamingRecognizeRequest(control=pb.StreamControl(action=action))


async def converse(stub, requests):
    """All responses to a list of requests."""
    return [response async for response in stub.StreamingRecognize(iter(requests))]


async def gather(call, responses):
    """Read a call to its end into a list, which keeps what came before an error."""
    while (response := await call.read()) is not grpc.aio.EOF:
        responses.append(response)
    return responses


def results(responses, *, final=None):
    found = [result for response in responses for result in response.results]
    return [result for result in found if final is None or result.is_final == final]


def transcripts(responses, *, final=True):
    return [result.alternatives[0].transcript for result in results(responses, final=final)]


class Kit:
    """The helpers above, as one fixture, since test modules import nothing from each other."""

    speech = staticmethod(speech)
    linear16 = staticmethod(linear16)
    config = staticmethod(config)
    opening = staticmethod(opening)
    audio = staticmethod(audio)
    pieces = staticmethod(pieces)
    control = staticmethod(control)
    converse = staticmethod(converse)
    gather = staticmethod(gather)
    results = staticmethod(results)
    transcripts = staticmethod(transcripts)


@pytest.fixture(scope="session")
def kit():
    return Kit
