"""cifasr's own model, as the server wants it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from cifasr.decoding.endpoint import EndpointConfig, TrailingSilence
from cifasr.decoding.memory.word_memory import WordMemory
from cifasr.decoding.streaming import StreamingOptions, StreamingRecognizer
from cifasr.models.checkpoint import content_version
from cifasr.models.cif_asr import CifAsr
from cifasr.models.pretrained import PRETRAINED_PATH, load_model
from cifasr_serving.model import Endpointing, ModelInfo

_NEVER_S = 1e9


@dataclass(frozen=True, slots=True)
class CifasrModel:
    """A loaded model, shared by all streams.

    Attributes:
        info: What ListModels says.
        network: The network; only read.
        options: Chunk and context of every stream.
        memory: Opens the word memory that a stream goes by, as it is when the stream begins; None: none.
    """

    info: ModelInfo
    network: CifAsr
    options: StreamingOptions
    memory: Callable[[], WordMemory] | None = None

    def open_stream(self, endpointing: Endpointing) -> StreamingRecognizer:
        """Begin a stream."""
        endpointer = TrailingSilence(_endpoint_config(endpointing))
        biasing = None if self.memory is None else self.memory().biasing()
        return StreamingRecognizer(self.network, self.options, endpointer, biasing)


def load_cifasr_model(path: Path | None, compute_threads: int) -> CifasrModel:
    """Load a model.

    Args:
        path: A checkpoint; None for the model in the box.
        compute_threads: Threads of one call of the model.

    Raises:
        CheckpointError: The file is not a checkpoint of ours.
    """
    torch.set_num_threads(compute_threads)
    network = load_model(path)
    options = StreamingOptions()
    waits_s = ((options.chunk_ms or 0) + options.lookahead_ms) / 1000
    info = ModelInfo(network.config.name, content_version(path or PRETRAINED_PATH), ("en",), waits_s)
    return CifasrModel(info, network, options)


def _endpoint_config(endpointing: Endpointing) -> EndpointConfig:
    asked = {
        "trailing_silence_s": endpointing.trailing_silence_s if endpointing.automatic else _NEVER_S,
        "initial_silence_s": endpointing.initial_silence_s if endpointing.automatic else _NEVER_S,
        "max_utterance_s": endpointing.max_utterance_s,
    }
    return EndpointConfig(**{name: seconds for name, seconds in asked.items() if seconds is not None})
