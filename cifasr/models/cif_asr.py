"""The recogniser's configuration and model: encoder, weight estimator, neuron, decoder."""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cifasr.audio.fbank import FRAME_MS
from cifasr.config import Config
from cifasr.errors import ConfigError
from cifasr.nn.conformer import ConformerEncoder
from cifasr.nn.context import Context
from cifasr.nn.decoder import Decoder
from cifasr.nn.encoder import Encoder
from cifasr.nn.feed_forward import HiddenKind, hidden_of
from cifasr.nn.weight_estimator import WeightEstimator, WeightNeuron
from cifasr.nn.whisper import WhisperEncoder
from cifasr.text.lexicon import Lexicon
from cifasr.text.tokenizer import Tokenizer


def _check_heads(d_model: int, num_heads: int) -> None:
    if d_model % (2 * num_heads):  # rotation turns features in pairs
        raise ValueError(f"d_model: wanted a multiple of twice num_heads ({2 * num_heads}), got {d_model}")


class EncoderConfig(Config):
    """The encoder: ``conformer`` (80 ms frames) from random weights, ``whisper`` (20 ms frames) from a teacher's."""

    kind: Literal["conformer", "whisper"] = "conformer"
    num_layers: int = Field(12, ge=1)
    d_model: int = Field(256, ge=8)
    num_heads: int = Field(4, ge=1)
    d_ff: int = Field(1024, ge=8)
    kernel_size: int = Field(15, ge=1, description="of the Conformer's convolution; Whisper has none")
    feed_forward: HiddenKind = Field("dense", description="hidden layers: smooth, thresholded ReLU, or spikes")
    spike_steps: int = Field(4, ge=1, description="steps a frame of spiking feed-forwards")

    @model_validator(mode="after")
    def _heads_fit(self) -> "EncoderConfig":
        _check_heads(self.d_model, self.num_heads)
        return self


class EstimatorConfig(Config):
    """The weight estimator. ``detach_frames`` keeps its loss away from the encoder."""

    num_layers: int = Field(2, ge=1)
    d_model: int = Field(128, ge=8)
    num_heads: int = Field(4, ge=1)
    kernel_size: int = Field(9, ge=1)
    detach_frames: bool = True
    initial_weight: float = Field(0.06, gt=0.0, lt=1.0)
    neuron: WeightNeuron = Field("sigmoid", description='what weighs a frame; "lif": leaky neurons, with their past')

    @model_validator(mode="after")
    def _heads_fit(self) -> "EstimatorConfig":
        _check_heads(self.d_model, self.num_heads)
        return self


class NeuronConfig(Config):
    """The neuron: weight of a token, and the least remainder that fires at the end of speech."""

    threshold: float = Field(1.0, gt=0.0)
    tail_threshold: float = Field(0.5, gt=0.0)


class DecoderConfig(Config):
    """The decoder. ``window_ms`` = 0 is the decoder of the CIF paper, which hears only fired embeddings."""

    num_layers: int = Field(4, ge=1)
    d_model: int = Field(256, ge=8)
    num_heads: int = Field(4, ge=1)
    d_ff: int = Field(1024, ge=8)
    window_ms: int = Field(4000, ge=0)
    fired_embedding: bool = True
    max_tokens: int = Field(448, ge=16, description="longest history, the prompt included")

    @model_validator(mode="after")
    def _hears_something(self) -> "DecoderConfig":
        if self.window_ms == 0 and not self.fired_embedding:
            raise ValueError("decoder: window_ms = 0 wants fired_embedding = true, or it hears nothing")
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> "DecoderConfig":
        _check_heads(self.d_model, self.num_heads)
        return self


class CifAsrConfig(Config):
    """Everything that shapes a model."""

    name: str = "cifasr"
    encoder: EncoderConfig = EncoderConfig()
    estimator: EstimatorConfig = EstimatorConfig()
    neuron: NeuronConfig = NeuronConfig()
    decoder: DecoderConfig = DecoderConfig()
    ctc: bool = Field(False, description="a CTC branch on the encoder: for training from scratch, and for alignments")
    alignment_heads: tuple[tuple[int, int], ...] = Field(
        (), description="(layer, head) pairs of the decoder whose attention follows the speech"
    )


