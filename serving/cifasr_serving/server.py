"""Build a server around loaded models; health, reflection, and an end that loses nothing."""

import asyncio
import logging
import signal
from collections.abc import Sequence

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cifasr.errors import ConfigError
from cifasr_serving.config import ServerConfig
from cifasr_serving.interceptor import RefuseUndecodable
from cifasr_serving.model import Memories, SpeechModel
from cifasr_serving.pb import speech_pb2 as pb
from cifasr_serving.pb.speech_pb2_grpc import add_SpeechServiceServicer_to_server
from cifasr_serving.scheduler import Scheduler
from cifasr_serving.servicer import SpeechServicer

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["SpeechService"].full_name
_HEALTH_CHECK_EVERY_S = 1.0
_log = logging.getLogger(__name__)


class SpeechServer:
    """One process's server.

    Args:
        models: The loaded models; the first is the default.
        config: The limits.
        memories: The word memories; None: the server keeps none.
    """

    def __init__(self, models: Sequence[SpeechModel], config: ServerConfig, memories: Memories | None = None) -> None:
        self._config = config
        self._scheduler = Scheduler()
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(interceptors=[RefuseUndecodable(SERVICE_NAME)], options=_channel_options(config))
        self._watch: asyncio.Task[None] | None = None
        self.servicer = SpeechServicer(models, self._scheduler, config, memories)
        add_SpeechServiceServicer_to_server(self.servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self, host: str, port: int) -> str:
        """Start to serve and give the address, ``host:port``.

        Args:
            host: Name or address to listen on.
            port: 0 for any that is free.

        Raises:
            ConfigError: The address cannot be listened on.
        """
        wanted = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = self._server.add_insecure_port(wanted)
        except RuntimeError as error:
            raise ConfigError(f"cannot listen on {wanted}: {error}") from error
        self._scheduler.start()
        await self._server.start()
        await self._set_health(serving=True)
        self._watch = asyncio.create_task(self._watch_model())
        return f"{wanted.rpartition(':')[0]}:{bound}"

    async def stop(self) -> None:
        """Drain: refuse what is new, let live streams send their final results, then end; at most ``drain_s``."""
        deadline = asyncio.get_running_loop().time() + self._config.drain_s
        if self._watch is not None:
            self._watch.cancel()
        await self._set_health(serving=False)
        await self.servicer.drain()
        while self.servicer.num_active and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        await self.kill()

    async def kill(self) -> None:
        """End at once; whatever runs is cut."""
        if self._watch is not None:
            self._watch.cancel()
        await self._server.stop(grace=0.2)  # what was written last still goes out
        await asyncio.get_running_loop().run_in_executor(None, self._scheduler.stop)

    async def serve_until_signal(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second signal cuts the drain short."""
        first, second = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: second.set() if first.is_set() else first.set())
        await first.wait()
        _log.info("draining %d requests for at most %g s", self.servicer.num_active, self._config.drain_s)
        draining = asyncio.create_task(self.stop())
        hurry = asyncio.create_task(second.wait())
        await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not draining.done():
            draining.cancel()
            await self.kill()

    async def _watch_model(self) -> None:
        serving = True
        while True:
            await asyncio.sleep(_HEALTH_CHECK_EVERY_S)
            healthy = self._scheduler.healthy(self._config.stall_s)
            if healthy != serving:
                serving = healthy
                _log.error("the model's thread is %s", "back" if healthy else "stuck or dead")
                await self._set_health(serving=healthy)

    async def _set_health(self, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)


def _channel_options(config: ServerConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # a port in use is an error, not a second server behind it
        ("grpc.max_receive_message_length", config.max_message_bytes),
        # With the probe, HTTP/2 windows grow until minutes of audio wait in the transport, unseen by `queue_s`.
        ("grpc.http2.bdp_probe", 0),
        # Keepalive alone notices a frozen peer after 60 s; the ping's own timeout decides.
        ("grpc.keepalive_time_ms", round(config.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(config.ping_timeout_s * 1000)),
        ("grpc.http2.ping_timeout_ms", round(config.ping_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]
