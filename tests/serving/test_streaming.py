import asyncio
import itertools

import numpy as np
import pytest
from cifasr_serving.pb import speech_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from cifasr.decoding.endpoint_config import EndpointerKind

EVENT = pb.StreamingRecognizeResponse
FINALIZE = pb.StreamControl.ACTION_FINALIZE
KEEP_ALIVE = pb.StreamControl.ACTION_KEEP_ALIVE


def seconds(duration):
    return duration.seconds + duration.nanos / 1e9


def events(responses):
    prefix = "SPEECH_EVENT_TYPE_"
    kinds = [EVENT.SpeechEventType.Name(r.speech_event_type).removeprefix(prefix) for r in responses]
    return [
        (kind, seconds(r.speech_event_offset))
        for kind, r in zip(kinds, responses, strict=True)
        if kind != "UNSPECIFIED"
    ]


async def test_final_transcripts_in_a_row_are_the_whole_text(serving, kit):
    data = kit.linear16(kit.speech(1.0, 0.6, 0.5, 0.6, 0.5))

    async with serving() as running:
        responses = await kit.converse(running.stub, [kit.opening(), *kit.pieces(data, 3200)])

    assert kit.transcripts(responses) == ["word0.0 word0.1", " word1.0", " word2.0"]
    assert kit.transcripts(responses, final=False) == []


async def test_first_message_has_the_ids_and_last_the_totals(serving, kit):
    data = kit.linear16(kit.speech(1.0))

    async with serving() as running:
        first, *_, last = await kit.converse(
            running.stub, [kit.opening(client_request_id="mine"), *kit.pieces(data, 3200)]
        )

    assert first.metadata.request_id == last.metadata.request_id != ""
    assert (first.metadata.client_request_id, first.metadata.model) == ("mine", "fake 1")
    assert (seconds(last.metadata.audio_received), seconds(last.metadata.audio_processed)) == (1.0, 1.0)
    assert list(last.metadata.warnings) == []


@pytest.mark.parametrize("size", [640, 3 * 32_000, 999, 77])
async def test_final_results_and_events_do_not_depend_on_the_cut(serving, kit, size):
    data = kit.linear16(kit.speech(1.2, 0.6, 0.5))
    settings = {"interim_results": True, "enable_voice_activity_events": True}
    words = kit.config(enable_word_time_offsets=True)

    async with serving() as running:
        whole = await kit.converse(running.stub, [kit.opening(words, **settings), *kit.pieces(data, 3200)])
        other = await kit.converse(running.stub, [kit.opening(words, **settings), *kit.pieces(data, size)])

    assert kit.results(other, final=True) == kit.results(whole, final=True)
    assert events(other) == events(whole)


async def test_an_interim_is_a_prefix_of_all_that_follow_it_in_its_segment(serving, kit):
    data = kit.linear16(kit.speech(2.0, 0.6, 1.5, 0.2))

    async with serving() as running:
        responses = await kit.converse(running.stub, [kit.opening(interim_results=True), *kit.pieces(data, 3200)])

    texts = {}
    for result in kit.results(responses):
        text = result.alternatives[0].transcript
        assert text.startswith(texts.get(result.segment_index, ""))
        assert (result.stable_length, result.stability) == (len(text), 0.0 if result.is_final else 1.0)
        texts[result.segment_index] = text
    assert texts == {0: "word0.0 word0.1 word0.2 word0.3", 1: " word1.0 word1.1 word1.2"}
    assert len(kit.results(responses, final=False)) >= 2


async def test_interim_interval_is_a_lower_bound_in_audio_time(serving, kit):
    data = kit.linear16(kit.speech(3.0))
    opening = kit.opening(interim_results=True, interim_interval=Duration(seconds=1))

    async with serving() as running:
        responses = await kit.converse(running.stub, [opening, *kit.pieces(data, 3200)])

    ends = [seconds(result.result_end_offset) for result in kit.results(responses, final=False)]
    assert len(ends) >= 2
    assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(ends))


async def test_words_come_when_asked_for(serving, kit):
    data = kit.linear16(kit.speech(1.0))

    async with serving() as running:
        plain = await kit.converse(running.stub, [kit.opening(), kit.audio(data)])
        times = await kit.converse(
            running.stub, [kit.opening(kit.config(enable_word_time_offsets=True)), kit.audio(data)]
        )
        sure = await kit.converse(running.stub, [kit.opening(kit.config(enable_word_confidence=True)), kit.audio(data)])

    assert not kit.results(plain)[0].alternatives[0].words
    word = kit.results(times)[0].alternatives[0].words[1]
    assert (word.word, seconds(word.start_offset), seconds(word.end_offset)) == ("word0.1", 0.5, 1.0)
    assert word.confidence == 0
    assert [word.confidence for word in kit.results(sure)[0].alternatives[0].words] == [0.75, 0.75]


async def test_audio_offset_is_added_to_every_time(serving, kit):
    data = kit.linear16(kit.speech(1.0, 0.6))
    words = kit.config(enable_word_time_offsets=True)
    opening = kit.opening(words, audio_offset=Duration(seconds=100), enable_voice_activity_events=True)

    async with serving() as running:
        responses = await kit.converse(running.stub, [opening, *kit.pieces(data, 3200)])

    result = kit.results(responses)[0]
    assert seconds(result.result_start_offset) == 100.0
    assert seconds(result.result_end_offset) == 101.5
    assert seconds(result.alternatives[0].words[0].end_offset) == 100.5
    assert events(responses) == [("SPEECH_ACTIVITY_BEGIN", 100.0), ("SPEECH_ACTIVITY_END", 101.0)]


