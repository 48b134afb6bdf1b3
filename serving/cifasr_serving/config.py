"""Every limit of the server, with its unit and its default."""

from pydantic import Field

from cifasr.config import Config
from cifasr.decoding.endpoint_config import EndpointConfig, EndpointerKind
from cifasr.decoding.memory.limits import MAX_LESSON_S, MAX_PHRASES


class ServerConfig(Config):
    """What one server process allows; ``cifasr serve --config FILE --set key=value`` changes it.

    Attributes:
        max_streams: Live streams at the same time; one more is refused with RESOURCE_EXHAUSTED.
        max_recordings: Whole recordings in work at the same time; one more is refused.
        max_stream_s: Age of a live stream, and the audio it may hold, in seconds; past it, OUT_OF_RANGE.
        max_recording_s: Audio of a whole recording, in seconds; past it, OUT_OF_RANGE.
        idle_s: Time without any message on a live stream, in seconds; past it, OUT_OF_RANGE.
        linger_s: After the last response of a live stream, how long the server still reads, and drops, what comes
            before it sends the status, in seconds; ends when the caller half-closes.
        write_s: Time for a caller to take one response, in seconds; past it, RESOURCE_EXHAUSTED.
        queue_s: Audio of one stream that waits for the model, in seconds; past it, the stream is not read.
        turn_s: Audio of one stream decoded before the next stream has its turn, in seconds.
        stall_s: One turn of the model that takes longer makes the server NOT_SERVING, in seconds.
        drain_s: From SIGTERM until streams that still run are cut, in seconds.
        retry_s: When a refused caller is told to come back, in seconds.
        max_message_bytes: Largest request message; past it, RESOURCE_EXHAUSTED.
        max_audio_bytes: Largest ``audio_content`` of a live stream; past it, INVALID_ARGUMENT.
        endpointer: Who ends utterances where the caller does not say.
        max_utterance_s: Largest ``endpointing.max_utterance`` that a caller may ask for, in seconds.
        max_memories: Word memories in the folder; one more is refused with RESOURCE_EXHAUSTED.
        max_phrases: Phrases of one word memory; one more is refused.
        max_lesson_s: Audio of a recording to teach from, in seconds; past it, OUT_OF_RANGE.
        keepalive_s: A quiet connection is pinged this often, in seconds.
        ping_timeout_s: A connection that does not answer a ping for so long is closed, in seconds.
        compute_threads: Threads of one model call.
    """

    max_streams: int = Field(default=16, ge=1)
    max_recordings: int = Field(default=4, ge=1)
    max_stream_s: float = Field(default=4 * 3600.0, gt=0)
    max_recording_s: float = Field(default=900.0, gt=0)
    idle_s: float = Field(default=60.0, gt=0)
    linger_s: float = Field(default=1.0, ge=0)
    write_s: float = Field(default=30.0, gt=0)
    queue_s: float = Field(default=10.0, gt=0)
    turn_s: float = Field(default=0.64, gt=0)
    stall_s: float = Field(default=30.0, gt=0)
    drain_s: float = Field(default=20.0, gt=0)
    retry_s: float = Field(default=2.0, gt=0)
    max_message_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    max_audio_bytes: int = Field(default=64 * 1024, ge=1024)
    endpointer: EndpointerKind = EndpointConfig().endpointer
    max_utterance_s: float = Field(default=60.0, gt=0)
    max_memories: int = Field(default=1000, ge=1)
    max_phrases: int = Field(default=1000, ge=1, le=MAX_PHRASES)
    max_lesson_s: float = Field(default=30.0, gt=0, le=MAX_LESSON_S)
    keepalive_s: float = Field(default=20.0, gt=0)
    ping_timeout_s: float = Field(default=10.0, gt=0)
    compute_threads: int = Field(default=1, ge=1)
