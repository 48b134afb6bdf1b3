"""Word memories over the wire: the real recogniser, small and untrained, on a loopback port."""

import grpc
import numpy as np
import pytest
from cifasr_serving.cifasr_model import load_cifasr_model
from cifasr_serving.client import StreamOptions, cut, forget_phrase, list_phrases, recognize_stream, teach_phrase
from cifasr_serving.config import ServerConfig
from cifasr_serving.errors import ServerError
from cifasr_serving.memories import MemoryFolder
from cifasr_serving.model import TaughtPhrase
from cifasr_serving.pb import speech_pb2 as pb
from cifasr_serving.pb.speech_pb2_grpc import SpeechServiceStub
from cifasr_serving.server import SpeechServer

from cifasr.decoding.memory.cifmem import load_memory, save_memory
from cifasr.decoding.memory.word_memory import WordMemory
from cifasr.models.checkpoint import save_checkpoint

RATE = 16_000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * RATE).astype(np.float32)


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(tiny_model(), path)
    return load_cifasr_model(path, compute_threads=1)


@pytest.fixture
async def address(model, tmp_path):
    limits = ServerConfig(linger_s=0.1, max_memories=2, max_phrases=2, max_lesson_s=5.0)
    server = SpeechServer([model], limits, MemoryFolder(tmp_path / "memories", limits))
    yield await server.start("127.0.0.1", 0)
    await server.kill()


async def transcript(address, memory):
    heard = recognize_stream(address, cut(NOISE, RATE, paced=False), RATE, StreamOptions(memory=memory))
    return " ".join([segment.text async for each in heard for segment in each.segments])


async def teach(address, memory="me", text="face bed", samples=NOISE):
    return await teach_phrase(address, memory, samples, RATE, text)


async def test_a_phrase_is_taught_listed_and_forgotten(address, model, tmp_path):
    taught = await teach(address, text="the [face bed]")
    again = await teach(address, text="[face bed] he")
    listed = await list_phrases(address, "me")
    kept = load_memory(tmp_path / "memories" / "me.cifmem", model.network, model.info.version)
    await forget_phrase(address, "me", "face bed")

    assert taught == [TaughtPhrase("face bed", 1)]
    assert again == listed == [TaughtPhrase("face bed", 2)]
    assert [phrase.text for phrase in kept.phrases] == ["face bed"]
    assert await list_phrases(address, "me") == []


async def test_a_stream_goes_by_the_memory_that_it_names(address, monkeypatch):
    named = []
    monkeypatch.setattr(
        "cifasr.decoding.memory.word_memory.WordMemory.biasing",
        lambda memory: named.append([phrase.text for phrase in memory.phrases]),
    )
    await teach(address)

    await transcript(address, "")
    await transcript(address, "me")

    assert named == [["face bed"]]


@pytest.mark.parametrize("name", ["../me", "a/b", "a.b", "", "x" * 65, "a\0"])
async def test_a_name_that_is_no_plain_word_is_refused(address, tmp_path, name):
    with pytest.raises(ServerError, match=r"INVALID_ARGUMENT: (config\.)?memory: wanted 1 to 64 letters"):
        await teach(address, memory=name)

    with pytest.raises(ServerError, match="INVALID_ARGUMENT: memory"):
        await list_phrases(address, name)
    assert list((tmp_path / "memories").iterdir()) == []


async def test_a_memory_that_is_not_there_is_not_found(address):
    for asked in (transcript(address, "you"), list_phrases(address, "you"), forget_phrase(address, "you", "bed")):
        with pytest.raises(ServerError, match="NOT_FOUND: memory: there is none named 'you'"):
            await asked


async def test_a_phrase_that_was_not_taught_is_not_found(address):
    await teach(address)

    with pytest.raises(ServerError, match="NOT_FOUND: text"):
        await forget_phrase(address, "me", "bed")


async def test_one_phrase_and_one_memory_too_many_are_refused(address):
    await teach(address, text="[face] [bed]")
    await teach(address, memory="you")

    with pytest.raises(ServerError, match="RESOURCE_EXHAUSTED: max_phrases"):
        await teach(address, text="cab")
    with pytest.raises(ServerError, match="RESOURCE_EXHAUSTED: max_memories"):
        await teach(address, memory="they")
    assert [phrase.text for phrase in await list_phrases(address, "me")] == ["face", "bed"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"text": ""}, "INVALID_ARGUMENT: text"),
        ({"text": "xyz"}, "INVALID_ARGUMENT: text"),
        ({"text": "[cab]" + " face bed" * 20, "samples": NOISE[:800]}, "INVALID_ARGUMENT: audio: .*heard no more"),
        ({"samples": np.zeros(6 * RATE, np.float32)}, r"OUT_OF_RANGE: audio: 6.0 s, .*max_lesson_s"),
    ],
)
async def test_a_lesson_that_cannot_be_learnt_is_refused(address, change, status):
    with pytest.raises(ServerError, match=status):
        await teach(address, **change)


async def test_a_memory_of_another_model_is_refused(address, model, tmp_path):
    save_memory(WordMemory(model.network, "another"), tmp_path / "memories" / "me.cifmem")

    with pytest.raises(ServerError, match="FAILED_PRECONDITION: memory 'me'"):
        await transcript(address, "me")


async def test_a_server_without_memories_says_so(serving, kit):
    async with serving() as running:
        with pytest.raises(ServerError, match="INVALID_ARGUMENT: memory: this server keeps no word memories"):
            await list_phrases(running.address, "me")
        with pytest.raises(grpc.aio.AioRpcError, match="this server keeps no word memories"):
            await kit.converse(running.stub, [kit.opening(kit.config(memory="me"))])


async def test_a_recording_goes_by_the_memory_that_it_names(address):
    config = pb.RecognitionConfig(encoding=pb.AUDIO_ENCODING_FLOAT32, sample_rate_hertz=RATE, memory="you")

    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="there is none named 'you'"):
            await SpeechServiceStub(channel).Recognize(pb.RecognizeRequest(config=config, audio=NOISE.tobytes()))
