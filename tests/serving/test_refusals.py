"""Every bad input has its code, names its field, and hurts nobody else."""

import io

import grpc
import numpy as np
import pytest
import soundfile
from cifasr_serving.pb import speech_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SECOND = Duration(seconds=1)


def wav(rate=16_000):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(800), rate, format="WAV")
    return file.getvalue()


def bad_config(**fields):
    return lambda kit: [kit.opening(kit.config(**fields))]


def bad_streaming(**fields):
    return lambda kit: [kit.opening(**fields)]


def after_opening(make, **fields):
    return lambda kit: [kit.opening(kit.config(**fields)), make(kit)]


CONFIG = "streaming_config.config"
ENDPOINTING = "streaming_config.endpointing"
STREAMS = {
    "no message": (lambda kit: [], INVALID, "streaming_config"),
    "audio first": (lambda kit: [kit.audio(b"\0\0")], INVALID, "streaming_config"),
    "control first": (lambda kit: [kit.control(1)], INVALID, "streaming_config"),
    "nothing set first": (lambda kit: [pb.StreamingRecognizeRequest()], INVALID, "streaming_config"),
    "config twice": (lambda kit: [kit.opening(), kit.opening()], INVALID, "streaming_config"),
    "nothing set later": (after_opening(lambda kit: pb.StreamingRecognizeRequest()), INVALID, "streaming_request"),
    "no recognition config": (
        lambda kit: [pb.StreamingRecognizeRequest(streaming_config=pb.StreamingRecognitionConfig())],
        INVALID,
        CONFIG,
    ),
    "control unset": (after_opening(lambda kit: kit.control(0)), INVALID, "control.action"),
    "control unknown": (after_opening(lambda kit: kit.control(77)), INVALID, "control.action"),
    "audio too large": (after_opening(lambda kit: kit.audio(bytes(2**20 + 1))), INVALID, "audio_content"),
    "encoding unknown": (bad_config(encoding=77), INVALID, f"{CONFIG}.encoding"),
    "encoding FLAC live": (bad_config(encoding="FLAC"), INVALID, f"{CONFIG}.encoding"),
    "encoding Opus live": (bad_config(encoding="OGG_OPUS"), INVALID, f"{CONFIG}.encoding"),
    "encoding unset, no header": (
        after_opening(lambda kit: kit.audio(bytes(100)), encoding="UNSPECIFIED", rate=0),
        INVALID,
        "config.encoding",
    ),
    "rate 0": (bad_config(rate=0), INVALID, f"{CONFIG}.sample_rate_hertz"),
    "rate -5": (bad_config(rate=-5), INVALID, f"{CONFIG}.sample_rate_hertz"),
    "rate 7999": (bad_config(rate=7_999), INVALID, f"{CONFIG}.sample_rate_hertz"),
    "rate 48001": (bad_config(rate=48_001), INVALID, f"{CONFIG}.sample_rate_hertz"),
    "language": (bad_config(language_code="tlh"), INVALID, f"{CONFIG}.language_code"),
    "alternatives 31": (bad_config(max_alternatives=31), INVALID, f"{CONFIG}.max_alternatives"),
    "alternatives -1": (bad_config(max_alternatives=-1), INVALID, f"{CONFIG}.max_alternatives"),
    "channels 9": (bad_config(audio_channel_count=9), INVALID, f"{CONFIG}.audio_channel_count"),
    "channels -1": (bad_config(audio_channel_count=-1), INVALID, f"{CONFIG}.audio_channel_count"),
    "each channel": (
        bad_config(enable_separate_recognition_per_channel=True),
        INVALID,
        f"{CONFIG}.enable_separate_recognition_per_channel",
    ),
    "phrases": (bad_config(speech_contexts=[pb.SpeechContext(phrases=["a"])]), INVALID, f"{CONFIG}.speech_contexts"),
    "punctuation": (bad_config(enable_automatic_punctuation=True), INVALID, f"{CONFIG}.enable_automatic_punctuation"),
    "unknown model": (bad_config(model="nope"), grpc.StatusCode.NOT_FOUND, "config.model"),
    "long id": (lambda kit: [kit.opening(client_request_id="x" * 129)], INVALID, "client_request_id"),
    "odd id": (lambda kit: [kit.opening(client_request_id="a\nb")], INVALID, "client_request_id"),
    "negative interval": (
        bad_streaming(interim_interval=Duration(seconds=-1)),
        INVALID,
        "streaming_config.interim_interval",
    ),
    "nanoseconds": (
        bad_streaming(audio_offset=Duration(nanos=1_000_000_000)),
        INVALID,
        "streaming_config.audio_offset",
    ),
    "no silence": (
        bad_streaming(endpointing=pb.EndpointingConfig(trailing_silence=Duration())),
        INVALID,
        f"{ENDPOINTING}.trailing_silence",
    ),
    "long utterance": (
        bad_streaming(endpointing=pb.EndpointingConfig(max_utterance=Duration(seconds=61))),
        INVALID,
        f"{ENDPOINTING}.max_utterance",
    ),
    "no such endpointer": (
        bad_streaming(endpointing=pb.EndpointingConfig(endpointer=77)),
        INVALID,
        f"{ENDPOINTING}.endpointer",
    ),
    "off and an endpointer": (
        bad_streaming(
            endpointing=pb.EndpointingConfig(endpointer="ENDPOINTER_LOGISTIC", disable_automatic_endpointing=True)
        ),
        INVALID,
        f"{ENDPOINTING}.disable_automatic_endpointing",
    ),
    "off and a rule": (
        bad_streaming(endpointing=pb.EndpointingConfig(max_utterance=SECOND, disable_automatic_endpointing=True)),
        INVALID,
        f"{ENDPOINTING}.disable_automatic_endpointing",
    ),
    "no timeout": (
        bad_streaming(voice_activity_timeout=pb.VoiceActivityTimeout(speech_end_timeout=Duration(seconds=-1))),
        INVALID,
        "streaming_config.voice_activity_timeout.speech_end_timeout",
    ),
    "not a WAV": (after_opening(lambda kit: kit.audio(bytes(100)), encoding="WAV", rate=0), INVALID, "audio"),
    "header disagrees": (
        after_opening(lambda kit: kit.audio(wav(8_000)), encoding="WAV"),
        INVALID,
        "config.sample_rate_hertz",
    ),
    "header's rate": (
        after_opening(lambda kit: kit.audio(wav(96_000)), encoding="WAV", rate=0),
        INVALID,
        "config.sample_rate_hertz",
    ),
    "header cut off": (after_opening(lambda kit: kit.audio(wav()[:30]), encoding="WAV"), INVALID, "audio"),
    "NaN": (
        after_opening(lambda kit: kit.audio(np.full(9, np.nan, "<f4").tobytes()), encoding="FLOAT32"),
        INVALID,
        "audio",
    ),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_a_bad_stream_has_its_code_and_names_the_field(serving, kit, name):
    make, code, field = STREAMS[name]

    async with serving() as running:
        call = running.stub.StreamingRecognize(iter(make(kit)))
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            [response async for response in call]
        healthy = await kit.converse(running.stub, [kit.opening(), kit.audio(kit.linear16(kit.speech(0.5)))])

    assert (refusal.value.code(), refusal.value.details().split(":")[0]) == (code, field)
    assert kit.transcripts(healthy) == ["word0.0"]
    assert running.server.servicer.num_active == 0


async def test_a_refusal_has_the_field_in_its_details(serving, kit):
    async with serving() as running:
        call = running.stub.StreamingRecognize(iter([kit.opening(kit.config(rate=1))]))
        with pytest.raises(grpc.aio.AioRpcError):
            [response async for response in call]
        status = await rpc_status.aio.from_call(call)

    bad_request = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad_request)
    assert bad_request.field_violations[0].field == "streaming_config.config.sample_rate_hertz"


