import asyncio
import json
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from cifasr_serving import cli
from cifasr_serving.client import StreamOptions, recognize_stream, transcribe_samples
from cifasr_serving.config import ServerConfig
from cifasr_serving.errors import ServerError
from cifasr_serving.server import SpeechServer
from typer import Typer
from typer.testing import CliRunner

from cifasr.audio.samples import write_samples
from cifasr.errors import CifasrError


@contextmanager
def served(model, **limits):
    """A server on a loop and thread of its own, as another process would be."""
    loop, ready, addresses = asyncio.new_event_loop(), threading.Event(), []

    async def run():
        server = SpeechServer([model], ServerConfig(linger_s=0.2, **limits))
        addresses.append(await server.start("127.0.0.1", 0))
        stopping = asyncio.Event()
        addresses.append(lambda: loop.call_soon_threadsafe(stopping.set))
        ready.set()
        await stopping.wait()
        await server.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(60)
    try:
        yield addresses[0]
    finally:
        addresses[1]()
        thread.join(60)
        loop.close()


def test_samples_are_transcribed_with_words_and_their_times(kit, fake_model):
    interims = []

    with served(fake_model()) as address:
        segments = transcribe_samples(address, kit.speech(1.0, 0.6, 0.5), 16_000, on_interim=interims.append)

    assert [(s.index, s.text, s.is_final) for s in segments] == [(0, "word0.0 word0.1", True), (1, "word1.0", True)]
    word = segments[0].words[1]
    assert (word.text, word.start_s, word.end_s, word.confidence) == ("word0.1", 0.5, 1.0, 0.75)
    assert (segments[1].start_s, segments[1].end_s) == (1.5, 2.1)
    assert all(segments[i.index].text.startswith(i.text) for i in interims)


def test_pace_is_that_of_speech(kit, fake_model):
    with served(fake_model()) as address:
        begin = time.monotonic()
        transcribe_samples(address, kit.speech(0.5), 16_000, paced=True)

    assert time.monotonic() - begin >= 0.5


def test_a_refusal_is_one_error_that_names_the_server_and_the_field(kit, fake_model):
    with served(fake_model()) as address, pytest.raises(ServerError) as refusal:
        transcribe_samples(address, kit.speech(2.0), 4_000)

    assert str(refusal.value).startswith(
        f"server {address}: INVALID_ARGUMENT: streaming_config.config.sample_rate_hertz"
    )


def test_without_a_server_the_error_says_so(monkeypatch):
    monkeypatch.setattr("cifasr_serving.client._CONNECT_S", 0.1)

    with pytest.raises(ServerError, match="is `cifasr serve` running"):
        transcribe_samples("127.0.0.1:1", np.zeros(1600, np.float32), 16_000)


async def test_a_single_utterance_ends_while_audio_still_comes(kit, fake_model, serving):
    async def blocks():
        for _ in range(200):
            yield kit.speech(0.5, 0.6)

    async with serving(fake_model()) as running:
        options = StreamOptions(single_utterance=True)
        heard = [h async for h in recognize_stream(running.address, blocks(), 16_000, options)]

    assert [s.text for h in heard for s in h.segments] == ["word0.0"]


async def test_what_the_source_of_audio_raises_reaches_the_caller_behind_the_results(kit, fake_model, serving):
    async def blocks():
        yield kit.speech(0.5)
        raise CifasrError("the microphone is gone")

    heard = []

    async def listen(address):
        async for h in recognize_stream(address, blocks(), 16_000, StreamOptions()):
            heard.append(h)

    async with serving(fake_model()) as running:
        with pytest.raises(CifasrError, match="the microphone is gone"):
            await listen(running.address)

    assert [s.text for h in heard for s in h.segments] == ["word0.0"]


@pytest.fixture
def wav(tmp_path, kit):
    path = tmp_path / "a.wav"
    write_samples(path, kit.speech(1.0, 0.6, 0.5), 16_000)
    return path


def run(*arguments):
    app = Typer()
    app.command()(cli.stream)
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout.splitlines()


def test_stream_prints_final_text(wav, fake_model):
    with served(fake_model()) as address:
        assert run(wav, "--server", address, "--fast") == ["word0.0 word0.1", "word1.0"]


def test_stream_prints_words_on_request(wav, fake_model):
    with served(fake_model()) as address:
        lines = run(wav, "--server", address, "--fast", "--words")

    assert lines[:2] == ["word0.0 word0.1", "      0.00     0.50  0.75  word0.0"]


def test_stream_prints_json_lines(wav, fake_model):
    with served(fake_model()) as address:
        rows = [json.loads(line) for line in run(wav, "--server", address, "--fast", "--json", "--words")]

    assert [row["text"] for row in rows] == ["word0.0 word0.1", "word1.0"]
    assert rows[0]["words"][0] == {"text": "word0.0", "start_s": 0.0, "end_s": 0.5, "confidence": 0.75}
    assert (rows[1]["source"], rows[1]["start_s"], rows[1]["end_s"]) == (str(wav), 1.5, 2.1)


@pytest.mark.parametrize("arguments", [[], ["a.wav", "--mic"]])
def test_stream_wants_files_or_the_microphone(arguments):
    with pytest.raises(CifasrError, match="one of the two"):
        run(*arguments)
