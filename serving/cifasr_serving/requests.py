"""Protobuf requests to settings; whatever is not done here is refused by the name of its field, never ignored."""

import re
from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from cifasr.decoding.endpoint_config import EndpointerKind
from cifasr_serving.audio import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ, RAW_FORMATS, AudioSpec, Encoding
from cifasr_serving.config import ServerConfig
from cifasr_serving.errors import InvalidRequestError, UnknownModelError
from cifasr_serving.model import Endpointing, SpeechModel
from cifasr_serving.pb import speech_pb2 as pb
from cifasr_serving.session import StreamSettings

MAX_ALTERNATIVES = 30
_REQUEST_ID = re.compile(r"[\x20-\x7e]{0,128}")
_MEMORY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LIVE_ENCODINGS = {*RAW_FORMATS, Encoding.WAV, Encoding.UNSPECIFIED}
_MAX_DURATION_S = 315_576_000_000


def parse_streaming_config(
    config: pb.StreamingRecognitionConfig, models: Sequence[SpeechModel], limits: ServerConfig
) -> StreamSettings:
    """Turn the first message of a live stream into settings.

    Args:
        config: As received.
        models: The loaded ones; the first is the default.
        limits: For the longest utterance.

    Raises:
        InvalidRequestError: A field is not usable; the error names it.
        UnknownModelError: The model is not loaded.
    """
    prefix = "streaming_config"
    base = parse_config(config, models, f"{prefix}.config")
    if base.audio.encoding not in _LIVE_ENCODINGS:
        raise InvalidRequestError(
            f"{prefix}.config.encoding", f"{base.audio.encoding} is not read in a live stream; use Recognize"
        )
    timeouts = config.voice_activity_timeout
    timeout_prefix = f"{prefix}.voice_activity_timeout"
    return StreamSettings(
        model=base.model,
        audio=base.audio,
        endpointing=_endpointing(config, limits, f"{prefix}.endpointing"),
        word_times=base.word_times,
        word_confidence=base.word_confidence,
        interim_results=config.interim_results,
        interim_interval_s=_seconds(config, "interim_interval", prefix) or 0.0,
        single_utterance=config.single_utterance,
        voice_activity_events=config.enable_voice_activity_events,
        speech_start_timeout_s=_positive(timeouts, "speech_start_timeout", timeout_prefix),
        speech_end_timeout_s=_positive(timeouts, "speech_end_timeout", timeout_prefix),
        audio_offset_s=_seconds(config, "audio_offset", prefix) or 0.0,
    )


def parse_config(
    request: pb.StreamingRecognitionConfig | pb.RecognizeRequest | pb.RecognizeSegmentsRequest | pb.TeachPhraseRequest,
    models: Sequence[SpeechModel],
    field: str = "config",
) -> StreamSettings:
    """Turn the ``config`` of a request into settings; see `parse_streaming_config` for the rest."""
    if not request.HasField("config"):
        raise InvalidRequestError(field, "unset")
    config = request.config
    model = find_model(config.model, models)
    info = model.info
    if config.language_code and not _speaks(config.language_code, info.language_codes):
        known = ", ".join(info.language_codes)
        raise InvalidRequestError(f"{field}.language_code", f"{config.language_code[:64]!r}, wanted one of: {known}")
    if not 0 <= config.max_alternatives <= MAX_ALTERNATIVES:
        raise InvalidRequestError(
            f"{field}.max_alternatives", f"{config.max_alternatives}, wanted 0 to {MAX_ALTERNATIVES}"
        )
    if config.speech_contexts:
        raise InvalidRequestError(f"{field}.speech_contexts", f"model {info.name} cannot favour phrases")
    if config.enable_automatic_punctuation:
        raise InvalidRequestError(f"{field}.enable_automatic_punctuation", f"model {info.name} cannot punctuate")
    if config.enable_separate_recognition_per_channel:
        raise InvalidRequestError(
            f"{field}.enable_separate_recognition_per_channel", "not done here; send one stream a channel"
        )
    return StreamSettings(
        model=model,
        audio=_audio(config, field),
        word_times=config.enable_word_time_offsets,
        word_confidence=config.enable_word_confidence,
    )


def check_client_request_id(client_request_id: str) -> str:
    """Give the caller's id back.

    Raises:
        InvalidRequestError: It is longer than 128 characters or not printable ASCII.
    """
    if not _REQUEST_ID.fullmatch(client_request_id):
        raise InvalidRequestError("client_request_id", "wanted at most 128 printable ASCII characters")
    return client_request_id