async def test_finals_before_a_bad_message_stay(serving, kit):
    data = kit.linear16(kit.speech(1.0, 0.6, 0.5))
    responses = []

    async with serving() as running:
        call = running.stub.StreamingRecognize(iter([kit.opening(), *kit.pieces(data, 3200), kit.opening()]))
        with pytest.raises(grpc.aio.AioRpcError, match="first message only"):
            await kit.gather(call, responses)

    assert kit.transcripts(responses) == ["word0.0 word0.1"]


@pytest.mark.parametrize(
    ("audio", "encoding", "rate", "code", "field"),
    [
        (b"", "UNSPECIFIED", 0, None, None),
        (b"garbage, not a container", "UNSPECIFIED", 0, INVALID, "config.encoding"),
        (b"fLaC and then garbage", "FLAC", 0, INVALID, "audio"),
        (b"OggS and then garbage", "UNSPECIFIED", 0, INVALID, "audio"),
        (bytes(100), "FLAC", 0, INVALID, "audio"),
        (wav(), "FLAC", 0, INVALID, "config.encoding"),
        (bytes(16_000 * 2 * 3), "LINEAR16", 16_000, grpc.StatusCode.OUT_OF_RANGE, "audio"),
        (wav(8_000), "WAV", 16_000, INVALID, "config.sample_rate_hertz"),
    ],
)
async def test_a_bad_recording_has_its_code(serving, kit, audio, encoding, rate, code, field):
    request = pb.RecognizeRequest(config=kit.config(encoding, rate), audio=audio)

    async with serving(max_recording_s=2) as running:
        if code is None:
            assert list((await running.stub.Recognize(request)).results) == []
            return
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await running.stub.Recognize(request)
        call = running.stub.RecognizeSegments(pb.RecognizeSegmentsRequest(config=request.config, audio=audio))
        with pytest.raises(grpc.aio.AioRpcError) as segments:
            [response async for response in call]

    for refusal in (unary, segments):
        assert (refusal.value.code(), refusal.value.details().split(":")[0]) == (code, field)
    assert running.server.servicer.num_active == 0


