"""A whole recording: read it block by block and recognize it beside the live streams. Knows no gRPC."""

import io
from collections.abc import Awaitable, Callable, Iterator

import numpy as np
import soundfile

from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples, StreamResampler
from cifasr.decoding.result import Result, Segment
from cifasr.errors import AudioError
from cifasr_serving.audio import RAW_FORMATS, AudioReader, AudioSpec, Encoding, check_header
from cifasr_serving.config import ServerConfig
from cifasr_serving.errors import InvalidRequestError, LimitPassedError
from cifasr_serving.model import Endpointing
from cifasr_serving.samples import SAMPLE_FORMATS
from cifasr_serving.scheduler import Lane, Scheduler
from cifasr_serving.session import StreamSettings, Totals

_BLOCK_BYTES = 16 * 1024
_FILE_FORMATS = {Encoding.FLAC: ("FLAC", b"fLaC"), Encoding.OGG_OPUS: ("OGG", b"OggS")}


async def recognize_recording(
    data: bytes,
    settings: StreamSettings,
    scheduler: Scheduler,
    limits: ServerConfig,
    totals: Totals,
    emit: Callable[[Segment], Awaitable[None]],
) -> None:
    """Recognize a recording and emit its final segments as they come.

    Args:
        data: The recording.
        settings: Model and audio; what belongs to live streams alone is not looked at.
        scheduler: Gives turns of the model, after the live streams.
        limits: For ``max_recording_s`` and ``turn_s``.
        totals: Kept up to date.
        emit: Takes one final segment with text; decoding waits for it.

    Raises:
        AudioError: The recording is corrupt or cut off.
        InvalidRequestError: Its header and the request disagree.
        LimitPassedError: It is too long.
    """
    reader = AudioReader(settings.audio)
    blocks = read_recording(data, settings.audio, reader, limits.turn_s, limits.max_recording_s)
    recognizer, totals.compute_s = await scheduler.run(
        lambda: settings.model.open_stream(Endpointing()), Lane.RECORDING
    )

    def turn() -> tuple[Result, bool]:
        samples = next(blocks, None)
        if samples is None:
            return recognizer.input_finished(), True
        return recognizer.accept_waveform(samples), False

    finished = False
    while not finished:
        (result, finished), took_s = await scheduler.run(turn, Lane.RECORDING)
        totals.compute_s += took_s
        totals.audio_received_s = reader.received_s
        for segment in result.finals:
            totals.audio_processed_s = segment.end_s
            if segment.text:
                await emit(segment)
    totals.audio_processed_s = totals.audio_received_s
    totals.warnings = reader.warnings


def read_lesson(data: bytes, spec: AudioSpec, limits: ServerConfig, totals: Totals) -> Samples:
    """Read a whole recording to teach from: (S,) at 16 kHz.

    Args:
        data: The recording.
        spec: What the caller says of it.
        limits: For ``max_lesson_s`` and ``turn_s``.
        totals: Gets the seconds of audio.

    Raises:
        AudioError: The recording is corrupt or cut off.
        InvalidRequestError: Its header and the request disagree.
        LimitPassedError: It is too long.
    """
    reader = AudioReader(spec)
    blocks = list(read_recording(data, spec, reader, limits.turn_s, limits.max_lesson_s, "max_lesson_s"))
    totals.audio_received_s = totals.audio_processed_s = reader.received_s
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def read_recording(
    data: bytes,
    spec: AudioSpec,
    reader: AudioReader,
    block_s: float,
    max_s: float,
    limit: str = "max_recording_s",
) -> Iterator[Samples]:
    """Give a recording at 16 kHz, in blocks; nothing is decoded before it is asked for.

    Args:
        data: The recording.
        spec: What the caller says of it; UNSPECIFIED goes by the first bytes.
        reader: Made from ``spec``; keeps the seconds received and the warnings.
        block_s: Most audio of a block of FLAC or Ogg, in seconds; others come in blocks of 16 KiB.
        max_s: Longest recording, in seconds.
        limit: Name of that limit.

    Raises:
        AudioError: The recording is corrupt or cut off.
        InvalidRequestError: Its header and the request disagree.
        LimitPassedError: It is too long.
    """
    encoding = spec.encoding
    if encoding is Encoding.UNSPECIFIED:
        encoding = next((e for e, (_, magic) in _FILE_FORMATS.items() if data.startswith(magic)), encoding)
    if encoding in _FILE_FORMATS:
        blocks = _read_file(data, spec, encoding, reader, block_s, (max_s, limit))
    else:
        blocks = _read_bytes(data, spec, reader, (max_s, limit))
    for block in blocks:
        _check_length(reader.received_s, (max_s, limit))
        yield block


def _read_bytes(data: bytes, spec: AudioSpec, reader: AudioReader, longest: tuple[float, str]) -> Iterator[Samples]:
    if spec.encoding in RAW_FORMATS:
        sample_bytes = SAMPLE_FORMATS[RAW_FORMATS[spec.encoding]][0]
        _check_length(len(data) / (sample_bytes * max(1, spec.num_channels) * spec.sample_rate_hz), longest)
    for begin in range(0, len(data), _BLOCK_BYTES):
        yield reader.read(data[begin : begin + _BLOCK_BYTES])
    yield reader.finish()


def _read_file(
    data: bytes, spec: AudioSpec, encoding: Encoding, reader: AudioReader, block_s: float, longest: tuple[float, str]
) -> Iterator[Samples]:
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format != _FILE_FORMATS[encoding][0] or (
                spec.encoding is Encoding.OGG_OPUS and file.subtype != "OPUS"
            ):
                raise InvalidRequestError(
                    "config.encoding", f"{encoding}, but the bytes are {file.format} with {file.subtype}"
                )
            check_header(spec, file.samplerate, file.channels)
            promised_s = file.frames / file.samplerate
            _check_length(promised_s, longest)
            resampler = StreamResampler(file.samplerate, SAMPLE_RATE_HZ)
            for block in file.blocks(max(1, int(block_s * file.samplerate)), dtype="float32", always_2d=True):
                reader.received_s += len(block) / file.samplerate
                yield resampler.accept(block[:, 0].copy())
            if encoding is Encoding.OGG_OPUS and not _has_last_page(data):
                raise AudioError(f"{encoding}: cut off before the last page")
            if reader.received_s < promised_s - 1 / file.samplerate:
                raise AudioError(f"{encoding}: {promised_s:.2f} s promised, {reader.received_s:.2f} s there")
            yield resampler.finish()
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{encoding}: {error.error_string}") from error


def _has_last_page(ogg: bytes) -> bool:
    """Whether the last page is marked as the end of the stream (RFC 3533, section 6); libsndfile does not mind."""
    page = ogg[ogg.rfind(b"OggS") :]
    return len(page) > 5 and bool(page[5] & 0x04)


def _check_length(audio_s: float, longest: tuple[float, str]) -> None:
    """Compare with a limit and its name."""
    max_s, limit = longest
    if audio_s > max_s:
        raise LimitPassedError(f"audio: {audio_s:.1f} s, wanted at most {max_s:g} s ({limit})")
