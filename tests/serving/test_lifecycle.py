"""Many callers, slow callers, gone callers, and the end of the server."""

import asyncio
import threading

import grpc
import pytest
from cifasr_serving.pb import speech_pb2 as pb
from cifasr_serving.pb.speech_pb2_grpc import SpeechServiceStub
from cifasr_serving.server import SERVICE_NAME
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

DRAINING = pb.StreamingRecognizeResponse.SPEECH_EVENT_TYPE_DRAINING
HEALTH = health_pb2.HealthCheckResponse


def the_session(running):
    """That of the one stream that was opened."""
    [session] = [stream.session for stream in running.server.servicer._live if stream.session]
    return session


async def eventually(condition):
    """Yield to the loop until it is so."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def open_stream(running, kit, data=b"", **fields):
    call = running.stub.StreamingRecognize()
    await call.write(kit.opening(**fields))
    assert (await call.read()).metadata.request_id
    if data:
        await call.write(kit.audio(data))
    return call


async def rest_and_error(call, kit):
    responses = []
    with pytest.raises(grpc.aio.AioRpcError) as ending:
        await kit.gather(call, responses)
    return responses, ending.value


async def test_health_and_reflection_answer_while_the_model_computes(serving, kit, fake_model):
    model = fake_model()
    model.gate.clear()

    async with serving(model, max_streams=1) as running:
        call = await open_stream(running, kit, kit.linear16(kit.speech(1.0)))
        async with asyncio.timeout(30):
            health = health_pb2_grpc.HealthStub(running.channel)
            answers = [await health.Check(health_pb2.HealthCheckRequest(service=s)) for s in ("", SERVICE_NAME)]
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
            [listed] = [r async for r in stub.ServerReflectionInfo(iter([request]))]
        model.gate.set()
        await call.done_writing()
        responses = await kit.gather(call, [])

    assert [answer.status for answer in answers] == [HEALTH.SERVING] * 2
    assert SERVICE_NAME in [service.name for service in listed.list_services_response.service]
    assert kit.transcripts(responses) == ["word0.0 word0.1"]


async def test_one_stream_too_many_is_refused_at_once_and_told_to_come_back(serving, kit):
    async with serving(max_streams=2) as running:
        calls = [await open_stream(running, kit) for _ in range(2)]
        refused = running.stub.StreamingRecognize(iter([kit.opening()]))
        async with asyncio.timeout(30):
            _, error = await rest_and_error(refused, kit)
        for call in calls:
            await call.done_writing()
            await kit.gather(call, [])
        accepted = await kit.converse(running.stub, [kit.opening()])

    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details().startswith("max_streams: all 2 are taken")
    assert len(accepted) == 2


async def test_one_recording_too_many_is_refused(serving, kit, fake_model):
    model = fake_model()
    model.gate.clear()
    request = pb.RecognizeRequest(config=kit.config(), audio=bytes(3200))

    async with serving(model, max_recordings=1) as running:
        first = asyncio.ensure_future(running.stub.Recognize(request))
        await eventually(lambda: running.server.servicer.num_active == 1)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await running.stub.Recognize(request)
        model.gate.set()
        await first

    assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_client_that_cancels_frees_its_slot(serving, kit):
    async with serving(max_streams=1) as running:
        call = await open_stream(running, kit, kit.linear16(kit.speech(0.3)))
        call.cancel()
        await eventually(lambda: running.server.servicer.num_active == 0)
        responses = await kit.converse(running.stub, [kit.opening(), kit.audio(kit.linear16(kit.speech(0.5)))])

    assert kit.transcripts(responses) == ["word0.0"]


async def test_a_clients_deadline_frees_its_slot(serving, kit):
    async with serving(max_streams=1) as running:
        call = running.stub.StreamingRecognize(timeout=0.2)
        await call.write(kit.opening())
        _, error = await rest_and_error(call, kit)
        await eventually(lambda: running.server.servicer.num_active == 0)

    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_an_idle_stream_gets_its_finals_and_the_place_to_go_on(serving, kit):
    async with serving(idle_s=0.2) as running:
        call = await open_stream(running, kit, kit.linear16(kit.speech(1.0)))
        responses, error = await rest_and_error(call, kit)

    assert (error.code(), error.details()) == (grpc.StatusCode.OUT_OF_RANGE, "idle_s: no message for 0.2 s")
    assert dict(error.trailing_metadata())["resume-offset-ms"] == "1000"
    assert responses[0].speech_event_type == DRAINING
    assert kit.transcripts(responses) == ["word0.0 word0.1"]


async def test_a_stream_without_a_first_message_is_idle_too(serving, kit):
    async with serving(idle_s=0.1) as running:
        call = running.stub.StreamingRecognize()
        _, error = await rest_and_error(call, kit)

    assert (error.code(), error.details()) == (grpc.StatusCode.OUT_OF_RANGE, "idle_s: no first message for 0.1 s")


async def test_keep_alive_keeps_a_stream_alive(serving, kit):
    async with serving(idle_s=1.0) as running:
        call = await open_stream(running, kit)
        for _ in range(3):
            await asyncio.sleep(0.4)
            await call.write(kit.control(pb.StreamControl.ACTION_KEEP_ALIVE))
        await call.done_writing()
        responses = await kit.gather(call, [])

    assert kit.results(responses) == []


async def test_too_much_audio_gets_its_finals_and_out_of_range(serving, kit):
    data = kit.linear16(kit.speech(3.0))

    async with serving(max_stream_s=1.0, linger_s=30) as running:
        call = running.stub.StreamingRecognize(iter([kit.opening(), *kit.pieces(data, 16_000)]))
        responses, error = await rest_and_error(call, kit)

    assert (error.code(), error.details()) == (
        grpc.StatusCode.OUT_OF_RANGE,
        "max_stream_s: more than 1 s of audio",
    )
    assert kit.transcripts(responses) == ["word0.0 word0.1 word0.2"]
    assert dict(error.trailing_metadata())["resume-offset-ms"] == "1500"


async def test_an_old_stream_is_ended_even_if_it_is_kept_alive(serving, kit):
    async with serving(max_stream_s=0.5) as running:
        call = await open_stream(running, kit)
        await call.write(kit.control(pb.StreamControl.ACTION_KEEP_ALIVE))
        _, error = await rest_and_error(call, kit)

    assert error.details() == "max_stream_s: the stream is older than 0.5 s"


async def test_audio_faster_than_the_model_is_held_back_and_not_lost(serving, kit, fake_model):
    model = fake_model()
    model.gate.clear()
    data = kit.linear16(kit.speech(60.0))

    async with serving(model, queue_s=1.0) as running:
        call = await open_stream(running, kit)

        async def send():
            for piece in kit.pieces(data, 32_000):
                await call.write(piece)

        sending = asyncio.create_task(send())
        session = the_session(running)
        await eventually(lambda: session._inbox.queued_s >= 1)
        await asyncio.sleep(0.1)
        queued_s = session._inbox.queued_s
        model.gate.set()
        await sending
        await call.done_writing()
        [result] = kit.results(await kit.gather(call, []))

    assert 1 <= queued_s <= 2
    assert len(result.alternatives[0].transcript.split()) == 120


async def test_a_caller_that_reads_nothing_loses_its_slot_and_hurts_nobody(serving, kit, fake_model):
    data = kit.linear16(kit.speech(0.5, 0.5))

    model = fake_model(suffix="x" * 1_000_000)
    async with serving(model, write_s=0.5) as running, grpc.aio.insecure_channel(running.address) as channel:
        call = SpeechServiceStub(channel).StreamingRecognize()
        await call.write(kit.opening())
        for _ in range(10):
            await call.write(kit.audio(data))
        await eventually(lambda: running.server.servicer.num_active == 1)
        healthy = await kit.converse(running.stub, [kit.opening()])
        await eventually(lambda: running.server.servicer.num_active == 0)
        with pytest.raises(grpc.aio.AioRpcError) as ending:
            await kit.gather(call, [])

    assert len(healthy) == 2
    assert ending.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_drain_delivers_finals_and_the_place_to_go_on(serving, kit):
    async with serving() as running:
        call = await open_stream(running, kit, kit.linear16(kit.speech(1.0)))
        silent = running.stub.StreamingRecognize()
        session = the_session(running)
        await eventually(lambda: session.totals.audio_processed_s == 1.0)
        async with asyncio.timeout(30):
            (responses, error), (_, unopened), _ = await asyncio.gather(
                rest_and_error(call, kit), rest_and_error(silent, kit), running.server.stop()
            )

    assert (error.code(), unopened.code()) == (grpc.StatusCode.UNAVAILABLE,) * 2
    assert dict(error.trailing_metadata())["resume-offset-ms"] == "1000"
    assert responses[0].speech_event_type == DRAINING
    assert kit.transcripts(responses) == ["word0.0 word0.1"]
    assert responses[-1].metadata.audio_processed.seconds == 1


async def test_audio_that_waited_for_room_is_behind_the_place_to_go_on(serving, kit, fake_model):
    model = fake_model()
    second = kit.linear16(kit.speech(1.0))

    async with serving(model, queue_s=1.0, turn_s=1.0) as running:
        call = await open_stream(running, kit)
        model.gate.clear()
        for _ in range(3):  # one is decoded, one is queued, one waits for room
            await call.write(kit.audio(second))
        session = the_session(running)
        await eventually(lambda: session.totals.audio_received_s == 3.0)
        stopping = asyncio.create_task(running.server.stop())
        await eventually(lambda: running.server.servicer.is_draining)
        model.gate.set()
        responses, error = await rest_and_error(call, kit)
        await stopping

    [result] = kit.results(responses)
    assert dict(error.trailing_metadata())["resume-offset-ms"] == "2000"
    assert len(result.alternatives[0].transcript.split()) == 4


async def test_while_draining_new_requests_are_refused_and_health_says_so(serving, kit, fake_model):
    model = fake_model()

    async with serving(model) as running:
        call = await open_stream(running, kit)
        model.gate.clear()
        await call.write(kit.audio(kit.linear16(kit.speech(0.5))))
        stopping = asyncio.create_task(running.server.stop())
        await eventually(lambda: running.server.servicer.is_draining)
        health = await health_pb2_grpc.HealthStub(running.channel).Check(health_pb2.HealthCheckRequest())
        _, refusal = await rest_and_error(running.stub.StreamingRecognize(iter([kit.opening()])), kit)
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await running.stub.Recognize(pb.RecognizeRequest(config=kit.config()))
        model.gate.set()
        _, error = await rest_and_error(call, kit)
        await stopping

    assert health.status == HEALTH.NOT_SERVING
    assert refusal.code() == unary.value.code() == error.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_drain_that_takes_too_long_is_cut(serving, kit, fake_model):
    model = fake_model()

    async with serving(model, drain_s=0.2) as running:
        call = await open_stream(running, kit)
        model.gate.clear()
        await call.write(kit.audio(kit.linear16(kit.speech(0.5))))
        threading.Timer(0.8, model.gate.set).start()
        async with asyncio.timeout(30):
            (_, error), _ = await asyncio.gather(rest_and_error(call, kit), running.server.stop())

    assert error.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_stuck_model_is_seen_by_health(serving, kit, fake_model, monkeypatch):
    monkeypatch.setattr("cifasr_serving.server._HEALTH_CHECK_EVERY_S", 0.02)
    model = fake_model()

    async with serving(model, stall_s=0.1) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        call = await open_stream(running, kit)
        model.gate.clear()
        await call.write(kit.audio(kit.linear16(kit.speech(0.5))))
        watch = health.Watch(health_pb2.HealthCheckRequest())
        statuses = [(await watch.read()).status for _ in range(2)]
        model.gate.set()
        statuses.append((await watch.read()).status)
        watch.cancel()
        call.cancel()

    assert statuses == [HEALTH.SERVING, HEALTH.NOT_SERVING, HEALTH.SERVING]
