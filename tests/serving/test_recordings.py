import io

import numpy as np
import pytest
import soundfile
from cifasr_serving.pb import speech_pb2 as pb


def encode(samples, rate, kind, subtype=None):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("kind", "subtype", "encoding", "rate"),
    [
        ("WAV", "PCM_24", "WAV", 44_100),
        ("FLAC", "PCM_16", "FLAC", 16_000),
        ("FLAC", "PCM_16", "FLAC", 48_000),
        ("OGG", "OPUS", "OGG_OPUS", 48_000),
    ],
)
async def test_a_container_is_read_whole(serving, kit, kind, subtype, encoding, rate, named):
    samples = kit.speech(1.05, 0.6, 0.55, rate=rate)
    samples *= np.sin(2 * np.pi * 200 / rate * np.arange(len(samples)))  # Opus does not keep a constant
    stereo = np.stack([samples] * 2, axis=1)
    data = encode(stereo, rate, kind, subtype)
    config = kit.config(encoding if named else "UNSPECIFIED", 0)

    async with serving() as running:
        response = await running.stub.Recognize(pb.RecognizeRequest(config=config, audio=data))

    assert [r.alternatives[0].transcript for r in response.results] == ["word0.0 word0.1", " word1.0"]
    assert response.metadata.audio_received.ToTimedelta().total_seconds() == pytest.approx(2.2, abs=0.03)
    assert response.metadata.model == "fake 1"


@pytest.mark.parametrize(("kind", "subtype", "encoding"), [("FLAC", "PCM_16", "FLAC"), ("OGG", "OPUS", "OGG_OPUS")])
async def test_a_container_that_is_cut_off_is_refused(serving, kit, kind, subtype, encoding):
    noise = np.random.default_rng(0).uniform(-1, 1, 96_000)
    data = encode(noise, 16_000, kind, subtype)
    request = pb.RecognizeRequest(config=kit.config(encoding, 0), audio=data[: len(data) * 2 // 3])

    async with serving() as running:
        with pytest.raises(Exception, match="audio: ") as refusal:
            await running.stub.Recognize(request)

    assert refusal.value.code().name == "INVALID_ARGUMENT"


@pytest.mark.parametrize(("encoding", "subtype"), [("MULAW", "ULAW"), ("ALAW", "ALAW")])
async def test_telephone_encodings(serving, kit, encoding, subtype):
    data = encode(kit.speech(1.05, 0.6, rate=8_000), 8_000, "RAW", subtype)
    request = pb.RecognizeRequest(config=kit.config(encoding, 8_000), audio=data)

    async with serving() as running:
        response = await running.stub.Recognize(request)

    assert [r.alternatives[0].transcript for r in response.results] == ["word0.0 word0.1"]


async def test_segments_come_one_by_one_and_the_metadata_last(serving, kit):
    data = kit.linear16(kit.speech(1.0, 0.6, 0.5))
    config = kit.config(enable_word_time_offsets=True, enable_word_confidence=True)
    request = pb.RecognizeSegmentsRequest(config=config, audio=data, client_request_id="mine")

    async with serving() as running:
        *segments, last = [response async for response in running.stub.RecognizeSegments(request)]

    assert [s.result.alternatives[0].transcript for s in segments] == ["word0.0 word0.1", " word1.0"]
    assert [w.word for w in segments[0].result.alternatives[0].words] == ["word0.0", "word0.1"]
    assert (last.HasField("result"), last.metadata.client_request_id) == (False, "mine")


async def test_a_recording_and_a_stream_give_the_same_segments(serving, kit):
    data = kit.linear16(kit.speech(1.0, 0.6, 0.5))

    async with serving() as running:
        unary = await running.stub.Recognize(pb.RecognizeRequest(config=kit.config(), audio=data))
        live = await kit.converse(running.stub, [kit.opening(), *kit.pieces(data, 3200)])

    assert [r.alternatives[0].transcript for r in unary.results] == kit.transcripts(live)


async def test_models_are_listed(serving):
    async with serving() as running:
        [model] = (await running.stub.ListModels(pb.ListModelsRequest())).models

    assert (model.name, model.version, list(model.language_codes)) == ("fake", "1", ["en"])
    assert (model.native_sample_rate_hertz, model.streaming, model.chunk_duration.nanos) == (16_000, True, 640_000_000)


@pytest.mark.parametrize("language", ["", "en", "EN", "en-GB"])
async def test_a_models_language_is_known_by_any_of_its_tags(serving, kit, language):
    request = pb.RecognizeRequest(config=kit.config(language_code=language, model="fake"), audio=b"")

    async with serving() as running:
        response = await running.stub.Recognize(request)

    assert list(response.results) == []