async def test_bytes_that_are_no_message_are_refused_and_never_unknown(serving, kit):
    path = "/cifasr.speech.v1.SpeechService/"

    async with serving() as running:
        stream = running.channel.stream_stream(path + "StreamingRecognize")(iter([b"\xff\xff\xff"]))
        with pytest.raises(grpc.aio.AioRpcError) as in_stream:
            [response async for response in stream]
        later = running.channel.stream_stream(path + "StreamingRecognize")
        call = later(iter([kit.opening().SerializeToString(), b"\xff\xff\xff"]))
        with pytest.raises(grpc.aio.AioRpcError) as in_open_stream:
            [response async for response in call]
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await running.channel.unary_unary(path + "Recognize")(b"\xff\xff\xff")

    assert in_stream.value.code() == in_open_stream.value.code() == INVALID
    assert unary.value.code() == INVALID


async def test_a_message_past_the_limit_is_refused_by_the_library(serving, kit):
    request = pb.RecognizeRequest(config=kit.config(), audio=bytes(200_000))

    async with serving(max_message_bytes=100_000) as running:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await running.stub.Recognize(request)

    assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_model_error_is_internal_without_its_text_and_ends_only_its_stream(serving, kit, fake_model, caplog):
    data, poisoned = kit.linear16(kit.speech(1.0)), kit.linear16(kit.speech(1.0, value=0.125))

    async with serving(fake_model(poison=0.125)) as running:
        healthy = running.stub.StreamingRecognize()
        await healthy.write(kit.opening())
        await healthy.write(kit.audio(data))
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await kit.converse(running.stub, [kit.opening(), kit.audio(poisoned)])
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await running.stub.Recognize(pb.RecognizeRequest(config=kit.config(), audio=poisoned))
        await healthy.write(kit.audio(data))
        await healthy.done_writing()
        answers = await kit.gather(healthy, [])

    assert refusal.value.code() == unary.value.code() == grpc.StatusCode.INTERNAL
    assert refusal.value.details().startswith("internal error; request_id=")
    assert "secret of the model" in caplog.text
    assert kit.transcripts(answers) == ["word0.0 word0.1 word0.2 word0.3"]
