"""The real recogniser, small and untrained, behind the real command in a process of its own."""

import os
import select
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from cifasr_serving.cifasr_model import load_cifasr_model
from cifasr_serving.client import StreamOptions, cut, recognize_stream
from cifasr_serving.config import ServerConfig
from cifasr_serving.errors import ServerError
from cifasr_serving.model import Endpointing
from cifasr_serving.server import SpeechServer

from cifasr.decoding.endpoint import TrailingSilence
from cifasr.decoding.endpoint_config import EndpointConfig, EndpointerKind
from cifasr.decoding.streaming import transcribe
from cifasr.errors import ConfigError
from cifasr.models.checkpoint import save_checkpoint
from cifasr.models.cif_asr import CifAsr, CifAsrConfig, DecoderConfig, EncoderConfig, EstimatorConfig
from cifasr.text.tokenizer import train_tokenizer

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000 * 6).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    small = {"num_layers": 1, "d_model": 16, "num_heads": 2}
    config = CifAsrConfig(
        name="small",
        encoder=EncoderConfig(**small, d_ff=16),
        estimator=EstimatorConfig(**small, initial_weight=0.3),
        decoder=DecoderConfig(**small, d_ff=16),
    )
    words = ["one two three four five", "six seven eight nine ten", "a bird sat on the old stone wall"]
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_checkpoint(CifAsr(config, train_tokenizer(words, 60)), path)
    return path


@pytest.fixture
def process(checkpoint):
    command = "from cifasr_serving.cli import serve; import typer; typer.run(serve)"
    arguments = ["--model", str(checkpoint), "--port", "0", "--set", "linger_s=0.2"]
    server = subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        readable, _, _ = select.select([server.stdout], [], [], 300)
        assert readable
        server.address = server.stdout.readline().split()[2].rstrip(",")
        yield server
    finally:
        server.kill()
        server.communicate()


async def test_the_command_serves_the_model_and_drains_on_sigterm(checkpoint, process):
    network = load_cifasr_model(checkpoint, 1).network
    want = transcribe(network, NOISE, endpointer=TrailingSilence(EndpointConfig()))
    heard = []

    async def listen():
        blocks = cut(NOISE, 16_000, paced=True)
        options = StreamOptions(interim_results=True)
        async for h in recognize_stream(process.address, blocks, 16_000, options):
            heard.append(h)
            if h.segments:
                process.send_signal(signal.SIGTERM)

    with pytest.raises(ServerError, match="UNAVAILABLE"):
        await listen()
    _, log = process.communicate(timeout=120)

    finals = [s for h in heard for s in h.segments if s.is_final]
    assert process.returncode == 0, log
    assert "DRAINING" in [h.event for h in heard]
    assert finals
    assert want[0].text.startswith(heard[1].segments[0].text)
    assert not any(s.text in log for s in finals)


async def test_the_server_gives_what_the_recogniser_gives(checkpoint, serving):
    model = load_cifasr_model(checkpoint, 1)
    want = transcribe(model.network, NOISE, endpointer=TrailingSilence(EndpointConfig()))

    async with serving(model) as running:
        blocks = cut(NOISE, 16_000, paced=False)
        heard = [h async for h in recognize_stream(running.address, blocks, 16_000, StreamOptions())]

    got = [s for h in heard for s in h.segments]
    assert [s.text for s in got] == [s.text for s in want] != []
    assert [w.end_s for s in got for w in s.words] == pytest.approx([w.end_s for s in want for w in s.words], abs=1e-5)


def test_a_callers_endpointing_reaches_the_recogniser(checkpoint):
    model = load_cifasr_model(checkpoint, 1)

    short = model.open_stream(Endpointing(max_utterance_s=1.28)).accept_waveform(NOISE)
    whole = model.open_stream(Endpointing(max_utterance_s=60.0, automatic=False)).accept_waveform(NOISE)

    assert len(short.finals) == 4
    assert len(whole.finals) == 0


@pytest.mark.parametrize("kind", EndpointerKind)
def test_every_endpointer_can_be_the_servers_and_the_callers(checkpoint, kind):
    model, other = load_cifasr_model(checkpoint, 1, kind), load_cifasr_model(checkpoint, 1)

    of_server = model.open_stream(Endpointing()).accept_waveform(NOISE)
    of_caller = other.open_stream(Endpointing(endpointer=kind)).accept_waveform(NOISE)
    at_the_limit = model.open_stream(Endpointing(max_utterance_s=1.28)).accept_waveform(NOISE)

    assert of_server == of_caller
    assert len(at_the_limit.finals) >= 4


async def test_a_port_in_use_is_an_error(serving, fake_model):
    async with serving() as running:
        host, port = running.address.split(":")
        second = SpeechServer([fake_model()], ServerConfig())
        with pytest.raises(ConfigError, match="cannot listen"):
            await second.start(host, int(port))
