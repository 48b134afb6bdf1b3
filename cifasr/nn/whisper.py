"""Whisper's encoder under a chunk mask: the encoder that starts from openly licensed weights."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifasr.audio.fbank import NUM_MELS
from cifasr.nn.attention import MultiHeadAttention
from cifasr.nn.encoder import Encoder, EncoderBlock
from cifasr.nn.feed_forward import Hidden
from cifasr.nn.state import State

NUM_POSITIONS = 1500
"""Whisper's encoder knows 30 s; the places of a stream wrap around."""


class WhisperBlock(EncoderBlock):
    """Pre-norm self-attention and feed-forward (arXiv:2212.04356, section 2.2)."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, hidden: Hidden | None) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        activation = nn.GELU() if hidden is None else hidden(d_ff)
        self.feed_forward = nn.Sequential(nn.Linear(d_model, d_ff), activation, nn.Linear(d_ff, d_model))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Run on whole utterances; see `EncoderBlock`."""
        normed = self.attention_norm(x)
        x = x + self.attention(normed, *self.attention.project_memory(normed), mask)
        output: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return output

    def init_state(self, num_streams: int) -> State:
        """Make an empty past."""
        return self.attention.init_cache(num_streams)

    def step(self, x: Tensor, state: State, left_frames: int | None, ahead_frames: int = 0) -> tuple[Tensor, State]:
        """Run on the next chunk; see `EncoderBlock`."""
        attended, state = self.attention.step(self.attention_norm(x), state, left_frames, ahead_frames)
        x = x + attended
        return x + self.feed_forward(self.feed_forward_norm(x)), state


class WhisperEncoder(Encoder):
    """Two convolutions (20 ms frames), sinusoidal places that wrap, Transformer blocks.

    The convolutions are run without padding on features that reach past the chunk, so that a stream computes what a
    file does: a chunk waits for one feature frame past its end.
    """

    subsampling = 2
    left_feats = 2
    right_feats = 1

    def __init__(
        self, num_layers: int, d_model: int, num_heads: int, d_ff: int, *, hidden: Hidden | None = None
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.conv1 = nn.Conv1d(NUM_MELS, d_model, kernel_size=3)
        self.conv2 = nn.Conv1d(d_model, d_model, kernel_size=3, stride=2)
        self.register_buffer("positions", sinusoids(NUM_POSITIONS, d_model))
        self.blocks = nn.ModuleList(WhisperBlock(d_model, num_heads, d_ff, hidden) for _ in range(num_layers))
        self.final_norm = nn.LayerNorm(d_model)

    def embed(self, feats: Tensor, first_frame: Tensor) -> Tensor:
        """See `Encoder.embed`."""
        x = F.gelu(self.conv1(feats.transpose(1, 2)))
        x = F.gelu(self.conv2(x)).transpose(1, 2)  # (B, n, D)
        place = (first_frame.to(x.device) + torch.arange(x.shape[1], device=x.device)) % NUM_POSITIONS
        return x + self.get_buffer("positions")[place]


def sinusoids(num_positions: int, d_model: int) -> Tensor:
    """Make Whisper's position table: sines in the first half of the features, cosines in the second.

    Returns:
        (num_positions, d_model) float32.
    """
    half = d_model // 2
    frequency = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half))
    angle = torch.arange(num_positions)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