class CifAsr(nn.Module):
    """A recogniser: the neuron says when, the decoder says what.

    Args:
        config: Shapes.
        tokenizer: Its text; the decoder has one output a piece.

    Attributes:
        lexicon: Words that it shall prefer to misspellings; None where none came with it.
    """

    def __init__(self, config: CifAsrConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.lexicon: Lexicon | None = None
        self.encoder = build_encoder(config.encoder)
        estimator = config.estimator
        self.estimator = WeightEstimator(
            config.encoder.d_model,
            d_model=estimator.d_model,
            num_layers=estimator.num_layers,
            num_heads=estimator.num_heads,
            kernel_size=estimator.kernel_size,
            detach_frames=estimator.detach_frames,
            initial_weight=estimator.initial_weight,
            neuron=estimator.neuron,
        )
        decoder = config.decoder
        self.decoder = Decoder(
            tokenizer.vocab_size,
            num_layers=decoder.num_layers,
            d_model=decoder.d_model,
            num_heads=decoder.num_heads,
            d_ff=decoder.d_ff,
            d_encoder=config.encoder.d_model,
            max_tokens=decoder.max_tokens,
            window=decoder.window_ms > 0,
            fired_embedding=decoder.fired_embedding,
        )
        self.ctc_head = nn.Linear(config.encoder.d_model, tokenizer.vocab_size) if config.ctc else None

    @property
    def frame_ms(self) -> int:
        """Length of an encoder frame in milliseconds."""
        return FRAME_MS * self.encoder.subsampling

    @property
    def window_frames(self) -> int:
        """How far before a chunk the decoder's window begins, in encoder frames."""
        return self.config.decoder.window_ms // self.frame_ms

    @property
    def num_parameters(self) -> int:
        """How many weights the model has."""
        return sum(parameter.numel() for parameter in self.parameters())

    def context(self, chunk_ms: int | None, left_context_ms: int | None) -> Context:
        """Turn lengths in milliseconds into what an encoder frame sees.

        Args:
            chunk_ms: Chunk, None for the whole utterance.
            left_context_ms: Past before the chunk, None for all.

        Raises:
            ConfigError: The chunk is not a whole number of encoder frames.
        """
        if chunk_ms is not None and (chunk_ms < self.frame_ms or chunk_ms % self.frame_ms):
            raise ConfigError(f"chunk_ms: wanted a multiple of {self.frame_ms} (the encoder's frame), got {chunk_ms}")
        return Context(
            chunk_frames=None if chunk_ms is None else chunk_ms // self.frame_ms,
            left_frames=None if left_context_ms is None else left_context_ms // self.frame_ms,
        )

    def encode(
        self, feats: Tensor, feat_lens: Tensor, context: Context, first_frame: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode whole utterances and weigh their frames.

        Args:
            feats: (B, T, F).
            feat_lens: (B,) int64.
            context: What a frame may see.
            first_frame: (B, 1) int64 or None, see `Encoder.forward`.

        Returns:
            encoder_out: (B, T', D).
            encoder_out_lens: (B,) int64.
            alpha: (B, T') weights, to be read up to the lengths.
        """
        encoder_out, lens = self.encoder(feats, feat_lens, context, first_frame)
        return encoder_out, lens, self.estimator(encoder_out, lens, context)

    def ctc_log_probs(self, encoder_out: Tensor) -> Tensor:
        """Score tokens frame by frame, (B, T, V) natural log; the blank is "nothing".

        Raises:
            ConfigError: The model has no CTC branch.
        """
        if self.ctc_head is None:
            raise ConfigError("ctc: wanted true for CTC scores, this model was built with false")
        return torch.log_softmax(self.ctc_head(encoder_out).float(), dim=-1)


def build_encoder(config: EncoderConfig) -> Encoder:
    """Build the encoder that a configuration names."""
    sizes = (config.num_layers, config.d_model, config.num_heads, config.d_ff)
    hidden = hidden_of(config.feed_forward, config.spike_steps)
    if config.kind == "whisper":
        return WhisperEncoder(*sizes, hidden=hidden)
    return ConformerEncoder(*sizes, config.kernel_size, hidden=hidden)
