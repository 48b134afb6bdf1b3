"""Segments, events and totals to protobuf responses."""

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from cifasr.audio.samples import SAMPLE_RATE_HZ
from cifasr.decoding.result import Segment, Word
from cifasr_serving.model import ModelInfo, SpeechModel, TaughtPhrase
from cifasr_serving.pb import speech_pb2 as pb
from cifasr_serving.session import StreamSettings, Totals, Update

_RESPONSE = pb.StreamingRecognizeResponse


@dataclass(slots=True)
class ResponseWriter:
    """Writes the responses of one request.

    Attributes:
        settings: For the words asked for and the offset added to every time.
        request_id: Made by the server.
        client_request_id: The caller's.
        any_final: Whether a final result was written: the next segment begins with a space, so that all final
            transcripts in a row are the whole text.
    """

    settings: StreamSettings
    request_id: str
    client_request_id: str
    any_final: bool = False

    def opening(self) -> pb.StreamingRecognizeResponse:
        """Give the first response of a live stream: ids and model."""
        return _RESPONSE(metadata=self._ids())

    def closing(self, totals: Totals) -> pb.StreamingRecognizeResponse:
        """Give the last response of a live stream."""
        return _RESPONSE(metadata=self.metadata(totals))

    def update(self, update: Update) -> pb.StreamingRecognizeResponse:
        """Give a response with one result or one event."""
        if update.segment is not None:
            return _RESPONSE(results=[self._streaming_result(update.segment)])
        if update.event is None:
            raise ValueError("an update without segment and event")
        return _RESPONSE(
            speech_event_type=_RESPONSE.SpeechEventType.Value(f"SPEECH_EVENT_TYPE_{update.event.name}"),
            speech_event_offset=self._offset(update.event_s),
        )

    def final(self, segment: Segment) -> pb.SpeechRecognitionResult:
        """Give a final segment of a recording."""
        result = pb.SpeechRecognitionResult(
            alternatives=[self._alternative(segment)],
            result_start_offset=self._offset(segment.start_s),
            result_end_offset=self._offset(segment.end_s),
        )
        self.any_final = True
        return result

    def metadata(self, totals: Totals) -> pb.RecognitionMetadata:
        """Give ids, model, and what was done so far."""
        metadata = self._ids()
        metadata.audio_received.CopyFrom(duration(totals.audio_received_s))
        metadata.audio_processed.CopyFrom(duration(totals.audio_processed_s))
        metadata.compute_time.CopyFrom(duration(totals.compute_s))
        metadata.warnings.extend(totals.warnings)
        return metadata

    def _ids(self) -> pb.RecognitionMetadata:
        return pb.RecognitionMetadata(
            request_id=self.request_id,
            client_request_id=self.client_request_id,
            model=full_name(self.settings.model.info),
        )

    def _streaming_result(self, segment: Segment) -> pb.StreamingRecognitionResult:
        alternative = self._alternative(segment)
        self.any_final |= segment.is_final
        return pb.StreamingRecognitionResult(
            alternatives=[alternative],
            is_final=segment.is_final,
            stability=0.0 if segment.is_final else 1.0,
            stable_length=len(alternative.transcript),
            segment_index=segment.index,
            result_start_offset=self._offset(segment.start_s),
            result_end_offset=self._offset(segment.end_s),
        )

    def _alternative(self, segment: Segment) -> pb.SpeechRecognitionAlternative:
        space = " " if self.any_final and not segment.text.startswith(" ") else ""
        asked = self.settings.word_times or self.settings.word_confidence
        return pb.SpeechRecognitionAlternative(
            transcript=space + segment.text,
            confidence=segment.confidence if segment.is_final else 0.0,
            words=[self._word(word) for word in segment.words] if asked else [],
        )

    def _word(self, word: Word) -> pb.WordInfo:
        info = pb.WordInfo(word=word.text)
        if self.settings.word_times:
            info.start_offset.CopyFrom(self._offset(word.start_s))
            info.end_offset.CopyFrom(self._offset(word.end_s))
        if self.settings.word_confidence:
            info.confidence = word.confidence
        return info

    def _offset(self, seconds: float) -> Duration:
        return duration(seconds + self.settings.audio_offset_s)


def describe(model: SpeechModel) -> pb.Model:
    """Give a model's entry in ListModels."""
    info = model.info
    return pb.Model(
        name=info.name,
        version=info.version,
        language_codes=info.language_codes,
        native_sample_rate_hertz=SAMPLE_RATE_HZ,
        streaming=True,
        chunk_duration=duration(info.chunk_s),
    )


def taught_phrases(phrases: Iterable[TaughtPhrase]) -> list[pb.TaughtPhrase]:
    """Give phrases of a word memory."""
    return [pb.TaughtPhrase(text=phrase.text, num_lessons=phrase.num_lessons) for phrase in phrases]


def full_name(info: ModelInfo) -> str:
    """Give name and version in one, for people and logs."""
    return f"{info.name} {info.version}".strip()


def duration(seconds: float) -> Duration:
    """Give seconds, >= 0, as a Duration, rounded to microseconds."""
    micros = round(seconds * 1_000_000)
    return Duration(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1_000)
