"""A chunk-causal Conformer: the encoder trained from random weights, and the block of the weight estimator."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifasr.audio.fbank import NUM_MELS
from cifasr.nn.attention import MultiHeadAttention
from cifasr.nn.encoder import Encoder, EncoderBlock
from cifasr.nn.feed_forward import Hidden
from cifasr.nn.state import State, keep_left
from cifasr.nn.subsampling import Subsampling


class CausalConvolution(nn.Module):
    """The Conformer's convolution module, seeing only the past: gate, depthwise convolution, norm, projection.

    Layer norm stands where the paper has batch norm: it is the same for one stream and for a batch.
    """

    def __init__(self, d_model: int, kernel_size: int) -> None:
        super().__init__()
        self.expand = nn.Linear(d_model, 2 * d_model)
        self.depthwise = nn.Conv1d(d_model, d_model, kernel_size, groups=d_model)
        self.norm = nn.LayerNorm(d_model)
        self.project = nn.Linear(d_model, d_model)
        self.past_frames = kernel_size - 1

    def forward(self, x: Tensor, past: Tensor, ahead_frames: int = 0) -> tuple[Tensor, Tensor]:
        """Convolve.

        Args:
            x: (B, T, D).
            past: (B, kernel_size - 1, D), gated frames before the first.
            ahead_frames: See `EncoderBlock.step`.

        Returns:
            (B, T, D), and the past of what follows.
        """
        gated, kept = keep_left(past, F.glu(self.expand(x), dim=-1), self.past_frames, 1, ahead_frames)
        x = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        return self.project(F.silu(self.norm(x))), kept


class ConformerBlock(EncoderBlock):
    """Half feed-forward, attention, convolution, half feed-forward, norm (Gulati et al. 2020, arXiv:2005.08100).

    Attention is rotary: places count only as distances, so that a stream may last for days.
    """

    def __init__(self, d_model: int, num_heads: int, d_ff: int, kernel_size: int, hidden: Hidden | None = None) -> None:
        super().__init__()
        self.first_feed_forward = _feed_forward(d_model, d_ff, hidden)
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, num_heads, rotary=True)
        self.convolution_norm = nn.LayerNorm(d_model)
        self.convolution = CausalConvolution(d_model, kernel_size)
        self.second_feed_forward = _feed_forward(d_model, d_ff, hidden)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Run on whole utterances; see `EncoderBlock`."""
        x = x + 0.5 * self.first_feed_forward(x)
        normed = self.attention_norm(x)
        x = x + self.attention(normed, *self.attention.project_memory(normed), mask)
        return self._after_attention(x, self.init_state(x.shape[0])["convolved"].to(x))[0]

    def init_state(self, num_streams: int) -> State:
        """Make an empty past; the convolution's past is silence."""
        convolved = torch.zeros(num_streams, self.convolution.past_frames, self.attention.out.out_features)
        return self.attention.init_cache(num_streams) | {"convolved": convolved}

    def step(self, x: Tensor, state: State, left_frames: int | None, ahead_frames: int = 0) -> tuple[Tensor, State]:
        """Run on the next chunk; see `EncoderBlock`."""
        x = x + 0.5 * self.first_feed_forward(x)
        attended, cache = self.attention.step(self.attention_norm(x), state, left_frames, ahead_frames)
        x, convolved = self._after_attention(x + attended, state["convolved"], ahead_frames)
        return x, cache | {"convolved": convolved}

    def _after_attention(self, x: Tensor, past: Tensor, ahead_frames: int = 0) -> tuple[Tensor, Tensor]:
        convolved, past = self.convolution(self.convolution_norm(x), past, ahead_frames)
        x = x + convolved
        return self.norm(x + 0.5 * self.second_feed_forward(x)), past


class ConformerEncoder(Encoder):
    """Depthwise-separable subsampling to 80 ms frames, then Conformer blocks. No look-ahead past the chunk."""

    subsampling = Subsampling.factor
    left_feats = Subsampling.left_feats
    right_feats = 0

    def __init__(
        self,
        num_layers: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        kernel_size: int,
        *,
        hidden: Hidden | None = None,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.subsample = Subsampling(NUM_MELS, d_model)
        self.blocks = nn.ModuleList(
            ConformerBlock(d_model, num_heads, d_ff, kernel_size, hidden) for _ in range(num_layers)
        )
        self.final_norm = nn.Identity()  # a block ends with a norm of its own

    def embed(self, feats: Tensor, first_frame: Tensor) -> Tensor:
        """See `Encoder.embed`; places are the attention's affair here."""
        output: Tensor = self.subsample(feats)
        return output


def _feed_forward(d_model: int, d_ff: int, hidden: Hidden | None) -> nn.Sequential:
    activation = nn.SiLU() if hidden is None else hidden(d_ff)
    return nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, d_ff), activation, nn.Linear(d_ff, d_model))