def check_memory(name: str, field: str) -> str:
    """Give the name of a word memory back.

    Raises:
        InvalidRequestError: It is empty, or has other characters than a file's name may have everywhere.
    """
    if not _MEMORY.fullmatch(name):
        raise InvalidRequestError(field, 'wanted 1 to 64 letters, digits, "-" and "_"')
    return name


def find_model(name: str, models: Sequence[SpeechModel]) -> SpeechModel:
    """Find a loaded model; the first for an empty name.

    Raises:
        UnknownModelError: It is not loaded.
    """
    for model in models:
        if name in ("", model.info.name):
            return model
    known = ", ".join(model.info.name for model in models)
    raise UnknownModelError(f"config.model: {name[:64]!r} is not loaded; there is: {known}")


def _speaks(language_code: str, known: Sequence[str]) -> bool:
    tag = language_code.lower()
    return any(tag == code.lower() or tag.split("-")[0] == code.lower() for code in known)


def _audio(config: pb.RecognitionConfig, field: str) -> AudioSpec:
    try:
        name = pb.AudioEncoding.Name(config.encoding).removeprefix("AUDIO_ENCODING_")
    except ValueError:
        raise InvalidRequestError(f"{field}.encoding", f"{config.encoding} is not an AudioEncoding") from None
    encoding = Encoding(name)
    rate_hz = config.sample_rate_hertz
    if (rate_hz != 0 or encoding in RAW_FORMATS) and not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise InvalidRequestError(f"{field}.sample_rate_hertz", f"{rate_hz}, wanted {MIN_RATE_HZ} to {MAX_RATE_HZ}")
    if not 0 <= config.audio_channel_count <= MAX_CHANNELS:
        raise InvalidRequestError(
            f"{field}.audio_channel_count", f"{config.audio_channel_count}, wanted 0 to {MAX_CHANNELS}"
        )
    return AudioSpec(encoding, rate_hz, config.audio_channel_count)


def _endpointing(config: pb.StreamingRecognitionConfig, limits: ServerConfig, prefix: str) -> Endpointing:
    rules = config.endpointing
    trailing_s = _positive(rules, "trailing_silence", prefix)
    initial_s = _positive(rules, "initial_silence", prefix)
    longest_s = _positive(rules, "max_utterance", prefix)
    if longest_s is not None and longest_s > limits.max_utterance_s:
        raise InvalidRequestError(
            f"{prefix}.max_utterance", f"{longest_s:g} s, wanted at most {limits.max_utterance_s:g} s"
        )
    automatic = not rules.disable_automatic_endpointing
    endpointer = _endpointer(rules, prefix)
    if not automatic and (endpointer, trailing_s, initial_s, longest_s) != (None, None, None, None):
        raise InvalidRequestError(f"{prefix}.disable_automatic_endpointing", "set together with an automatic rule")
    return Endpointing(endpointer, trailing_s, initial_s, longest_s if automatic else limits.max_utterance_s, automatic)


def _endpointer(rules: pb.EndpointingConfig, prefix: str) -> EndpointerKind | None:
    try:
        name = pb.EndpointingConfig.Endpointer.Name(rules.endpointer).removeprefix("ENDPOINTER_").lower()
    except ValueError:
        raise InvalidRequestError(f"{prefix}.endpointer", f"{rules.endpointer} is not an Endpointer") from None
    return None if name == "unspecified" else EndpointerKind(name)


def _positive(message: pb.VoiceActivityTimeout | pb.EndpointingConfig, name: str, prefix: str) -> float | None:
    seconds = _seconds(message, name, prefix)
    if seconds is not None and seconds <= 0:
        raise InvalidRequestError(f"{prefix}.{name}", f"{seconds:g} s, wanted more than 0")
    return seconds


def _seconds(
    message: pb.StreamingRecognitionConfig | pb.VoiceActivityTimeout | pb.EndpointingConfig, name: str, prefix: str
) -> float | None:
    """Seconds of a field that is a Duration; None where it is unset."""
    if name not in {field.name for field, _ in message.ListFields()}:
        return None
    duration: Duration = getattr(message, name)
    if not (0 <= duration.seconds <= _MAX_DURATION_S and 0 <= duration.nanos < 1_000_000_000):
        raise InvalidRequestError(
            f"{prefix}.{name}", f"{duration.seconds} s and {duration.nanos} ns, wanted a Duration of 0 or more"
        )
    return duration.seconds + duration.nanos / 1e9
