"""``cifasr serve`` and ``cifasr stream``."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples, read_samples
from cifasr.config import load_config
from cifasr.decoding.result import Segment
from cifasr.errors import ConfigError
from cifasr_serving.client import StreamOptions, cut, recognize_stream
from cifasr_serving.config import ServerConfig
from cifasr_serving.microphone import microphone
from cifasr_serving.server import SpeechServer

DEFAULT_ADDRESS = "127.0.0.1:50051"


def serve(
    model: Annotated[Path | None, typer.Option(help="Model file; the model in the box without it.")] = None,
    host: Annotated[str, typer.Option(help="Name or address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 50051,
    memories: Annotated[Path | None, typer.Option(help="Folder of word memories; none without it.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with limits that differ from the defaults.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A limit, such as max_streams=8.")] = None,
) -> None:
    """Serve live recognition over gRPC until SIGTERM or Ctrl-C."""
    from cifasr_serving.cifasr_model import load_cifasr_model  # torch takes seconds, and --help does not need it
    from cifasr_serving.memories import MemoryFolder

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    limits = load_config(ServerConfig, config, set_ or ())
    loaded = load_cifasr_model(model, limits.compute_threads, limits.endpointer)
    folder = None if memories is None else MemoryFolder(memories, limits)

    async def run() -> None:
        server = SpeechServer([loaded], limits, folder)
        address = await server.start(host, port)
        typer.echo(f"listening on {address}, model {loaded.info.name} {loaded.info.version}")
        await server.serve_until_signal()

    asyncio.run(run())


def stream(
    files: Annotated[list[Path] | None, typer.Argument(help="Audio files, sent one after the other.")] = None,
    server: Annotated[str, typer.Option(help="Address of the server.")] = DEFAULT_ADDRESS,
    fast: Annotated[bool, typer.Option("--fast", help="Send as fast as the server takes it.")] = False,
    mic: Annotated[bool, typer.Option("--mic", help="Send the microphone, until Ctrl-C.")] = False,
    memory: Annotated[str, typer.Option(help="Name of one of the server's word memories.")] = "",
    words: Annotated[bool, typer.Option("--words", help="Print words with their times.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print final segments as JSON lines.")] = False,
) -> None:
    """Send audio to a server at the speed of speech, and print its text as it grows."""
    if mic == bool(files):
        raise ConfigError("stream: wanted audio files or --mic, one of the two")
    printer = _Printer(memory=memory, words=words, as_json=as_json)
    if mic:
        asyncio.run(printer.follow(server, "microphone", microphone(SAMPLE_RATE_HZ)))
    for path in files or ():
        asyncio.run(printer.follow(server, str(path), cut(read_samples(path), SAMPLE_RATE_HZ, paced=not fast)))


class _Printer:
    """Final segments on stdout, the growing one in place on a terminal's stderr."""

    def __init__(self, *, memory: str, words: bool, as_json: bool) -> None:
        self._memory = memory
        self._words = words
        self._as_json = as_json
        self._console = Console(stderr=True)

    async def follow(self, server: str, source: str, blocks: AsyncIterator[Samples]) -> None:
        """Send 16 kHz audio and print what comes back."""
        options = StreamOptions(interim_results=self._console.is_terminal, memory=self._memory)
        with Live(console=self._console, transient=True, auto_refresh=False) as live:
            async for heard in recognize_stream(server, blocks, SAMPLE_RATE_HZ, options):
                for segment in heard.segments:
                    live.update(Text("" if segment.is_final else segment.text, style="dim"), refresh=True)
                    if segment.is_final:
                        typer.echo(self._final(source, segment))
                for warning in heard.warnings:
                    typer.echo(f"{source}: {warning}", err=True)

    def _final(self, source: str, segment: Segment) -> str:
        if self._as_json:
            return json.dumps({"source": source, **_as_dict(segment, words=self._words)}, ensure_ascii=False)
        if not self._words:
            return segment.text
        lines = [f"  {w.start_s:8.2f} {w.end_s:8.2f}  {w.confidence:4.2f}  {w.text}" for w in segment.words]
        return "\n".join([segment.text, *lines])


def _as_dict(segment: Segment, *, words: bool) -> dict[str, object]:
    line: dict[str, object] = {
        "text": segment.text,
        "start_s": round(segment.start_s, 3),
        "end_s": round(segment.end_s, 3),
        "confidence": round(segment.confidence, 4),
    }
    if words:
        line["words"] = [
            {
                "text": word.text,
                "start_s": round(word.start_s, 3),
                "end_s": round(word.end_s, 3),
                "confidence": round(word.confidence, 4),
            }
            for word in segment.words
        ]
    return line
