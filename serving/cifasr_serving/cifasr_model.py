"""cifasr's own model, as the server wants it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from cifasr.decoding.endpoint_config import EndpointConfig, EndpointerKind
from cifasr.decoding.endpointers import make_endpointer
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
        endpointer: Who ends utterances where the caller does not say.
        memory: Opens the word memory that a stream goes by, as it is when the stream begins; None: none.
    """

    info: ModelInfo
    network: CifAsr
    options: StreamingOptions
    endpointer: EndpointerKind
    memory: Callable[[], WordMemory] | None = None

    def open_stream(self, endpointing: Endpointing) -> StreamingRecognizer:
        """Begin a stream."""
        endpointer = make_endpointer(self._endpoint_config(endpointing))
        biasing = None if self.memory is None else self.memory().biasing()
        return StreamingRecognizer(self.network, self.options, endpointer, biasing)

    def _endpoint_config(self, endpointing: Endpointing) -> EndpointConfig:
        automatic = endpointing.automatic
        asked = {
            "endpointer": (endpointing.endpointer or self.endpointer) if automatic else EndpointerKind.silence,
            "trailing_silence_s": endpointing.trailing_silence_s if automatic else _NEVER_S,
            "initial_silence_s": endpointing.initial_silence_s if automatic else _NEVER_S,
            "max_utterance_s": endpointing.max_utterance_s,
        }
        return EndpointConfig.model_validate({name: value for name, value in asked.items() if value is not None})


def load_cifasr_model(path: Path | None, compute_threads: int, endpointer: EndpointerKind | None = None) -> CifasrModel:
    """Load a model.

    Args:
        path: A checkpoint; None for the model in the box.
        compute_threads: Threads of one call of the model.
        endpointer: Who ends utterances where the caller does not say; None for cifasr's default.

    Raises:
        CheckpointError: The file is not a checkpoint of ours.
    """
    torch.set_num_threads(compute_threads)
    network = load_model(path)
    options = StreamingOptions()
    waits_s = ((options.chunk_ms or 0) + options.lookahead_ms) / 1000
    info = ModelInfo(network.config.name, content_version(path or PRETRAINED_PATH), ("en",), waits_s)
    return CifasrModel(info, network, options, endpointer or EndpointConfig().endpointer)