async def test_a_single_utterance_ends_the_stream_while_the_caller_goes_on(serving, kit):
    data = kit.linear16(kit.speech(1.0, 0.6, 1.0, 0.6))

    async with serving(linger_s=30) as running:
        responses = await kit.converse(running.stub, [kit.opening(single_utterance=True), *kit.pieces(data, 3200)])

    assert kit.transcripts(responses) == ["word0.0 word0.1"]
    assert events(responses) == [("END_OF_SINGLE_UTTERANCE", 1.5)]


async def test_finalize_ends_the_utterance_and_the_stream_goes_on(serving, kit):
    data = kit.linear16(kit.speech(1.0))
    requests = [kit.opening(), kit.audio(data), kit.control(FINALIZE), kit.control(FINALIZE), kit.audio(data)]

    async with serving() as running:
        responses = await kit.converse(running.stub, requests)

    assert [t.split(".")[0] for t in kit.transcripts(responses)] == ["word0", " word2"]


async def test_a_caller_chooses_the_endpointer_and_unset_is_the_servers(serving, kit, fake_model):
    model = fake_model()
    logistic = pb.EndpointingConfig(endpointer=pb.EndpointingConfig.ENDPOINTER_LOGISTIC)

    async with serving(model) as running:
        for endpointing in (logistic, pb.EndpointingConfig()):
            await kit.converse(running.stub, [kit.opening(endpointing=endpointing)])

    assert [asked.endpointer for asked in model.streams] == [EndpointerKind.logistic, None]


async def test_endpointing_is_the_callers_and_unset_fields_keep_the_models(serving, kit, fake_model):
    data = kit.linear16(kit.speech(1.0, 0.6, 1.0))
    model = fake_model()
    longer = pb.EndpointingConfig(trailing_silence=Duration(seconds=1))
    off = pb.EndpointingConfig(disable_automatic_endpointing=True)

    async with serving(model) as running:
        waited = await kit.converse(running.stub, [kit.opening(endpointing=longer), kit.audio(data)])
        manual = await kit.converse(running.stub, [kit.opening(endpointing=off), kit.audio(data)])

    assert len(kit.transcripts(waited)) == len(kit.transcripts(manual)) == 1
    assert (model.streams[0].trailing_silence_s, model.streams[0].initial_silence_s) == (1.0, None)
    assert not model.streams[1].automatic


@pytest.mark.parametrize(
    ("timeouts", "spans", "event_s", "num_finals"),
    [
        (pb.VoiceActivityTimeout(speech_start_timeout=Duration(seconds=1)), (0.0, 3.0), 1.0, 0),
        (pb.VoiceActivityTimeout(speech_end_timeout=Duration(seconds=1)), (1.0, 3.0), 2.0, 1),
    ],
)
async def test_a_voice_activity_timeout_ends_the_stream_with_ok(serving, kit, timeouts, spans, event_s, num_finals):
    data = kit.linear16(kit.speech(*spans))

    async with serving(linger_s=30) as running:
        responses = await kit.converse(
            running.stub, [kit.opening(voice_activity_timeout=timeouts), *kit.pieces(data, 3200)]
        )

    [(event, at_s)] = events(responses)
    assert event == "SPEECH_ACTIVITY_TIMEOUT"
    assert event_s <= at_s <= event_s + 0.64  # seen after a turn of the model
    assert len(kit.transcripts(responses)) == num_finals


async def test_no_audio_gives_no_results(serving, kit):
    async with serving() as running:
        nothing = await kit.converse(running.stub, [kit.opening()])
        empty = await kit.converse(running.stub, [kit.opening(), kit.audio(b""), kit.control(KEEP_ALIVE)])

    assert kit.results(nothing) == kit.results(empty) == []


async def test_two_live_streams_at_once_do_not_mix(serving, kit):
    long, short = kit.linear16(kit.speech(2.0)), kit.linear16(kit.speech(0.5))

    async with serving() as running:
        answers = await asyncio.gather(
            kit.converse(running.stub, [kit.opening(), *kit.pieces(long, 3200)]),
            kit.converse(running.stub, [kit.opening(), *kit.pieces(short, 640)]),
        )

    assert [kit.transcripts(a) for a in answers] == [["word0.0 word0.1 word0.2 word0.3"], ["word0.0"]]


@pytest.mark.parametrize(("encoding", "rate"), [("LINEAR16", 8000), ("LINEAR16", 44_100), ("FLOAT32", 48_000)])
async def test_other_rates_are_resampled(serving, kit, encoding, rate):
    samples = kit.speech(1.05, rate=rate)
    data = kit.linear16(samples) if encoding == "LINEAR16" else samples.astype("<f4").tobytes()

    async with serving() as running:
        responses = await kit.converse(running.stub, [kit.opening(kit.config(encoding, rate)), *kit.pieces(data, 9999)])

    assert kit.transcripts(responses) == ["word0.0 word0.1"]


async def test_only_the_first_channel_is_heard(serving, kit):
    stereo = np.stack([kit.speech(1.0), np.zeros(16_000, np.float32)], axis=1)

    async with serving() as running:
        responses = await kit.converse(
            running.stub,
            [kit.opening(kit.config(audio_channel_count=2)), *kit.pieces(kit.linear16(stereo).ljust(1), 1001)],
        )

    assert kit.transcripts(responses) == ["word0.0 word0.1"]
    assert seconds(responses[-1].metadata.audio_received) == 1.0
